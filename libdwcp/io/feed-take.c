/*
 * The feed's middle: what workers take to encode, and give back as frames
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/feed.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "core/fail.h"

/* A frame should not keep its stream busy for longer. */
#define FRAME_MS 200u
/* From here on 2 MiB take a large part of a second. */
#define LEVEL_SLOW 10

uint64_t dwcp_feed_rate_locked(const DwcpFeed *feed)
{
    uint64_t limit = feed->pacer.rate_bytes_per_s;

    return limit && (!feed->rate_bytes_per_s || limit < feed->rate_bytes_per_s)
               ? limit
               : feed->rate_bytes_per_s;
}

uint64_t dwcp_feed_ready_limit_locked(const DwcpFeed *feed)
{
    uint64_t rate = dwcp_feed_rate_locked(feed);
    uint64_t limit = rate ? rate / 1000 * feed->queue_ms_max
                          : DWCP_QUEUE_BYTES_START;

    limit = limit < DWCP_QUEUE_BYTES_MIN ? DWCP_QUEUE_BYTES_MIN : limit;
    return limit < feed->queue_bytes_max ? limit : feed->queue_bytes_max;
}

static bool may_encode_locked(const DwcpFeed *feed)
{
    /* On the way to a lane nothing new is sent; what was lost must be. */
    bool waits = feed->again_count ||
                 (feed->way != DWCP_WAY_DRAIN &&
                  feed->ring_out != feed->ring_in &&
                  feed->ring_out + DWCP_FRAME_CHUNKS_MAX - feed->acked.below <
                      DWCP_NUMBERS_AHEAD_MAX);

    return waits && feed->ready_bytes < dwcp_feed_ready_limit_locked(feed) &&
           (feed->spare || feed->frames < feed->frames_beyond +
                                              atomic_load(&feed->streams_wanted));
}

/*
 * Chunks that one frame should take: one stream's share of what waits, so that
 * the end of a round is spread over all, and what it can send in FRAME_MS.  At
 * a slow level one chunk only: _free waits for the frame that is being encoded.
 */
static uint64_t share_locked(const DwcpFeed *feed)
{
    unsigned streams = feed->way == DWCP_WAY_LANE
                           ? 1
                           : atomic_load(&feed->streams_wanted);
    uint64_t share = (feed->ring_in - feed->ring_out) / streams;
    uint64_t rate = dwcp_feed_rate_locked(feed);
    uint64_t timely =
        rate / 1000 * FRAME_MS / streams / DWCP_CHUNK_WIRE_BYTES;

    if (feed->level >= LEVEL_SLOW) {
        return 1;
    }
    return rate && timely < share ? timely : share;
}

/* Is @number to be encoded again?  @take: from here on it is not. */
static bool again_locked(DwcpFeed *feed, uint64_t number, bool take)
{
    uint64_t at = number % DWCP_NUMBERS_AHEAD_MAX;
    uint64_t bit = 1ull << (at % 64);
    bool set = feed->again[at / 64] & bit;

    if (set && take) {
        feed->again[at / 64] &= ~bit;
        feed->again_count--;
    }
    return set;
}

/*
 * The lowest numbers that are to be encoded again, as many of them as follow
 * each other and fit.  What was acknowledged since on another way is not in it:
 * a chunk is on one stream at a time.
 */
static void take_again_locked(DwcpFeed *feed, DwcpPages *pages)
{
    unsigned room = dwcp_plain_bytes_max(feed->session->page_size) /
                    feed->session->page_size;
    unsigned most = feed->level >= LEVEL_SLOW ? 1 : DWCP_FRAME_CHUNKS_MAX;
    uint64_t number = feed->acked.below + 1;
    const DwcpChunk *chunk;

    while (!again_locked(feed, number, false)) {
        /* A word of zeros at once: the ring has 1024 of them. */
        number += number % 64 == 0 &&
                          !feed->again[number % DWCP_NUMBERS_AHEAD_MAX / 64]
                      ? 64
                      : 1;
        assert(number <= feed->ring_out);
    }
    pages->number = number;
    pages->count = 0;
    do {
        chunk = &feed->ring[(number - 1) & (feed->ring_size - 1)];
        if (room < (unsigned)__builtin_popcountll(chunk->present)) {
            break;
        }
        room -= (unsigned)__builtin_popcountll(chunk->present);
        pages->chunks[pages->count++] = *chunk;
        (void)again_locked(feed, number++, true);
    } while (pages->count < most &&
             again_locked(feed, number, false));
}

/* Moves chunks from the ring to @pages; the number follows the position. */
static void take_chunks_locked(DwcpFeed *feed, DwcpPages *pages)
{
    uint64_t share = share_locked(feed);
    unsigned room = dwcp_plain_bytes_max(feed->session->page_size) /
                    feed->session->page_size;
    const DwcpChunk *chunk;

    pages->number = feed->ring_out + 1;
    pages->count = 0;
    do {
        chunk = &feed->ring[feed->ring_out & (feed->ring_size - 1)];
        if (room < (unsigned)__builtin_popcountll(chunk->present)) {
            break;
        }
        room -= (unsigned)__builtin_popcountll(chunk->present);
        pages->chunks[pages->count++] = *chunk;
        feed->ring_out++;
    } while (pages->count < share && pages->count < DWCP_FRAME_CHUNKS_MAX &&
             feed->ring_out != feed->ring_in);
}

