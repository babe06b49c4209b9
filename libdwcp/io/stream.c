/*
 * How a turn of the loop goes: input of what has come, output until the socket
 * is full or there is nothing to send, then poll() for whatever would change
 * that.  Control records go before frames, but never into one.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/stream-turn.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/aead.h"
#include "core/codec.h"
#include "core/fail.h"
#include "core/wipe.h"
#include "io/landing.h"
#include "io/pump.h"

DwcpStream *dwcp_stream_new(DwcpSession *session, const DwcpStreamOps *ops,
                            void *role)
{
    DwcpStream *stream = calloc(1, sizeof(*stream));

    if (!stream) {
        return NULL;
    }
    stream->session = session;
    stream->ops = ops;
    stream->role = role;
    stream->transport = dwcp_tcp_init(&stream->tcp);
    pthread_mutex_init(&stream->out_lock, NULL);
    stream->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stream->wake_fd < 0) {
        pthread_mutex_destroy(&stream->out_lock);
        free(stream);
        return NULL;
    }
    dwcp_session_link(session, stream);
    return stream;
}

static int buffers_new(DwcpStream *stream, DwcpError *err)
{
    DwcpSession *session = stream->session;
    bool source = session->role == DWCP_ROLE_SOURCE;
    size_t unacked_bytes =
        source ? DWCP_STREAM_UNACKED_MAX * sizeof(*stream->unacked) : 0;

    stream->in_size =
        DWCP_READ_AHEAD + (source ? DWCP_CONTROL_BODY_MAX + DWCP_RECORD_HEADER
                                  : dwcp_frame_bytes_max(session->page_size));
    stream->in = malloc(stream->in_size);
    stream->ctrl = malloc(DWCP_CONTROL_QUEUE_MAX);
    stream->out = malloc(DWCP_CONTROL_QUEUE_MAX);
    stream->unacked = source ? malloc(unacked_bytes) : NULL;
    stream->decoder = source ? NULL : dwcp_decoder_new(session->page_size);
    if (!stream->in || !stream->ctrl || !stream->out ||
        (source ? !stream->unacked : !stream->decoder)) {
        return dwcp_fail(err, -ENOMEM, "no memory for stream %u",
                         stream->index);
    }
    stream->memory_bytes =
        stream->in_size + 2 * DWCP_CONTROL_QUEUE_MAX + unacked_bytes +
        (source ? 0 : dwcp_decoder_bytes(stream->decoder));
    atomic_fetch_add(&session->memory_bytes, stream->memory_bytes);
    return 0;
}

static int wrap(DwcpStream *stream, DwcpError *err)
{
    DwcpTransportWrap *with = stream->session->wrap;
    DwcpTransport *put = with ? with->put(with, stream->transport,
                                          stream->index)
                              : stream->transport;

    if (!put) {
        return dwcp_fail(err, -ENOMEM, "no memory for stream %u",
                         stream->index);
    }
    stream->transport = put;
    return 0;
}

int dwcp_stream_open(DwcpStream *stream, DwcpError *err)
{
    DwcpSession *session = stream->session;
    size_t bytes = 0;
    int rc = stream->in ? 0 : buffers_new(stream, err);

    if (rc == 0 && stream->seal) {
        stream->sealed =
            dwcp_sealed_new(session->role == DWCP_ROLE_SOURCE, &bytes);
        if (!stream->sealed) {
            return dwcp_fail(err, -ENOMEM, "no memory for stream %u",
                             stream->index);
        }
        stream->sealed_bytes = bytes;
        atomic_fetch_add(&session->memory_bytes, bytes);
    }
    return rc < 0 ? rc : wrap(stream, err);
}

void dwcp_stream_free(DwcpStream *stream)
{
    if (!stream) {
        return;
    }
    dwcp_session_unlink(stream->session, stream);
    atomic_fetch_sub(&stream->session->memory_bytes, stream->memory_bytes);
    dwcp_stream_close(stream, false);
    close(stream->wake_fd);
    dwcp_decoder_free(stream->decoder);
    dwcp_landing_free(stream->landing);
    free(stream->unacked);
    dwcp_wipe_free(stream->in, stream->in_used);
    /* Only stream 0's have seen device state. */
    dwcp_wipe_free(stream->ctrl, stream->index ? 0 : DWCP_CONTROL_QUEUE_MAX);
    dwcp_wipe_free(stream->out, stream->index ? 0 : DWCP_CONTROL_QUEUE_MAX);
    pthread_mutex_destroy(&stream->out_lock);
    free(stream);
}

