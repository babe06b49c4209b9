/*
 * The source's connections: making them, and making them again
 *
 * Stream 0's thread resolves, connects, shakes hands, then starts those of the
 * other streams and the encoder workers.  Each thread keeps its place among the
 * streams: when its connection is lost and the session goes on, it makes
 * another.  The session's life hangs on stream 0: when that cannot be made again
 * in time, the session has failed.  _free joins stream 0's thread first, so
 * nothing starts behind its back.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <string.h>

#include "core/fail.h"
#include "io/pump.h"
#include "io/source.h"

/* No wake-up is lost, so this might be for ever. */
#define REST_NS 10000000000ull

/* ------------------------------------------------------- one attempt -- */

/* @answer_ms: until the peer's kernel has answered; @ms: handshake included;
 * @refused: somebody is there and says no */
static int connect_once(DwcpStream *stream, uint32_t answer_ms, uint32_t ms,
                        bool *refused, DwcpError *err)
{
    DwcpSource *source = dwcp_source_of(stream);
    DwcpAddresses addresses = source->addresses;
    uint64_t now_ns = dwcp_now_ns();
    uint64_t deadline_ns = now_ns + ms * 1000000ull;
    int rc;

    answer_ms = answer_ms < ms ? answer_ms : ms;
    rc = dwcp_connect(stream, &addresses, now_ns + answer_ms * 1000000ull,
                      err);
    *refused = rc == -ECONNREFUSED;
    if (rc == 0) {
        rc = dwcp_source_shake(source, stream, deadline_ns, err);
        *refused = rc == -ECONNREFUSED || rc == -ENOTSUP;
    }
    if (rc == 0 && stream->index == 0) {
        rc = dwcp_stream_take_pump(stream, err);
    }
    if (rc == 0) {
        atomic_store(&source->session.heard_ns, dwcp_now_ns());
        atomic_store(&source->session.progress_ns, dwcp_now_ns());
        rc = dwcp_session_adopt(&source->session, stream);
        if (rc < 0) {
            (void)dwcp_fail(err, rc, "cancelled");
        }
    }
    if (rc < 0) {
        stream->pump = NULL;
        dwcp_stream_close(stream, true);
    }
    return rc;
}

static int first_connect(DwcpStream *stream, DwcpError *err)
{
    DwcpSource *source = dwcp_source_of(stream);
    uint64_t deadline_ns = dwcp_now_ns() + DWCP_HANDSHAKE_MS * 1000000ull;
    DwcpError why;
    int rc;

    rc = dwcp_resolve(stream, source->host, source->port, source->family,
                      deadline_ns, &source->addresses, err);
    if (rc == 0) {
        rc = dwcp_connect(stream, &source->addresses, deadline_ns, err);
    }
    if (rc < 0) {
        return rc;
    }
    rc = dwcp_source_shake(source, stream, deadline_ns, &why);
    if (rc < 0) { /* connecting names the address itself */
        return dwcp_fail(err, rc, "%.64s port %.16s: %.160s", source->host,
                         source->port, why.text);
    }
    rc = dwcp_stream_take_pump(stream, err);
    if (rc < 0) {
        return rc;
    }
    rc = dwcp_session_adopt(&source->session, stream);
    if (rc < 0) {
        return dwcp_fail(err, rc, "cancelled");
    }
    atomic_store(&source->session.heard_ns, dwcp_now_ns());
    atomic_store(&source->session.progress_ns, dwcp_now_ns());
    return dwcp_session_move(&source->session, DWCP_PHASE_UP, "WELCOME", err);
}

/* -------------------------------------------------------- once again -- */

/* How a loss is going.  A connection on which the target has said nothing does
 * not end it, or one that hands out handshakes only would keep us for ever. */
typedef struct Again {
    uint64_t since_ns;         /* the connection was lost; 0 = none was */
    uint64_t refused_since_ns; /* all attempts since were refused; 0 = not */
    uint64_t flaps_since_ns; /* losses, with nothing that moved between them; 0 =
                              * there was none */
    uint64_t stood_ns; /* the connection came to stand */
    uint32_t backoff_ms;
} Again;

static bool session_lives(DwcpSession *session)
{
    return !atomic_load(&session->dead) && !atomic_load(&session->closing) &&
           dwcp_session_phase(session) != DWCP_PHASE_SEALED;
}

/*
 * With the guest stopped there is less time, from then or the loss on.
 *
 * Returns: when it is over; *@limit_ms: the limit that says so.
 */
static uint64_t again_end_ns(DwcpStream *stream, const Again *again,
                             uint32_t *limit_ms)
{
    const DwcpSession *session = stream->session;
    uint64_t ended_ns = atomic_load(&dwcp_source_of(stream)->ended_ns);
    uint64_t since_ns = again->since_ns;

    *limit_ms = session->resume_ms_max;
    if (ended_ns && session->switchover_ms_max < *limit_ms) {
        *limit_ms = session->switchover_ms_max;
        since_ns = ended_ns > since_ns ? ended_ns : since_ns;
    }
    return since_ns + *limit_ms * 1000000ull;
}