static unsigned level_locked(DwcpFeed *feed, uint64_t now_ns)
{
    if (feed->way == DWCP_WAY_LANE) {
        return 0;
    }
    if (feed->level >= 0) {
        return (unsigned)feed->level;
    }
    return dwcp_level_choose(
        &feed->choice,
        &(DwcpLevelTake){
            .now_ns = now_ns,
            .rate_bytes_per_s = dwcp_feed_rate_locked(feed),
            .ready_bytes = feed->ready_bytes,
            .hungry = feed->idle != 0, /* beyond those that were called */
            .backlog = feed->ready_bytes >=
                       dwcp_feed_ready_limit_locked(feed) / 2,
            .raw_fits = feed->rate_bytes_per_s && atomic_load(&feed->raw_fits),
        });
}

/* Returns: a frame that the pool had room for, or NULL: out of memory. */
static DwcpFrame *frame_new(DwcpFeed *feed)
{
    uint32_t page_size = feed->session->page_size;
    size_t bytes = feed->level ? dwcp_frame_bytes_max(page_size)
                               : dwcp_frame_head_bytes_max();
    size_t parts = feed->level > 0 && !feed->raw_too
                       ? 0
                       : dwcp_raw_parts_max(page_size);
    size_t size = sizeof(DwcpFrame) + bytes + parts * sizeof(struct iovec);
    DwcpFrame *frame = malloc(size);
    DwcpError err;

    _Static_assert(offsetof(DwcpFrame, bytes) % _Alignof(struct iovec) == 0 &&
                       DWCP_RECORD_HEADER % _Alignof(struct iovec) == 0 &&
                       DWCP_PAGES_CHUNK % _Alignof(struct iovec) == 0 &&
                       DWCP_PAGE_SIZE_MIN % _Alignof(struct iovec) == 0,
                   "the parts stand aligned behind the head");

    if (!frame) {
        (void)dwcp_fail(&err, -ENOMEM, "no memory for a frame");
        dwcp_session_fail(feed->session, &err, true);
        return NULL;
    }
    frame->guest = parts ? (struct iovec *)(void *)(frame->bytes + bytes)
                         : NULL;
    frame->used = 0;
    atomic_fetch_add(&feed->session->memory_bytes, size);
    return frame;
}

int dwcp_feed_take(DwcpFeed *feed, DwcpPages *pages, DwcpFrame **frame,
                   unsigned *level)
{
    DwcpSession *session = feed->session;
    uint64_t now_ns;
    DwcpFrame *taken;
    bool again;

    pthread_mutex_lock(&feed->lock);
    while (!atomic_load(&session->dead) && !atomic_load(&session->closing) &&
           !may_encode_locked(feed)) {
        pthread_cond_wait(&feed->work, &feed->lock);
    }
    if (atomic_load(&session->dead) || atomic_load(&session->closing)) {
        pthread_mutex_unlock(&feed->lock);
        return -ECANCELED;
    }
    now_ns = dwcp_now_ns();
    *level = feed->level_now = level_locked(feed, now_ns);
    again = feed->again_count;
    if (again) {
        take_again_locked(feed, pages);
    } else {
        take_chunks_locked(feed, pages);
    }
    taken = feed->spare;
    if (taken) {
        feed->spare = taken->next;
    } else {
        feed->frames++;
    }
    if (may_encode_locked(feed)) {
        pthread_cond_signal(&feed->work); /* one signal may stand for many */
    }
    pthread_cond_broadcast(&feed->drain);
    pthread_mutex_unlock(&feed->lock);
    if (!taken) {
        taken = frame_new(feed);
    }
    if (taken) {
        taken->again = again;
        taken->level = *level;
        taken->taken_ns = now_ns;
        taken->guest_count = 0;
    }
    *frame = taken;
    return taken ? 0 : -ECANCELED;
}

/* What is described again was counted before. */
static void count_pages_locked(DwcpFeed *feed, const DwcpFrame *frame,
                               const DwcpPages *pages)
{
    unsigned plain = dwcp_pages_plain(pages);

    if (frame->again) {
        return;
    }
    feed->zero_pages += frame->pages - plain;
    if (pages->codec == DWCP_CODEC_ZSTD) {
        feed->zstd_pages += plain;
    } else {
        feed->raw_pages += plain;
    }
}

void dwcp_feed_ready(DwcpFeed *feed, DwcpFrame *frame, const DwcpPages *pages)
{
    uint64_t spent_ns = dwcp_now_ns() - frame->taken_ns;
    DwcpStream *idle = NULL;

    frame->number = pages->number;
    frame->count = pages->count;
    frame->pages = dwcp_pages_present(pages);
    frame->next = NULL;
    frame->used = frame->head > frame->used ? frame->head : frame->used;
    pthread_mutex_lock(&feed->lock);
    count_pages_locked(feed, frame, pages);
    if (frame->level) {
        dwcp_level_encoded(&feed->choice,
                           (uint64_t)dwcp_pages_plain(pages) *
                               feed->session->page_size,
                           spent_ns);
    }
    *feed->ready_end = frame;
    feed->ready_end = &frame->next;
    feed->ready_bytes += frame->length;
    if (feed->way == DWCP_WAY_LANE) {
        dwcp_feed_wake_lane_locked(feed);
    } else if (feed->idle) {
        idle = feed->streams[__builtin_ctzll(feed->idle)];
        feed->idle &= feed->idle - 1;
    }
    pthread_mutex_unlock(&feed->lock);
    if (idle) {
        dwcp_stream_wake(idle);
    }
}
