/*
 * Cancelling at random moments, from outside, in every way
 *
 * A canceller waits for one of the steps of a move, then for a random little
 * while, then cancels, closes or frees: the source or the target, or both at
 * once.  move_end() checks what must hold then.  DWCP_SEED replays the choice
 * of moments, which the threads' race makes a little different each time.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/session.h"
#include "move.h"

typedef enum How {
    HOW_SOURCE,
    HOW_TARGET,
    HOW_BOTH,
    HOW_CLOSE_SOURCE, /* channel 0 */
    HOW_CLOSE_TARGET,
    HOW_SHUT_SOURCE,
    HOW_SHUT_TARGET,
    HOWS,
} How;

static void drop_channel(End *end, bool shut)
{
    pthread_mutex_lock(&end->lock);
    if (end->channel >= 0) {
        if (shut) {
            (void)shutdown(end->channel, SHUT_RDWR);
        } else {
            close(end->channel);
            end->channel = -1;
        }
    }
    pthread_mutex_unlock(&end->lock);
}

static gpointer cancel_target_run(gpointer opaque)
{
    dwcp_target_cancel(opaque);
    return NULL;
}

static void cancel(Move *move, How how)
{
    GThread *thread;

    switch (how) {
    case HOW_SOURCE:
        dwcp_source_cancel(move->source.source);
        break;
    case HOW_TARGET:
        dwcp_target_cancel(move->target.target);
        break;
    case HOW_BOTH:
        thread = g_thread_new("cancel", cancel_target_run,
                              move->target.target);
        dwcp_source_cancel(move->source.source);
        g_thread_join(thread);
        break;
    case HOW_CLOSE_SOURCE:
        drop_channel(&move->source, false);
        break;
    case HOW_CLOSE_TARGET:
        drop_channel(&move->target, false);
        break;
    case HOW_SHUT_SOURCE:
        drop_channel(&move->source, true);
        break;
    default:
        drop_channel(&move->target, true);
        break;
    }
}

/* Time passes without sleeping: the moments are finer than a timer's. */
static void spin(guint32 us)
{
    gint64 end_us = g_get_monotonic_time() + us;

    while (g_get_monotonic_time() < end_us) {
    }
}

static void cancel_once(GRand *rnd, unsigned counts[3])
{
    static const unsigned spin_us[] = { 1, 50, 400, 3000 };
    DwcpSourceOptions source_options = end_source_options(NULL);
    DwcpTargetOptions target_options = end_target_options();
    MoveStep step = (MoveStep)g_rand_int_range(rnd, 0, MOVE_STEPS);
    How how = (How)g_rand_int_range(rnd, 0, HOWS);
    MoveOutcome out;
    guint32 us;
    Move move;

    us = (guint32)g_rand_int_range(rnd, 0, (int)spin_us[g_rand_int_range(
                                               rnd, 0, 4)]);
    source_options.streams = (unsigned)g_rand_int_range(rnd, 1, 5);
    source_options.level = g_rand_int_range(rnd, -1, 3);
    move_new(&move, &target_options);
    move_start(&move, &source_options, move.port);
    move_wait(&move, step);
    spin(us);
    cancel(&move, how);
    out = move_end(&move);
    move_free(&move);
    counts[out.gone + out.go]++;
    /* A source that gives up must not take the guest with it: either it still
     * has it, or the target gets it. */
    if (how == HOW_SOURCE || how == HOW_CLOSE_SOURCE ||
        how == HOW_SHUT_SOURCE) {
        g_assert_cmpint(out.go, ==, out.gone);
    }
}

static guint32 seed(void)
{
    const char *given = g_getenv("DWCP_SEED");

    return given ? (guint32)g_ascii_strtoull(given, NULL, 10)
                 : (guint32)g_random_int();
}

static void test_random(void)
{
    guint32 with = seed();
    GRand *rnd = g_rand_new_with_seed(with);
    unsigned i, counts[3] = { 0 };
    Usage before = usage_now();

    g_test_message("DWCP_SEED=%u", with);
    for (i = 0; i < kit_soak(250, 20000); i++) {
        cancel_once(rnd, counts);
    }
    g_test_message("the source stayed %u times, the target runs %u times, "
                   "GO came to nothing %u times",
                   counts[0], counts[2], counts[1]);
    usage_same(before);
    g_rand_free(rnd);
}

/* Nobody accepts, or nobody answers: connect and handshake end at once. */
static void test_connecting(void)
{
    Usage before = usage_now();
    GRand *rnd = g_rand_new_with_seed(11);
    DwcpSourceOptions options;
    unsigned i;
    char port[8];
    int fd = kit_listen(port);
    End end;

    options = end_source_options(port);
    for (i = 0; i < kit_soak(60, 2000); i++) {
        end_source(&end, &options);
        end_connect(&end);
        spin((guint32)g_rand_int_range(rnd, 0, 500));
        dwcp_source_cancel(end.source);
        g_assert_cmpint(dwcp_source_error(end.source, NULL), ==, -ECANCELED);
        g_assert_false(dwcp_source_gone(end.source));
        end_free(&end);
        /* Freed without a cancel is cancelled as well. */
        end_source(&end, &options);
        end_connect(&end);
        spin((guint32)g_rand_int_range(rnd, 0, 500));
        end_free(&end);
    }
    close(fd);
    g_rand_free(rnd);
    usage_same(before);
}

static void test_resolving(void)
{
    DwcpSourceOptions options = end_source_options("1");
    Usage before = usage_now();
    unsigned i;
    End end;

    options.host = "localhost";
    for (i = 0; i < 20; i++) {
        end_source(&end, &options);
        end_connect(&end);
        dwcp_source_cancel(end.source);
        end_free(&end);
    }
    usage_same(before);
}

