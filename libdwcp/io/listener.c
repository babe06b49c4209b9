/*
 * Accepting connections and shaking hands with them
 *
 * Each connection gets a thread at once, which shakes hands with a deadline
 * and, if it belongs to the session, serves it as one of its streams.  What
 * does not belong is told why, closed and reported as a warning: the listener
 * goes on for the rightful peer.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/fail.h"
#include "io/landing.h"
#include "io/socket.h"
#include "io/target.h"

/* How long the listener waits when the process is out of descriptors. */
#define ACCEPT_PAUSE_MS 100

static void wake(DwcpTarget *target)
{
    const uint64_t one = 1;

    (void)!write(target->listen_wake_fd, &one, sizeof(one));
}

/* NEW: the first to come claims the target, until its handshake fails. */
static void judge_new_locked(DwcpTarget *target, const DwcpHello *hello,
                             DwcpWelcome *welcome)
{
    if (target->claimed) {
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_SESSION,
                            "another migration is coming in here");
        return;
    }
    target->claimed = true;
    target->streams = hello->streams;
    randombytes_buf(target->session.id, DWCP_SESSION_BYTES);
    memcpy(welcome->session, target->session.id, DWCP_SESSION_BYTES);
}

/* JOIN: may overtake the CONFIRM of stream 0, so wait for it. */
static void judge_join_locked(DwcpTarget *target, const DwcpHello *hello,
                              uint64_t deadline_ns, DwcpWelcome *welcome)
{
    DwcpSession *session = &target->session;
    struct timespec until = dwcp_timespec(deadline_ns);

    if (!target->claimed ||
        sodium_memcmp(hello->session, session->id, DWCP_SESSION_BYTES) != 0) {
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_SESSION,
                            "there is no such session here");
        return;
    }
    while (session->phase == DWCP_PHASE_CONNECTING && target->claimed &&
           !atomic_load(&session->closing)) {
        if (pthread_cond_timedwait(&session->changed, &session->lock, &until) ==
            ETIMEDOUT) {
            break;
        }
    }
    /* While it waited, the target may have become another session's. */
    if (session->phase == DWCP_PHASE_CONNECTING ||
        session->phase == DWCP_PHASE_SEALED ||
        session->phase == DWCP_PHASE_FAILED ||
        sodium_memcmp(hello->session, session->id, DWCP_SESSION_BYTES) != 0) {
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_SESSION,
                            "the session takes no more streams");
    } else if (hello->stream >= target->streams ||
               session->streams[hello->stream]) {
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_STREAM,
                            "stream %u of %u is not expected", hello->stream,
                            target->streams);
    } else {
        memcpy(welcome->session, session->id, DWCP_SESSION_BYTES);
    }
}

/* Fills in the answer to a HELLO; welcome->refusal says whether it is good. */
static void judge(DwcpTarget *target, const DwcpHello *hello,
                  uint64_t deadline_ns, DwcpWelcome *welcome)
{
    DwcpSession *session = &target->session;

    if (dwcp_hello_judge(hello, session->security, session->page_size,
                         welcome) != DWCP_REFUSAL_NONE) {
        return;
    }
    randombytes_buf(welcome->random, sizeof(welcome->random));
    pthread_mutex_lock(&session->lock);
    if (hello->kind == DWCP_HELLO_NEW) {
        judge_new_locked(target, hello, welcome);
    } else {
        judge_join_locked(target, hello, deadline_ns, welcome);
    }
    pthread_mutex_unlock(&session->lock);
}

/* A NEW that came to nothing leaves the target free for the next. */
static void unclaim(DwcpTarget *target)
{
    pthread_mutex_lock(&target->session.lock);
    target->claimed = false;
    pthread_cond_broadcast(&target->session.changed);
    pthread_mutex_unlock(&target->session.lock);
}

/* The buffers of a stream that has shaken hands. */
static int stream_open(DwcpTarget *target, DwcpStream *stream, DwcpError *err)
{
    size_t bytes;
    int rc = dwcp_stream_open(stream, err);

    if (rc < 0) {
        return rc;
    }
    stream->landing = dwcp_landing_new(&target->ram);
    if (!stream->landing) {
        return dwcp_fail(err, -ENOMEM, "no memory for stream %u",
                         stream->index);
    }
    bytes = dwcp_landing_bytes(stream->landing);
    stream->memory_bytes += bytes;
    atomic_fetch_add(&target->session.memory_bytes, bytes);
    return 0;
}

