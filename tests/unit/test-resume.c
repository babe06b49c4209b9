/*
 * Sessions whose connections are lost
 *
 * Proves that a session survives the loss of any stream and of all of them,
 * plain and keyed, at every step of a move, any number of times: the target's
 * memory equals the source's, channel 0's bytes arrive once and in order, and
 * never may both ends run; that a cancel answers while no connection stands;
 * that what cannot come back ends in time with a reason.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "breaker.h"
#include "core/bytes.h"
#include "move.h"

static const uint8_t psk[] = "sixteen bytes or more";

static DwcpSourceOptions source_options(const char *port, bool keyed)
{
    DwcpSourceOptions options = end_source_options(port);

    options.resume_ms_max = 0;
    options.streams = 4;
    if (keyed) {
        options.security = DWCP_SECURITY_PSK;
        options.keys = (DwcpKeys){ .psk = psk, .psk_bytes = sizeof(psk) };
    }
    return options;
}

static DwcpTargetOptions target_options(bool keyed)
{
    DwcpTargetOptions options = end_target_options();

    options.resume_ms_max = 0;
    if (keyed) {
        options.security = DWCP_SECURITY_PSK;
        options.keys = (DwcpKeys){ .psk = psk, .psk_bytes = sizeof(psk) };
    }
    return options;
}

/* A session through a breaker. */
typedef struct Case {
    End source, target;
    Breaker *breaker;
} Case;

static void case_new(Case *c, uint64_t pages, bool keyed, int level)
{
    DwcpTargetOptions for_target = target_options(keyed);
    DwcpSourceOptions for_source;
    char target_port[8], port[8];

    end_target(&c->target, &for_target, target_port);
    c->breaker = breaker_new(target_port, port);
    for_source = source_options(port, keyed);
    for_source.level = level;
    end_source(&c->source, &for_source);
    end_ram(&c->source, pages);
    end_ram(&c->target, pages);
    end_connect(&c->source);
    end_wait_connected(&c->source);
    end_wait_connected(&c->target);
    end_take(&c->source);
    end_take(&c->target);
}

static void case_free(Case *c)
{
    end_free(&c->source);
    end_free(&c->target);
    breaker_free(c->breaker);
}

static DwcpStats stats_of(Case *c)
{
    DwcpStats stats = { .size = sizeof(stats) };

    dwcp_source_stats(c->source.source, &stats);
    return stats;
}

static void fill(GRand *rnd, uint8_t *ram, uint64_t pages)
{
    uint64_t i;

    for (i = 0; i < pages * PAGE; i += 4) {
        guint32 word = g_rand_int(rnd);

        memcpy(ram + i, &word, 4);
    }
}

static void case_finish(Case *c)
{
    ends_finish(&c->source, &c->target);
}

#define LARGE 6000u

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
    Case c;

    /* Frames that are on their way when the connection goes, most of the time. */
    case_new(&c, LARGE, which->keyed, which->level);
    fill(rnd, c.source.ram, LARGE);
    g_assert_cmpint(dwcp_target_begin(c.target.target), ==, 0);
    for (round = 0; round < times; round++) {
        dwcp_source_round(c.source.source);
        if (g_strcmp0(g_getenv("DWCP_SANITIZED"), "thread") != 0) {
            /* Workers read on: a race that is meant, and that the thread
             * sanitizer takes minutes to look at. */
            fill(rnd, c.source.ram + round * 100 * PAGE, 500);
        }
        g_assert_cmpint(dwcp_source_put(c.source.source, 0, 0, LARGE), ==, 0);
        passed = breaker_passed(c.breaker);
        while (breaker_passed(c.breaker) < passed + (2u << 20)) {
            (void)poll(NULL, 0, 1);
        }
        breaker_reset(c.breaker, round ? which->number : 0);
    }
    case_finish(&c);
    stats = stats_of(&c);
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
    Case c;

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
    g_assert_cmpuint(stats_of(&c).resumes, >=, 1);
    case_free(&c);
}

/* ------------------------------------------------------ while it waits -- */

static void test_reconnecting(void)
{
    GRand *rnd = g_rand_new_with_seed(2);
    Case c;

    case_new(&c, LARGE, false, 0);
    fill(rnd, c.source.ram, LARGE);
    g_assert_cmpint(dwcp_target_begin(c.target.target), ==, 0);
    breaker_shut(c.breaker, true);
    breaker_reset(c.breaker, -1);
    while (!stats_of(&c).reconnecting_ms) {
        (void)poll(NULL, 0, 1);
    }
    g_assert_cmpuint(stats_of(&c).streams, ==, 0);
    /* The migration thread notices nothing, and does not turn in circles. */
    g_assert_cmpint(dwcp_source_wait(c.source.source, 20), ==, 1);
    g_assert_cmpint(dwcp_source_put(c.source.source, 0, 0, LARGE), ==, 0);
    dwcp_source_flush(c.source.source);
    g_assert_cmpint(dwcp_source_wait(c.source.source, 20), ==, 1);
    g_assert_cmpuint(dwcp_source_pending_bytes(c.source.source), ==,
                     (uint64_t)LARGE * PAGE);
    breaker_shut(c.breaker, false);
    case_finish(&c);
    g_assert_cmpuint(stats_of(&c).resumes, ==, 1);
    case_free(&c);
    g_rand_free(rnd);
}

