/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/lane-end.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/fail.h"

void dwcp_lane_init(DwcpSession *session)
{
    session->lane.fd = -1;
}

void dwcp_lane_clear(DwcpSession *session)
{
    if (session->lane.fd >= 0) {
        close(session->lane.fd);
        session->lane.fd = -1;
    }
}

int dwcp_lane_start(DwcpSession *session, void *(*run)(void *), void *opaque,
                    DwcpError *err)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc;

    if (fd < 0) {
        return dwcp_fail(err, -EMFILE, "eventfd: %s", strerror(errno));
    }
    pthread_mutex_lock(&session->lock);
    session->lane.fd = fd;
    pthread_mutex_unlock(&session->lock);
    rc = dwcp_thread_start(&session->lane.thread, "dwcp-rdma", run, opaque,
                           err);
    session->lane.started = rc == 0;
    return rc;
}

void dwcp_lane_join(DwcpSession *session)
{
    if (session->lane.started) {
        pthread_join(session->lane.thread, NULL);
        session->lane.started = false;
    }
}

void dwcp_lane_wake_locked(const DwcpSession *session)
{
    const uint64_t one = 1;

    if (session->lane.fd >= 0) { /* EAGAIN: a wake-up is pending already */
        (void)!write(session->lane.fd, &one, sizeof(one));
    }
}

static bool over_locked(const DwcpSession *session)
{
    return session->phase == DWCP_PHASE_FAILED ||
           session->phase == DWCP_PHASE_SEALED ||
           atomic_load(&session->closing);
}

bool dwcp_lane_over(DwcpSession *session)
{
    bool over;

    pthread_mutex_lock(&session->lock);
    over = session->lane.heard || over_locked(session);
    pthread_mutex_unlock(&session->lock);
    return over;
}

/* A peer that does not read is stream 0's to notice. */
static int queue_down(DwcpSession *session, DwcpStream *stream)
{
    uint8_t body[DWCP_LANE_DOWN_BODY_MAX];
    uint32_t length = dwcp_lane_down_encode(body, &session->lane.said_down);

    return dwcp_stream_queue(stream, DWCP_RECORD_RDMA_DOWN, body, length, NULL,
                             0);
}

void dwcp_lane_say_down_locked(DwcpSession *session, uint64_t frames,
                               const char *why)
{
    DwcpStream *stream = session->streams[0];

    if (session->lane.said) {
        return;
    }
    session->lane.said = true;
    session->lane.said_down.frames = frames;
    (void)snprintf(session->lane.said_down.text,
                   sizeof(session->lane.said_down.text), "%s", why ? why : "");
    /* Without a stream 0 it is said when one stands again. */
    if (stream && queue_down(session, stream) == 0) {
        dwcp_stream_wake(stream);
    }
}

void dwcp_lane_say_down(DwcpSession *session, uint64_t frames, const char *why)
{
    pthread_mutex_lock(&session->lock);
    dwcp_lane_say_down_locked(session, frames, why);
    pthread_mutex_unlock(&session->lock);
}

int dwcp_lane_heard_down(DwcpStream *stream, const DwcpRecord *record,
                         const uint8_t *body, DwcpError *err)
{
    DwcpSession *session = stream->session;
    bool again;

    pthread_mutex_lock(&session->lock);
    again = session->lane.heard;
    if (!again) {
        session->lane.heard = true;
        dwcp_lane_down_decode(body, record->length,
                              &session->lane.heard_down);
        pthread_cond_broadcast(&session->changed);
        dwcp_lane_wake_locked(session);
    }
    pthread_mutex_unlock(&session->lock);
    return again && !stream->again
               ? dwcp_fail(err, -EPROTO, "RDMA_DOWN for the second time")
               : 0;
}

bool dwcp_lane_await_down(DwcpSession *session)
{
    bool heard;

    pthread_mutex_lock(&session->lock);
    while (!session->lane.heard && !over_locked(session)) {
        pthread_cond_wait(&session->changed, &session->lock);
    }
    heard = session->lane.heard;
    pthread_mutex_unlock(&session->lock);
    return heard;
}

int dwcp_lane_resumed(DwcpStream *stream)
{
    DwcpSession *session = stream->session;
    int rc = 0;

    pthread_mutex_lock(&session->lock);
    if (session->lane.said) {
        rc = queue_down(session, stream);
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}
