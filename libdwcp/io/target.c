/*
 * The target: public calls, what its streams do with all records but PAGES
 * (target-apply.c), and when it gives up
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/fail.h"
#include "io/lane-end.h"
#include "io/pump.h"
#include "io/rdma.h"

int dwcp_target_new(const DwcpTargetOptions *options, DwcpTarget **out,
                    DwcpError *err)
{
    DwcpTarget *target = calloc(1, sizeof(*target));
    int rc;

    if (!target) {
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    rc = dwcp_session_init(&target->session, DWCP_ROLE_TARGET,
                           options->security, &options->keys,
                           options->page_size, options->silence_ms_max,
                           options->resume_ms_max, &options->events, err);
    if (rc < 0) {
        free(target);
        return rc;
    }
    target->listen_fd = -1;
    rc = dwcp_rdma_init(&target->session, options->rdma, err);
    target->listen_wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (rc == 0 && target->listen_wake_fd < 0) {
        rc = dwcp_fail(err, -errno, "eventfd: %s", strerror(errno));
    }
    if (rc < 0) {
        if (target->listen_wake_fd >= 0) {
            close(target->listen_wake_fd);
        }
        dwcp_session_clear(&target->session);
        free(target);
        return rc;
    }
    target->session.role_data = target;
    dwcp_seqset_init(&target->received);
    dwcp_guestram_init(&target->ram, options->page_size);
    *out = target;
    return 0;
}

int dwcp_target_listen(DwcpTarget *target, int listen_fd, DwcpError *err)
{
    return dwcp_listener_start(target, listen_fd, err);
}

/* ------------------------------------------------------------ records -- */

static int record_end(DwcpStream *stream, uint64_t number, DwcpError *err)
{
    DwcpTarget *target = stream->role;
    DwcpSession *session = &target->session;
    int rc = 0;

    pthread_mutex_lock(&session->lock);
    if (stream->again && target->ended && number == target->end_number) {
        ; /* said again */
    } else if (target->ended || (session->phase != DWCP_PHASE_UP &&
                          session->phase != DWCP_PHASE_BEGUN)) {
        rc = dwcp_fail(err, -EPROTO, "END while %s",
                       dwcp_phase_name(session->phase));
    } else if (number < target->highest) {
        rc = dwcp_fail(err, -EPROTO, "END at frame %llu after frame %llu",
                       (unsigned long long)number,
                       (unsigned long long)target->highest);
    } else {
        target->ended = true;
        target->end_number = number;
    }
    pthread_mutex_unlock(&session->lock);
    if (rc == 0) {
        dwcp_target_check_complete(target);
    }
    return rc;
}

/* GO: guest RAM is sealed since it was complete; say so. */
static int record_go(DwcpStream *stream, DwcpError *err)
{
    DwcpTarget *target = stream->role;
    DwcpSession *session = &target->session;
    int rc;

    if (!stream->again || dwcp_session_phase(session) != DWCP_PHASE_SEALED) {
        rc = dwcp_session_move(session, DWCP_PHASE_SEALED, "GO", err);
        if (rc < 0) {
            return rc;
        }
    }
    /* The source sends nothing but channel bytes now: its queue has room. */
    (void)!dwcp_stream_queue(stream, DWCP_RECORD_SEALED, NULL, 0, NULL, 0);
    dwcp_session_wake(session);
    dwcp_session_tell_changed(session);
    return 0;
}

static int target_record(DwcpStream *stream, const DwcpRecord *record,
                         const uint8_t *body, DwcpError *err)
{
    switch (record->type) {
    case DWCP_RECORD_PAGES:
        return dwcp_target_pages(stream, record, body, err);
    case DWCP_RECORD_END:
        return record_end(stream, dwcp_get_le64(body), err);
    case DWCP_RECORD_GO:
        return record_go(stream, err);
    case DWCP_RECORD_RDMA_ASK:
    case DWCP_RECORD_RDMA_DOWN:
        return dwcp_target_rdma_record(stream, record, body, err);
    default:
        return dwcp_fail(err, -EPROTO, "record type %u is not for a target",
                         (unsigned)record->type);
    }
}

/* A source whose user hangs answers for itself; GO comes soon or never. */
static int go_check(DwcpSession *session, uint64_t now_ns, DwcpError *err)
{
    uint64_t limit_ms = (uint64_t)session->silence_ms_max * DWCP_GO_SILENCES;
    bool late;

    pthread_mutex_lock(&session->lock);
    late = session->phase == DWCP_PHASE_READY && now_ns > session->ready_ns &&
           now_ns - session->ready_ns > limit_ms * 1000000ull;
    pthread_mutex_unlock(&session->lock);
    return late ? dwcp_fail(err, -ETIMEDOUT,
                            "ready, and the source has not said go for %llu ms",
                            (unsigned long long)limit_ms)
                : 0;
}