/* An attempt of stream 0 takes no longer than is left. */
static uint32_t attempt_ms(DwcpStream *stream, const Again *again)
{
    uint32_t limit_ms;
    uint64_t end_ns = again_end_ns(stream, again, &limit_ms);
    uint64_t now_ns = dwcp_now_ns();
    uint64_t left_ms = end_ns > now_ns ? (end_ns - now_ns) / 1000000u + 1 : 1;

    return stream->index == 0 && left_ms < DWCP_RECONNECT_MS
               ? (uint32_t)left_ms
               : DWCP_RECONNECT_MS;
}

/*
 * The kernel asks again after 1 s, 3 s, 7 s: on a path that is back that is
 * long.  A new attempt asks at once.
 */
static uint32_t answer_ms(DwcpStream *stream)
{
    DwcpSession *session = stream->session;
    uint64_t rtt_ms;

    pthread_mutex_lock(&session->lock);
    rtt_ms = session->rtt_us / 1000;
    pthread_mutex_unlock(&session->lock);
    return 3 * rtt_ms < DWCP_ANSWER_MS ? DWCP_ANSWER_MS : (uint32_t)(3 * rtt_ms);
}

static int again_check(DwcpStream *stream, const Again *again,
                       const DwcpError *last, DwcpError *err)
{
    uint64_t now_ns = dwcp_now_ns();
    uint32_t limit_ms;

    if (again->refused_since_ns &&
        now_ns - again->refused_since_ns > DWCP_REFUSED_MS * 1000000ull) {
        return dwcp_fail(err, -ECONNREFUSED,
                         "the connection was lost, and the target is gone: "
                         "%.180s",
                         last->text);
    }
    if (now_ns > again_end_ns(stream, again, &limit_ms)) {
        return dwcp_fail(err, -ETIMEDOUT,
                         "the connection was lost, and could not be made "
                         "again for %u ms: %.160s",
                         limit_ms, last->text);
    }
    return 0;
}

/* One that stood for so long was judged by its own silence. */
static void count_flap(DwcpSession *session, Again *again)
{
    uint64_t now_ns = dwcp_now_ns();

    if (!again->flaps_since_ns ||
        atomic_load(&session->moved_ns) > again->flaps_since_ns ||
        now_ns - again->stood_ns > session->silence_ms_max * 1000000ull) {
        again->flaps_since_ns = now_ns;
    }
}

/*
 * Connections that come and break while nothing moves that should: each is too
 * short for what looks at one alone, and together they may not last for ever.
 */
static int flap_check(DwcpStream *stream, const Again *again, DwcpError *err)
{
    DwcpSource *source = dwcp_source_of(stream);
    const DwcpSession *session = stream->session;
    uint32_t limit_ms = session->resume_ms_max;
    bool ended = atomic_load(&source->ended_ns);

    if (ended && session->silence_ms_max < limit_ms) {
        limit_ms = session->silence_ms_max;
    }
    if ((!ended && !dwcp_feed_pending_pages(&source->feed) &&
         !dwcp_pump_owes(session->pump)) ||
        dwcp_now_ns() - again->flaps_since_ns <= limit_ms * 1000000ull) {
        return 0;
    }
    return dwcp_fail(err, -ETIMEDOUT,
                     "the connection was lost again and again, and nothing "
                     "moved for %u ms",
                     limit_ms);
}

/* A little longer each time, but never past a limit. */
static void back_off(DwcpStream *stream, Again *again)
{
    dwcp_stream_pause(stream, again->backoff_ms * 1000000ull);
    again->backoff_ms *= 2;
    if (again->backoff_ms > DWCP_BACKOFF_MS_MAX) {
        again->backoff_ms = DWCP_BACKOFF_MS_MAX;
    }
}

/* A stream that is not wanted sleeps; whoever wants it, or ends the session,
 * wakes it. */
static void rest(DwcpStream *stream)
{
    while (!dwcp_source_wants(stream) && session_lives(stream->session)) {
        dwcp_stream_sleep(stream, REST_NS);
    }
}

/*
 * Make the connection again, if it is wanted or when it is.  Returns: 0 it
 * stands; 1 the session is over; or an error that ends it, of stream 0's thread
 * only.
 */