/* Returns: 0 the stream is one of the session's; else an error to warn of. */
static int handshake(DwcpTarget *target, DwcpStream *stream, DwcpError *err)
{
    uint64_t deadline_ns = dwcp_now_ns() + DWCP_HANDSHAKE_MS * 1000000ull;
    uint8_t hello_bytes[DWCP_HELLO_BYTES], welcome_bytes[DWCP_WELCOME_BYTES];
    uint8_t confirm[DWCP_CONFIRM_BYTES];
    DwcpWelcome welcome;
    DwcpHello hello;
    int rc;

    /* Something else than DWCP may be shorter than a HELLO, and then wait. */
    rc = dwcp_read_exact(stream, hello_bytes, DWCP_MAGIC_BYTES, deadline_ns,
                         err);
    if (rc == 0) {
        rc = dwcp_magic_check(hello_bytes, err);
    }
    if (rc == 0) {
        rc = dwcp_read_exact(stream, hello_bytes + DWCP_MAGIC_BYTES,
                             sizeof(hello_bytes) - DWCP_MAGIC_BYTES,
                             deadline_ns, err);
    }
    if (rc == 0) {
        rc = dwcp_hello_decode(hello_bytes, &hello, err);
    }
    if (rc < 0) {
        return rc;
    }
    judge(target, &hello, deadline_ns, &welcome);
    dwcp_welcome_encode(welcome_bytes, &welcome, hello_bytes);
    rc = dwcp_write_exact(stream, welcome_bytes, sizeof(welcome_bytes),
                          deadline_ns, err);
    if (welcome.refusal != DWCP_REFUSAL_NONE) {
        return dwcp_fail(err, -ECONNREFUSED, "a stream was refused: %s",
                         welcome.text);
    }
    stream->index = hello.stream;
    if (rc == 0) {
        rc = dwcp_read_exact(stream, confirm, sizeof(confirm), deadline_ns,
                             err);
    }
    if (rc == 0) {
        rc = dwcp_confirm_check(confirm, hello_bytes, welcome_bytes, err);
    }
    if (rc == 0) {
        rc = stream_open(target, stream, err);
    }
    if (rc == 0) {
        rc = dwcp_session_adopt(&target->session, stream);
        if (rc < 0) {
            (void)dwcp_fail(err, rc, "stream %u came too late", stream->index);
        }
    }
    if (rc < 0 && hello.kind == DWCP_HELLO_NEW) {
        unclaim(target);
    }
    return rc;
}

static void serve(DwcpTarget *target, DwcpStream *stream)
{
    DwcpSession *session = &target->session;
    DwcpError err;

    if (stream->index == 0) {
        atomic_store(&session->heard_ns, dwcp_now_ns());
        if (dwcp_session_move(session, DWCP_PHASE_UP, "CONFIRM", &err) == 0) {
            dwcp_session_tell_connected(session);
        }
    }
    dwcp_stream_loop(stream);
}

static void *stream_run(void *opaque)
{
    DwcpStream *stream = opaque;
    DwcpTarget *target = stream->role;
    DwcpError err;
    int rc;

    rc = handshake(target, stream, &err);
    pthread_mutex_lock(&target->session.lock);
    target->handshakes--;
    pthread_mutex_unlock(&target->session.lock);
    wake(target); /* it may have stopped accepting */
    if (rc == 0) {
        serve(target, stream);
    } else if (rc != -ECANCELED) {
        dwcp_session_tell_warned(&target->session, &err);
    }
    dwcp_stream_close(stream);
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
    stream->fd = fd;
    pthread_mutex_lock(&target->session.lock);
    target->handshakes++;
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
    uint64_t count;
    bool full;

    while (!atomic_load(&session->closing)) {
        pthread_mutex_lock(&session->lock);
        full = target->handshakes >= DWCP_HANDSHAKES_MAX ||
               session->phase == DWCP_PHASE_SEALED ||
               session->phase == DWCP_PHASE_FAILED;
        pthread_mutex_unlock(&session->lock);
        fds[0].fd = full ? -1 : target->listen_fd;
        (void)poll(fds, 2, -1);
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