/* Before anything was started. */
static void test_unconnected(void)
{
    DwcpSourceOptions options = end_source_options("1");
    DwcpTargetOptions target_options = end_target_options();
    Usage before = usage_now();
    DwcpError err = { 0 };
    char port[8];
    End end;

    end_source(&end, &options);
    dwcp_source_cancel(end.source);
    dwcp_source_cancel(end.source);
    g_assert_cmpint(dwcp_source_error(end.source, &err), ==, -ECANCELED);
    g_assert_cmpint(dwcp_source_wait(end.source, 0), ==, -ECANCELED);
    g_assert_cmpint(dwcp_source_finish(end.source, &err), ==, -ECANCELED);
    end_connect(&end); /* ends by itself */
    end_free(&end);
    end_target(&end, &target_options, port);
    dwcp_target_cancel(end.target);
    g_assert_cmpint(dwcp_target_go(end.target), ==, -ECANCELED);
    end_free(&end);
    usage_same(before);
}

/* Whoever cancels is not called back about it, and waits end. */
static gpointer wait_run(gpointer opaque)
{
    Move *move = opaque;
    int rc;

    do {
        rc = dwcp_source_wait(move->source.source, 60000);
    } while (rc >= 0);
    g_assert_cmpint(rc, ==, -ECANCELED);
    return NULL;
}

static void test_waits(void)
{
    DwcpSourceOptions source_options = end_source_options(NULL);
    DwcpTargetOptions target_options = end_target_options();
    GThread *waits;
    DwcpError err = { 0 };
    Move move = { 0 };

    /* The target never calls begin: what is put stays pending. */
    end_target(&move.target, &target_options, move.port);
    source_options.port = move.port;
    end_source(&move.source, &source_options);
    end_ram(&move.source, 10);
    end_connect(&move.source);
    end_wait_connected(&move.source);
    g_assert_cmpint(dwcp_source_put(move.source.source, 0, 0, 10), ==, 0);
    dwcp_source_flush(move.source.source);
    g_assert_cmpint(dwcp_source_wait(move.source.source, 1), ==, 1);
    waits = g_thread_new("wait", wait_run, &move);
    dwcp_source_cancel(move.source.source);
    g_thread_join(waits);
    g_assert_cmpint(dwcp_source_finish(move.source.source, &err), ==,
                    -ECANCELED);
    g_assert_cmpuint(move.source.failed, ==, 0);
    /* The target is told why. */
    end_failed_with(&move.target, -ECONNABORTED, "the source cancelled");
    end_free(&move.source);
    end_free(&move.target);
}

static gpointer finish_run(gpointer opaque)
{
    DwcpError err = { 0 };
    End *end = opaque;

    g_assert_cmpint(dwcp_source_finish(end->source, &err), ==, -ECANCELED);
    g_assert_nonnull(strstr(err.text, "cancel"));
    return NULL;
}

/* finish() waits for READY, which never comes; a cancel ends it. */
static void test_finish_waits(void)
{
    DwcpSourceOptions source_options = end_source_options(NULL);
    DwcpTargetOptions target_options = end_target_options();
    GThread *finish;
    Move move = { 0 };

    end_target(&move.target, &target_options, move.port);
    source_options.port = move.port;
    end_source(&move.source, &source_options);
    end_connect(&move.source);
    end_wait_connected(&move.source);
    g_assert_cmpint(dwcp_source_end(move.source.source), ==, 0);
    end_wait_connected(&move.target);
    g_assert_cmpint(dwcp_target_begin(move.target.target), ==, 0);
    g_assert_cmpint(end_wait_complete(&move.target), ==, 1);
    finish = g_thread_new("finish", finish_run, &move.source);
    dwcp_source_cancel(move.source.source);
    g_thread_join(finish);
    end_wait_failed(&move.target);
    g_assert_cmpint(dwcp_target_ready(move.target.target), ==, -ECONNABORTED);
    end_free(&move.source);
    end_free(&move.target);
}

static void count_failed(void *opaque, const DwcpError *err)
{
    unsigned *failed = opaque;

    (void)err;
    ++*failed;
}

static void cancel_now(DwcpSession *session)
{
    dwcp_session_cancel(session, "cancelled between error and event");
}

/* A cancel comes after the error and before it is told: it is not told. */
static void test_quiet(void)
{
    DwcpError err = { .code = -EPROTO, .text = "broken" };
    unsigned failed = 0, i;
    DwcpEvents events = { .failed = count_failed, .opaque = &failed };
    DwcpSession session;
    DwcpKeys keys = { 0 };

    for (i = 0; i < 2; i++) {
        g_assert_cmpint(dwcp_session_init(&session, DWCP_ROLE_SOURCE,
                                          DWCP_SECURITY_NONE, &keys, PAGE, 0,
                                          0, &events, NULL),
                        ==, 0);
        session.on_end = i ? cancel_now : NULL;
        dwcp_session_fail(&session, &err, false);
        g_assert_cmpint(dwcp_session_error(&session, NULL), ==, -EPROTO);
        g_assert_cmpuint(failed, ==, 1);
        dwcp_session_clear(&session);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cancel/unconnected", test_unconnected);
    g_test_add_func("/cancel/resolving", test_resolving);
    g_test_add_func("/cancel/connecting", test_connecting);
    g_test_add_func("/cancel/quiet", test_quiet);
    g_test_add_func("/cancel/waits", test_waits);
    g_test_add_func("/cancel/finish", test_finish_waits);
    g_test_add_func("/cancel/random", test_random);
    return g_test_run();
}
