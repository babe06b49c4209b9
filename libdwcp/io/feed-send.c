/*
 * The feed's far end: frames to the streams, acknowledgements back
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/feed.h"

#include <assert.h>
#include <errno.h>

#include "core/fail.h"

/* The measured rate is an average over this time. */
#define RATE_NS 100000000ull

/* Tells the socket when what it should hold has changed by much. */
static void follow_rate(DwcpStream *stream, uint64_t rate_bytes_per_s)
{
    DwcpFeed *feed = stream->role;
    uint64_t want = rate_bytes_per_s / 1000 * DWCP_UNSENT_MS /
                    atomic_load(&feed->streams_wanted);

    if (want < DWCP_UNSENT_BYTES_MIN) {
        want = DWCP_UNSENT_BYTES_MIN;
    } else if (want > DWCP_UNSENT_BYTES_MAX) {
        want = DWCP_UNSENT_BYTES_MAX;
    }
    if (want > 2ull * stream->unsent_bytes || want < stream->unsent_bytes / 2) {
        stream->unsent_bytes = (uint32_t)want;
        stream->transport->ops->set_unsent(stream->transport,
                                           stream->unsent_bytes);
    }
}

/* How long must @frame wait for the session's own limit and the host's?  0:
 * neither holds it back, and its bytes were taken. */
static uint64_t wait_locked(DwcpFeed *feed, const DwcpFrame *frame,
                            uint64_t now_ns)
{
    uint64_t wait_ns = dwcp_pacer_wait_ns(&feed->pacer, now_ns);

    if (!wait_ns && feed->hostcap.cap) {
        wait_ns = dwcp_hostcap_take(&feed->hostcap, frame->length, now_ns);
    }
    if (!wait_ns) {
        dwcp_pacer_take(&feed->pacer, frame->length, now_ns);
    }
    return wait_ns;
}

DwcpFrame *dwcp_feed_next_locked(DwcpFeed *feed, uint64_t now_ns,
                                 uint64_t *wait_ns)
{
    DwcpFrame *frame = feed->ready;

    if (!frame) {
        if (feed->pulled == feed->ring_in && !feed->dry_since_ns) {
            feed->dry_since_ns = now_ns;
        }
        return NULL;
    }
    *wait_ns = wait_locked(feed, frame, now_ns);
    if (*wait_ns) {
        feed->paced = true;
        /* That nothing moves is then our own doing. */
        atomic_store(&feed->session->progress_ns, now_ns);
        return NULL;
    }
    feed->ready = frame->next;
    if (!feed->ready) {
        feed->ready_end = &feed->ready;
    }
    feed->ready_bytes -= frame->length;
    feed->pulled += frame->count;
    pthread_cond_signal(&feed->work);
    return frame;
}

DwcpFrame *dwcp_feed_pull(DwcpStream *stream, uint64_t *wait_ns)
{
    DwcpFeed *feed = stream->role;
    uint64_t now_ns = dwcp_now_ns();
    uint64_t rate;
    DwcpFrame *frame;

    *wait_ns = UINT64_MAX;
    if (stream->sent_frames - stream->acked_frames ==
        DWCP_STREAM_UNACKED_MAX) {
        return NULL; /* an ACK will end the wait */
    }
    pthread_mutex_lock(&feed->lock);
    if ((stream->index == 0 && !feed->begun) ||
        stream->index >= atomic_load(&feed->streams_wanted) ||
        feed->way == DWCP_WAY_LANE) {
        pthread_mutex_unlock(&feed->lock);
        return NULL; /* BEGIN will end the wait, or the lane's end, or it was
                      * the last frame */
    }
    if (!feed->ready) {
        feed->streams[stream->index] = stream;
        feed->idle |= 1ull << stream->index;
    }
    frame = dwcp_feed_next_locked(feed, now_ns, wait_ns);
    if (frame) {
        feed->idle &= ~(1ull << stream->index);
    }
    rate = feed->rate_bytes_per_s;
    pthread_mutex_unlock(&feed->lock);
    follow_rate(stream, rate);
    return frame;
}

static uint64_t dry_now_ns(const DwcpFeed *feed)
{
    return feed->dry_since_ns ? dwcp_now_ns() - feed->dry_since_ns : 0;
}