static void test_cancel(void)
{
    Usage before = usage_now();
    Case c;

    case_new(&c, 10, false, 1);
    breaker_shut(c.breaker, true);
    breaker_reset(c.breaker, -1);
    while (!stats_of(&c).reconnecting_ms) {
        (void)poll(NULL, 0, 1);
    }
    dwcp_source_cancel(c.source.source);
    g_assert_cmpint(dwcp_source_error(c.source.source, NULL), ==, -ECANCELED);
    g_assert_cmpint(dwcp_source_wait(c.source.source, 100000), ==, -ECANCELED);
    g_assert_false(dwcp_source_gone(c.source.source));
    case_free(&c); /* joins */
    usage_same(before);
}

/* The user's end of channel 0 is a way to cancel then, too. */
static void test_channel_closed(void)
{
    Case c;

    case_new(&c, 10, false, 1);
    breaker_shut(c.breaker, true);
    breaker_reset(c.breaker, -1);
    while (!stats_of(&c).reconnecting_ms) {
        (void)poll(NULL, 0, 1);
    }
    (void)shutdown(c.source.channel, SHUT_RDWR);
    g_assert_cmpint(dwcp_source_wait(c.source.source, 20000), ==, -ECANCELED);
    g_assert_false(dwcp_source_gone(c.source.source));
    case_free(&c);
}

/* What does not come back is given up, with a reason, on both sides. */
static void test_gone(gconstpointer opaque)
{
    bool ended = GPOINTER_TO_INT(opaque);
    DwcpTargetOptions for_target = target_options(false);
    DwcpSourceOptions for_source;
    char target_port[8], port[8], byte;
    DwcpError err;
    Case c;

    for_target.resume_ms_max = 400;
    for_target.silence_ms_max = 300;
    end_target(&c.target, &for_target, target_port);
    c.breaker = breaker_new(target_port, port);
    for_source = source_options(port, false);
    for_source.resume_ms_max = ended ? 600000 : 400;
    for_source.switchover_ms_max = 200;
    end_source(&c.source, &for_source);
    end_ram(&c.source, 4);
    end_ram(&c.target, 4);
    end_connect(&c.source);
    end_wait_connected(&c.source);
    end_wait_connected(&c.target);
    end_take(&c.source);
    end_take(&c.target);
    if (ended) {
        g_assert_cmpint(dwcp_target_begin(c.target.target), ==, 0);
        g_assert_cmpint(dwcp_source_end(c.source.source), ==, 0);
        g_assert_cmpint(end_wait_complete(&c.target), ==, 1);
    }
    breaker_shut(c.breaker, true);
    breaker_reset(c.breaker, -1);
    if (ended) { /* READY does not get through, and finish() waits for it */
        g_assert_cmpint(dwcp_source_finish(c.source.source, &err), <, 0);
    }
    end_failed_with(&c.source, -ETIMEDOUT, "could not be made again");
    end_failed_with(&c.target, -ETIMEDOUT, "no sign of life");
    /* Whoever waits at channel 0 sees its end, though no stream serves it. */
    g_assert_cmpint(recv(c.source.channel, &byte, 1, 0), ==, 0);
    g_assert_cmpint(recv(c.target.channel, &byte, 1, 0), ==, 0);
    g_assert_false(dwcp_source_gone(c.source.source));
    case_free(&c);
}

/* An attempt that nobody answers ends with the time that there was. */
static void test_unanswered(void)
{
    DwcpTargetOptions for_target = target_options(false);
    DwcpSourceOptions for_source;
    char target_port[8], port[8];
    DwcpError err;
    gint64 before;
    Case c;

    end_target(&c.target, &for_target, target_port);
    c.breaker = breaker_new(target_port, port);
    for_source = source_options(port, false);
    for_source.switchover_ms_max = 300;
    end_source(&c.source, &for_source);
    end_connect(&c.source);
    end_wait_connected(&c.source);
    end_wait_connected(&c.target);
    g_assert_cmpint(dwcp_source_end(c.source.source), ==, 0);
    breaker_hold(c.breaker, true);
    before = g_get_monotonic_time();
    breaker_reset(c.breaker, -1);
    g_assert_cmpint(dwcp_source_finish(c.source.source, &err), <, 0);
    /* As with a cancel, ten times what is promised: the guest stands still. */
    g_assert_cmpint(g_get_monotonic_time() - before, <, 3000000);
    end_failed_with(&c.source, -ETIMEDOUT, "for 300 ms");
    case_free(&c);
}

