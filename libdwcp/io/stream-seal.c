/*
 * Between a keyed stream's plain bytes and its socket
 *
 * Encryption is the last step, so what is sent again on another connection is
 * encrypted anew.  Output: what a send would be given is sealed into a
 * buffer, a few segments at a time, and that is what the socket takes.  Input:
 * the socket fills a buffer, and whole segments of it are opened to where plain
 * bytes would have been received.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/stream-turn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/aead.h"
#include "core/fail.h"
#include "core/wipe.h"

/* Segments that the busy direction's buffer holds. */
#define BUSY_SEGMENTS 4u

struct DwcpSealed {
    /* out: [out_at, out_end) waits for the socket */
    uint8_t *out;
    size_t out_size, out_at, out_end;
    /* in: [in_at, in_end) is not opened yet */
    uint8_t *in;
    size_t in_size, in_at, in_end;
    /* a segment's plain bytes, if they do not stand in one piece */
    uint8_t gather[DWCP_SEGMENT_PLAIN_MAX];
};

DwcpSealed *dwcp_sealed_new(bool source, size_t *bytes)
{
    DwcpSealed *sealed = calloc(1, sizeof(*sealed));

    if (!sealed) {
        return NULL;
    }
    sealed->out_size = (source ? BUSY_SEGMENTS : 1) * DWCP_SEGMENT_BYTES_MAX;
    sealed->in_size = (source ? 1 : BUSY_SEGMENTS) * DWCP_SEGMENT_BYTES_MAX;
    sealed->out = malloc(sealed->out_size);
    sealed->in = malloc(sealed->in_size);
    if (!sealed->out || !sealed->in) {
        dwcp_sealed_free(sealed);
        return NULL;
    }
    *bytes = sizeof(*sealed) + sealed->out_size + sealed->in_size;
    return sealed;
}

void dwcp_sealed_free(DwcpSealed *sealed)
{
    if (!sealed) {
        return;
    }
    free(sealed->out); /* cipher text */
    free(sealed->in);
    dwcp_wipe_free(sealed, sizeof(*sealed));
}

/* Takes up to @max bytes off the front of @parts.  Returns: how many, at
 * *@plain: where they stand, or gathered. */
static uint32_t take_plain(DwcpSealed *sealed, struct iovec **parts, int *count,
                           const uint8_t **plain)
{
    uint32_t got = 0;
    size_t n;

    if (*count && (*parts)->iov_len >= DWCP_SEGMENT_PLAIN_MAX) {
        *plain = (*parts)->iov_base;
        got = DWCP_SEGMENT_PLAIN_MAX;
        (*parts)->iov_base = (uint8_t *)(*parts)->iov_base + got;
        (*parts)->iov_len -= got;
        return got;
    }
    *plain = sealed->gather;
    while (*count && got < DWCP_SEGMENT_PLAIN_MAX) {
        n = DWCP_SEGMENT_PLAIN_MAX - got;
        n = (*parts)->iov_len < n ? (*parts)->iov_len : n;
        memcpy(sealed->gather + got, (*parts)->iov_base, n);
        got += (uint32_t)n;
        (*parts)->iov_base = (uint8_t *)(*parts)->iov_base + n;
        (*parts)->iov_len -= n;
        if (!(*parts)->iov_len) {
            (*parts)++;
            (*count)--;
        }
    }
    return got;
}

int dwcp_sealed_fill(DwcpStream *stream, struct iovec *parts, int count,
                     size_t *taken, DwcpError *err)
{
    DwcpSealed *sealed = stream->sealed;
    const uint8_t *plain;
    uint32_t length;

    *taken = 0;
    while (sealed->out_size - sealed->out_end >= DWCP_SEGMENT_BYTES_MAX) {
        length = take_plain(sealed, &parts, &count, &plain);
        if (!length) {
            break;
        }
        if (dwcp_aead_seal(stream->seal, plain, length,
                           sealed->out + sealed->out_end) < 0) {
            return dwcp_stream_error(stream, "encrypt", EIO, err);
        }
        sealed->out_end +=
            DWCP_SEGMENT_HEADER + length + DWCP_SEGMENT_TAG;
        *taken += length;
    }
    return 0;
}

bool dwcp_sealed_waits(const DwcpStream *stream)
{
    return stream->sealed && stream->sealed->out_at < stream->sealed->out_end;
}

ssize_t dwcp_sealed_send(DwcpStream *stream)
{
    DwcpSealed *sealed = stream->sealed;
    struct iovec part = { sealed->out + sealed->out_at,
                          sealed->out_end - sealed->out_at };
    ssize_t n = stream->transport->ops->send(stream->transport, &part, 1);

    if (n > 0) {
        sealed->out_at += (size_t)n;
    }
    if (sealed->out_at == sealed->out_end) {
        sealed->out_at = sealed->out_end = 0;
    }
    return n;
}

int dwcp_sealed_open(DwcpStream *stream, DwcpError *err)
{
    DwcpSealed *sealed = stream->sealed;
    size_t have = sealed->in_end - sealed->in_at;
    uint32_t length = 0, plain;
    DwcpError why;
    int rc;

    if (have < DWCP_SEGMENT_HEADER) {
        return 0;
    }
    rc = dwcp_segment_length(sealed->in + sealed->in_at, &length, &why);
    plain = length - DWCP_SEGMENT_HEADER - DWCP_SEGMENT_TAG;
    if (rc == 0 &&
        (have < length || stream->in_size - stream->in_end < plain)) {
        return 0;
    }
    if (rc == 0) {
        rc = dwcp_aead_open(stream->open, sealed->in + sealed->in_at, length,
                            stream->in + stream->in_end, &why);
    }
    if (rc < 0) { /* whoever did that has broken this connection only */
        stream->broken = true;
        return dwcp_fail(err, rc, "stream %u: %.200s", stream->index, why.text);
    }
    sealed->in_at += length;
    stream->in_end += plain;
    return 1;
}

ssize_t dwcp_sealed_receive(DwcpStream *stream)
{
    DwcpSealed *sealed = stream->sealed;
    struct iovec part;
    ssize_t n;

    sealed->in_end -= sealed->in_at;
    memmove(sealed->in, sealed->in + sealed->in_at, sealed->in_end);
    sealed->in_at = 0;
    part = (struct iovec){ sealed->in + sealed->in_end,
                           sealed->in_size - sealed->in_end };
    n = stream->transport->ops->receive(stream->transport, &part, 1);
    if (n > 0) {
        sealed->in_end += (size_t)n;
    }
    return n;
}
