/*
 * The source: public calls, connecting, what its streams do with records
 *
 * Threads: stream 0's resolves, connects, shakes hands, then starts those of
 * the other streams and the encoder workers; from then on all are equal.
 * _free joins stream 0's thread first, so nothing starts behind its back.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/fail.h"
#include "io/block.h"
#include "io/feed.h"
#include "io/pump.h"
#include "io/socket.h"

#define WORKERS_DEFAULT_MAX 8u
/* Frames of the pool beyond those that streams and workers hold. */
#define FRAMES_QUEUED 16u

typedef struct SourceBlock {
    const uint8_t *host;
    uint64_t pages;
} SourceBlock;

struct DwcpSource {
    DwcpSession session;
    DwcpFeed feed;

    /* set at init, read-only */
    char *host, *port;
    int family;
    unsigned streams_wanted, workers_wanted;

    /* set before the first put, then read-only */
    SourceBlock *blocks;
    unsigned blocks_count;

    /* stream 0's thread until it ends, then _free's */
    DwcpAddresses addresses;
    DwcpStream *streams[DWCP_STREAMS_MAX];
    unsigned streams_started;
    pthread_t workers[DWCP_WORKERS_MAX];
    unsigned workers_started;
};

static DwcpSource *source_of(DwcpStream *stream)
{
    DwcpFeed *feed = stream->role;

    return feed->source;
}

static void source_on_end(DwcpSession *session)
{
    DwcpSource *source = session->role_data;

    dwcp_feed_wake(&source->feed);
}

/* ------------------------------------------------------------ options -- */

static int range_check(const char *what, long value, long min, long max,
                       DwcpError *err)
{
    if (value >= min && value <= max) {
        return 0;
    }
    return dwcp_fail(err, -EINVAL, "%s %ld is not %ld to %ld", what, value,
                     min, max);
}

static unsigned workers_default(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    if (online < 1) {
        return 1;
    }
    return online < (long)WORKERS_DEFAULT_MAX ? (unsigned)online
                                              : WORKERS_DEFAULT_MAX;
}

/*
 * A service name has a letter; all else must be a number that is a port: the
 * resolver itself takes 65616 for 80.
 */
static int port_check(const char *port, DwcpError *err)
{
    const char *c;
    unsigned value = 0;

    for (c = port; *c >= '0' && *c <= '9' && value <= UINT16_MAX; c++) {
        value = value * 10 + (unsigned)(*c - '0');
    }
    if (!*c && value > 0 && value <= UINT16_MAX) {
        return 0;
    }
    for (c = port; *c; c++) {
        if ((*c | 0x20) >= 'a' && (*c | 0x20) <= 'z') {
            return 0;
        }
    }
    return dwcp_fail(err, -EINVAL, "port %.32s is not 1 to 65535", port);
}

