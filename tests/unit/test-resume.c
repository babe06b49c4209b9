/*
 * Sessions whose connections are lost
 *
 * Proves that a session survives the loss of any stream and of all of them,
 * plain and keyed, at every step of a move, any number of times: the target's
 * memory equals the source's, channel 0's bytes arrive once and in order, and
 * never may both ends run.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "resumecase.h"
#include "move.h"

/* Which connections are reset, and in which way it is sent. */
typedef struct Which {
    const char *name;
    int number;
    bool keyed;
    int level;
} Which;

static void test_reset(gconstpointer opaque)
{
    const Which *which = opaque;
    GRand *rnd = g_rand_new_with_seed(1);
    unsigned round, times = 5;
    DwcpStats stats;
    uint64_t passed;
    ResumeCase c;

    /* Frames that are on their way when the connection goes, mostly. */
    case_new(&c, LARGE, which->keyed, which->level);
    kit_fill(rnd, c.source.ram, LARGE);
    g_assert_cmpint(dwcp_target_begin(c.target.target), ==, 0);
    for (round = 0; round < times; round++) {
        dwcp_source_round(c.source.source);
        if (g_strcmp0(g_getenv("DWCP_SANITIZED"), "thread") != 0) {
            /* Workers read on: a race that is meant, and that the thread
             * sanitizer takes minutes to look at. */
            kit_fill(rnd, c.source.ram + round * 100 * PAGE, 500);
        }
        g_assert_cmpint(dwcp_source_put(c.source.source, 0, 0, LARGE), ==, 0);
        passed = breaker_passed(c.breaker);
        while (breaker_passed(c.breaker) < passed + (2u << 20)) {
            (void)poll(NULL, 0, 1);
        }
        breaker_reset(c.breaker, round ? which->number : 0);
    }
    ends_finish(&c.source, &c.target);
    stats = end_stats(&c.source);
    g_assert_cmpuint(stats.streams_lost, >=, which->number == -1 ? 5 : 1);
    if (which->number == -1) {
        g_assert_cmpuint(stats.resumes, >=, 1);
        g_assert_cmpuint(stats.resent_bytes, >, 0);
    }
    g_assert_cmpuint(stats.reconnecting_ms, ==, 0);
    g_assert_cmpuint(stats.pending_bytes, ==, 0);
    case_free(&c);
    g_rand_free(rnd);
}

/* ------------------------------------------------------------ channel -- */

typedef struct Flow {
    int fd;
    bool writes;
    unsigned salt;
} Flow;

#define FLOW_BYTES (24u << 20)

static gpointer flow_run(gpointer opaque)
{
    Flow *flow = opaque;
    uint8_t data[8192];
    size_t at, i;
    ssize_t n;

    for (at = 0; at < FLOW_BYTES; at += (size_t)n) {
        n = (ssize_t)MIN(sizeof(data), FLOW_BYTES - at);
        for (i = 0; flow->writes && i < (size_t)n; i++) {
            data[i] = (uint8_t)((at + i) * 7 + (at + i) / 4093 + flow->salt);
        }
        n = flow->writes ? send(flow->fd, data, (size_t)n, MSG_NOSIGNAL)
                         : recv(flow->fd, data, (size_t)n, 0);
        g_assert_cmpint(n, >, 0);
        for (i = 0; !flow->writes && i < (size_t)n; i++) {
            if (data[i] !=
                (uint8_t)((at + i) * 7 + (at + i) / 4093 + flow->salt)) {
                g_error("byte %zu differs", at + i);
            }
        }
    }
    return NULL;
}

static void test_channel(gconstpointer opaque)
{
    bool keyed = GPOINTER_TO_INT(opaque);
    Flow flows[4];
    GThread *threads[4];
    uint64_t passed;
    unsigned i;
    ResumeCase c;

    case_new(&c, 1, keyed, 1);
    for (i = 0; i < 4; i++) {
        flows[i] = (Flow){ i < 2 ? c.source.channel : c.target.channel,
                           i % 2 == 0, i == 0 || i == 3 };
        threads[i] = g_thread_new("flow", flow_run, &flows[i]);
    }
    for (i = 0; i < 8; i++) {
        passed = breaker_passed(c.breaker);
        while (breaker_passed(c.breaker) < passed + (3u << 20)) {
            (void)poll(NULL, 0, 1);
        }
        breaker_reset(c.breaker, -1);
    }
    for (i = 0; i < 4; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpuint(end_stats(&c.source).resumes, >=, 1);
    case_free(&c);
}

/* ------------------------------------------------------------- random -- */

/* Anything, at any time: move_end() knows what must hold. */
static void test_random(gconstpointer opaque)
{
    bool keyed = GPOINTER_TO_INT(opaque);
    DwcpTargetOptions for_target = resume_target_options(keyed);
    DwcpSourceOptions for_source = resume_source_options(keyed);
    unsigned seeds = kit_soak(30, 1000), seed, events, went = 0;
    Breaker *breaker;
    MoveOutcome out;
    char port[8];
    GRand *rnd;
    Move move;

    for_source.switchover_ms_max = 2000;
    for (seed = 0; seed < seeds; seed++) {
        rnd = g_rand_new_with_seed(seed);
        move_new(&move, &for_target);
        breaker = breaker_new(move.port, port);
        for_source.level = g_rand_int_range(rnd, 0, 2);
        for_source.streams = (unsigned)g_rand_int_range(rnd, 1, 6);
        move_start(&move, &for_source, port);
        /* A connection that goes before the target has read its CONFIRM has
         * left no session behind. */
        end_wait_connected(&move.target);
        /* Half of the schedules begin when the pages are on their way. */
        move_wait(&move, (MoveStep)g_rand_int_range(rnd, MOVE_CONNECTED,
                                                    MOVE_READY + 1));
        for (events = (unsigned)g_rand_int_range(rnd, 1, 5); events; events--) {
            breaker_reset(breaker, g_rand_int_range(rnd, -2, 4));
            if (g_rand_boolean(rnd)) {
                g_usleep((gulong)g_rand_int_range(rnd, 0, 3000));
            }
        }
        out = move_end(&move);
        if (!out.go) {
            g_test_message("seed %u, step %d: source: %s; target: %s", seed,
                           atomic_load(&move.step), move.source.error.text,
                           move.target.error.text);
        }
        went += out.go;
        g_assert_cmpint(out.go, ==, out.gone);
        move_free(&move);
        breaker_free(breaker);
        g_rand_free(rnd);
    }
    g_test_message("%u of %u moves went through", went, seeds);
    g_assert_cmpuint(went, ==, seeds);
}

int main(int argc, char **argv)
{
    static const Which which[] = {
        { "/resume/stream/plain", -2, false, 0 },
        { "/resume/stream/keyed", -2, true, 1 },
        { "/resume/all/raw", -1, false, 0 },
        { "/resume/all/zstd", -1, false, 1 },
        { "/resume/all/keyed-raw", -1, true, 0 },
        { "/resume/all/keyed-zstd", -1, true, 1 },
    };
    unsigned i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(which); i++) {
        g_test_add_data_func(which[i].name, &which[i], test_reset);
    }
    g_test_add_data_func("/resume/channel/plain", GINT_TO_POINTER(false),
                         test_channel);
    g_test_add_data_func("/resume/channel/keyed", GINT_TO_POINTER(true),
                         test_channel);
    g_test_add_data_func("/resume/random/plain", GINT_TO_POINTER(false),
                         test_random);
    g_test_add_data_func("/resume/random/keyed", GINT_TO_POINTER(true),
                         test_random);
    return g_test_run();
}