void dwcp_stream_close(DwcpStream *stream, bool reset)
{
    if (stream->tcp.fd >= 0 && stream->spare && reset) {
        dwcp_session_spare_give(stream->session, stream->tcp.fd);
        stream->tcp.fd = -1;
    }
    stream->transport->ops->close(stream->transport);
    stream->transport = &stream->tcp.base;
    stream->spare = false;
    atomic_fetch_sub(&stream->session->memory_bytes, stream->sealed_bytes);
    stream->sealed_bytes = 0;
    dwcp_sealed_free(stream->sealed);
    dwcp_aead_free(stream->seal);
    dwcp_aead_free(stream->open);
    stream->sealed = NULL;
    stream->seal = stream->open = NULL;
    /* Ready for the next connection. */
    stream->in_at = stream->in_end = stream->in_missing = 0;
    stream->frame_at = stream->guest_done = 0;
    stream->guest_at = 0;
    stream->ctrl_at = stream->ctrl_end = 0;
    stream->sent_frames = stream->acked_frames = 0;
    stream->tcp_acked_bytes = stream->idle_ns = 0;
    stream->unsent_bytes = stream->enough_bytes = 0;
    stream->pace = 0;
    stream->in_held = stream->want_out = false;
    stream->broken = stream->retired = false;
    stream->again = stream->resumed = false;
    atomic_store(&stream->cut, false);
    pthread_mutex_lock(&stream->out_lock);
    stream->out_end = 0;
    pthread_mutex_unlock(&stream->out_lock);
}

void dwcp_stream_wake(DwcpStream *stream)
{
    const uint64_t one = 1;

    /* EAGAIN means that a wake-up is pending already. */
    (void)!write(stream->wake_fd, &one, sizeof(one));
}

void dwcp_stream_wake_clear(DwcpStream *stream)
{
    uint64_t count;

    (void)!read(stream->wake_fd, &count, sizeof(count));
    stream->in_held = false;
}

void dwcp_stream_sleep(DwcpStream *stream, uint64_t ns)
{
    struct pollfd woken = { .fd = stream->wake_fd, .events = POLLIN };

    (void)poll(&woken, 1, (int)(ns / 1000000u) + 1);
    dwcp_stream_wake_clear(stream);
}

void dwcp_stream_pause(DwcpStream *stream, uint64_t ns)
{
    DwcpSession *session = stream->session;
    DwcpPump *pump = stream->index == 0 ? session->pump : NULL;
    struct pollfd fds[2] = {
        { .fd = stream->wake_fd, .events = POLLIN },
        { .fd = -1 },
    };
    uint64_t end_ns = dwcp_now_ns() + ns, now_ns;

    while ((now_ns = dwcp_now_ns()) < end_ns && !atomic_load(&session->dead) &&
           !atomic_load(&session->closing)) {
        if (pump) {
            dwcp_pump_rest(pump, &fds[1]);
        }
        (void)poll(fds, 2, (int)((end_ns - now_ns) / 1000000u) + 1);
        if (pump) {
            dwcp_pump_rested(pump, &fds[1]);
        }
        dwcp_stream_wake_clear(stream);
    }
}

int dwcp_stream_error(DwcpStream *stream, const char *what, int code,
                      DwcpError *err)
{
    stream->broken = true;
    return dwcp_fail(err, -code, "stream %u: %s: %s", stream->index, what,
                     strerror(code));
}

static uint64_t poll_timeout_ns(const DwcpStream *stream, uint64_t now_ns)
{
    uint64_t due_ns = stream->ticked_ns + dwcp_session_tick_ns(stream->session);
    uint64_t limit_ns;

    if (stream->pump && dwcp_pump_has_more(stream->pump)) {
        return 0;
    }
    if (stream->ops->sample &&
        stream->sampled_ns + stream->ops->sample_ns < due_ns) {
        due_ns = stream->sampled_ns + stream->ops->sample_ns;
    }
    limit_ns = due_ns > now_ns ? due_ns - now_ns : 0;
    return stream->wait_ns < limit_ns ? stream->wait_ns : limit_ns;
}

/*
 * In the middle of a frame it is of no use to wake up for each packet.  What is
 * missing is plain text, and part of it may stand in a segment that is not whole.
 * That nothing came is noticed all the same: a turn looks, at each tick.
 */
