/*
 * Records are parsed where they were received; what is read beyond the one
 * that is being read is little, and is moved to the front of the buffer.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/stream-turn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/fail.h"
#include "io/pump.h"

/* Reads per turn: output must not starve. */
#define TURN_READS 4

static int record_abort(const uint8_t *body, uint32_t length, DwcpError *err)
{
    char text[DWCP_ABORT_TEXT_MAX + 1];
    uint32_t i;

    for (i = 0; i < length - 4; i++) {
        text[i] = body[4 + i] >= ' ' && body[4 + i] <= '~' ? (char)body[4 + i]
                                                           : '?';
    }
    text[i] = '\0';
    return dwcp_fail(err, -ECONNABORTED, "the peer gave up: %s", text);
}

static int record_dispatch(DwcpStream *stream, const DwcpRecord *record,
                           const uint8_t *body, DwcpError *err)
{
    int rc = dwcp_record_check(record->type,
                               stream->session->role == DWCP_ROLE_TARGET,
                               stream->index, err);

    if (rc < 0) {
        return rc;
    }
    switch (record->type) {
    case DWCP_RECORD_ABORT:
        return record_abort(body, record->length, err);
    case DWCP_RECORD_CHANNEL:
    case DWCP_RECORD_WINDOW:
    case DWCP_RECORD_CHANNEL_EOF:
        return dwcp_pump_record(stream->pump, record, body, err);
    case DWCP_RECORD_PING:
        /* A queue that is full shows signs of life enough. */
        (void)!dwcp_stream_queue(stream, DWCP_RECORD_PONG, body,
                                 record->length, NULL, 0);
        return 0;
    case DWCP_RECORD_PONG:
        return 0;
    default:
        return stream->ops->record(stream, record, body, err);
    }
}

/* Hand on all whole records of the buffer. */
static int input_parse(DwcpStream *stream, DwcpError *err)
{
    DwcpRecord record;
    uint8_t *at;
    size_t have;
    int rc;

    stream->in_missing = 0;
    while (!stream->in_held) {
        at = stream->in + stream->in_at;
        have = stream->in_end - stream->in_at;
        if (have < DWCP_RECORD_HEADER) {
            break;
        }
        rc = dwcp_record_decode(at, stream->session->page_size, &record, err);
        if (rc < 0) {
            return rc;
        }
        if (DWCP_RECORD_HEADER + record.length >
            stream->in_size - DWCP_READ_AHEAD) {
            return dwcp_fail(err, -EPROTO, "record type %u is not for us",
                             (unsigned)record.type);
        }
        if (have < DWCP_RECORD_HEADER + record.length) {
            stream->in_missing = DWCP_RECORD_HEADER + record.length - have;
            break;
        }
        rc = record_dispatch(stream, &record, at + DWCP_RECORD_HEADER, err);
        if (rc < 0) {
            return rc;
        }
        if (rc == 1) {
            stream->in_held = true;
            break;
        }
        stream->in_at += DWCP_RECORD_HEADER + record.length;
    }
    /* At most DWCP_READ_AHEAD bytes, unless a record is held. */
    if (stream->in_at) {
        stream->in_end -= stream->in_at;
        memmove(stream->in, stream->in + stream->in_at, stream->in_end);
        stream->in_at = 0;
    }
    return 0;
}

/* Returns: 0; 1 the peer closed; or an error. */
int dwcp_stream_input(DwcpStream *stream, DwcpError *err)
{
    ssize_t n;
    int i, rc;

    rc = input_parse(stream, err); /* what was held */
    for (i = 0; rc == 0 && i < TURN_READS && !stream->in_held &&
                !dwcp_stream_queue_busy(stream);
         i++) {
        n = recv(stream->fd, stream->in + stream->in_end,
                 stream->in_missing + DWCP_READ_AHEAD, MSG_DONTWAIT);
        if (n == 0) {
            return 1;
        }
        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                return 0;
            }
            return dwcp_stream_error(stream, "receive", errno, err);
        }
        atomic_store(&stream->session->heard_ns, dwcp_now_ns());
        stream->in_end += (size_t)n;
        rc = input_parse(stream, err);
    }
    return rc;
}