static int connect_again(DwcpStream *stream, Again *again, DwcpError *err)
{
    DwcpError last = { .text = "the target hung up after the handshake" };
    bool refused, tried = again->since_ns && !stream->answered;
    int rc = 0;

    if (!tried) {
        again->since_ns = dwcp_now_ns();
        again->refused_since_ns = 0;
        again->backoff_ms = DWCP_BACKOFF_MS_MIN;
    }
    count_flap(stream->session, again);
    if (stream->index == 0 && session_lives(stream->session)) {
        rc = flap_check(stream, again, err);
        if (rc < 0) {
            return rc;
        }
    }
    for (rest(stream); session_lives(stream->session); rest(stream)) {
        if (tried && stream->index == 0) {
            rc = again_check(stream, again, &last, err);
            if (rc < 0) {
                return rc;
            }
        }
        if (tried) {
            back_off(stream, again);
        }
        tried = true;
        rc = connect_once(stream, answer_ms(stream), attempt_ms(stream, again),
                          &refused, &last);
        if (!refused) {
            again->refused_since_ns = 0;
        } else if (!again->refused_since_ns) {
            again->refused_since_ns = dwcp_now_ns();
        }
        if (rc == 0) {
            again->stood_ns = dwcp_now_ns();
            dwcp_feed_wake(stream->role); /* who waits for a connection */
            return 0;
        }
        if (rc == -ENOMEM) {
            return dwcp_fail(err, rc, "%s", last.text);
        }
    }
    return 1;
}

/* Serves the connection, and its successors.  @connected: the first stands. */
static void keep_place(DwcpStream *stream, bool connected)
{
    DwcpFeed *feed = stream->role;
    Again again = { .backoff_ms = DWCP_BACKOFF_MS_MIN,
                    .stood_ns = dwcp_now_ns() };
    bool lost = !connected;
    DwcpError err;
    int rc = 0;

    while (rc == 0) {
        if (lost) {
            rc = connect_again(stream, &again, &err);
        }
        if (rc == 0) {
            lost = dwcp_stream_loop(stream);
            rc = lost ? 0 : 1;
        }
    }
    if (rc < 0) {
        dwcp_session_fail(stream->session, &err, true);
    }
    if (stream->index == 0) {
        dwcp_session_set_lost(stream->session);
    }
    dwcp_frame_free(stream->frame);
    stream->frame = NULL;
    dwcp_feed_wake(feed);
}

/* ------------------------------------------------------------ threads -- */

static void *join_run(void *opaque)
{
    DwcpStream *stream = opaque;
    DwcpSession *session = stream->session;
    DwcpError err, full;
    bool refused;
    int rc;

    rc = connect_once(stream, DWCP_HANDSHAKE_MS, DWCP_HANDSHAKE_MS, &refused,
                      &err);
    if (rc == 0 || atomic_load(&session->resume)) {
        keep_place(stream, rc == 0);
    } else if (rc != -ECANCELED) {
        (void)dwcp_fail(&full, rc, "stream %u: %.200s", stream->index,
                        err.text);
        dwcp_session_await_end(session);
        dwcp_session_fail(session, &full, true);
    }
    return NULL;
}

static int start_workers(DwcpSource *source, DwcpError *err)
{
    int rc;

    while (source->workers_started < source->workers_wanted) {
        rc = dwcp_thread_start(&source->workers[source->workers_started],
                               "dwcp-encode", dwcp_source_encode, source, err);
        if (rc < 0) {
            return rc;
        }
        source->workers_started++;
    }
    return 0;
}

int dwcp_source_start_streams(DwcpSource *source, DwcpError *err)
{
    unsigned wanted = atomic_load(&source->feed.streams_wanted);
    DwcpStream *stream;
    int rc;

    while (source->streams_started < wanted) {
        stream = dwcp_stream_new(&source->session, &dwcp_source_ops,
                                 &source->feed);
        if (!stream) {
            return dwcp_fail(err, -ENOMEM, "no memory for stream %u",
                             source->streams_started);
        }
        stream->index = source->streams_started;
        source->streams[stream->index] = stream;
        rc = dwcp_thread_start(&stream->thread, "dwcp-stream", join_run,
                               stream, err);
        if (rc < 0) {
            dwcp_stream_free(stream);
            source->streams[source->streams_started] = NULL;
            return rc;
        }
        source->streams_started++;
    }
    return 0;
}

void *dwcp_source_run(void *opaque)
{
    DwcpStream *stream = opaque;
    DwcpSource *source = dwcp_source_of(stream);
    DwcpError err;

    if (first_connect(stream, &err) < 0) {
        dwcp_session_fail(&source->session, &err, false);
        stream->pump = NULL;
        dwcp_session_drop(&source->session, stream);
        dwcp_stream_close(stream, false);
        return NULL;
    }
    if (start_workers(source, &err) < 0 ||
        dwcp_source_start_streams(source, &err) < 0) {
        dwcp_session_fail(&source->session, &err, true);
    } else {
        dwcp_session_tell_connected(&source->session);
    }
    keep_place(stream, true);
    return NULL;
}