void dwcp_feed_not_dry_locked(DwcpFeed *feed)
{
    feed->dry_ns += dry_now_ns(feed);
    feed->dry_since_ns = 0;
}

uint64_t dwcp_feed_dry_ms(DwcpFeed *feed)
{
    uint64_t dry_ns;

    pthread_mutex_lock(&feed->lock);
    dry_ns = feed->dry_ns + dry_now_ns(feed);
    pthread_mutex_unlock(&feed->lock);
    return dry_ns / 1000000;
}

static void measure_locked(DwcpFeed *feed, uint64_t bytes, uint64_t now_ns)
{
    uint64_t spent_ns = now_ns - feed->rate_ns;

    feed->rate_bytes += bytes;
    if (spent_ns >= RATE_NS) {
        feed->rate_bytes_per_s =
            (uint64_t)((double)feed->rate_bytes * 1e9 / (double)spent_ns);
        feed->rate_bytes = 0;
        feed->rate_ns = now_ns;
    }
}

void dwcp_feed_sent_locked(DwcpFeed *feed, DwcpFrame *frame, uint64_t now_ns)
{
    measure_locked(feed, frame->length, now_ns);
    frame->next = feed->spare;
    feed->spare = frame;
    pthread_cond_signal(&feed->work);
}

void dwcp_feed_sent(DwcpStream *stream, DwcpFrame *frame)
{
    DwcpFeed *feed = stream->role;

    stream->unacked[stream->sent_frames++ % DWCP_STREAM_UNACKED_MAX] =
        (struct DwcpUnacked){ frame->number, frame->count, frame->pages,
                              (uint32_t)frame->length };
    pthread_mutex_lock(&feed->lock);
    dwcp_feed_sent_locked(feed, frame, dwcp_now_ns());
    pthread_mutex_unlock(&feed->lock);
}

int dwcp_feed_acked_locked(DwcpFeed *feed, uint64_t number, uint32_t count,
                           uint32_t pages)
{
    uint32_t i;
    int rc = 0;

    for (i = 0; i < count && rc >= 0; i++) {
        rc = dwcp_seqset_add(&feed->acked, number + i);
    }
    atomic_fetch_add(&feed->acked_pages, pages);
    return rc < 0 ? rc : 0;
}

int dwcp_feed_ack(DwcpStream *stream, uint64_t count, DwcpError *err)
{
    DwcpFeed *feed = stream->role;
    struct DwcpUnacked *unacked;
    bool moved = count > stream->acked_frames;
    int rc = 0;

    if (count < stream->acked_frames || count > stream->sent_frames) {
        return dwcp_fail(err, -EPROTO,
                         "stream %u: ACK of %llu frames, %llu were sent, "
                         "%llu acknowledged",
                         stream->index, (unsigned long long)count,
                         (unsigned long long)stream->sent_frames,
                         (unsigned long long)stream->acked_frames);
    }
    pthread_mutex_lock(&feed->lock);
    for (; stream->acked_frames < count && rc >= 0; stream->acked_frames++) {
        unacked = &stream->unacked[stream->acked_frames %
                                   DWCP_STREAM_UNACKED_MAX];
        rc = dwcp_feed_acked_locked(feed, unacked->number, unacked->count,
                                    unacked->pages);
    }
    if (feed->way == DWCP_WAY_DRAIN) {
        dwcp_feed_wake_lane_locked(feed);
    }
    pthread_cond_broadcast(&feed->drain);
    pthread_cond_signal(&feed->work);
    pthread_mutex_unlock(&feed->lock);
    if (moved) {
        atomic_store(&feed->session->progress_ns, dwcp_now_ns());
        atomic_store(&feed->session->moved_ns, dwcp_now_ns());
    }
    return rc < 0 ? dwcp_fail(err, -EPROTO, "stream %u: ACK out of window",
                              stream->index)
                  : 0;
}

void dwcp_feed_again_locked(DwcpFeed *feed, uint64_t number, uint32_t count)
{
    uint64_t at, bit;

    dwcp_feed_not_dry_locked(feed);
    feed->pulled -= count;
    feed->again_count += count;
    for (; count; number++, count--) {
        at = number % DWCP_NUMBERS_AHEAD_MAX;
        bit = 1ull << (at % 64);
        assert(!(feed->again[at / 64] & bit));
        feed->again[at / 64] |= bit;
    }
}