static void wait_for_enough(DwcpStream *stream)
{
    size_t missing = stream->landing && stream->landing->left
                         ? stream->landing->left
                         : stream->in_missing;
    uint32_t enough =
        missing >= DWCP_ENOUGH_BYTES + DWCP_SEGMENT_BYTES_MAX
            ? DWCP_ENOUGH_BYTES
            : 1;

    if (enough != stream->enough_bytes &&
        (enough > 1 || stream->enough_bytes)) {
        stream->enough_bytes = enough;
        stream->transport->ops->set_enough(stream->transport, enough);
    }
}

static void wait_for_events(DwcpStream *stream, uint64_t now_ns)
{
    uint64_t timeout_ns = poll_timeout_ns(stream, now_ns);
    struct timespec ts;
    struct pollfd fds[3] = {
        { .fd = -1 },
        { .fd = stream->wake_fd, .events = POLLIN },
        { .fd = -1 },
    };

    if (!stream->in_held && !dwcp_stream_queue_busy(stream)) {
        fds[0].events |= POLLIN;
    }
    if (stream->want_out) {
        fds[0].events |= POLLOUT;
    }
    if (fds[0].events & POLLIN) {
        wait_for_enough(stream);
    }
    stream->transport->ops->poll(stream->transport, &fds[0], &timeout_ns);
    if (stream->pump) {
        dwcp_pump_poll(stream->pump, &fds[2]);
    }
    ts = dwcp_timespec(timeout_ns);
    (void)ppoll(fds, 3, &ts, NULL);
    if (fds[1].revents) {
        dwcp_stream_wake_clear(stream);
    }
}

/* What time asks for.  Returns: 0 or an error. */
static int clock_turn(DwcpStream *stream, uint64_t now_ns, DwcpError *err)
{
    const DwcpStreamOps *ops = stream->ops;

    if (ops->sample && now_ns - stream->sampled_ns >= ops->sample_ns) {
        stream->sampled_ns = now_ns;
        ops->sample(stream, now_ns);
    }
    if (now_ns - stream->ticked_ns < dwcp_session_tick_ns(stream->session)) {
        return 0;
    }
    stream->ticked_ns = now_ns;
    return ops->tick(stream, now_ns, err);
}

/* Returns: 0 go on; 1 the stream has done its work; or an error. */
static int turn(DwcpStream *stream, DwcpError *err)
{
    DwcpSession *session = stream->session;
    DwcpPhase phase;
    uint64_t now_ns;
    int rc;

    if (atomic_load(&session->dead)) {
        return 1;
    }
    phase = dwcp_session_phase(session);
    if ((phase == DWCP_PHASE_SEALED && stream->index != 0) ||
        atomic_load(&session->closing)) {
        return 1;
    }
    rc = dwcp_stream_input(stream, err);
    if (rc == 0 && atomic_load(&stream->cut)) { /* and had not ended itself */
        stream->broken = true;
        rc = dwcp_fail(err, -ECONNRESET, "stream %u: another connection took "
                                         "its place", stream->index);
    }
    if (rc == 0 && stream->pump) {
        rc = dwcp_pump_turn(stream->pump, err);
    }
    now_ns = dwcp_now_ns();
    if (rc == 0) {
        rc = clock_turn(stream, now_ns, err);
    }
    if (rc == 0) {
        /* Last: all of the above may queue. */
        rc = dwcp_stream_output(stream, err);
    }
    if (rc == 0 && stream->ops->drained && stream->ops->drained(stream)) {
        stream->retired = true;
        return 1;
    }
    if (rc == 0) {
        wait_for_events(stream, now_ns);
    }
    return rc;
}

bool dwcp_stream_loop(DwcpStream *stream)
{
    DwcpError err = { 0 };
    bool lost;
    int rc;

    stream->ticked_ns = stream->sampled_ns = dwcp_now_ns();
    do {
        rc = turn(stream, &err);
    } while (rc == 0);
    lost = dwcp_stream_ended(stream, rc, &err);
    if (lost && !stream->retired) {
        stream->ops->lost(stream);
    }
    if (stream->pump && !lost) {
        dwcp_pump_close(stream->pump);
    }
    stream->pump = NULL; /* from here on another may take it */
    dwcp_session_drop(stream->session, stream);
    if (stream->index == 0 && !lost) {
        dwcp_session_set_lost(stream->session);
    }
    dwcp_stream_close(stream, lost);
    return lost;
}
