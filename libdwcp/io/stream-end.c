/*
 * How a stream's connection ends: whether the session goes on without it, and
 * what is said to the peer if it does not
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/stream-turn.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "core/bytes.h"
#include "core/fail.h"
#include "io/landing.h"
#include "io/pump.h"

/* How long ABORT, or the last channel bytes, may take to leave; and ABORT once
 * the session is being freed: a frame that goes before it takes 200 ms. */
#define LINGER_MS 1000u
#define FAREWELL_MS 300u

static void drain_wait(DwcpStream *stream, short events, uint64_t timeout_ns)
{
    struct pollfd fds[2] = {
        { .events = events },
        { .fd = stream->wake_fd, .events = POLLIN },
    };

    stream->transport->ops->poll(stream->transport, &fds[0], &timeout_ns);
    (void)poll(fds, 2, (int)(timeout_ns / 1000000u) + 1);
    if (fds[1].revents) {
        dwcp_stream_wake_clear(stream);
    }
}

/* @farewell: who frees the session waits for no more than that.  Returns: what
 * is left of the time since @since_ns, 0 = none. */
static uint64_t linger_ns(const DwcpStream *stream, uint64_t since_ns,
                          bool farewell)
{
    uint64_t limit_ms = farewell && atomic_load(&stream->session->closing)
                            ? FAREWELL_MS
                            : LINGER_MS;
    uint64_t end_ns = since_ns + limit_ms * 1000000ull;
    uint64_t now_ns = dwcp_now_ns();

    return now_ns < end_ns ? end_ns - now_ns : 0;
}

/*
 * Send what is still queued, in time: the reason of a failure (@farewell),
 * behind the frame that the stream is in the middle of, or a sealed session's
 * last channel bytes.
 */
static void drain(DwcpStream *stream, bool farewell)
{
    struct iovec part = { stream->in, stream->in_size };
    uint64_t since_ns = dwcp_now_ns(), left_ns;
    DwcpTransport *transport = stream->transport;
    DwcpError err;

    while ((left_ns = linger_ns(stream, since_ns, farewell)) > 0) {
        stream->want_out = false;
        while (dwcp_stream_output_once(stream, false, &err) == 1) {
        }
        if (!stream->want_out) {
            break;
        }
        drain_wait(stream, POLLOUT, left_ns);
    }
    transport->ops->shutdown(transport, false);
    /* Closing with input unread would reset the connection and could take
     * what was sent last with it: read on until the peer closes, too. */
    while (farewell && (left_ns = linger_ns(stream, since_ns, true)) > 0) {
        if (transport->ops->receive(transport, &part, 1) == 0) {
            break;
        }
        drain_wait(stream, POLLIN, left_ns);
    }
}

/*
 * Tell the peer why the session failed, if that is ours to tell: on every
 * stream, or a peer that waits for lost connections would wait for us.
 */
void dwcp_stream_farewell(DwcpStream *stream)
{
    DwcpSession *session = stream->session;
    DwcpError err = { 0 };
    uint8_t code[4];
    bool tell;

    pthread_mutex_lock(&session->lock);
    tell = session->tell_peer;
    err = session->error;
    pthread_mutex_unlock(&session->lock);
    if (tell) {
        dwcp_put_le32(code, (uint32_t)-err.code);
        if (dwcp_stream_queue(stream, DWCP_RECORD_ABORT, code, sizeof(code),
                              err.text,
                              (uint32_t)strnlen(err.text,
                                                DWCP_ABORT_TEXT_MAX)) < 0) {
            return; /* the peer has not read for long: it will find out */
        }
        drain(stream, true);
    } else if (!err.code && stream->index == 0) {
        if (stream->pump) {
            dwcp_pump_flush(stream->pump);
        }
        drain(stream, false);
    }
}

/* The connection is gone: whose fault was it, and does it matter? */
static void connection_lost(DwcpStream *stream, const DwcpError *err)
{
    bool local = err->code == -EPROTO || err->code == -ETIMEDOUT ||
                 err->code == -ENOMEM || err->code == -ENOBUFS ||
                 err->code == -EFAULT || err->code == -EBADMSG ||
                 err->code == -EIO;

    if (stream->index != 0 && !local) {
        dwcp_session_await_end(stream->session);
    }
    dwcp_session_fail(stream->session, err, local);
}

/* May the session go on without this connection?  A target that has sealed waits
 * for a source that has not heard so, and for the rest of channel 0. */
static bool goes_on(const DwcpStream *stream)
{
    DwcpSession *session = stream->session;

    return stream->broken && atomic_load(&session->resume) &&
           !atomic_load(&session->dead) && !atomic_load(&session->closing) &&
           (dwcp_session_phase(session) != DWCP_PHASE_SEALED ||
            (session->role == DWCP_ROLE_TARGET && stream->index == 0));
}

/*
 * A source may end any stream but 0 between two records (docs/wire.md).  If ACKs
 * did not get through, it takes the stream for lost, and that is its to count.
 * A target ends them all after GO, which SEALED, on stream 0, may tell later.
 */
static bool ended_well(const DwcpStream *stream)
{
    DwcpSession *session = stream->session;

    return (session->role == DWCP_ROLE_TARGET ||
            dwcp_session_phase(session) == DWCP_PHASE_GONE) &&
           stream->index != 0 && stream->in_at == stream->in_end &&
           !(stream->landing && stream->landing->left);
}

/* The loop has ended, with an error unless it is time. */
bool dwcp_stream_ended(DwcpStream *stream, int rc, DwcpError *err)
{
    DwcpSession *session = stream->session;
    bool early = rc < 0 || (!atomic_load(&session->dead) &&
                            !atomic_load(&session->closing) &&
                            dwcp_session_phase(session) != DWCP_PHASE_SEALED);

    if (stream->retired) {
        return true;
    }
    if (early && rc > 0) {
        stream->broken = true;
        (void)dwcp_fail(err, -ECONNRESET,
                        "stream %u: the peer closed the connection",
                        stream->index);
    }
    if (early && goes_on(stream)) {
        atomic_fetch_add(&session->streams_lost,
                         !(rc > 0 && ended_well(stream)));
        return true;
    }
    if (early) {
        connection_lost(stream, err);
    }
    dwcp_stream_farewell(stream);
    return false;
}
