/*
 * Control records go out before frames, but never into one.  A frame's bytes
 * come from its buffer and, at level 0, from guest RAM behind it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/stream-turn.h"

#include <errno.h>

/* Frames per turn: input must not starve. */
#define TURN_FRAMES 8
/* Parts of one send. */
#define TURN_PARTS ((int)DWCP_TRANSPORT_PARTS_MAX)

/* Bytes that wait to be sent are swapped out whole, so that sending needs no
 * lock. */
static void ctrl_refill(DwcpStream *stream)
{
    uint8_t *empty = stream->ctrl;

    if (stream->ctrl_at < stream->ctrl_end) {
        return;
    }
    pthread_mutex_lock(&stream->out_lock);
    stream->ctrl = stream->out;
    stream->ctrl_at = 0;
    stream->ctrl_end = stream->out_end;
    stream->out = empty;
    stream->out_end = 0;
    pthread_mutex_unlock(&stream->out_lock);
}

/* Account for @n bytes of the frame; give it back when it is sent. */
static void frame_taken(DwcpStream *stream, size_t n)
{
    DwcpFrame *frame = stream->frame;
    size_t part;

    atomic_store(&stream->session->progress_ns, dwcp_now_ns());
    if (stream->frame_at < frame->head) {
        part = frame->head - stream->frame_at;
        part = n < part ? n : part;
        stream->frame_at += part;
        n -= part;
    }
    while (n) {
        part = frame->guest[stream->guest_at].iov_len - stream->guest_done;
        part = n < part ? n : part;
        stream->guest_done += part;
        stream->frame_at += part;
        n -= part;
        if (stream->guest_done == frame->guest[stream->guest_at].iov_len) {
            stream->guest_at++;
            stream->guest_done = 0;
        }
    }
    if (stream->frame_at == frame->length) {
        stream->frame = NULL;
        stream->frame_at = 0;
        stream->guest_at = 0;
        stream->ops->sent(stream, frame);
    }
}

/* Account for @n bytes of the parts, in the order they were given. */
static void output_taken(DwcpStream *stream, size_t n, bool frame_first)
{
    size_t part;

    if (!frame_first) {
        part = stream->ctrl_end - stream->ctrl_at;
        part = n < part ? n : part;
        stream->ctrl_at += part;
        n -= part;
    }
    if (stream->frame && n) {
        part = stream->frame->length - stream->frame_at;
        part = n < part ? n : part;
        frame_taken(stream, part);
        n -= part;
    }
    stream->ctrl_at += n;
}

/* Returns: how many parts of what is left of the frame are at @iov. */
static int frame_parts(const DwcpStream *stream, struct iovec *iov, int max)
{
    const DwcpFrame *frame = stream->frame;
    unsigned at;
    int n = 0;

    if (stream->frame_at < frame->head) {
        iov[n++] = (struct iovec){
            (uint8_t *)frame->bytes + stream->frame_at,
            frame->head - stream->frame_at,
        };
    }
    for (at = stream->guest_at; at < frame->guest_count && n < max; at++) {
        iov[n++] = frame->guest[at];
    }
    if (stream->guest_done) {
        iov[0].iov_base = (uint8_t *)iov[0].iov_base + stream->guest_done;
        iov[0].iov_len -= stream->guest_done;
    }
    return n;
}

/*
 * Control records go first, unless a frame has begun: then they go behind it,
 * if all of it fits the call.  @frames: a frame may begin.  Returns: parts at
 * @iov.
 */
static int output_parts(const DwcpStream *stream, bool frames,
                        struct iovec *iov)
{
    struct iovec ctrl = {
        stream->ctrl + stream->ctrl_at,
        stream->ctrl_end - stream->ctrl_at,
    };
    int n = 0;

    if (stream->frame_at == 0 && ctrl.iov_len) {
        iov[n++] = ctrl;
    }
    if (stream->frame && (frames || stream->frame_at)) {
        n += frame_parts(stream, iov + n, TURN_PARTS - 2);
        if (stream->frame_at && ctrl.iov_len && n < TURN_PARTS - 2) {
            iov[n++] = ctrl;
        }
    }
    return n;
}

/* The parts as they are.  Returns: as send(). */
static ssize_t send_plain(DwcpStream *stream, struct iovec *iov, int count)
{
    ssize_t n = stream->transport->ops->send(stream->transport, iov,
                                             (size_t)count);

    if (n > 0) {
        output_taken(stream, (size_t)n, stream->frame_at > 0);
    }
    return n;
}

/* Returns: 1 something went out, 0 nothing to send or the socket is full. */
int dwcp_stream_output_once(DwcpStream *stream, bool frames, DwcpError *err)
{
    struct iovec iov[TURN_PARTS];
    size_t taken;
    ssize_t n;
    int count = 0;

    if (!dwcp_sealed_waits(stream)) {
        ctrl_refill(stream);
        if (!stream->frame && frames && stream->ops->pull) {
            stream->frame = stream->ops->pull(stream, &stream->wait_ns);
        }
        count = output_parts(stream, frames, iov);
        if (!count) {
            return 0;
        }
        if (stream->sealed) {
            if (dwcp_sealed_fill(stream, iov, count, &taken, err) < 0) {
                return -EIO;
            }
            output_taken(stream, taken, stream->frame_at > 0);
        }
    }
    n = stream->sealed ? dwcp_sealed_send(stream)
                       : send_plain(stream, iov, count);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            stream->want_out = true;
            return 0;
        }
        return dwcp_stream_error(stream, "send", errno, err);
    }
    atomic_fetch_add(&stream->session->wire_bytes, (size_t)n);
    return 1;
}

int dwcp_stream_output(DwcpStream *stream, DwcpError *err)
{
    int i, rc;

    stream->want_out = false;
    stream->wait_ns = UINT64_MAX;
    for (i = 0; i < TURN_FRAMES; i++) {
        rc = dwcp_stream_output_once(stream, true, err);
        if (rc <= 0) {
            return rc;
        }
    }
    stream->want_out = true; /* there may be more: come back soon */
    return 0;
}
