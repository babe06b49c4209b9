/*
 * How a turn of the loop goes: input of what has come, output until the socket
 * is full or there is nothing to send, then poll() for whatever would change
 * that.  Control records go before frames, but never into one.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/stream.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/codec.h"
#include "core/fail.h"
#include "io/pump.h"
#include "io/socket.h"

/* Frames and reads per turn: input and output must not starve each other. */
#define TURN_FRAMES 8
#define TURN_READS 4
/* Parts of one sendmsg(). */
#define TURN_PARTS 66

/* Bytes that are read beyond the record that is being read: what has to be
 * moved to the front of the buffer later. */
#define READ_AHEAD (64u << 10)

/* How long a stream that ends waits for stream 0 to tell why. */
#define REASON_MS 500u
/* How long ABORT, or the last channel bytes, may take to leave. */
#define LINGER_MS 1000u

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
    stream->fd = -1;
    pthread_mutex_init(&stream->out_lock, NULL);
    stream->in_size = dwcp_frame_bytes_max(session->page_size) + READ_AHEAD;
    if (session->role == DWCP_ROLE_SOURCE) {
        stream->in_size =
            DWCP_CONTROL_BODY_MAX + DWCP_RECORD_HEADER + READ_AHEAD;
        stream->unacked =
            calloc(DWCP_STREAM_UNACKED_MAX, sizeof(*stream->unacked));
    }
    stream->in = malloc(stream->in_size);
    stream->ctrl = malloc(DWCP_CONTROL_QUEUE_MAX);
    stream->out = malloc(DWCP_CONTROL_QUEUE_MAX);
    stream->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_fetch_add(&session->memory_bytes,
                     stream->in_size + 2 * DWCP_CONTROL_QUEUE_MAX);
    if (!stream->in || !stream->ctrl || !stream->out || stream->wake_fd < 0 ||
        (session->role == DWCP_ROLE_SOURCE && !stream->unacked)) {
        dwcp_stream_free(stream);
        return NULL;
    }
    dwcp_session_link(session, stream);
    return stream;
}

void dwcp_stream_free(DwcpStream *stream)
{
    if (!stream) {
        return;
    }
    dwcp_session_unlink(stream->session, stream);
    atomic_fetch_sub(&stream->session->memory_bytes,
                     stream->in_size + 2 * DWCP_CONTROL_QUEUE_MAX);
    if (stream->fd >= 0) {
        close(stream->fd);
    }
    if (stream->wake_fd >= 0) {
        close(stream->wake_fd);
    }
    dwcp_pump_free(stream->pump);
    dwcp_decoder_free(stream->decoder);
    free(stream->unacked);
    free(stream->in);
    free(stream->ctrl);
    free(stream->out);
    pthread_mutex_destroy(&stream->out_lock);
    free(stream);
}

void dwcp_stream_wake(DwcpStream *stream)
{
    const uint64_t one = 1;

    /* EAGAIN means that a wake-up is pending already. */
    (void)!write(stream->wake_fd, &one, sizeof(one));
}

static void wake_clear(DwcpStream *stream)
{
    uint64_t count;

    (void)!read(stream->wake_fd, &count, sizeof(count));
    stream->in_held = false;
}

int dwcp_stream_queue(DwcpStream *stream, DwcpRecordType type,
                      const void *first, uint32_t first_length,
                      const void *second, uint32_t second_length)
{
    uint32_t length = first_length + second_length;
    uint8_t *at;
    int rc = -ENOBUFS;

    pthread_mutex_lock(&stream->out_lock);
    if (DWCP_CONTROL_QUEUE_MAX - stream->out_end >=
        length + DWCP_RECORD_HEADER) {
        at = stream->out + stream->out_end;
        dwcp_record_encode(at, type, length);
        at += DWCP_RECORD_HEADER;
        if (first_length) {
            memcpy(at, first, first_length);
        }
        if (second_length) {
            memcpy(at + first_length, second, second_length);
        }
        stream->out_end += length + DWCP_RECORD_HEADER;
        rc = 0;
    }
    pthread_mutex_unlock(&stream->out_lock);
    return rc;
}

