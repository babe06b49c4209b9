/*
 * Records are parsed where they were received; what is read beyond the one
 * that is being read is little, and is moved to the front of the buffer.  The
 * payload of a raw frame does not come here: it lands in guest RAM.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/stream-turn.h"

#include <errno.h>
#include <string.h>

#include "core/fail.h"
#include "io/landing.h"
#include "io/pump.h"

/* What a turn may read: output must not starve.  A landing is a chunk. */
#define TURN_COST 16u
#define READ_COST 4u
#define LANDING_COST 1u
/* Read behind a frame that lands, for the head of the next: bytes of its
 * payload that come along have to be copied. */
#define LANDING_AHEAD 4096u

static bool lands(const DwcpStream *stream)
{
    return stream->landing && stream->landing->left;
}

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

static int record_resume(DwcpStream *stream, const uint8_t *body,
                         DwcpError *err)
{
    DwcpResume resume;
    int rc;

    if (!stream->again || stream->resumed) {
        return dwcp_fail(err, -EPROTO, "RESUME that nobody waits for");
    }
    stream->resumed = true;
    rc = dwcp_resume_decode(body, &resume, err);
    if (rc == 0) {
        rc = dwcp_pump_resume(stream->pump, &resume, err);
    }
    return rc < 0 ? rc : stream->ops->resumed(stream, err);
}

static int record_dispatch(DwcpStream *stream, const DwcpRecord *record,
                           const uint8_t *body, DwcpError *err)
{
    int rc = dwcp_record_check(record->type,
                               stream->session->role == DWCP_ROLE_TARGET,
                               stream->index, err);

    if (rc == 0 && stream->again && !stream->resumed &&
        record->type != DWCP_RECORD_RESUME &&
        record->type != DWCP_RECORD_ABORT) {
        rc = dwcp_fail(err, -EPROTO, "record type %u before RESUME",
                       (unsigned)record->type);
    }
    if (rc < 0) {
        return rc;
    }
    switch (record->type) {
    case DWCP_RECORD_RESUME:
        return record_resume(stream, body, err);
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

/*
 * Does the record's payload land?  Then it does from here on, and the bytes of
 * it that stand in the buffer already.  Returns: as DwcpStreamOps.land.
 */
static int input_land(DwcpStream *stream, const DwcpRecord *record,
                      DwcpError *err)
{
    const uint8_t *body = stream->in + stream->in_at + DWCP_RECORD_HEADER;
    size_t have = stream->in_end - stream->in_at - DWCP_RECORD_HEADER;
    int rc;

    if (!stream->ops->land || record->type != DWCP_RECORD_PAGES ||
        (stream->again && !stream->resumed) ||
        !dwcp_pages_head_known(body, have, record->length)) {
        return 0;
    }
    rc = stream->ops->land(stream, record, body, err);
    if (rc != 2) {
        return rc;
    }
    stream->in_at +=
        DWCP_RECORD_HEADER + record->length - stream->landing->left;
    stream->in_at += dwcp_landing_copy(stream->landing,
                                       stream->in + stream->in_at,
                                       stream->in_end - stream->in_at);
    rc = stream->landing->left ? 0 : stream->ops->landed(stream, err);
    return rc < 0 ? rc : 2;
}

/* Returns: 0 a record was handed on, or lands; 1 it waits for a wake-up; 2 it
 * is not whole; or an error. */
static int input_record(DwcpStream *stream, DwcpError *err)
{
    const uint8_t *at = stream->in + stream->in_at;
    size_t have = stream->in_end - stream->in_at;
    DwcpRecord record;
    int rc;

    if (have < DWCP_RECORD_HEADER) {
        return 2;
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
    rc = input_land(stream, &record, err);
    if (rc != 0) {
        return rc == 2 ? 0 : rc;
    }
    if (have < DWCP_RECORD_HEADER + record.length) {
        stream->in_missing = DWCP_RECORD_HEADER + record.length - have;
        return 2;
    }
    rc = record_dispatch(stream, &record, at + DWCP_RECORD_HEADER, err);
    if (rc == 0) {
        stream->answered = true;
        stream->in_at += DWCP_RECORD_HEADER + record.length;
    }
    return rc;
}

/* Hand on all whole records of the buffer. */
static int input_parse(DwcpStream *stream, DwcpError *err)
{
    int rc = 0;

    stream->in_missing = 0;
    if (stream->in_end > stream->in_used) {
        stream->in_used = stream->in_end;
    }
    while (rc == 0 && !stream->in_held && !lands(stream)) {
        rc = input_record(stream, err);
        stream->in_held = rc == 1;
    }
    /* At most DWCP_READ_AHEAD bytes, unless a record is held. */
    if (rc >= 0 && stream->in_at) {
        stream->in_end -= stream->in_at;
        memmove(stream->in, stream->in + stream->in_at, stream->in_end);
        stream->in_at = 0;
    }
    return rc < 0 ? rc : 0;
}

/* To where the next bytes belong.  Returns: as recv(). */
static ssize_t receive(DwcpStream *stream)
{
    struct iovec part;
    size_t ahead = 0;
    ssize_t n;

    if (stream->sealed) {
        return dwcp_sealed_receive(stream);
    }
    if (lands(stream)) { /* then the buffer is empty */
        n = dwcp_landing_receive(stream->landing, stream->transport,
                                 stream->in, LANDING_AHEAD, &ahead);
        stream->in_end = ahead;
        return n;
    }
    part = (struct iovec){ stream->in + stream->in_end,
                           stream->in_missing + DWCP_READ_AHEAD };
    n = stream->transport->ops->receive(stream->transport, &part, 1);
    stream->in_end += n > 0 ? (size_t)n : 0;
    return n;
}

/*
 * A keyed stream's bytes are checked and decrypted before anything else sees
 * them, segment by segment: so they are still in the cache when they land.
 */
static int input_open(DwcpStream *stream, DwcpError *err)
{
    int opened = 1, rc = 0;

    while (rc == 0 && opened == 1 && !stream->in_held) {
        opened = dwcp_sealed_open(stream, err);
        if (opened == 1 && lands(stream)) {
            stream->in_at += dwcp_landing_copy(stream->landing,
                                               stream->in + stream->in_at,
                                               stream->in_end - stream->in_at);
            rc = lands(stream) ? 0 : stream->ops->landed(stream, err);
        }
        if (opened == 1 && rc == 0) {
            rc = input_parse(stream, err);
        }
    }
    return opened < 0 ? opened : rc;
}

/* Returns: 0; 1 the peer closed; or an error. */
int dwcp_stream_input(DwcpStream *stream, DwcpError *err)
{
    unsigned cost = 0;
    bool landing;
    ssize_t n;
    int rc;

    rc = input_parse(stream, err); /* what was held */
    if (rc == 0 && stream->sealed) { /* what it left no room for */
        rc = input_open(stream, err);
    }
    while (rc == 0 && cost < TURN_COST && !stream->in_held &&
           !dwcp_stream_queue_busy(stream)) {
        landing = lands(stream);
        cost += landing ? LANDING_COST : READ_COST;
        n = receive(stream);
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
        if (stream->sealed) {
            rc = input_open(stream, err);
            continue;
        }
        if (landing && !lands(stream)) {
            rc = stream->ops->landed(stream, err);
        }
        if (rc == 0) {
            rc = input_parse(stream, err);
        }
    }
    return rc;
}
