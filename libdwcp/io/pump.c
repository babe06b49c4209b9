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
#include "core/wipe.h"

struct DwcpPump {
    DwcpStream *stream;
    int fd;
    DwcpChannel channel;
    bool user_reads; /* false once writing to the user has failed */
    uint8_t buffer[DWCP_CHANNEL_DATA_MAX];
};

DwcpPump *dwcp_pump_new(DwcpStream *stream)
{
    DwcpSession *session = stream->session;
    DwcpPump *pump = calloc(1, sizeof(*pump));
    int pair[2], old;

    if (!pump || dwcp_channel_init(&pump->channel) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        if (pump) {
            dwcp_channel_clear(&pump->channel);
        }
        free(pump);
        return NULL;
    }
    pump->stream = stream;
    pump->fd = pair[0];
    pump->user_reads = true;
    pthread_mutex_lock(&session->lock);
    old = session->channel_fd;
    session->channel_fd = pair[1];
    pthread_mutex_unlock(&session->lock);
    if (old >= 0) {
        close(old); /* of a stream 0 that came to nothing */
    }
    return pump;
}

void dwcp_pump_free(DwcpPump *pump)
{
    if (pump) {
        dwcp_pump_close(pump);
        dwcp_channel_clear(&pump->channel);
        dwcp_wipe_free(pump, sizeof(*pump));
    }
}

void dwcp_pump_close(DwcpPump *pump)
{
    if (pump->fd >= 0) {
        close(pump->fd);
        pump->fd = -1;
    }
}

static bool may_read(DwcpPump *pump)
{
    return !pump->channel.sent_eof && dwcp_channel_room(&pump->channel) &&
           !dwcp_stream_queue_busy(pump->stream);
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
static int user_closed(DwcpPump *pump, DwcpError *err)
{
    DwcpSession *session = pump->stream->session;
    DwcpPhase phase = dwcp_session_phase(session);
    uint8_t channel[2];

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
    dwcp_put_le16(channel, 0);
    if (dwcp_stream_queue(pump->stream, DWCP_RECORD_CHANNEL_EOF, channel,
                          sizeof(channel), NULL, 0) < 0) {
        return dwcp_fail(err, -ENOBUFS, "channel 0: the peer does not read");
    }
    return 0;
}

/* user -> records */
static int read_user(DwcpPump *pump, DwcpError *err)
{
    uint32_t room;
    uint8_t channel[2];
    ssize_t n;

    dwcp_put_le16(channel, 0);
    while (may_read(pump)) {
        room = dwcp_channel_room(&pump->channel);
        room = room < DWCP_CHANNEL_DATA_MAX ? room : DWCP_CHANNEL_DATA_MAX;
        n = recv(pump->fd, pump->buffer, room, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return 0;
        }
        if (n <= 0) {
            return user_closed(pump, err);
        }
        pump->channel.sent += (uint64_t)n;
        if (dwcp_stream_queue(pump->stream, DWCP_RECORD_CHANNEL, channel,
                              sizeof(channel), pump->buffer,
                              (uint32_t)n) < 0) {
            return dwcp_fail(err, -ENOBUFS, "channel 0: queue is full");
        }
    }
    return 0;
}

static int report_consumed(DwcpPump *pump, uint32_t bytes, DwcpError *err)
{
    uint8_t body[10];

    if (!dwcp_channel_report(&pump->channel, bytes)) {
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

    return rc ? rc : read_user(pump, err);
}

static int record_window(DwcpPump *pump, uint64_t consumed, DwcpError *err)
{
    uint64_t before = pump->channel.peer_consumed;
    int rc = dwcp_channel_credit(&pump->channel, consumed, err);

    if (rc == 0 && consumed != before) {
        atomic_store(&pump->stream->session->consumed_ns, dwcp_now_ns());
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

void dwcp_pump_flush(DwcpPump *pump)
{
    DwcpError err;

    /* Best effort by contract: a full queue or socket means a dead peer. */
    (void)!write_user(pump, &err);
    (void)!read_user(pump, &err);
}