int dwcp_stream_queue_u64(DwcpStream *stream, DwcpRecordType type,
                          uint64_t value)
{
    uint8_t body[8];

    dwcp_put_le64(body, value);
    return dwcp_stream_queue(stream, type, body, sizeof(body), NULL, 0);
}

bool dwcp_stream_queue_busy(DwcpStream *stream)
{
    bool busy;

    pthread_mutex_lock(&stream->out_lock);
    busy = stream->out_end > DWCP_CONTROL_QUEUE_MAX / 4;
    pthread_mutex_unlock(&stream->out_lock);
    return busy;
}

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

static int connection_error(DwcpStream *stream, const char *what, int code,
                            DwcpError *err)
{
    return dwcp_fail(err, -code, "stream %u: %s: %s", stream->index, what,
                     strerror(code));
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

/* Account for @n bytes that the socket took, in the order they were given. */
static void output_taken(DwcpStream *stream, size_t n, bool frame_first)
{
    size_t part;

    atomic_fetch_add(&stream->session->wire_bytes, n);
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
 * if all of it fits the call.  Returns: parts at @iov.
 */
static int output_parts(const DwcpStream *stream, struct iovec *iov)
{
    struct iovec ctrl = {
        stream->ctrl + stream->ctrl_at,
        stream->ctrl_end - stream->ctrl_at,
    };
    int n = 0;

    if (stream->frame_at == 0 && ctrl.iov_len) {
        iov[n++] = ctrl;
    }
    if (stream->frame) {
        n += frame_parts(stream, iov + n, TURN_PARTS - 2);
        if (stream->frame_at && ctrl.iov_len && n < TURN_PARTS - 2) {
            iov[n++] = ctrl;
        }
    }
    return n;
}

/* Returns: 1 something went out, 0 nothing to send or the socket is full. */
static int output_once(DwcpStream *stream, bool frames, DwcpError *err)
{
    struct iovec iov[TURN_PARTS];
    struct msghdr msg = { .msg_iov = iov };
    ssize_t n;

    ctrl_refill(stream);
    if (!stream->frame && frames && stream->ops->pull) {
        stream->frame = stream->ops->pull(stream, &stream->wait_ns);
    }
    msg.msg_iovlen = (size_t)output_parts(stream, iov);
    if (!msg.msg_iovlen) {
        return 0;
    }
    n = sendmsg(stream->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            stream->want_out = true;
            return 0;
        }
        return connection_error(stream, "send", errno, err);
    }
    output_taken(stream, (size_t)n, stream->frame_at > 0);
    return 1;
}

static int output(DwcpStream *stream, DwcpError *err)
{
    int i, rc;

    stream->want_out = false;
    stream->wait_ns = UINT64_MAX;
    for (i = 0; i < TURN_FRAMES; i++) {
        rc = output_once(stream, true, err);
        if (rc <= 0) {
            return rc;
        }
    }
    stream->want_out = true; /* there may be more: come back soon */
    return 0;
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

static int record_dispatch(DwcpStream *stream, const DwcpRecord *record,
                           const uint8_t *body, DwcpError *err)
{
    switch (record->type) {
    case DWCP_RECORD_ABORT:
        return record_abort(body, record->length, err);
    case DWCP_RECORD_CHANNEL:
    case DWCP_RECORD_WINDOW:
    case DWCP_RECORD_CHANNEL_EOF:
        if (!stream->pump) {
            break;
        }
        return dwcp_pump_record(stream->pump, record, body, err);
    case DWCP_RECORD_PING:
        /* A queue that is full shows signs of life enough. */
        (void)!dwcp_stream_queue(stream, DWCP_RECORD_PONG, body,
                                 record->length, NULL, 0);
        return 0;
    case DWCP_RECORD_PONG:
        return 0;
    case DWCP_RECORD_PAGES:
    case DWCP_RECORD_ACK:
        return stream->ops->record(stream, record, body, err);
    default:
        if (stream->index != 0) {
            break;
        }
        return stream->ops->record(stream, record, body, err);
    }
    return dwcp_fail(err, -EPROTO, "record type %u on stream %u",
                     (unsigned)record->type, stream->index);
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
            stream->in_size - READ_AHEAD) {
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
    /* At most READ_AHEAD bytes, unless a record is held. */
    if (stream->in_at) {
        stream->in_end -= stream->in_at;
        memmove(stream->in, stream->in + stream->in_at, stream->in_end);
        stream->in_at = 0;
    }
    return 0;
}

/* Returns: 0; 1 the peer closed; or an error. */
static int input(DwcpStream *stream, DwcpError *err)
{
    ssize_t n;
    int i, rc;

    rc = input_parse(stream, err); /* what was held */
    for (i = 0; rc == 0 && i < TURN_READS && !stream->in_held &&
                !dwcp_stream_queue_busy(stream);
         i++) {
        n = recv(stream->fd, stream->in + stream->in_end,
                 stream->in_missing + READ_AHEAD, MSG_DONTWAIT);
        if (n == 0) {
            return 1;
        }
        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                return 0;
            }
            return connection_error(stream, "receive", errno, err);
        }
        atomic_store(&stream->session->heard_ns, dwcp_now_ns());
        stream->in_end += (size_t)n;
        rc = input_parse(stream, err);
    }
    return rc;
}

