/*
 * The fault loop: the Nth call that can fail fails, for N = 1, 2, ...
 *
 * The linker routes what the library asks of the system (memory, threads,
 * sockets, descriptors, compression contexts) through this file.  A whole
 * move is made again and again, one call further each time, until a move
 * passes without the fault being reached.  Every time: whoever notices says
 * so in words, the source keeps its guest unless the target has it, and no
 * memory, thread or descriptor is left behind.  Once with only that call
 * failing, once with all from there on.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zstd.h>

#include "move.h"

/* ----------------------------------------------------------- injector -- */

static atomic_long calls_left; /* until the fault; below 1: it has come */
static atomic_bool armed, lasting;
static atomic_uint fired;

static bool fault(void)
{
    long left;

    if (!atomic_load(&armed)) {
        return false;
    }
    left = atomic_fetch_sub(&calls_left, 1);
    if (left == 1 || (left < 1 && atomic_load(&lasting))) {
        atomic_fetch_add(&fired, 1);
        return true;
    }
    return false;
}

/* What is tried again at once must not fail for ever. */
static bool fault_once(void)
{
    return !atomic_load(&lasting) && fault();
}

static void arm(long calls, bool last)
{
    atomic_store(&fired, 0);
    atomic_store(&lasting, last);
    atomic_store(&calls_left, calls);
    atomic_store(&armed, true);
}

static void disarm(void)
{
    atomic_store(&armed, false);
}

#define WRAP(type, name, params, args, failure)                                \
    type __real_##name params;                                                 \
    type __wrap_##name params;                                                 \
    type __wrap_##name params                                                  \
    {                                                                          \
        if (fault()) {                                                         \
            failure;                                                           \
        }                                                                      \
        return __real_##name args;                                             \
    }

#define NO_MEMORY                                                              \
    errno = ENOMEM;                                                            \
    return NULL
#define NO_DESCRIPTOR                                                          \
    errno = EMFILE;                                                            \
    return -1

WRAP(void *, malloc, (size_t size), (size), NO_MEMORY)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), NO_MEMORY)
WRAP(void *, realloc, (void *old, size_t size), (old, size), NO_MEMORY)
WRAP(char *, strdup, (const char *text), (text), NO_MEMORY)
WRAP(ZSTD_CCtx *, ZSTD_createCCtx, (void), (), return NULL)
WRAP(ZSTD_DCtx *, ZSTD_createDCtx, (void), (), return NULL)
WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attr, void *(*run)(void *),
      void *arg),
     (thread, attr, run, arg), return EAGAIN)
WRAP(int, socket, (int domain, int type, int protocol),
     (domain, type, protocol), NO_DESCRIPTOR)
WRAP(int, socketpair, (int domain, int type, int protocol, int *pair),
     (domain, type, protocol, pair), NO_DESCRIPTOR)
WRAP(int, eventfd, (unsigned count, int flags), (count, flags), NO_DESCRIPTOR)

int __real_accept4(int fd, struct sockaddr *addr, socklen_t *length,
                   int flags);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *length,
                   int flags);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *length, int flags)
{
    if (fault_once()) {
        errno = EMFILE;
        return -1;
    }
    return __real_accept4(fd, addr, length, flags);
}

/* --------------------------------------------------------------- loop -- */

/* Returns: 0, or the error of the first call that said no. */
static int make_ends(Move *move, DwcpError *err)
{
    DwcpSourceOptions source_options = end_source_options(move->port);
    DwcpTargetOptions target_options = end_target_options();
    int listen_fd = kit_listen(move->port);
    int rc;

    source_options.level = 2;
    arm(atomic_load(&calls_left), atomic_load(&lasting));
    rc = end_try_target(&move->target, &target_options, listen_fd, err);
    if (rc < 0) {
        close(listen_fd);
        return rc;
    }
    rc = end_try_ram(&move->target, MOVE_PAGES, err);
    if (rc < 0) {
        return rc;
    }
    rc = end_try_source(&move->source, &source_options, err);
    return rc < 0 ? rc : end_try_ram(&move->source, MOVE_PAGES, err);
}

static void said_why(End *end)
{
    pthread_mutex_lock(&end->lock);
    if (end->failed) {
        g_assert_cmpint(end->error.code, <, 0);
        g_assert_cmpstr(end->error.text, !=, "");
    }
    pthread_mutex_unlock(&end->lock);
}

/* Returns: whether the fault was reached. */
static bool move_once(long calls, bool last)
{
    MoveOutcome out = { false, false };
    DwcpError err = { 0 };
    bool source_says;
    Move move;
    int rc;

    memset(&move, 0, sizeof(move));
    move.source.channel = move.target.channel = -1;
    atomic_store(&calls_left, calls);
    atomic_store(&lasting, last);
    rc = make_ends(&move, &err);
    if (rc == 0) {
        move_run(&move);
        rc = dwcp_source_connect(move.source.source, &err);
        if (rc < 0) {
            dwcp_source_cancel(move.source.source);
        }
        source_says = rc < 0;
        out = move_end(&move);
        said_why(&move.source);
        said_why(&move.target);
        /* The event may still be on its way. */
        source_says |= dwcp_source_error(move.source.source, NULL) !=
                           -ECANCELED &&
                       dwcp_source_error(move.source.source, NULL) != 0;
        /* A source that stays says why, once. */
        g_assert_cmpint(source_says, ==, !out.gone);
        g_assert_cmpint(out.go, ==, out.gone);
    }
    disarm();
    if (rc < 0) {
        g_assert_cmpint(err.code, ==, rc);
        g_assert_cmpstr(err.text, !=, "");
    }
    if (!atomic_load(&fired)) {
        g_assert_cmpint(rc, ==, 0);
        g_assert_true(out.go);
    }
    move_free(&move);
    return atomic_load(&fired) > 0;
}

static void loop(bool last)
{
    Usage before = usage_now();
    long calls = 0;

    do {
        calls++;
        g_test_message("call %ld", calls);
    } while (move_once(calls, last) && (usage_same(before), true));
    usage_same(before);
    g_test_message("%ld calls can fail", calls - 1);
    g_assert_cmpint(calls, >, 40);
}

static void test_one(void)
{
    loop(false);
}

static void test_all(void)
{
    loop(true);
}

/*
 * Stream 0 is let in and then fails for want of something: the next one is
 * served, and nothing of the first is left behind.
 */
static void test_next(void)
{
    DwcpTargetOptions options = end_target_options();
    DwcpHello hello = raw_hello(0, 1, NULL);
    Usage before = usage_now();
    bool failed = true;
    char port[8];
    Raw raw, next;
    End end;
    long call;

    for (call = 1; failed; call++) {
        end_target(&end, &options, port);
        g_assert_true(raw_welcomed(&raw, port, &hello));
        arm(call, false);
        raw_confirm(&raw);
        pthread_mutex_lock(&end.lock);
        while (!end.warned && !end.connected) {
            pthread_cond_wait(&end.cond, &end.lock);
        }
        failed = end.warned;
        pthread_mutex_unlock(&end.lock);
        disarm();
        g_assert_cmpuint(atomic_load(&fired), ==, failed);
        if (failed) {
            raw_join(&next, port, 0, 1, NULL);
            end_wait_connected(&end);
            close(next.fd);
        }
        close(raw.fd);
        end_free(&end);
        usage_same(before);
    }
    g_assert_cmpint(call, >, 5);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/faults/one", test_one);
    g_test_add_func("/faults/all-from-there", test_all);
    g_test_add_func("/faults/next", test_next);
    return g_test_run();
}