/*
 * For how long nothing may be heard of a source.  One that has lost all its
 * connections tries to come back, and may have noticed it later than we did;
 * one that shows none of that may be cut off without a word.
 */
static uint64_t silence_limit_ms(DwcpSession *session)
{
    uint64_t late_ms = session->resume_ms_max < DWCP_STALL_MS
                           ? session->resume_ms_max
                           : DWCP_STALL_MS;
    uint64_t resume_ms = session->resume_ms_max + late_ms;
    bool down;

    if (!atomic_load(&session->resume)) {
        return session->silence_ms_max;
    }
    pthread_mutex_lock(&session->lock);
    down = session->down_ns != 0;
    pthread_mutex_unlock(&session->lock);
    return down || resume_ms > session->silence_ms_max
               ? resume_ms
               : session->silence_ms_max;
}

/* Whoever reads channel 0 of a target that has sealed does not wait for ever for
 * a source that does not come back. */
static void sealed_check(DwcpSession *session, uint64_t now_ns)
{
    pthread_mutex_lock(&session->lock);
    if (!session->streams[0] && !session->lost && session->pump &&
        session->down_ns && now_ns > session->down_ns &&
        now_ns - session->down_ns > session->switchover_ms_max * 1000000ull) {
        session->lost = true;
        dwcp_pump_hang_up(session->pump);
    }
    pthread_mutex_unlock(&session->lock);
}

void dwcp_target_watch(DwcpTarget *target)
{
    DwcpSession *session = &target->session;
    uint64_t heard_ns = atomic_load(&session->heard_ns);
    uint64_t limit_ms = silence_limit_ms(session), now_ns = dwcp_now_ns();
    DwcpPhase phase = dwcp_session_phase(session);
    DwcpError err;
    int rc = 0;

    if (phase == DWCP_PHASE_SEALED) {
        sealed_check(session, now_ns);
    }
    if (phase == DWCP_PHASE_CONNECTING || phase == DWCP_PHASE_SEALED ||
        phase == DWCP_PHASE_FAILED) {
        return;
    }
    if (now_ns > heard_ns && now_ns - heard_ns > limit_ms * 1000000ull) {
        rc = dwcp_fail(&err, -ETIMEDOUT,
                       "no sign of life from the source for %llu ms",
                       (unsigned long long)limit_ms);
    }
    if (rc == 0) {
        rc = go_check(session, now_ns, &err);
    }
    if (rc < 0) {
        dwcp_session_fail(session, &err, true);
    }
}

static int target_tick(DwcpStream *stream, uint64_t now_ns, DwcpError *err)
{
    (void)now_ns;
    return stream->pump ? dwcp_pump_tick(stream->pump, err) : 0;
}

/* Stream 0 stands again: what may the source have missed? */
static int target_resumed(DwcpStream *stream, DwcpError *err)
{
    DwcpTarget *target = stream->role;
    DwcpSession *session = &target->session;
    uint8_t count[4];
    int rc = dwcp_lane_resumed(stream);

    dwcp_put_le32(count, target->ram.blocks_count);
    pthread_mutex_lock(&session->lock);
    if (rc == 0 && target->begun) {
        rc = dwcp_stream_queue(stream, DWCP_RECORD_BEGIN, count, sizeof(count),
                               NULL, 0);
    }
    if (rc == 0 && (session->phase == DWCP_PHASE_READY ||
                    session->phase == DWCP_PHASE_SEALED)) {
        rc = dwcp_stream_queue(stream, DWCP_RECORD_READY, NULL, 0, NULL, 0);
    }
    if (rc == 0 && session->phase == DWCP_PHASE_SEALED) {
        rc = dwcp_stream_queue(stream, DWCP_RECORD_SEALED, NULL, 0, NULL, 0);
    }
    pthread_mutex_unlock(&session->lock);
    return rc < 0 ? dwcp_fail(err, rc, "the source does not read") : 0;
}

const DwcpStreamOps dwcp_target_ops = {
    .record = target_record,
    .land = dwcp_target_land,
    .landed = dwcp_target_landed,
    .lost = dwcp_target_lost,
    .resumed = target_resumed,
    .tick = target_tick,
};

/* -------------------------------------------------------- public calls -- */

int dwcp_target_take_channel(DwcpTarget *target, unsigned channel,
                             DwcpError *err)
{
    return dwcp_session_take_channel(&target->session, channel, err);
}

