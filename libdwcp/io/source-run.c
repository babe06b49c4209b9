/*
 * What the source's streams do with records and time, and its workers
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/fail.h"
#include "io/lane-end.h"
#include "io/pump.h"
#include "io/stream-turn.h"

DwcpSource *dwcp_source_of(DwcpStream *stream)
{
    DwcpFeed *feed = stream->role;

    return feed->source;
}

/* ------------------------------------------------------------ records -- */

static int record_ready(DwcpStream *stream, DwcpError *err)
{
    DwcpSource *source = dwcp_source_of(stream);
    DwcpSession *session = &source->session;
    DwcpPhase phase;
    int rc;

    phase = dwcp_session_phase(session);
    if (stream->again &&
        (phase == DWCP_PHASE_READY || phase == DWCP_PHASE_GONE ||
         phase == DWCP_PHASE_SEALED)) {
        return 0; /* said again */
    }
    if (phase == DWCP_PHASE_ENDED) {
        rc = dwcp_lane_ready_check(source, err);
        if (rc == 0) {
            rc = dwcp_feed_ready_check(&source->feed, err);
        }
        if (rc < 0) {
            return rc;
        }
    }
    pthread_mutex_lock(&session->lock);
    rc = dwcp_session_move_locked(session, DWCP_PHASE_READY, "READY", err);
    if (rc == 0) {
        session->ready_ns = dwcp_now_ns();
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}

static int source_record(DwcpStream *stream, const DwcpRecord *record,
                         const uint8_t *body, DwcpError *err)
{
    DwcpSource *source = dwcp_source_of(stream);
    int rc;

    switch (record->type) {
    case DWCP_RECORD_ACK:
        return dwcp_feed_ack(stream, dwcp_get_le64(body), err);
    case DWCP_RECORD_BEGIN:
        if (dwcp_get_le32(body) != source->blocks_count) {
            return dwcp_fail(err, -EPROTO,
                             "the target has %u RAM blocks, the source %u",
                             dwcp_get_le32(body), source->blocks_count);
        }
        return dwcp_feed_begin(&source->feed, stream->again, err);
    case DWCP_RECORD_READY:
        return record_ready(stream, err);
    case DWCP_RECORD_SEALED:
        if (stream->again &&
            dwcp_session_phase(&source->session) == DWCP_PHASE_SEALED) {
            return 0; /* said again */
        }
        rc = dwcp_session_move(&source->session, DWCP_PHASE_SEALED, "SEALED",
                               err);
        if (rc == 0) {
            dwcp_session_wake(&source->session);
        }
        return rc;
    case DWCP_RECORD_RDMA_OFFER:
    case DWCP_RECORD_RDMA_DOWN:
        return dwcp_source_rdma_record(stream, record, body, err);
    default:
        return dwcp_fail(err, -EPROTO, "record type %u is not for a source",
                         (unsigned)record->type);
    }
}

/* The peer must show signs of life, and what is on its way must move. */
static int silence_check(DwcpSource *source, uint64_t now_ns, DwcpError *err)
{
    DwcpSession *session = &source->session;
    DwcpPhase phase = dwcp_session_phase(session);
    uint64_t heard_ns = atomic_load(&session->heard_ns);
    uint64_t progress_ns = atomic_load(&session->progress_ns);
    uint32_t limit_ms = session->silence_ms_max;

    if ((phase == DWCP_PHASE_ENDED || phase == DWCP_PHASE_READY ||
         phase == DWCP_PHASE_GONE) &&
        session->switchover_ms_max < limit_ms) {
        limit_ms = session->switchover_ms_max;
    }
    if (now_ns > heard_ns && now_ns - heard_ns > limit_ms * 1000000ull) {
        return dwcp_fail(err, -ETIMEDOUT,
                         "no sign of life from the target for %u ms",
                         limit_ms);
    }
    if (dwcp_feed_pending_pages(&source->feed) && phase != DWCP_PHASE_SEALED &&
        now_ns > progress_ns &&
        now_ns - progress_ns > session->silence_ms_max * 1000000ull) {
        return dwcp_fail(err, -ETIMEDOUT,
                         "the target has taken nothing for %u ms",
                         session->silence_ms_max);
    }
    return 0;
}

bool dwcp_source_late_locked(const DwcpSession *session, uint64_t now_ns)
{
    return session->phase == DWCP_PHASE_READY && now_ns > session->ready_ns &&
           now_ns - session->ready_ns >
               session->silence_ms_max * 1000000ull;
}

int dwcp_source_late(const DwcpSession *session, DwcpError *err)
{
    return dwcp_fail(err, -ETIMEDOUT,
                     "the target is ready, and for %u ms the source has not "
                     "finished",
                     session->silence_ms_max);
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/*
 * Between END and GO the guest stands still.  A target that answers PING but
 * does not become ready must be given up some day: when the source's user
 * waits for it, and no page and no byte of device state has moved for long.
 */
static int switchover_check(DwcpStream *stream, uint64_t now_ns,
                            DwcpError *err)
{
    DwcpSource *source = dwcp_source_of(stream);
    DwcpSession *session = &source->session;
    uint64_t finish_ns = atomic_load(&source->finish_ns), since_ns;
    bool late, ended;

    pthread_mutex_lock(&session->lock);
    late = dwcp_source_late_locked(session, now_ns);
    ended = session->phase == DWCP_PHASE_ENDED;
    pthread_mutex_unlock(&session->lock);
    if (late) {
        return dwcp_source_late(session, err);
    }
    if (!ended || (!finish_ns && !dwcp_pump_shut(stream->pump))) {
        return 0;
    }
    since_ns = later(finish_ns, atomic_load(&source->ended_ns));
    since_ns = later(since_ns, atomic_load(&session->progress_ns));
    since_ns = later(since_ns, atomic_load(&session->consumed_ns));
    if (now_ns > since_ns &&
        now_ns - since_ns > session->silence_ms_max * 1000000ull) {
        return dwcp_fail(err, -ETIMEDOUT,
                         "the target does not become ready: nothing has moved "
                         "for %u ms",
                         session->silence_ms_max);
    }
    return 0;
}

/*
 * A connection whose packets nobody answers is as good as lost.  The system
 * counts from the last answer, which is long ago when nothing was sent.
 */
static int stall_check(DwcpStream *stream, const DwcpSocketState *state,
                       uint64_t now_ns, DwcpError *err)
{
    const DwcpSession *session = stream->session;
    uint32_t limit_ms = DWCP_STALL_MS;

    if (atomic_load(&dwcp_source_of(stream)->ended_ns) &&
        session->switchover_ms_max / 2 < limit_ms) {
        limit_ms = session->switchover_ms_max / 2;
    }
    if (!state->in_flight) {
        stream->idle_ns = now_ns;
    }
    if (!atomic_load(&session->resume) || state->flow.silent_ms <= limit_ms ||
        now_ns - stream->idle_ns <= limit_ms * 1000000ull) {
        return 0;
    }
    return dwcp_stream_error(stream, "no answer for long", ETIMEDOUT, err);
}

static int source_tick(DwcpStream *stream, uint64_t now_ns, DwcpError *err)
{
    DwcpSource *source = dwcp_source_of(stream);
    uint64_t acked_bytes, ended_ns;
    DwcpSocketState state;
    int rc;

    stream->transport->ops->measure(stream->transport, &state);
    rc = stall_check(stream, &state, now_ns, err);
    if (rc < 0 || stream->index != 0) {
        return rc;
    }
    acked_bytes = state.flow.acked_bytes;
    /*
     * A PING waits behind a frame, which can take long on a slow link.  That
     * the frame's bytes arrive is a sign of life then: a peer that is frozen
     * takes no more of it than its socket's buffer.  With the guest stopped
     * even that must have an end.
     */
    ended_ns = atomic_load(&source->ended_ns);
    if (stream->frame && acked_bytes > stream->tcp_acked_bytes &&
        (!ended_ns || now_ns < ended_ns + source->session.silence_ms_max *
                                              1000000ull)) {
        atomic_store(&source->session.heard_ns, now_ns);
    }
    stream->tcp_acked_bytes = acked_bytes;
    pthread_mutex_lock(&source->session.lock);
    source->session.rtt_us = state.flow.srtt_us;
    pthread_mutex_unlock(&source->session.lock);
    /* A queue that is full is no reason to fail: silence_check judges. */
    (void)!dwcp_stream_queue_u64(stream, DWCP_RECORD_PING, now_ns);
    rc = silence_check(source, now_ns, err);
    return rc < 0 ? rc : switchover_check(stream, now_ns, err);
}

/* Stream 0 stands again: what may the target have missed? */
static int source_resumed(DwcpStream *stream, DwcpError *err)
{
    DwcpSource *source = dwcp_source_of(stream);
    DwcpPhase phase = dwcp_session_phase(&source->session);
    int rc = dwcp_source_rdma_resumed(stream, err);

    if (rc < 0) {
        return rc;
    }
    if (phase == DWCP_PHASE_ENDED || phase == DWCP_PHASE_READY ||
        phase == DWCP_PHASE_GONE) {
        rc = dwcp_stream_queue_u64(stream, DWCP_RECORD_END,
                                   dwcp_feed_last_number(&source->feed));
    }
    if (rc == 0 && phase == DWCP_PHASE_GONE) {
        rc = dwcp_stream_queue(stream, DWCP_RECORD_GO, NULL, 0, NULL, 0);
    }
    return rc < 0 ? dwcp_fail(err, rc, "the target does not read") : 0;
}

const DwcpStreamOps dwcp_source_ops = {
    .record = source_record,
    .pull = dwcp_feed_pull,
    .sent = dwcp_feed_sent,
    .drained = dwcp_feed_drained,
    .lost = dwcp_feed_lost,
    .resumed = source_resumed,
    .tick = source_tick,
    .sample = dwcp_source_sample,
    .sample_ns = DWCP_MODE_SAMPLE_MS * 1000000ull,
};

/* ------------------------------------------------------------ threads -- */

/* @encoder: NULL if all levels are 0 */
static void encode(DwcpSource *source, DwcpEncoder *encoder, DwcpPages *pages,
                   unsigned level, DwcpFrame *frame)
{
    const uint32_t page_size = source->session.page_size;
    const size_t chunk_bytes = (size_t)DWCP_CHUNK_PAGES * page_size;
    const uint8_t *hosts[DWCP_FRAME_CHUNKS_MAX];
    unsigned i;

    for (i = 0; i < pages->count; i++) {
        hosts[i] = source->blocks[pages->chunks[i].block].host +
                   pages->chunks[i].chunk * chunk_bytes;
    }
    if (level) {
        frame->length = dwcp_encode_frame(encoder, hosts, pages, level,
                                          frame->bytes);
        frame->head = frame->length;
    } else {
        frame->head = dwcp_encode_raw(hosts, pages, page_size, frame->bytes,
                                      frame->guest, &frame->guest_count);
        frame->length =
            frame->head + (size_t)dwcp_pages_plain(pages) * page_size;
    }
}

void *dwcp_source_encode(void *opaque)
{
    DwcpSource *source = opaque;
    DwcpEncoder *encoder = NULL;
    size_t encoder_bytes = 0;
    unsigned level;
    DwcpFrame *frame;
    DwcpPages pages;
    DwcpError err;

    if (source->feed.level) {
        encoder = dwcp_encoder_new(source->session.page_size);
        if (!encoder) {
            (void)dwcp_fail(&err, -ENOMEM, "no memory for an encoder");
            dwcp_session_fail(&source->session, &err, true);
            return NULL;
        }
    }
    while (dwcp_feed_take(&source->feed, &pages, &frame, &level) == 0) {
        encode(source, encoder, &pages, level, frame);
        if (encoder) { /* zstd allocates as it learns what a level needs */
            atomic_fetch_add(&source->session.memory_bytes,
                             dwcp_encoder_bytes(encoder) - encoder_bytes);
            encoder_bytes = dwcp_encoder_bytes(encoder);
        }
        dwcp_feed_ready(&source->feed, frame, &pages);
    }
    dwcp_encoder_free(encoder);
    return NULL;
}
