/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/feed.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "core/fail.h"

#define RING_SIZE_MIN 1024u
/*
 * Chunks that may wait before put's caller is asked to pause.  Enough for
 * frames that compress well, but what waits long is pending, and may be written
 * to again before it is read: so not more than twice what the ready queue may
 * hold, which is bounded in time.
 */
#define RING_FULL_MIN 16u
#define RING_FULL_MAX 256u

int dwcp_feed_init(DwcpFeed *feed, DwcpSource *source, DwcpSession *session,
                   uint32_t queue_bytes_max, uint32_t queue_ms_max,
                   unsigned frames_beyond, unsigned streams_wanted, int level,
                   DwcpError *err)
{
    memset(feed, 0, sizeof(*feed));
    feed->source = source;
    feed->session = session;
    feed->queue_bytes_max = queue_bytes_max;
    feed->queue_ms_max = queue_ms_max;
    feed->frames_beyond = frames_beyond;
    atomic_store(&feed->streams_wanted, streams_wanted);
    feed->level = level;
    feed->ready_end = &feed->ready;
    feed->lane_fd = -1;
    feed->rate_ns = dwcp_now_ns();
    dwcp_seqset_init(&feed->acked);
    pthread_mutex_init(&feed->lock, NULL);
    pthread_cond_init(&feed->work, NULL);
    dwcp_cond_init_monotonic(&feed->drain);
    feed->ring_size = RING_SIZE_MIN;
    feed->ring = calloc(feed->ring_size, sizeof(*feed->ring));
    if (!feed->ring) {
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    atomic_fetch_add(&session->memory_bytes,
                     feed->ring_size * sizeof(*feed->ring));
    return 0;
}

void dwcp_frame_free(DwcpFrame *frame)
{
    if (frame) {
        sodium_memzero(frame->bytes, frame->used);
        free(frame);
    }
}

static void free_frames(DwcpFrame *frame)
{
    DwcpFrame *next;

    for (; frame; frame = next) {
        next = frame->next;
        dwcp_frame_free(frame);
    }
}

void dwcp_feed_clear(DwcpFeed *feed)
{
    free_frames(feed->ready);
    free_frames(feed->spare);
    free(feed->ring);
    pthread_cond_destroy(&feed->work);
    pthread_cond_destroy(&feed->drain);
    pthread_mutex_destroy(&feed->lock);
}

/* ------------------------------------------------- migration thread -- */

/* Returns: a ring of twice the size with the same chunks, or NULL. */
static DwcpChunk *ring_grown(const DwcpFeed *feed)
{
    DwcpChunk *ring = calloc(feed->ring_size * 2, sizeof(*ring));
    uint64_t i;

    for (i = feed->acked.below; ring && i != feed->ring_in; i++) {
        ring[i & (feed->ring_size * 2 - 1)] =
            feed->ring[i & (feed->ring_size - 1)];
    }
    return ring;
}

/*
 * The only allocation under the lock: rings double, so it happens a few times
 * in a session, and the migration thread is the only one that adds.
 */
static int ring_grow_locked(DwcpFeed *feed)
{
    DwcpChunk *ring = ring_grown(feed);

    if (!ring) {
        return -ENOMEM;
    }
    free(feed->ring);
    feed->ring = ring;
    atomic_fetch_add(&feed->session->memory_bytes,
                     feed->ring_size * sizeof(*ring));
    feed->ring_size *= 2;
    return 0;
}

int dwcp_feed_flush(DwcpFeed *feed)
{
    int rc = 0;

    if (!feed->open.present) {
        return 0;
    }
    feed->open.round = feed->round;
    pthread_mutex_lock(&feed->lock);
    if (feed->ring_in >= DWCP_NUMBERS_MAX) {
        rc = -ENOBUFS;
    } else if (feed->ring_in - feed->acked.below == feed->ring_size) {
        rc = ring_grow_locked(feed);
    }
    if (rc == 0) {
        dwcp_feed_not_dry_locked(feed);
        feed->ring[feed->ring_in++ & (feed->ring_size - 1)] = feed->open;
        pthread_cond_signal(&feed->work);
    }
    pthread_mutex_unlock(&feed->lock);
    if (rc == 0) {
        feed->open.present = 0;
    }
    return rc;
}

static uint64_t mask_of(unsigned from, unsigned count)
{
    return (count == 64 ? UINT64_MAX : (1ull << count) - 1) << from;
}

int dwcp_feed_put(DwcpFeed *feed, uint32_t block, uint64_t first,
                  uint64_t pages)
{
    unsigned from, count;
    uint32_t chunk;
    int rc;

    for (; pages; first += count, pages -= count) {
        chunk = (uint32_t)(first / DWCP_CHUNK_PAGES);
        from = (unsigned)(first % DWCP_CHUNK_PAGES);
        count = DWCP_CHUNK_PAGES - from;
        count = pages < count ? (unsigned)pages : count;
        if (feed->open.present &&
            (feed->open.block != block || feed->open.chunk != chunk)) {
            rc = dwcp_feed_flush(feed);
            if (rc < 0) {
                return rc;
            }
        }
        feed->open.block = block;
        feed->open.chunk = chunk;
        atomic_fetch_add(&feed->put_pages,
                         (unsigned)__builtin_popcountll(
                             mask_of(from, count) & ~feed->open.present));
        feed->open.present |= mask_of(from, count);
    }
    return 0;
}

int dwcp_feed_round(DwcpFeed *feed)
{
    int rc = dwcp_feed_flush(feed);

    feed->round++;
    atomic_fetch_add(&feed->rounds, 1);
    return rc;
}

uint64_t dwcp_feed_pending_pages(DwcpFeed *feed)
{
    /* In this order: a page is counted as put before it is acknowledged. */
    uint64_t acked = atomic_load(&feed->acked_pages);

    return atomic_load(&feed->put_pages) - acked;
}

static bool full_locked(const DwcpFeed *feed)
{
    uint64_t full = 2 * dwcp_feed_ready_limit_locked(feed) / DWCP_CHUNK_WIRE_BYTES;

    full = full < RING_FULL_MIN ? RING_FULL_MIN : full;
    full = full > RING_FULL_MAX ? RING_FULL_MAX : full;
    return feed->ring_in - feed->ring_out >= full;
}

bool dwcp_feed_full(DwcpFeed *feed)
{
    bool full;

    pthread_mutex_lock(&feed->lock);
    full = full_locked(feed);
    pthread_mutex_unlock(&feed->lock);
    return full;
}

int dwcp_feed_wait(DwcpFeed *feed, unsigned timeout_ms)
{
    struct timespec until =
        dwcp_timespec(dwcp_now_ns() + timeout_ms * 1000000ull);
    uint64_t acked = atomic_load(&feed->acked_pages);
    int rc = 0;

    pthread_mutex_lock(&feed->lock);
    while (!atomic_load(&feed->session->dead) && rc == 0 &&
           (full_locked(feed) || atomic_load(&feed->session->down) ||
            (dwcp_feed_pending_pages(feed) &&
             atomic_load(&feed->acked_pages) == acked))) {
        rc = pthread_cond_timedwait(&feed->drain, &feed->lock, &until);
    }
    pthread_mutex_unlock(&feed->lock);
    if (atomic_load(&feed->session->dead)) {
        return dwcp_session_error(feed->session, NULL);
    }
    return rc ? 1 : 0;
}

uint64_t dwcp_feed_last_number(DwcpFeed *feed)
{
    uint64_t last;

    pthread_mutex_lock(&feed->lock);
    last = feed->ring_in;
    pthread_mutex_unlock(&feed->lock);
    return last;
}

void dwcp_feed_wake(DwcpFeed *feed)
{
    pthread_mutex_lock(&feed->lock);
    pthread_cond_broadcast(&feed->work);
    pthread_cond_broadcast(&feed->drain);
    pthread_mutex_unlock(&feed->lock);
}
