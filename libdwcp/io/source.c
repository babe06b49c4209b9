/*
 * The source: its public calls but dwcp_source_new
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/fail.h"
#include "io/block.h"
#include "io/capmap.h"
#include "io/lane-end.h"
#include "io/source.h"

int dwcp_source_connect(DwcpSource *source, DwcpError *err)
{
    DwcpStream *stream;
    int rc;

    assert(!source->streams_started);
    stream = dwcp_stream_new(&source->session, &dwcp_source_ops, &source->feed);
    if (!stream) {
        return dwcp_fail(err, -ENOMEM, "no memory for stream 0");
    }
    source->streams[0] = stream;
    source->streams_started = 1;
    rc = dwcp_thread_start(&stream->thread, "dwcp-stream0", dwcp_source_run,
                           stream, err);
    if (rc < 0) {
        dwcp_stream_free(stream);
        source->streams[0] = NULL;
        source->streams_started = 0;
    }
    return rc;
}

int dwcp_source_take_channel(DwcpSource *source, unsigned channel,
                             DwcpError *err)
{
    return dwcp_session_take_channel(&source->session, channel, err);
}

int dwcp_source_add_block(DwcpSource *source, const void *host,
                          uint64_t length, DwcpError *err)
{
    DwcpSourceBlock *blocks;
    int rc;

    /* Workers read the list without a lock. */
    if (atomic_load(&source->feed.put_pages)) {
        return dwcp_fail(err, -EINVAL,
                         "RAM block %u comes after the first pages",
                         source->blocks_count);
    }
    rc = dwcp_block_check(host, length, source->session.page_size,
                          source->blocks_count, err);
    if (rc < 0) {
        return rc;
    }
    blocks = realloc(source->blocks,
                     (source->blocks_count + 1) * sizeof(*blocks));
    if (!blocks) {
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    source->blocks = blocks;
    blocks[source->blocks_count] = (DwcpSourceBlock){
        host, length / source->session.page_size
    };
    return (int)source->blocks_count++;
}

/* An error of the hand-over itself is the session's end. */
static int hand_over_error(DwcpSource *source, int code)
{
    DwcpError err;

    if (code < 0) {
        (void)dwcp_fail(&err, code, "cannot hand over pages: %s",
                        strerror(-code));
        dwcp_session_fail(&source->session, &err, true);
    }
    return code;
}

int dwcp_source_put(DwcpSource *source, unsigned block, uint64_t first,
                    uint64_t pages)
{
    if (atomic_load(&source->session.dead)) {
        return dwcp_session_error(&source->session, NULL);
    }
    if (block >= source->blocks_count ||
        first > source->blocks[block].pages ||
        pages > source->blocks[block].pages - first) {
        return -EINVAL;
    }
    return hand_over_error(source, dwcp_feed_put(&source->feed, block, first,
                                                 pages));
}

void dwcp_source_flush(DwcpSource *source)
{
    (void)hand_over_error(source, dwcp_feed_flush(&source->feed));
}

void dwcp_source_round(DwcpSource *source)
{
    (void)hand_over_error(source, dwcp_feed_round(&source->feed));
}

bool dwcp_source_full(DwcpSource *source)
{
    return dwcp_feed_full(&source->feed);
}

int dwcp_source_wait(DwcpSource *source, unsigned timeout_ms)
{
    return dwcp_feed_wait(&source->feed, timeout_ms);
}

/* SEALED acknowledges everything: it may overtake ACKs on other streams, which
 * then nobody reads. */
static bool all_acked(DwcpSource *source)
{
    return dwcp_session_phase(&source->session) == DWCP_PHASE_SEALED;
}

uint64_t dwcp_source_pending_bytes(DwcpSource *source)
{
    if (all_acked(source)) {
        return 0;
    }
    return dwcp_feed_pending_pages(&source->feed) * source->session.page_size;
}

uint64_t dwcp_source_acked_bytes(DwcpSource *source)
{
    uint64_t pages = all_acked(source)
                         ? atomic_load(&source->feed.put_pages)
                         : atomic_load(&source->feed.acked_pages);

    return pages * source->session.page_size;
}

void dwcp_source_set_rate(DwcpSource *source, uint64_t bytes_per_s)
{
    dwcp_feed_set_rate(&source->feed, bytes_per_s);
}

int dwcp_source_end(DwcpSource *source)
{
    DwcpError err;
    int rc;

    rc = hand_over_error(source, dwcp_feed_flush(&source->feed));
    if (rc < 0) {
        return rc;
    }
    atomic_store(&source->ended_ns, dwcp_now_ns());
    rc = dwcp_session_move(&source->session, DWCP_PHASE_ENDED, "end", &err);
    if (rc < 0) {
        return rc;
    }
    rc = dwcp_stream_queue_u64(source->streams[0], DWCP_RECORD_END,
                               dwcp_feed_last_number(&source->feed));
    if (rc < 0) {
        return hand_over_error(source, rc);
    }
    dwcp_stream_wake(source->streams[0]);
    return 0;
}