/* Several signs of life must fit into the shortest time allowed without. */
static uint64_t ping_ns(const DwcpSession *session)
{
    uint32_t ms = session->silence_ms_max < session->switchover_ms_max
                      ? session->silence_ms_max
                      : session->switchover_ms_max;

    ms = ms / 4 + 1;
    return (ms < DWCP_PING_MS ? ms : DWCP_PING_MS) * 1000000ull;
}

static uint64_t poll_timeout_ns(const DwcpStream *stream, uint64_t now_ns)
{
    uint64_t limit_ns = UINT64_MAX, tick_ns;

    if (stream->index == 0) {
        tick_ns = stream->ticked_ns + ping_ns(stream->session);
        limit_ns = tick_ns > now_ns ? tick_ns - now_ns : 0;
    }
    return stream->wait_ns < limit_ns ? stream->wait_ns : limit_ns;
}

static void wait_for_events(DwcpStream *stream, uint64_t now_ns)
{
    uint64_t timeout_ns = poll_timeout_ns(stream, now_ns);
    struct timespec ts = {
        .tv_sec = (time_t)(timeout_ns / 1000000000ull),
        .tv_nsec = (long)(timeout_ns % 1000000000ull),
    };
    struct pollfd fds[3] = {
        { .fd = stream->fd },
        { .fd = stream->wake_fd, .events = POLLIN },
        { .fd = -1 },
    };

    if (!stream->in_held && !dwcp_stream_queue_busy(stream)) {
        fds[0].events |= POLLIN;
    }
    if (stream->want_out) {
        fds[0].events |= POLLOUT;
    }
    if (!fds[0].events) {
        fds[0].fd = -1; /* else POLLHUP would make us spin */
    }
    if (stream->pump) {
        dwcp_pump_poll(stream->pump, &fds[2]);
    }
    (void)ppoll(fds, 3, timeout_ns == UINT64_MAX ? NULL : &ts, NULL);
    if (fds[1].revents) {
        wake_clear(stream);
    }
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
    rc = input(stream, err);
    if (rc == 0 && stream->pump) {
        rc = dwcp_pump_turn(stream->pump, err);
    }
    now_ns = dwcp_now_ns();
    if (rc == 0 && stream->index == 0 &&
        now_ns - stream->ticked_ns >= ping_ns(session)) {
        stream->ticked_ns = now_ns;
        rc = stream->ops->tick(stream, now_ns, err);
    }
    if (rc == 0) {
        rc = output(stream, err); /* last: all of the above may queue */
    }
    if (rc == 0) {
        wait_for_events(stream, now_ns);
    }
    return rc;
}

static void drain_wait(DwcpStream *stream, short events, uint64_t timeout_ns)
{
    struct pollfd fds[2] = {
        { .fd = stream->fd, .events = events },
        { .fd = stream->wake_fd, .events = POLLIN },
    };

    (void)poll(fds, 2, (int)(timeout_ns / 1000000u) + 1);
    if (fds[1].revents) {
        wake_clear(stream);
    }
}

/*
 * Send what is still queued, for LINGER_MS at most: the reason of a failure,
 * or a sealed session's last channel bytes.
 */