static int options_apply(DwcpSource *source, const DwcpSourceOptions *options,
                         DwcpError *err)
{
    if (!options->host || !*options->host || !options->port ||
        !*options->port) {
        return dwcp_fail(err, -EINVAL, "host or port is empty");
    }
    if (port_check(options->port, err) < 0) {
        return -EINVAL;
    }
    source->streams_wanted =
        options->streams ? options->streams : DWCP_STREAMS_DEFAULT;
    source->workers_wanted =
        options->workers ? options->workers : workers_default();
    if (range_check("streams", (long)source->streams_wanted, 1,
                    DWCP_STREAMS_MAX, err) < 0 ||
        range_check("workers", (long)source->workers_wanted, 1,
                    DWCP_WORKERS_MAX, err) < 0 ||
        range_check("level", options->level, DWCP_LEVEL_AUTO, DWCP_LEVEL_MAX,
                    err) < 0) {
        return -EINVAL;
    }
    source->family = options->family;
    source->host = strdup(options->host);
    source->port = strdup(options->port);
    if (!source->host || !source->port) {
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    if (options->switchover_ms_max) {
        source->session.switchover_ms_max = options->switchover_ms_max;
    }
    source->session.on_end = source_on_end;
    source->session.role_data = source;
    return 0;
}

static int feed_setup(DwcpSource *source, const DwcpSourceOptions *options,
                      DwcpError *err)
{
    uint32_t bytes = options->queue_bytes_max ? options->queue_bytes_max
                                              : DWCP_QUEUE_BYTES_DEFAULT;
    uint32_t ms = options->queue_ms_max ? options->queue_ms_max
                                        : DWCP_QUEUE_MS_DEFAULT;

    return dwcp_feed_init(&source->feed, source, &source->session, bytes, ms,
                          source->streams_wanted + source->workers_wanted +
                              FRAMES_QUEUED,
                          source->streams_wanted, options->level, err);
}

int dwcp_source_new(const DwcpSourceOptions *options, DwcpSource **out,
                    DwcpError *err)
{
    DwcpSource *source = calloc(1, sizeof(*source));
    int rc;

    if (!source) {
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    rc = dwcp_session_init(&source->session, DWCP_ROLE_SOURCE,
                           options->security, options->page_size,
                           options->silence_ms_max, &options->events, err);
    if (rc < 0) {
        free(source);
        return rc;
    }
    rc = options_apply(source, options, err);
    if (rc == 0) {
        rc = feed_setup(source, options, err);
    }
    if (rc < 0) {
        dwcp_session_clear(&source->session);
        free(source->host);
        free(source->port);
        free(source);
        return rc;
    }
    *out = source;
    return 0;
}

/* ---------------------------------------------------------- handshake -- */

static int handshake(DwcpSource *source, DwcpStream *stream,
                     uint64_t deadline_ns, DwcpError *err)
{
    uint8_t hello_bytes[DWCP_HELLO_BYTES], welcome_bytes[DWCP_WELCOME_BYTES];
    uint8_t confirm[DWCP_CONFIRM_BYTES];
    DwcpWelcome welcome;
    DwcpHello hello = {
        .version = DWCP_VERSION,
        .version_min = DWCP_VERSION_MIN,
        .features = DWCP_PROFILE_V1,
        .required = DWCP_PROFILE_V1 & ~DWCP_FEATURE_ZSTD,
        .security = (uint8_t)source->session.security,
        .kind = stream->index ? DWCP_HELLO_JOIN : DWCP_HELLO_NEW,
        .stream = (uint16_t)stream->index,
        .streams = (uint16_t)source->streams_wanted,
        .page_size = source->session.page_size,
    };
    int rc;

    memcpy(hello.session, source->session.id, DWCP_SESSION_BYTES);
    randombytes_buf(hello.random, sizeof(hello.random));
    dwcp_hello_encode(hello_bytes, &hello);
    rc = dwcp_write_exact(stream, hello_bytes, sizeof(hello_bytes),
                          deadline_ns, err);
    if (rc == 0) {
        rc = dwcp_read_exact(stream, welcome_bytes, DWCP_MAGIC_BYTES,
                             deadline_ns, err);
    }
    if (rc == 0) {
        rc = dwcp_magic_check(welcome_bytes, err);
    }
    if (rc == 0) {
        rc = dwcp_read_exact(stream, welcome_bytes + DWCP_MAGIC_BYTES,
                             sizeof(welcome_bytes) - DWCP_MAGIC_BYTES,
                             deadline_ns, err);
    }
    if (rc == 0) {
        rc = dwcp_welcome_decode(welcome_bytes, &hello, hello_bytes, &welcome,
                                 err);
    }
    if (rc < 0) {
        return rc;
    }
    if (stream->index == 0) {
        memcpy(source->session.id, welcome.session, DWCP_SESSION_BYTES);
        if (!(welcome.features & DWCP_FEATURE_ZSTD)) {
            source->feed.level = 0;
        }
    }
    dwcp_confirm_encode(confirm, hello_bytes, welcome_bytes);
    return dwcp_write_exact(stream, confirm, sizeof(confirm), deadline_ns,
                            err);
}

/* ------------------------------------------------------------ records -- */

static int source_record(DwcpStream *stream, const DwcpRecord *record,
                         const uint8_t *body, DwcpError *err)
{
    DwcpSource *source = source_of(stream);
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
        return dwcp_feed_begin(&source->feed, err);
    case DWCP_RECORD_READY:
        return dwcp_session_move(&source->session, DWCP_PHASE_READY, "READY",
                                 err);
    case DWCP_RECORD_SEALED:
        rc = dwcp_session_move(&source->session, DWCP_PHASE_SEALED, "SEALED",
                               err);
        if (rc == 0) {
            dwcp_session_wake(&source->session);
        }
        return rc;
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

static int source_tick(DwcpStream *stream, uint64_t now_ns, DwcpError *err)
{
    DwcpSource *source = source_of(stream);
    uint64_t rtt_us = dwcp_socket_rtt_us(stream->fd);

    pthread_mutex_lock(&source->session.lock);
    source->session.rtt_us = rtt_us;
    pthread_mutex_unlock(&source->session.lock);
    /* A queue that is full is no reason to fail: silence_check judges. */
    (void)!dwcp_stream_queue_u64(stream, DWCP_RECORD_PING, now_ns);
    return silence_check(source, now_ns, err);
}

static const DwcpStreamOps source_ops = {
    .record = source_record,
    .pull = dwcp_feed_pull,
    .sent = dwcp_feed_sent,
    .tick = source_tick,
};

/* ------------------------------------------------------------ threads -- */

/* @encoder: NULL at level 0 */
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
    if (encoder) {
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

static void *worker_run(void *opaque)
{
    DwcpSource *source = opaque;
    DwcpEncoder *encoder = NULL;
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
        atomic_fetch_add(&source->session.memory_bytes,
                         dwcp_encoder_bytes(encoder));
    }
    while (dwcp_feed_take(&source->feed, &pages, &frame, &level) == 0) {
        encode(source, encoder, &pages, level, frame);
        dwcp_feed_ready(&source->feed, frame, &pages);
    }
    dwcp_encoder_free(encoder);
    return NULL;
}

/* A stream's life after it was connected, whichever it is. */
static void stream_serve(DwcpStream *stream)
{
    DwcpFeed *feed = stream->role;

    dwcp_stream_loop(stream);
    if (stream->frame) {
        free(stream->frame);
        stream->frame = NULL;
    }
    dwcp_feed_wake(feed);
}

static void *join_run(void *opaque)
{
    DwcpStream *stream = opaque;
    DwcpSource *source = source_of(stream);
    uint64_t deadline_ns = dwcp_now_ns() + DWCP_HANDSHAKE_MS * 1000000ull;
    DwcpAddresses addresses = source->addresses;
    DwcpError err, full;
    int rc;

    rc = dwcp_connect(stream, &addresses, deadline_ns, &err);
    if (rc == 0) {
        rc = handshake(source, stream, deadline_ns, &err);
    }
    if (rc == 0 && dwcp_session_adopt(&source->session, stream) == 0) {
        stream_serve(stream);
    } else if (rc < 0) {
        (void)dwcp_fail(&full, rc, "stream %u: %.200s", stream->index,
                        err.text);
        dwcp_session_fail(&source->session, &full, true);
    }
    return NULL;
}

/* Streams 1.. and the workers; called by stream 0's thread. */
static int start_others(DwcpSource *source, DwcpError *err)
{
    DwcpStream *stream;
    int rc;

    while (source->workers_started < source->workers_wanted) {
        rc = dwcp_thread_start(&source->workers[source->workers_started],
                               "dwcp-encode", worker_run, source, err);
        if (rc < 0) {
            return rc;
        }
        source->workers_started++;
    }
    while (source->streams_started < source->streams_wanted) {
        stream = dwcp_stream_new(&source->session, &source_ops, &source->feed);
        if (!stream) {
            return dwcp_fail(err, -ENOMEM, "no memory for stream %u",
                             source->streams_started);
        }
        stream->index = source->streams_started;
        source->streams[stream->index] = stream;
        rc = dwcp_thread_start(&stream->thread, "dwcp-stream", join_run,
                               stream, err);
        if (rc < 0) {
            dwcp_stream_free(stream);
            source->streams[source->streams_started] = NULL;
            return rc;
        }
        source->streams_started++;
    }
    return 0;
}

static int first_connect(DwcpSource *source, DwcpStream *stream,
                         DwcpError *err)
{
    uint64_t deadline_ns = dwcp_now_ns() + DWCP_HANDSHAKE_MS * 1000000ull;
    int rc;

    rc = dwcp_resolve(stream, source->host, source->port, source->family,
                      deadline_ns, &source->addresses, err);
    if (rc == 0) {
        rc = dwcp_connect(stream, &source->addresses, deadline_ns, err);
    }
    if (rc == 0) {
        rc = handshake(source, stream, deadline_ns, err);
    }
    if (rc < 0) {
        return rc;
    }
    stream->pump = dwcp_pump_new(stream);
    if (!stream->pump) {
        return dwcp_fail(err, -ENOMEM, "no memory or descriptor for channel 0");
    }
    rc = dwcp_session_adopt(&source->session, stream);
    if (rc < 0) {
        return dwcp_fail(err, rc, "cancelled");
    }
    atomic_store(&source->session.heard_ns, dwcp_now_ns());
    atomic_store(&source->session.progress_ns, dwcp_now_ns());
    return dwcp_session_move(&source->session, DWCP_PHASE_UP, "WELCOME", err);
}

static void *first_run(void *opaque)
{
    DwcpStream *stream = opaque;
    DwcpSource *source = source_of(stream);
    DwcpError err;

    if (first_connect(source, stream, &err) < 0) {
        dwcp_session_fail(&source->session, &err, false);
        dwcp_session_drop(&source->session, stream);
        return NULL;
    }
    if (start_others(source, &err) < 0) {
        dwcp_session_fail(&source->session, &err, true);
    } else {
        dwcp_session_tell_connected(&source->session);
    }
    stream_serve(stream);
    return NULL;
}

int dwcp_source_connect(DwcpSource *source, DwcpError *err)
{
    DwcpStream *stream;
    int rc;

    assert(!source->streams_started);
    stream = dwcp_stream_new(&source->session, &source_ops, &source->feed);
    if (!stream) {
        return dwcp_fail(err, -ENOMEM, "no memory for stream 0");
    }
    source->streams[0] = stream;
    source->streams_started = 1;
    rc = dwcp_thread_start(&stream->thread, "dwcp-stream0", first_run, stream,
                           err);
    if (rc < 0) {
        dwcp_stream_free(stream);
        source->streams[0] = NULL;
        source->streams_started = 0;
    }
    return rc;
}

/* -------------------------------------------------------- public calls -- */

int dwcp_source_take_channel(DwcpSource *source, unsigned channel,
                             DwcpError *err)
{
    return dwcp_session_take_channel(&source->session, channel, err);
}

int dwcp_source_add_block(DwcpSource *source, const void *host,
                          uint64_t length, DwcpError *err)
{
    SourceBlock *blocks;
    int rc;

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
    blocks[source->blocks_count] = (SourceBlock){
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

uint64_t dwcp_source_pending_bytes(DwcpSource *source)
{
    return dwcp_feed_pending_pages(&source->feed) * source->session.page_size;
}

uint64_t dwcp_source_acked_bytes(DwcpSource *source)
{
    return atomic_load(&source->feed.acked_pages) * source->session.page_size;
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
    uint64_t until_ns =
        dwcp_now_ns() + session->switchover_ms_max * 1000000ull;
    struct timespec until = {
        .tv_sec = (time_t)(until_ns / 1000000000ull),
        .tv_nsec = (long)(until_ns % 1000000000ull),
    };

    while (session->phase == DWCP_PHASE_GONE && !session->lost) {
        if (pthread_cond_timedwait(&session->changed, &session->lock, &until) ==
            ETIMEDOUT) {
            break;
        }
    }
    return session->phase == DWCP_PHASE_SEALED ? 0 : 1;
}

int dwcp_source_finish(DwcpSource *source, DwcpError *err)
{
    DwcpSession *session = &source->session;
    DwcpError queue_err;
    int rc;

    pthread_mutex_lock(&session->lock);
    while (session->phase == DWCP_PHASE_ENDED) {
        pthread_cond_wait(&session->changed, &session->lock);
    }
    /* GO is queued before the phase says so: no GONE without a GO. */
    if (session->phase == DWCP_PHASE_READY &&
        dwcp_stream_queue(source->streams[0], DWCP_RECORD_GO, NULL, 0, NULL,
                          0) < 0) {
        pthread_mutex_unlock(&session->lock);
        rc = dwcp_fail(&queue_err, -ENOBUFS, "the target does not read");
        dwcp_session_fail(session, &queue_err, false);
        if (err) {
            *err = queue_err;
        }
        return rc;
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

    now.streams = dwcp_session_streams(&source->session);
    now.workers = source->workers_wanted;
    now.rounds = atomic_load(&source->feed.rounds);
    now.wire_bytes = atomic_load(&source->session.wire_bytes);
    now.memory_bytes = atomic_load(&source->session.memory_bytes);
    now.acked_bytes = dwcp_source_acked_bytes(source);
    now.pending_bytes = dwcp_source_pending_bytes(source);
    pthread_mutex_lock(&source->feed.lock);
    now.level = source->feed.level_now;
    now.zero_pages = source->feed.zero_pages;
    now.zstd_pages = source->feed.zstd_pages;
    now.raw_pages = source->feed.raw_pages;
    pthread_mutex_unlock(&source->feed.lock);
    now.page_bytes = (now.zero_pages + now.zstd_pages + now.raw_pages) *
                     source->session.page_size;
    pthread_mutex_lock(&source->session.lock);
    now.rtt_us = source->session.rtt_us;
    pthread_mutex_unlock(&source->session.lock);
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
    for (i = 1; i < source->streams_started; i++) {
        pthread_join(source->streams[i]->thread, NULL);
    }
    for (i = 0; i < source->workers_started; i++) {
        pthread_join(source->workers[i], NULL);
    }
    for (i = 0; i < source->streams_started; i++) {
        dwcp_stream_free(source->streams[i]);
    }
    dwcp_feed_clear(&source->feed);
    dwcp_session_clear(&source->session);
    free(source->blocks);
    free(source->host);
    free(source->port);
    free(source);
}
