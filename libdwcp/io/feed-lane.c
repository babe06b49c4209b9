/*
 * The feed's other far end: frames to the RDMA lane
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <unistd.h>

#include "core/fail.h"
#include "io/feed.h"

void dwcp_feed_wake_lane_locked(const DwcpFeed *feed)
{
    const uint64_t one = 1;

    if (feed->lane_fd >= 0) { /* EAGAIN: a wake-up is pending already */
        (void)!write(feed->lane_fd, &one, sizeof(one));
    }
}

void dwcp_feed_lane_attach(DwcpFeed *feed, int fd)
{
    pthread_mutex_lock(&feed->lock);
    feed->lane_fd = fd;
    pthread_mutex_unlock(&feed->lock);
}

/* All that was ever taken from the ring is at the target, so nothing is with a
 * worker, ready, with a stream, or to be sent again. */
static bool drained_locked(const DwcpFeed *feed)
{
    return feed->acked.below == feed->ring_out;
}

int dwcp_feed_lane_enter(DwcpFeed *feed, bool *begun)
{
    bool entered;

    pthread_mutex_lock(&feed->lock);
    *begun = feed->begun;
    if (feed->begun && feed->way == DWCP_WAY_TCP) {
        feed->way = DWCP_WAY_DRAIN;
    }
    entered = feed->way == DWCP_WAY_DRAIN && drained_locked(feed);
    if (entered) {
        feed->way = DWCP_WAY_LANE;
        pthread_cond_broadcast(&feed->work);
    }
    pthread_mutex_unlock(&feed->lock);
    return entered;
}

DwcpFrame *dwcp_feed_lane_pull(DwcpFeed *feed, uint64_t *wait_ns)
{
    DwcpFrame *frame;

    *wait_ns = UINT64_MAX;
    pthread_mutex_lock(&feed->lock);
    frame = dwcp_feed_next_locked(feed, dwcp_now_ns(), wait_ns);
    pthread_mutex_unlock(&feed->lock);
    return frame;
}

void dwcp_feed_lane_sent(DwcpFeed *feed, DwcpFrame *frame)
{
    pthread_mutex_lock(&feed->lock);
    dwcp_feed_sent_locked(feed, frame, dwcp_now_ns());
    pthread_mutex_unlock(&feed->lock);
}

int dwcp_feed_lane_acked(DwcpFeed *feed, uint64_t number, uint32_t count,
                         uint32_t pages, DwcpError *err)
{
    int rc;

    pthread_mutex_lock(&feed->lock);
    rc = dwcp_feed_acked_locked(feed, number, count, pages);
    pthread_cond_broadcast(&feed->drain);
    pthread_cond_signal(&feed->work);
    pthread_mutex_unlock(&feed->lock);
    atomic_store(&feed->session->progress_ns, dwcp_now_ns());
    return rc < 0 ? dwcp_fail(err, -EPROTO, "RDMA: ACK out of window") : 0;
}

void dwcp_feed_lane_again(DwcpFeed *feed, uint64_t number, uint32_t count,
                          uint64_t bytes, DwcpFrame *frame)
{
    pthread_mutex_lock(&feed->lock);
    feed->again_bytes += bytes;
    dwcp_feed_again_locked(feed, number, count);
    if (frame) {
        frame->next = feed->spare;
        feed->spare = frame;
    }
    pthread_mutex_unlock(&feed->lock);
}

void dwcp_feed_lane_leave(DwcpFeed *feed)
{
    pthread_mutex_lock(&feed->lock);
    feed->way = DWCP_WAY_TCP;
    pthread_cond_broadcast(&feed->work);
    pthread_mutex_unlock(&feed->lock);
    /* Streams that found the lane in their way do not count as idle. */
    dwcp_session_wake(feed->session);
}
