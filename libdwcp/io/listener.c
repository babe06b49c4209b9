/*
 * Accepting connections
 *
 * Each connection gets a thread at once, which shakes hands with a deadline
 * (target-shake.c) and, if it belongs to the session, serves it as one of its
 * streams.  What
 * does not belong is told why, closed and reported as a warning: the listener
 * goes on for the rightful peer.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/fail.h"
#include "io/socket.h"
#include "io/target.h"

/* How long the listener waits when the process is out of descriptors. */
#define ACCEPT_PAUSE_MS 100
/* How often it looks for room while it has none. */
#define FULL_MS 100

static void wake(DwcpTarget *target)
{
    const uint64_t one = 1;

    (void)!write(target->listen_wake_fd, &one, sizeof(one));
}

static void serve(DwcpTarget *target, DwcpStream *stream)
{
    DwcpSession *session = &target->session;
    DwcpError err;

    atomic_store(&session->heard_ns, dwcp_now_ns());
    if (stream->index == 0 && !stream->again) {
        if (dwcp_session_move(session, DWCP_PHASE_UP, "CONFIRM", &err) == 0) {
            dwcp_session_tell_connected(session);
        }
    }
    (void)dwcp_stream_loop(stream);
}

static void *stream_run(void *opaque)
{
    DwcpStream *stream = opaque;
    DwcpTarget *target = stream->role;
    DwcpError err;
    int rc;

    rc = dwcp_target_shake(target, stream, &err);
    pthread_mutex_lock(&target->session.lock);
    target->handshakes--;
    stream->shaking = false;
    pthread_mutex_unlock(&target->session.lock);
    wake(target); /* it may have stopped accepting */
    if (rc == 0) {
        serve(target, stream);
    } else if (rc != -ECANCELED) {
        dwcp_session_tell_warned(&target->session, &err);
    }
    dwcp_stream_close(stream, false);
    atomic_store(&stream->done, true);
    wake(target);
    return NULL;
}

static void accept_one(DwcpTarget *target)
{
    struct pollfd woken = { .fd = target->listen_wake_fd, .events = POLLIN };
    DwcpStream *stream;
    DwcpError err;
    int fd;

    fd = accept4(target->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
            errno == ENOMEM) {
            /* It stays in the backlog: asking at once again would spin. */
            (void)poll(&woken, 1, ACCEPT_PAUSE_MS);
        }
        return;
    }
    dwcp_socket_prepare(fd);
    stream = dwcp_stream_new(&target->session, &dwcp_target_ops, target);
    if (!stream) {
        close(fd);
        return;
    }
    stream->tcp.fd = fd;
    pthread_mutex_lock(&target->session.lock);
    target->handshakes++;
    stream->shaking = true;
    stream->accepted_ns = dwcp_now_ns();
    pthread_mutex_unlock(&target->session.lock);
    if (dwcp_thread_start(&stream->thread, "dwcp-stream", stream_run, stream,
                          &err) < 0) {
        pthread_mutex_lock(&target->session.lock);
        target->handshakes--;
        pthread_mutex_unlock(&target->session.lock);
        dwcp_session_tell_warned(&target->session, &err);
        dwcp_stream_free(stream);
    }
}

/* A crowd stands at the door.  If somebody waits behind it, the one that has
 * kept silent for longest goes. */
static void make_room(DwcpTarget *target)
{
    struct pollfd waits = { .fd = target->listen_fd, .events = POLLIN };
    DwcpSession *session = &target->session;
    DwcpStream *stream, *oldest = NULL;
    bool going = poll(&waits, 1, 0) != 1;

    pthread_mutex_lock(&session->lock);
    for (stream = session->all; stream && !going; stream = stream->next) {
        going = stream->shaking && atomic_load(&stream->cut);
        if (stream->shaking &&
            (!oldest || stream->accepted_ns <= oldest->accepted_ns)) {
            oldest = stream;
        }
    }
    if (!going && oldest &&
        dwcp_now_ns() - oldest->accepted_ns >=
            DWCP_HANDSHAKE_CROWD_MS * 1000000ull) {
        atomic_store(&oldest->cut, true);
        dwcp_stream_wake(oldest);
        pthread_cond_broadcast(&session->changed);
    }
    pthread_mutex_unlock(&session->lock);
}

/* Join threads that have ended; all of them if @all. */
static void reap(DwcpTarget *target, bool all)
{
    DwcpSession *session = &target->session;
    DwcpStream *stream;

    do {
        pthread_mutex_lock(&session->lock);
        for (stream = session->all;
             stream && !all && !atomic_load(&stream->done);
             stream = stream->next) {
        }
        pthread_mutex_unlock(&session->lock);
        if (stream) {
            pthread_join(stream->thread, NULL);
            dwcp_stream_free(stream);
        }
    } while (stream);
}

static void *listener_run(void *opaque)
{
    DwcpTarget *target = opaque;
    DwcpSession *session = &target->session;
    struct pollfd fds[2] = {
        { .events = POLLIN },
        { .fd = target->listen_wake_fd, .events = POLLIN },
    };
    uint64_t count, timeout_ns;
    bool crowd, full;

    while (!atomic_load(&session->closing)) {
        pthread_mutex_lock(&session->lock);
        /* After GO a source may come to ask for what it has not heard, and
         * after a failure to hear of it. */
        crowd = target->handshakes >= DWCP_HANDSHAKES_MAX;
        full = crowd ||
               (session->phase == DWCP_PHASE_SEALED &&
                !atomic_load(&session->resume)) ||
               (session->phase == DWCP_PHASE_FAILED &&
                !dwcp_target_owes_reason_locked(target));
        pthread_mutex_unlock(&session->lock);
        fds[0].fd = full ? -1 : target->listen_fd;
        timeout_ns = dwcp_session_tick_ns(session);
        if (crowd) {
            make_room(target);
            timeout_ns = timeout_ns < FULL_MS * 1000000ull
                             ? timeout_ns
                             : FULL_MS * 1000000ull;
        }
        (void)poll(fds, 2, (int)(timeout_ns / 1000000u) + 1);
        dwcp_target_watch(target);
        if (fds[1].revents) {
            (void)!read(target->listen_wake_fd, &count, sizeof(count));
        }
        if (!full && fds[0].revents) {
            accept_one(target);
        }
        reap(target, false);
    }
    return NULL;
}

int dwcp_listener_start(DwcpTarget *target, int listen_fd, DwcpError *err)
{
    int listens = 0, rc;
    socklen_t length = sizeof(listens);

    if (target->listening) {
        return dwcp_fail(err, -EBUSY, "the target is listening already");
    }
    if (getsockopt(listen_fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) <
            0 ||
        !listens) {
        return dwcp_fail(err, -EINVAL, "descriptor %d is not listening",
                         listen_fd);
    }
    target->listen_fd = listen_fd;
    rc = dwcp_thread_start(&target->listener, "dwcp-listen", listener_run,
                           target, err);
    if (rc < 0) {
        target->listen_fd = -1;
        return rc;
    }
    target->listening = true;
    return 0;
}

void dwcp_listener_stop(DwcpTarget *target)
{
    if (target->listening) {
        wake(target);
        pthread_join(target->listener, NULL);
        reap(target, true);
        close(target->listen_fd);
    }
    close(target->listen_wake_fd);
}