/* ------------------------------------------------------------- random -- */

/* Anything, at any time: move_end() knows what must hold. */
static void test_random(gconstpointer opaque)
{
    bool keyed = GPOINTER_TO_INT(opaque);
    DwcpTargetOptions for_target = target_options(keyed);
    DwcpSourceOptions for_source = source_options("1", keyed);
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

/* ------------------------------------------------------------ sockets -- */

static unsigned with_buffer(const int *fds, unsigned count, int bytes)
{
    socklen_t length;
    unsigned i, n = 0;
    int got;

    for (i = 0; i < count; i++) {
        length = sizeof(got);
        n += getsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &got, &length) == 0 &&
             got == bytes;
    }
    return n;
}

/* Sockets that the user made are what connects, again and again. */
static void test_sockets(void)
{
    DwcpTargetOptions for_target = target_options(false);
    DwcpSourceOptions for_source;
    int fds[3], size = 70000, i;
    char target_port[8], port[8];
    Usage before = usage_now();
    struct sockaddr_in peer;
    socklen_t length;
    Case c;

    end_target(&c.target, &for_target, target_port);
    c.breaker = breaker_new(target_port, port);
    for_source = source_options(port, false);
    for (i = 0; i < 3; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        g_assert_cmpint(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size,
                                   sizeof(size)),
                        ==, 0);
    }
    for_source.sockets = fds;
    for_source.sockets_count = 3;
    end_source(&c.source, &for_source);
    end_ram(&c.source, 4);
    end_ram(&c.target, 4);
    end_connect(&c.source);
    end_wait_connected(&c.source);
    end_wait_connected(&c.target);
    for (i = 0; i < 3; i++) {
        while (stats_of(&c).streams < 4) {
            (void)poll(NULL, 0, 1);
        }
        g_assert_cmpuint(with_buffer(fds, 3, 2 * size), ==, 3);
        length = sizeof(peer);
        g_assert_cmpint(getpeername(fds[i], (struct sockaddr *)&peer, &length),
                        ==, 0);
        /* Or one might stand again before the last has gone. */
        breaker_shut(c.breaker, true);
        breaker_reset(c.breaker, -1);
        while (stats_of(&c).streams) {
            (void)poll(NULL, 0, 1);
        }
        breaker_shut(c.breaker, false);
        while (stats_of(&c).resumes < (unsigned)i + 1) {
            (void)poll(NULL, 0, 1);
        }
    }
    g_assert_cmpint(dwcp_target_begin(c.target.target), ==, 0);
    case_finish(&c);
    case_free(&c);
    usage_same(before);
}

static void bad_sockets(const int *fds, unsigned count, const char *text)
{
    DwcpSourceOptions options = source_options("1", false);
    DwcpSource *source = NULL;
    DwcpError err = { 0 };

    options.sockets = fds;
    options.sockets_count = count;
    g_assert_cmpint(dwcp_source_new(&options, &source, &err), ==, -EINVAL);
    g_assert_nonnull(strstr(err.text, text));
}

static void test_bad_sockets(void)
{
    char port[8];
    int listen_fd = kit_listen(port), fds[5];

    fds[0] = raw_connect(port);
    bad_sockets(fds, 1, "is connected");
    close(fds[0]);
    bad_sockets(fds, 1, "is no TCP socket");
    fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    bad_sockets(fds, 1, "is no TCP socket");
    bad_sockets(fds, 5, "5 sockets for 4 streams");
    bad_sockets(&listen_fd, 1, "listens");
    fds[1] = fds[2] = socket(AF_INET, SOCK_STREAM, 0);
    bad_sockets(fds + 1, 2, "is given twice");
    close(fds[1]);
    close(fds[0]);
    close(listen_fd);
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
    g_test_add_func("/resume/reconnecting", test_reconnecting);
    g_test_add_func("/resume/cancel", test_cancel);
    g_test_add_func("/resume/channel-closed", test_channel_closed);
    g_test_add_data_func("/resume/gone", GINT_TO_POINTER(false), test_gone);
    g_test_add_data_func("/resume/gone/ended", GINT_TO_POINTER(true),
                         test_gone);
    g_test_add_data_func("/resume/random/plain", GINT_TO_POINTER(false),
                         test_random);
    g_test_add_data_func("/resume/random/keyed", GINT_TO_POINTER(true),
                         test_random);
    g_test_add_func("/resume/unanswered", test_unanswered);
    g_test_add_func("/resume/sockets", test_sockets);
    g_test_add_func("/resume/sockets/bad", test_bad_sockets);
    return g_test_run();
}