/* Wait for SEALED; the peer's silence is stream 0's to notice. */
static int wait_sealed_locked(DwcpSession *session)
{
    struct timespec until = dwcp_timespec(
        dwcp_now_ns() + session->switchover_ms_max * 1000000ull);

    while (session->phase == DWCP_PHASE_GONE && !session->lost) {
        if (pthread_cond_timedwait(&session->changed, &session->lock, &until) ==
            ETIMEDOUT) {
            break;
        }
    }
    return session->phase == DWCP_PHASE_SEALED ? 0 : 1;
}

/*
 * GO is queued before the phase says so: no GONE without a GO.  A target that
 * has waited long may be about to give up, so GO is said soon or never.
 */
static int queue_go_locked(DwcpSource *source, DwcpError *err)
{
    DwcpSession *session = &source->session;

    if (dwcp_source_late_locked(session, dwcp_now_ns())) {
        return dwcp_source_late(session, err);
    }
    if (dwcp_stream_queue(source->streams[0], DWCP_RECORD_GO, NULL, 0, NULL,
                          0) < 0) {
        return dwcp_fail(err, -ENOBUFS, "the target does not read");
    }
    return 0;
}

int dwcp_source_finish(DwcpSource *source, DwcpError *err)
{
    DwcpSession *session = &source->session;
    DwcpError why;
    int rc = 0;

    atomic_store(&source->finish_ns, dwcp_now_ns());
    pthread_mutex_lock(&session->lock);
    /* GO is not said into the void: it waits for a lost stream 0. */
    while (session->phase == DWCP_PHASE_ENDED ||
           (session->phase == DWCP_PHASE_READY && !session->streams[0] &&
            !session->lost)) {
        pthread_cond_wait(&session->changed, &session->lock);
    }
    if (session->phase == DWCP_PHASE_READY) {
        rc = queue_go_locked(source, &why);
    }
    if (rc < 0) {
        pthread_mutex_unlock(&session->lock);
        dwcp_session_fail(session, &why, rc == -ETIMEDOUT);
        return dwcp_session_error(session, err);
    }
    if (session->phase == DWCP_PHASE_GONE ||
        session->phase == DWCP_PHASE_SEALED) {
        rc = 0; /* asked once more */
    } else {
        rc = dwcp_session_move_locked(session, DWCP_PHASE_GONE, "finish", err);
    }
    if (rc == 0) {
        dwcp_stream_wake(source->streams[0]);
        rc = wait_sealed_locked(session);
        if (rc == 1) {
            (void)dwcp_fail(err, -ETIMEDOUT,
                            "the target was told to go and has not answered");
        }
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}

bool dwcp_source_gone(DwcpSource *source)
{
    DwcpPhase phase = dwcp_session_phase(&source->session);

    return phase == DWCP_PHASE_GONE || phase == DWCP_PHASE_SEALED;
}

void dwcp_source_cancel(DwcpSource *source)
{
    dwcp_session_cancel(&source->session, "the source cancelled");
}

int dwcp_source_error(DwcpSource *source, DwcpError *err)
{
    return dwcp_session_error(&source->session, err);
}

void dwcp_source_stats(DwcpSource *source, DwcpStats *stats)
{
    DwcpStats now = { .size = stats->size };

    dwcp_session_stats(&source->session, &now);
    now.pace_bytes_per_s =
        atomic_load(&source->ended_ns) ? 0 : atomic_load(&source->pace);
    now.streams_wanted = atomic_load(&source->feed.streams_wanted);
    now.workers = source->workers_wanted;
    now.mode = atomic_load(&source->mode);
    now.rounds = atomic_load(&source->feed.rounds);
    now.dry_ms = dwcp_feed_dry_ms(&source->feed);
    now.acked_bytes = dwcp_source_acked_bytes(source);
    now.pending_bytes = dwcp_source_pending_bytes(source);
    pthread_mutex_lock(&source->feed.lock);
    now.level = source->feed.level_now;
    now.host_cap_bytes_per_s =
        source->feed.hostcap.cap ? atomic_load(&source->feed.hostcap.cap->rate)
                                 : 0;
    now.zero_pages = source->feed.zero_pages;
    now.zstd_pages = source->feed.zstd_pages;
    now.raw_pages = source->feed.raw_pages;
    now.resent_bytes = source->feed.again_bytes;
    pthread_mutex_unlock(&source->feed.lock);
    now.page_bytes = (now.zero_pages + now.zstd_pages + now.raw_pages) *
                     source->session.page_size;
    memcpy(stats, &now,
           stats->size < sizeof(now) ? stats->size : sizeof(now));
}

void dwcp_source_free(DwcpSource *source)
{
    unsigned i;

    if (!source) {
        return;
    }
    dwcp_session_close(&source->session);
    if (source->streams[0]) {
        pthread_join(source->streams[0]->thread, NULL);
    }
    dwcp_lane_join(&source->session);
    for (i = 1; i < source->streams_started; i++) {
        pthread_join(source->streams[i]->thread, NULL);
    }
    for (i = 0; i < source->workers_started; i++) {
        pthread_join(source->workers[i], NULL);
    }
    for (i = 0; i < source->streams_started; i++) {
        dwcp_stream_free(source->streams[i]);
    }
    dwcp_capmap_leave(&source->feed.hostcap);
    dwcp_feed_clear(&source->feed);
    dwcp_session_clear(&source->session);
    free(source->blocks);
    free(source->host);
    free(source->port);
    free(source);
}
