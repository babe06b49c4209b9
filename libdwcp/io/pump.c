/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/channel.h"
#include "core/fail.h"

struct DwcpPump {
    DwcpSession *session;
    DwcpStream *stream; /* stream 0 of now */
    int fd;
    DwcpChannel channel;
    bool user_reads; /* false once writing to the user has failed */
    bool rests;      /* until the peer's RESUME */
    bool queued_eof; /* on this connection */
    uint64_t peer_received; /* as its last RESUME said */
};

DwcpPump *dwcp_pump_new(DwcpSession *session)
{
    DwcpPump *pump = calloc(1, sizeof(*pump));
    int pair[2];

    if (!pump || dwcp_channel_init(&pump->channel) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        if (pump) {
            dwcp_channel_clear(&pump->channel);
        }
        free(pump);
        return NULL;
    }
    pump->session = session;
    pump->fd = pair[0];
    pump->user_reads = true;
    pthread_mutex_lock(&session->lock);
    session->channel_fd = pair[1];
    session->pump = pump;
    pthread_mutex_unlock(&session->lock);
    return pump;
}

size_t dwcp_pump_bytes(void)
{
    return sizeof(DwcpPump) + 2 * DWCP_CHANNEL_WINDOW;
}

void dwcp_pump_attach(DwcpPump *pump, DwcpStream *stream, DwcpResume *resume)
{
    pump->stream = stream;
    pump->queued_eof = false;
    pump->rests = resume;
    if (resume) {
        *resume = (DwcpResume){ 0, pump->channel.received,
                                pump->channel.consumed };
        pump->channel.reported = pump->channel.consumed;
    }
}

int dwcp_pump_resume(DwcpPump *pump, const DwcpResume *resume, DwcpError *err)
{
    int rc = dwcp_channel_resume(&pump->channel, resume->received,
                                 resume->consumed, err);

    if (rc == 0) {
        pump->rests = false;
    }
    if (rc == 0 && resume->received > pump->peer_received) {
        pump->peer_received = resume->received;
        atomic_store(&pump->session->moved_ns, dwcp_now_ns());
    }
    return rc;
}

void dwcp_pump_free(DwcpPump *pump)
{
    if (pump) {
        if (pump->fd >= 0) {
            close(pump->fd);
        }
        dwcp_channel_clear(&pump->channel);
        free(pump);
    }
}

void dwcp_pump_close(DwcpPump *pump)
{
    pthread_mutex_lock(&pump->session->lock);
    if (pump->fd >= 0) {
        close(pump->fd);
        pump->fd = -1;
    }
    pthread_mutex_unlock(&pump->session->lock);
}

void dwcp_pump_hang_up(DwcpPump *pump)
{
    if (pump->fd >= 0) {
        (void)shutdown(pump->fd, SHUT_RDWR);
    }
}

static bool may_read(DwcpPump *pump)
{
    return !pump->channel.sent_eof && dwcp_channel_room(&pump->channel);
}

/* Is something kept that the connection could be given? */
static bool may_queue(DwcpPump *pump)
{
    const uint8_t *data;

    return !pump->rests && !dwcp_stream_queue_busy(pump->stream) &&
           (dwcp_channel_next(&pump->channel, &data) ||
            (pump->channel.sent_eof && !pump->queued_eof));
}

bool dwcp_pump_has_more(DwcpPump *pump)
{
    return may_queue(pump);
}

static bool may_write(DwcpPump *pump)
{
    const uint8_t *data;

    return pump->user_reads && dwcp_channel_peek(&pump->channel, &data);
}

void dwcp_pump_poll(DwcpPump *pump, struct pollfd *fd)
{
    fd->events = 0;
    if (may_read(pump)) {
        fd->events |= POLLIN;
    }
    if (may_write(pump)) {
        fd->events |= POLLOUT;
    }
    /* With nothing to wait for, POLLHUP alone would make the caller spin. */
    fd->fd = fd->events ? pump->fd : -1;
}

/*
 * The user closed its end.  Before the switchover is decided that is how a
 * hypervisor cancels (source) or gives up (target); afterwards it is done.
 */
static int user_closed(DwcpPump *pump)
{
    DwcpSession *session = pump->session;
    DwcpPhase phase = dwcp_session_phase(session);

    if (phase != DWCP_PHASE_GONE && phase != DWCP_PHASE_SEALED) {
        if (session->role == DWCP_ROLE_SOURCE) {
            dwcp_session_cancel(session,
                                "the source closed its migration stream");
        } else {
            dwcp_session_cancel(session,
                                "the target closed its migration stream");
        }
        /* finish() may have been faster: GO must not be cut off then. */
        phase = dwcp_session_phase(session);
        if (phase != DWCP_PHASE_GONE && phase != DWCP_PHASE_SEALED) {
            return 1;
        }
    }
    pump->channel.sent_eof = true;
    return 0;
}

void dwcp_pump_rest(DwcpPump *pump, struct pollfd *fd)
{
    DwcpPhase phase = dwcp_session_phase(pump->session);

    /* Past GO what stands in the socket has to be read first. */
    fd->fd = phase == DWCP_PHASE_GONE || phase == DWCP_PHASE_SEALED ? -1
                                                                    : pump->fd;
    fd->events = POLLRDHUP;
}