static void drain(DwcpStream *stream, bool discard_input)
{
    uint64_t end_ns = dwcp_now_ns() + LINGER_MS * 1000000ull;
    uint64_t now_ns = dwcp_now_ns();
    DwcpError err;

    for (; now_ns < end_ns; now_ns = dwcp_now_ns()) {
        stream->want_out = false;
        while (output_once(stream, false, &err) == 1) {
        }
        if (!stream->want_out ||
            (discard_input && atomic_load(&stream->session->closing))) {
            break;
        }
        drain_wait(stream, POLLOUT, end_ns - now_ns);
    }
    (void)shutdown(stream->fd, SHUT_WR);
    /* Closing with input unread would reset the connection and could take
     * what was sent last with it: read on until the peer closes, too. */
    for (; discard_input && now_ns < end_ns &&
           !atomic_load(&stream->session->closing);
         now_ns = dwcp_now_ns()) {
        if (recv(stream->fd, stream->in, stream->in_size, MSG_DONTWAIT) == 0) {
            break;
        }
        drain_wait(stream, POLLIN, end_ns - now_ns);
    }
}

/* Stream 0 tells the peer why the session failed, if that is ours to tell. */
static void say_goodbye(DwcpStream *stream)
{
    DwcpSession *session = stream->session;
    DwcpError err = { 0 };
    uint8_t code[4];
    bool tell;

    pthread_mutex_lock(&session->lock);
    tell = session->tell_peer;
    err = session->error;
    pthread_mutex_unlock(&session->lock);
    if (tell && stream->frame_at == 0) {
        dwcp_put_le32(code, (uint32_t)-err.code);
        if (dwcp_stream_queue(stream, DWCP_RECORD_ABORT, code, sizeof(code),
                              err.text,
                              (uint32_t)strnlen(err.text,
                                                DWCP_ABORT_TEXT_MAX)) < 0) {
            return; /* the peer has not read for long: it will find out */
        }
        drain(stream, true);
    } else if (!err.code) {
        if (stream->pump) {
            dwcp_pump_flush(stream->pump);
        }
        drain(stream, false);
    }
}

/* The connection is gone: whose fault was it, and does it matter? */
static void connection_lost(DwcpStream *stream, DwcpError *err)
{
    DwcpSession *session = stream->session;
    uint64_t until_ns = dwcp_now_ns() + REASON_MS * 1000000ull;
    struct timespec until = {
        .tv_sec = (time_t)(until_ns / 1000000000ull),
        .tv_nsec = (long)(until_ns % 1000000000ull),
    };
    bool local = err->code == -EPROTO || err->code == -ETIMEDOUT ||
                 err->code == -ENOMEM || err->code == -ENOBUFS;

    pthread_mutex_lock(&session->lock);
    while (stream->index != 0 && !local && !session->error.code &&
           !session->lost && session->phase != DWCP_PHASE_SEALED) {
        if (pthread_cond_timedwait(&session->changed, &session->lock, &until) ==
            ETIMEDOUT) {
            break;
        }
    }
    pthread_mutex_unlock(&session->lock);
    dwcp_session_fail(session, err, local);
}

void dwcp_stream_loop(DwcpStream *stream)
{
    DwcpError err = { 0 };
    int rc;

    stream->ticked_ns = dwcp_now_ns();
    do {
        rc = turn(stream, &err);
    } while (rc == 0);
    if (rc < 0 || (!atomic_load(&stream->session->dead) &&
                   !atomic_load(&stream->session->closing) &&
                   dwcp_session_phase(stream->session) !=
                       DWCP_PHASE_SEALED)) {
        if (rc > 0) {
            (void)dwcp_fail(&err, -ECONNRESET,
                            "stream %u: the peer closed the connection",
                            stream->index);
        }
        connection_lost(stream, &err);
    }
    if (stream->index == 0) {
        say_goodbye(stream);
    }
    dwcp_session_drop(stream->session, stream);
    if (stream->index == 0) {
        pthread_mutex_lock(&stream->session->lock);
        stream->session->lost = true;
        pthread_cond_broadcast(&stream->session->changed);
        pthread_mutex_unlock(&stream->session->lock);
    }
    if (stream->pump) {
        dwcp_pump_close(stream->pump);
    }
    close(stream->fd);
    stream->fd = -1;
}
