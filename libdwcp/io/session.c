/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/session.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "core/fail.h"
#include "core/keys.h"
#include "io/fault.h"
#include "io/lane-end.h"
#include "io/pump.h"
#include "io/rdma.h"
#include "io/stream.h"

/* How long a stream that ends waits for stream 0 to tell why. */
#define REASON_MS 500u

uint64_t dwcp_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

struct timespec dwcp_timespec(uint64_t ns)
{
    return (struct timespec){
        .tv_sec = (time_t)(ns / 1000000000ull),
        .tv_nsec = (long)(ns % 1000000000ull),
    };
}

void dwcp_cond_init_monotonic(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

int dwcp_thread_start(pthread_t *thread, const char *name,
                      void *(*run)(void *), void *arg, DwcpError *err)
{
    pthread_attr_t attr;
    sigset_t all, old;
    int rc;

    /* The default of 8 MiB would all be locked with a guest's memory. */
    pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, DWCP_STACK_BYTES);
    /* The user's signal handlers must not run on our threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(thread, &attr, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc) {
        return dwcp_fail(err, -EAGAIN, "cannot start thread %s: %s", name,
                         strerror(rc));
    }
    pthread_setname_np(*thread, name);
    return 0;
}

static int options_check(DwcpSecurity security, uint32_t page_size,
                         DwcpError *err)
{
    if (security < DWCP_SECURITY_NONE || security > DWCP_SECURITY_KEYS) {
        return dwcp_fail(err, -ENOTSUP,
                         "security is %s: say security=none for plain text",
                         dwcp_security_name(security));
    }
    if (page_size < DWCP_PAGE_SIZE_MIN || page_size > DWCP_PAGE_SIZE_MAX ||
        (page_size & (page_size - 1))) {
        return dwcp_fail(err, -EINVAL,
                         "page size %u is not a power of two from %u to %u",
                         page_size, DWCP_PAGE_SIZE_MIN, DWCP_PAGE_SIZE_MAX);
    }
    if (sodium_init() < 0) {
        return dwcp_fail(err, -ENOTSUP, "libsodium does not initialise");
    }
    return 0;
}

int dwcp_session_init(DwcpSession *session, DwcpRole role,
                      DwcpSecurity security, const DwcpKeys *keys,
                      uint32_t page_size, uint32_t silence_ms_max,
                      uint32_t resume_ms_max, const DwcpEvents *events,
                      DwcpError *err)
{
    uint8_t base[DWCP_KEY_BYTES];
    int rc = options_check(security, page_size, err);

    if (rc == 0) {
        rc = dwcp_keys_base(base, security, role, keys, err);
    }
    if (rc < 0) {
        return rc;
    }
    *session = (DwcpSession){
        .role = role,
        .events = *events,
        .security = security,
        .page_size = page_size,
        .silence_ms_max =
            silence_ms_max ? silence_ms_max : DWCP_SILENCE_MS_DEFAULT,
        .switchover_ms_max = DWCP_SWITCHOVER_MS_DEFAULT,
        .resume_ms_max =
            resume_ms_max ? resume_ms_max : DWCP_RESUME_MS_DEFAULT,
        .phase = DWCP_PHASE_CONNECTING,
        .channel_fd = -1,
    };
    dwcp_lane_init(session);
    memcpy(session->base_key, base, sizeof(base));
    sodium_memzero(base, sizeof(base));
    pthread_mutex_init(&session->lock, NULL);
    dwcp_cond_init_monotonic(&session->changed);
    atomic_store(&session->heard_ns, dwcp_now_ns());
    atomic_store(&session->progress_ns, dwcp_now_ns());
#ifdef DWCP_FAULTS_FROM_ENVIRONMENT
    rc = dwcp_faults_set_from_environment(session, err);
    if (rc < 0) {
        dwcp_session_clear(session);
    }
#endif
    return rc;
}

void dwcp_session_clear(DwcpSession *session)
{
    if (session->wrap) {
        session->wrap->free(session->wrap);
    }
    dwcp_pump_free(session->pump);
    dwcp_lane_clear(session);
    while (session->spares_count) {
        close(session->spares[--session->spares_count]);
    }
    if (session->channel_fd >= 0) {
        close(session->channel_fd);
    }
    sodium_memzero(session->base_key, sizeof(session->base_key));
    sodium_memzero(session->session_key, sizeof(session->session_key));
    pthread_cond_destroy(&session->changed);
    pthread_mutex_destroy(&session->lock);
}

int dwcp_session_move_locked(DwcpSession *session, DwcpPhase to,
                             const char *what, DwcpError *err)
{
    if (session->error.code) {
        if (err) {
            *err = session->error;
        }
        return session->error.code;
    }
    if (!dwcp_phase_allowed(session->role, session->phase, to)) {
        return dwcp_fail(err, -EPROTO, "%s while the session is %s", what,
                         dwcp_phase_name(session->phase));
    }
    session->phase = to;
    pthread_cond_broadcast(&session->changed);
    return 0;
}

int dwcp_session_move(DwcpSession *session, DwcpPhase to, const char *what,
                      DwcpError *err)
{
    int rc;

    pthread_mutex_lock(&session->lock);
    rc = dwcp_session_move_locked(session, to, what, err);
    pthread_mutex_unlock(&session->lock);
    return rc;
}

DwcpPhase dwcp_session_phase(DwcpSession *session)
{
    DwcpPhase phase;

    pthread_mutex_lock(&session->lock);
    phase = session->phase;
    pthread_mutex_unlock(&session->lock);
    return phase;
}

static void wake_locked(DwcpSession *session)
{
    DwcpStream *stream;

    pthread_cond_broadcast(&session->changed);
    for (stream = session->all; stream; stream = stream->next) {
        dwcp_stream_wake(stream);
    }
    dwcp_lane_wake_locked(session);
}

void dwcp_session_wake(DwcpSession *session)
{
    pthread_mutex_lock(&session->lock);
    wake_locked(session);
    pthread_mutex_unlock(&session->lock);
}

/* Returns: whether this error is the one that ended the session. */
static bool die(DwcpSession *session, const DwcpError *err, bool tell_peer)
{
    bool first;

    pthread_mutex_lock(&session->lock);
    first = dwcp_phase_allowed(session->role, session->phase,
                               DWCP_PHASE_FAILED);
    if (first) {
        session->phase = DWCP_PHASE_FAILED;
        session->error = *err;
        session->tell_peer = tell_peer;
        atomic_store(&session->dead, true);
        wake_locked(session);
    }
    pthread_mutex_unlock(&session->lock);
    if (first && session->on_end) {
        session->on_end(session);
    }
    return first;
}

/*
 * Callbacks run without the lock; _free waits until none is running.  @quiet:
 * nor after a cancel.
 */
static bool callback_enter_unless(DwcpSession *session, bool quiet)
{
    bool open;

    pthread_mutex_lock(&session->lock);
    open = !(quiet && session->cancelled) && !atomic_load(&session->closing);
    session->callbacks += open;
    pthread_mutex_unlock(&session->lock);
    return open;
}

static bool callback_enter(DwcpSession *session)
{
    return callback_enter_unless(session, false);
}

static void callback_leave(DwcpSession *session)
{
    pthread_mutex_lock(&session->lock);
    session->callbacks--;
    pthread_cond_broadcast(&session->changed);
    pthread_mutex_unlock(&session->lock);
}

/*
 * The user's end of channel 0 sees its end: after `failed` has said why, and
 * whether or not a stream 0 stands that would close it.
 */
static void hang_up(DwcpSession *session)
{
    pthread_mutex_lock(&session->lock);
    if (session->pump) {
        dwcp_pump_hang_up(session->pump);
    }
    pthread_mutex_unlock(&session->lock);
}

void dwcp_session_fail(DwcpSession *session, const DwcpError *err,
                       bool tell_peer)
{
    assert(err->code < 0);
    if (!die(session, err, tell_peer)) {
        return;
    }
    if (session->events.failed && callback_enter_unless(session, true)) {
        session->events.failed(session->events.opaque, err);
        callback_leave(session);
    }
    hang_up(session);
    dwcp_session_tell_changed(session);
}

void dwcp_session_await_end(DwcpSession *session)
{
    struct timespec until =
        dwcp_timespec(dwcp_now_ns() + REASON_MS * 1000000ull);

    pthread_mutex_lock(&session->lock);
    while (!session->error.code && !session->lost &&
           session->phase != DWCP_PHASE_SEALED &&
           !atomic_load(&session->closing)) {
        if (pthread_cond_timedwait(&session->changed, &session->lock, &until) ==
            ETIMEDOUT) {
            break;
        }
    }
    pthread_mutex_unlock(&session->lock);
}

void dwcp_session_cancel(DwcpSession *session, const char *why)
{
    DwcpError err;

    (void)dwcp_fail(&err, -ECANCELED, "%s", why);
    pthread_mutex_lock(&session->lock);
    session->cancelled = true;
    pthread_mutex_unlock(&session->lock);
    if (die(session, &err, true)) {
        hang_up(session);
        dwcp_session_tell_changed(session);
    }
}

int dwcp_session_error(DwcpSession *session, DwcpError *err)
{
    int code;

    pthread_mutex_lock(&session->lock);
    code = session->error.code;
    if (code && err) {
        *err = session->error;
    }
    pthread_mutex_unlock(&session->lock);
    return code;
}

uint64_t dwcp_session_tick_ns(const DwcpSession *session)
{
    uint32_t ms = session->silence_ms_max;

    ms = session->switchover_ms_max < ms ? session->switchover_ms_max : ms;
    ms = session->resume_ms_max < ms ? session->resume_ms_max : ms;
    ms = ms / 4 + 1;
    return (ms < DWCP_PING_MS ? ms : DWCP_PING_MS) * 1000000ull;
}

void dwcp_session_stats(DwcpSession *session, DwcpStats *stats)
{
    uint64_t now_ns = dwcp_now_ns();

    stats->wire_bytes = atomic_load(&session->wire_bytes);
    stats->memory_bytes = atomic_load(&session->memory_bytes);
    stats->cipher = atomic_load(&session->cipher);
    stats->streams_lost = atomic_load(&session->streams_lost);
    dwcp_rdma_stats(session, stats);
    pthread_mutex_lock(&session->lock);
    stats->streams = dwcp_session_count_locked(session);
    stats->rtt_us = session->rtt_us;
    stats->resumes = session->resumes;
    if (session->down_ns && session->phase != DWCP_PHASE_SEALED &&
        session->phase != DWCP_PHASE_FAILED) {
        /* at least 1: it is down */
        stats->reconnecting_ms =
            now_ns > session->down_ns + 1000000u
                ? (now_ns - session->down_ns) / 1000000u
                : 1;
    }
    pthread_mutex_unlock(&session->lock);
}

void dwcp_session_tell_connected(DwcpSession *session)
{
    if (session->events.connected && !atomic_load(&session->dead) &&
        callback_enter_unless(session, true)) {
        session->events.connected(session->events.opaque);
        callback_leave(session);
    }
}

void dwcp_session_tell_changed(DwcpSession *session)
{
    if (session->events.changed && callback_enter(session)) {
        session->events.changed(session->events.opaque);
        callback_leave(session);
    }
}

void dwcp_session_tell_warned(DwcpSession *session, const DwcpError *err)
{
    if (session->events.warned && callback_enter(session)) {
        session->events.warned(session->events.opaque, err);
        callback_leave(session);
    }
}

void dwcp_session_close(DwcpSession *session)
{
    DwcpError err;

    (void)dwcp_fail(&err, -ECANCELED, "the session was closed");
    pthread_mutex_lock(&session->lock);
    atomic_store(&session->closing, true);
    pthread_mutex_unlock(&session->lock);
    (void)die(session, &err, true);
    pthread_mutex_lock(&session->lock);
    while (session->callbacks) {
        pthread_cond_wait(&session->changed, &session->lock);
    }
    wake_locked(session);
    pthread_mutex_unlock(&session->lock);
    if (session->on_end) {
        session->on_end(session);
    }
}

int dwcp_session_take_channel(DwcpSession *session, unsigned channel,
                              DwcpError *err)
{
    int rc;

    if (channel >= DWCP_CHANNELS_MAX) {
        return dwcp_fail(err, -EINVAL, "there is no channel %u", channel);
    }
    pthread_mutex_lock(&session->lock);
    if (session->error.code) {
        rc = session->error.code;
        if (err) {
            *err = session->error;
        }
    } else if (session->phase == DWCP_PHASE_CONNECTING) {
        rc = dwcp_fail(err, -ENOTCONN, "the session is not connected");
    } else if (session->channel_fd < 0) {
        rc = dwcp_fail(err, -EBUSY, "channel %u is taken", channel);
    } else {
        rc = session->channel_fd;
        session->channel_fd = -1;
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}