void dwcp_pump_rested(DwcpPump *pump, const struct pollfd *fd)
{
    if (fd->fd >= 0 && fd->revents) {
        (void)user_closed(pump);
    }
}

/* user -> kept */
static int read_user(DwcpPump *pump)
{
    uint32_t space;
    uint8_t *at;
    ssize_t n;

    while (may_read(pump)) {
        space = dwcp_channel_space(&pump->channel, &at);
        n = recv(pump->fd, at, space, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return 0;
        }
        if (n <= 0) {
            return user_closed(pump);
        }
        dwcp_channel_took(&pump->channel, (uint32_t)n);
    }
    return 0;
}

/* kept -> records */
static int queue_kept(DwcpPump *pump, DwcpError *err)
{
    const uint8_t *data;
    uint8_t channel[2];
    uint32_t length;
    int rc = 0;

    dwcp_put_le16(channel, 0);
    while (rc == 0 && may_queue(pump)) {
        length = dwcp_channel_next(&pump->channel, &data);
        if (length) {
            rc = dwcp_stream_queue(pump->stream, DWCP_RECORD_CHANNEL, channel,
                                   sizeof(channel), data, length);
            dwcp_channel_gave(&pump->channel, length);
        } else {
            rc = dwcp_stream_queue(pump->stream, DWCP_RECORD_CHANNEL_EOF,
                                   channel, sizeof(channel), NULL, 0);
            pump->queued_eof = true;
        }
    }
    return rc < 0 ? dwcp_fail(err, rc, "channel 0: the peer does not read") : 0;
}

static int report_consumed(DwcpPump *pump, uint32_t bytes, DwcpError *err)
{
    uint8_t body[10];

    if (pump->rests || !dwcp_channel_report(&pump->channel, bytes)) {
        return 0;
    }
    dwcp_put_le16(body, 0);
    dwcp_put_le64(body + 2, pump->channel.consumed);
    if (dwcp_stream_queue(pump->stream, DWCP_RECORD_WINDOW, body, sizeof(body),
                          NULL, 0) < 0) {
        return dwcp_fail(err, -ENOBUFS, "channel 0: the peer does not read");
    }
    return 0;
}

/* records -> user */
static int write_user(DwcpPump *pump, DwcpError *err)
{
    const uint8_t *data;
    uint32_t length;
    ssize_t n;

    while (pump->user_reads &&
           (length = dwcp_channel_peek(&pump->channel, &data)) > 0) {
        n = send(pump->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                return 0;
            }
            pump->user_reads = false; /* read_user() sees the end as well */
            return 0;
        }
        dwcp_channel_consume(&pump->channel, (uint32_t)n);
        if (report_consumed(pump, DWCP_CHANNEL_REPORT, err) < 0) {
            return -ENOBUFS;
        }
    }
    if (pump->channel.received_eof && pump->user_reads) {
        (void)shutdown(pump->fd, SHUT_WR);
        pump->user_reads = false;
    }
    return 0;
}

int dwcp_pump_turn(DwcpPump *pump, DwcpError *err)
{
    int rc = write_user(pump, err);

    if (rc == 0) {
        rc = read_user(pump);
    }
    return rc ? rc : queue_kept(pump, err);
}

static int record_window(DwcpPump *pump, uint64_t consumed, DwcpError *err)
{
    uint64_t before = pump->channel.peer_consumed;
    int rc = dwcp_channel_credit(&pump->channel, consumed, err);

    if (rc == 0 && consumed != before) {
        atomic_store(&pump->session->consumed_ns, dwcp_now_ns());
        atomic_store(&pump->session->moved_ns, dwcp_now_ns());
    }
    return rc;
}

int dwcp_pump_record(DwcpPump *pump, const DwcpRecord *record,
                     const uint8_t *body, DwcpError *err)
{
    unsigned number = dwcp_get_le16(body);

    if (number >= DWCP_CHANNELS_MAX) {
        return dwcp_fail(err, -EPROTO, "channel %u does not exist", number);
    }
    switch (record->type) {
    case DWCP_RECORD_CHANNEL:
        if (dwcp_channel_push(&pump->channel, body + 2, record->length - 2,
                              err) < 0) {
            return -EPROTO;
        }
        return write_user(pump, err);
    case DWCP_RECORD_WINDOW:
        return record_window(pump, dwcp_get_le64(body + 2), err);
    default:
        pump->channel.received_eof = true;
        return write_user(pump, err);
    }
}

int dwcp_pump_tick(DwcpPump *pump, DwcpError *err)
{
    return report_consumed(pump, 1, err);
}

bool dwcp_pump_shut(const DwcpPump *pump)
{
    return !dwcp_channel_room(&pump->channel);
}

bool dwcp_pump_owes(const DwcpPump *pump)
{
    return pump->channel.sent > pump->channel.peer_consumed;
}

void dwcp_pump_flush(DwcpPump *pump)
{
    DwcpError err;

    /* Best effort by contract: a full queue or socket means a dead peer. */
    (void)!write_user(pump, &err);
    (void)!read_user(pump);
    (void)!queue_kept(pump, &err);
}