int dwcp_target_add_block(DwcpTarget *target, void *host, uint64_t length,
                          DwcpError *err)
{
    uint64_t bytes;
    bool begun;
    int rc;

    pthread_mutex_lock(&target->session.lock);
    begun = target->begun;
    pthread_mutex_unlock(&target->session.lock);
    if (begun) {
        return dwcp_fail(err, -EINVAL, "RAM block %u comes after begin",
                         target->ram.blocks_count);
    }
    rc = dwcp_guestram_add(&target->ram, host, length, &bytes, err);
    if (rc >= 0) {
        atomic_fetch_add(&target->session.memory_bytes, bytes);
    }
    return rc;
}

/* Queue a record on stream 0. */
static int queue_first_locked(DwcpTarget *target, DwcpRecordType type,
                              const void *body, uint32_t length)
{
    DwcpStream *stream = target->session.streams[0];
    int rc;

    if (!stream) { /* if it comes again, target_resumed says it */
        return atomic_load(&target->session.resume) ? 0 : -ENOTCONN;
    }
    rc = dwcp_stream_queue(stream, type, body, length, NULL, 0);
    dwcp_stream_wake(stream);
    return rc;
}

static int queue_first(DwcpTarget *target, DwcpRecordType type,
                       const void *body, uint32_t length)
{
    int rc;

    pthread_mutex_lock(&target->session.lock);
    rc = queue_first_locked(target, type, body, length);
    pthread_mutex_unlock(&target->session.lock);
    return rc;
}

int dwcp_target_begin(DwcpTarget *target)
{
    DwcpSession *session = &target->session;
    uint8_t count[4];
    int rc;

    dwcp_put_le32(count, target->ram.blocks_count);
    pthread_mutex_lock(&session->lock);
    rc = dwcp_session_move_locked(session, DWCP_PHASE_BEGUN, "begin", NULL);
    if (rc == 0) {
        target->begun = true; /* and BEGIN goes before anyone may say READY */
        rc = queue_first_locked(target, DWCP_RECORD_BEGIN, count,
                                sizeof(count));
    }
    pthread_mutex_unlock(&session->lock);
    if (rc < 0) {
        return rc;
    }
    dwcp_session_wake(session); /* streams that hold a frame */
    dwcp_target_check_complete(target); /* nothing to move at all */
    return 0;
}

int dwcp_target_memory_complete(DwcpTarget *target)
{
    DwcpSession *session = &target->session;
    int rc;

    pthread_mutex_lock(&session->lock);
    rc = session->error.code;
    if (!rc) {
        rc = session->phase == DWCP_PHASE_COMPLETE ||
             session->phase == DWCP_PHASE_READY ||
             session->phase == DWCP_PHASE_SEALED;
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}

int dwcp_target_ready(DwcpTarget *target)
{
    DwcpSession *session = &target->session;
    int rc;

    pthread_mutex_lock(&session->lock);
    rc = dwcp_session_move_locked(session, DWCP_PHASE_READY, "ready", NULL);
    if (rc == 0) {
        session->ready_ns = dwcp_now_ns();
    }
    pthread_mutex_unlock(&session->lock);
    if (rc < 0) {
        return dwcp_target_error(target, NULL) ? rc : -EINVAL;
    }
    return queue_first(target, DWCP_RECORD_READY, NULL, 0);
}

int dwcp_target_go(DwcpTarget *target)
{
    DwcpSession *session = &target->session;
    int rc;

    pthread_mutex_lock(&session->lock);
    rc = session->error.code;
    if (!rc) {
        rc = session->phase == DWCP_PHASE_SEALED;
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}

void dwcp_target_cancel(DwcpTarget *target)
{
    dwcp_session_cancel(&target->session, "the target cancelled");
}

int dwcp_target_error(DwcpTarget *target, DwcpError *err)
{
    return dwcp_session_error(&target->session, err);
}

void dwcp_target_stats(DwcpTarget *target, DwcpStats *stats)
{
    DwcpStats now = { .size = stats->size };
    DwcpGuestRam *ram = &target->ram;

    dwcp_session_stats(&target->session, &now);
    now.zero_pages = atomic_load(&ram->zero_pages);
    now.zstd_pages = atomic_load(&ram->zstd_pages);
    now.raw_pages = atomic_load(&ram->raw_pages);
    now.page_bytes = (now.zero_pages + now.zstd_pages + now.raw_pages) *
                     ram->page_size;
    now.acked_bytes = now.page_bytes;
    memcpy(stats, &now,
           stats->size < sizeof(now) ? stats->size : sizeof(now));
}

void dwcp_target_free(DwcpTarget *target)
{
    if (!target) {
        return;
    }
    dwcp_session_close(&target->session);
    dwcp_listener_stop(target);
    dwcp_lane_join(&target->session);
    dwcp_guestram_clear(&target->ram);
    dwcp_session_clear(&target->session);
    free(target);
}