/* One of them was to take a frame, and may not any more: all must look. */
static void wake_idle_locked(DwcpFeed *feed)
{
    for (; feed->idle; feed->idle &= feed->idle - 1) {
        dwcp_stream_wake(feed->streams[__builtin_ctzll(feed->idle)]);
    }
}

void dwcp_feed_lost(DwcpStream *stream)
{
    DwcpFeed *feed = stream->role;
    const struct DwcpUnacked *unacked;
    DwcpFrame *frame = stream->frame;

    pthread_mutex_lock(&feed->lock);
    for (; stream->acked_frames < stream->sent_frames;
         stream->acked_frames++) {
        unacked = &stream->unacked[stream->acked_frames %
                                   DWCP_STREAM_UNACKED_MAX];
        dwcp_feed_again_locked(feed, unacked->number, unacked->count);
        feed->again_bytes += unacked->bytes;
    }
    if (frame) {
        dwcp_feed_again_locked(feed, frame->number, frame->count);
        feed->again_bytes += stream->frame_at;
        frame->next = feed->spare;
        feed->spare = frame;
    }
    wake_idle_locked(feed);
    pthread_cond_broadcast(&feed->work);
    pthread_mutex_unlock(&feed->lock);
    stream->frame = NULL;
}

void dwcp_feed_set_streams(DwcpFeed *feed, unsigned streams_wanted)
{
    pthread_mutex_lock(&feed->lock);
    atomic_store(&feed->streams_wanted, streams_wanted);
    wake_idle_locked(feed);
    pthread_cond_broadcast(&feed->work); /* the pool is another size */
    pthread_mutex_unlock(&feed->lock);
}

bool dwcp_feed_drained(DwcpStream *stream)
{
    DwcpFeed *feed = stream->role;

    return stream->index >= atomic_load(&feed->streams_wanted) &&
           !stream->frame && stream->sent_frames == stream->acked_frames;
}

void dwcp_feed_pressure(DwcpFeed *feed, bool *paced, bool *backlog)
{
    pthread_mutex_lock(&feed->lock);
    *paced = feed->paced;
    *backlog = feed->ready != NULL;
    feed->paced = false;
    pthread_mutex_unlock(&feed->lock);
}

int dwcp_feed_begin(DwcpFeed *feed, bool again, DwcpError *err)
{
    bool before;

    pthread_mutex_lock(&feed->lock);
    before = feed->begun;
    feed->begun = true;
    dwcp_feed_wake_lane_locked(feed);
    pthread_mutex_unlock(&feed->lock);
    return before && !again ? dwcp_fail(err, -EPROTO, "BEGIN for the second time") : 0;
}

int dwcp_feed_ready_check(DwcpFeed *feed, DwcpError *err)
{
    uint64_t handed_over, pulled;
    bool begun;

    pthread_mutex_lock(&feed->lock);
    begun = feed->begun;
    handed_over = feed->ring_in;
    pulled = feed->pulled;
    pthread_mutex_unlock(&feed->lock);
    if (!begun) {
        return dwcp_fail(err, -EPROTO, "READY before BEGIN");
    }
    /* What a lost stream had may have arrived, unknown to us. */
    if (pulled != handed_over && !atomic_load(&feed->session->streams_lost)) {
        return dwcp_fail(err, -EPROTO,
                         "READY while %llu of %llu chunks have been sent",
                         (unsigned long long)pulled,
                         (unsigned long long)handed_over);
    }
    return 0;
}

void dwcp_feed_set_rate(DwcpFeed *feed, uint64_t bytes_per_s)
{
    bool changed;

    pthread_mutex_lock(&feed->lock);
    changed = feed->pacer.rate_bytes_per_s != bytes_per_s;
    if (changed) {
        dwcp_pacer_set_rate(&feed->pacer, bytes_per_s, dwcp_now_ns());
    }
    pthread_mutex_unlock(&feed->lock);
    if (changed) {
        dwcp_session_wake(feed->session); /* those that wait for the pacer */
    }
}
