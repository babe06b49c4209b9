/*
 * The source: its options and its public calls
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/fail.h"
#include "io/block.h"
#include "io/source.h"

#define WORKERS_DEFAULT_MAX 8u
/* Frames of the pool beyond those that streams and workers hold. */
#define FRAMES_QUEUED 16u

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

/* Sockets as we can use them: TCP, neither connected nor listening, each once,
 * and no more than streams. */
static int sockets_check(const DwcpSourceOptions *options, unsigned streams,
                         DwcpError *err)
{
    struct sockaddr_storage peer;
    socklen_t length;
    int protocol, listens = 0;
    unsigned i, j;

    if (options->sockets_count > streams) {
        return dwcp_fail(err, -EINVAL, "%u sockets for %u streams",
                         options->sockets_count, streams);
    }
    for (i = 0; i < options->sockets_count; i++) {
        length = sizeof(protocol);
        if (getsockopt(options->sockets[i], SOL_SOCKET, SO_PROTOCOL, &protocol,
                       &length) < 0 ||
            protocol != IPPROTO_TCP) {
            return dwcp_fail(err, -EINVAL, "descriptor %d is no TCP socket",
                             options->sockets[i]);
        }
        length = sizeof(listens);
        if (getsockopt(options->sockets[i], SOL_SOCKET, SO_ACCEPTCONN,
                       &listens, &length) == 0 &&
            listens) {
            return dwcp_fail(err, -EINVAL, "socket %d listens",
                             options->sockets[i]);
        }
        for (j = 0; j < i; j++) {
            if (options->sockets[j] == options->sockets[i]) {
                return dwcp_fail(err, -EINVAL, "socket %d is given twice",
                                 options->sockets[i]);
            }
        }
        length = sizeof(peer);
        if (getpeername(options->sockets[i], (struct sockaddr *)&peer,
                        &length) == 0) {
            return dwcp_fail(err, -EISCONN, "socket %d is connected",
                             options->sockets[i]);
        }
    }
    return 0;
}

/* From here on they are ours. */
static void sockets_take(DwcpSource *source, const DwcpSourceOptions *options)
{
    DwcpSession *session = &source->session;
    unsigned i;
    int fd;

    for (i = 0; i < options->sockets_count; i++) {
        fd = options->sockets[i];
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        session->spares[session->spares_count++] = fd;
    }
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
    source->adaptive = !options->streams;
    source->streams_max = options->streams ? options->streams
                          : options->resume_ms_max == DWCP_RESUME_NEVER
                              ? DWCP_STREAMS_DEFAULT
                              : DWCP_STREAMS_MAX;
    source->workers_wanted =
        options->workers ? options->workers : workers_default();
    if (range_check("streams", (long)source->streams_max, 1,
                    DWCP_STREAMS_MAX, err) < 0 ||
        range_check("workers", (long)source->workers_wanted, 1,
                    DWCP_WORKERS_MAX, err) < 0 ||
        range_check("level", options->level, DWCP_LEVEL_AUTO, DWCP_LEVEL_MAX,
                    err) < 0 ||
        range_check("mode", (long)options->mode, DWCP_MODE_MEASURED,
                    (long)DWCP_MODE_COUNT - 1, err) < 0) {
        return -EINVAL;
    }
    if (sockets_check(options, source->streams_max, err) < 0) {
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
    dwcp_source_steer_init(source, options);
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
                          source->workers_wanted + FRAMES_QUEUED,
                          source->count.wanted, options->level, err);
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
                           options->security, &options->keys,
                           options->page_size, options->silence_ms_max,
                           options->resume_ms_max, &options->events, err);
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
    sockets_take(source, options);
    *out = source;
    return 0;
}

/* -------------------------------------------------------- public calls -- */

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
    now.streams_wanted = atomic_load(&source->feed.streams_wanted);
    now.workers = source->workers_wanted;
    now.mode = atomic_load(&source->mode);
    now.rounds = atomic_load(&source->feed.rounds);
    now.acked_bytes = dwcp_source_acked_bytes(source);
    now.pending_bytes = dwcp_source_pending_bytes(source);
    pthread_mutex_lock(&source->feed.lock);
    now.level = source->feed.level_now;
    now.zero_pages = source->feed.zero_pages;
    now.zstd_pages = source->feed.zstd_pages;
    now.raw_pages = source->feed.raw_pages;
    now.resent_bytes =
        source->feed.again_pages * source->session.page_size;
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
