/*
 * What a source makes of its path: mode and number of streams
 *
 * Proves that a session of low priority is paced, until END, and no other; that the
 * mode of a real session is measured from its own connections,
 * and that a pin holds; that streams come and go while pages flow, as the
 * controller says, with connections breaking meanwhile, and the target's memory
 * equals the source's at the end; that a stream which retires loses nothing and
 * is not counted as lost; that a count which the user gave, a target that does
 * not know RESUME, and END each keep the count as it is.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "breaker.h"
#include "io/source.h"
#include "move.h"

#define LARGE 4000u

static const uint8_t psk[] = "sixteen bytes or more";

typedef struct Case {
    End source, target;
    Breaker *breaker;
} Case;

static DwcpStats stats_of(Case *c)
{
    DwcpStats stats = { .size = sizeof(stats) };

    dwcp_source_stats(c->source.source, &stats);
    return stats;
}

/* How a case differs from a plain session whose count is the test's alone. */
typedef struct How {
    unsigned streams;
    DwcpMode mode;
    int level;
    DwcpPriority priority;
    bool keyed, never; /* never: the target does not know RESUME */
    bool steered;      /* the controller has its say */
} How;

static void case_new(Case *c, uint64_t pages, How how)
{
    DwcpTargetOptions for_target = end_target_options();
    DwcpSourceOptions for_source;
    char target_port[8], port[8];

    for_target.resume_ms_max = how.never ? DWCP_RESUME_NEVER : 0;
    if (how.keyed) {
        for_target.security = DWCP_SECURITY_PSK;
        for_target.keys = (DwcpKeys){ .psk = psk, .psk_bytes = sizeof(psk) };
    }
    end_target(&c->target, &for_target, target_port);
    c->breaker = breaker_new(target_port, port);
    for_source = end_source_options(port);
    for_source.resume_ms_max = 0;
    for_source.security = for_target.security;
    for_source.keys = for_target.keys;
    for_source.streams = how.streams;
    for_source.mode = how.mode;
    for_source.priority = how.priority;
    for_source.level = how.level;
    end_source(&c->source, &for_source);
    c->source.source->count.pinned |= !how.steered;
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

static void await_streams(Case *c, unsigned streams)
{
    while (stats_of(c).streams != streams) {
        g_assert_cmpint(dwcp_source_error(c->source.source, NULL), ==, 0);
        (void)poll(NULL, 0, 1);
    }
}

static void case_begin(Case *c)
{
    g_assert_cmpint(dwcp_target_begin(c->target.target), ==, 0);
}

static void case_finish(Case *c)
{
    ends_finish(&c->source, &c->target);
}

static void fill(GRand *rnd, uint8_t *ram, uint64_t pages)
{
    uint64_t i;

    for (i = 0; i < pages * PAGE; i += 4) {
        guint32 word = g_rand_int(rnd);

        memcpy(ram + i, &word, 4);
    }
}

/* Hands over all pages again, and waits until some of them are on their way. */
static void put_all(Case *c)
{
    uint64_t passed = breaker_passed(c->breaker);

    dwcp_source_round(c->source.source);
    g_assert_cmpint(dwcp_source_put(c->source.source, 0, 0, LARGE), ==, 0);
    dwcp_source_flush(c->source.source);
    while (breaker_passed(c->breaker) < passed + (1u << 20)) {
        (void)poll(NULL, 0, 1);
    }
}

/* --------------------------------------------------------------- mode -- */

static void test_measured(void)
{
    DwcpStats stats = { .size = sizeof(stats) };
    Case c;

    case_new(&c, 1, (How){ .streams = 2 });
    g_assert_cmpint(stats_of(&c).mode, !=, DWCP_MODE_INTERNET);
    while (stats_of(&c).mode != DWCP_MODE_DATACENTER) {
        (void)poll(NULL, 0, 1);
    }
    dwcp_target_stats(c.target.target, &stats);
    g_assert_cmpint(stats.mode, ==, 0);
    case_free(&c);
}

/* What the kernel keeps of the stream's rate; UINT64_MAX = all. */
static uint64_t pace_of(Case *c, unsigned index)
{
    uint64_t pace = 0;
    socklen_t length = sizeof(pace);

    g_assert_cmpint(getsockopt(c->source.source->streams[index]->tcp.fd,
                               SOL_SOCKET, SO_MAX_PACING_RATE, &pace, &length),
                    ==, 0);
    return pace;
}

/* A session of low priority is paced on every stream, one that came late as
 * well, until END. */
static void test_yields(gconstpointer opaque)
{
    const How *how = opaque;
    bool low = how->priority == DWCP_PRIORITY_LOW;
    unsigned i;
    Case c;

    case_new(&c, LARGE, *how);
    case_begin(&c);
    await_streams(&c, DWCP_STREAMS_DEFAULT);
    dwcp_source_steer_to(c.source.source, 12);
    await_streams(&c, 12);
    memset(c.source.ram, 1, LARGE * PAGE);
    put_all(&c);
    for (i = 0; i < 12; i++) {
        while (low && pace_of(&c, i) > stats_of(&c).pace_bytes_per_s) {
            (void)poll(NULL, 0, 1);
        }
        g_assert_true((pace_of(&c, i) < UINT64_MAX) == low);
    }
    g_assert_true((stats_of(&c).pace_bytes_per_s > 0) == low);
    g_assert_cmpint(dwcp_source_end(c.source.source), ==, 0);
    for (i = 0; i < 12; i++) {
        while (pace_of(&c, i) != UINT64_MAX) {
            (void)poll(NULL, 0, 1);
        }
    }
    g_assert_cmpuint(stats_of(&c).pace_bytes_per_s, ==, 0);
    case_free(&c);
}

/* Long enough for a source that measures to come to another answer. */
static void test_pinned(void)
{
    Case measured, pinned;

    case_new(&pinned, 1, (How){ .mode = DWCP_MODE_INTERNET });
    case_new(&measured, 1, (How){ 0 });
    while (stats_of(&measured).mode != DWCP_MODE_DATACENTER) {
        g_assert_cmpint(stats_of(&pinned).mode, ==, DWCP_MODE_INTERNET);
        (void)poll(NULL, 0, 1);
    }
    g_assert_cmpint(stats_of(&pinned).mode, ==, DWCP_MODE_INTERNET);
    case_free(&pinned);
    case_free(&measured);
}

/* -------------------------------------------------------------- count -- */

/* From many to one and on to more, with frames in flight all the time. */
static void test_retire(gconstpointer opaque)
{
    const How *how = opaque;
    static const unsigned counts[] = { 1, 12, 3, 20, 2, 8 };
    DwcpStats at_target = { .size = sizeof(at_target) };
    GRand *rnd = g_rand_new_with_seed(1);
    Usage before = usage_now();
    unsigned i;
    Case c;

    case_new(&c, LARGE, *how);
    fill(rnd, c.source.ram, LARGE);
    case_begin(&c);
    await_streams(&c, DWCP_STREAMS_DEFAULT);
    for (i = 0; i < G_N_ELEMENTS(counts); i++) {
        put_all(&c);
        dwcp_source_steer_to(c.source.source, counts[i]);
        g_assert_cmpuint(stats_of(&c).streams_wanted, ==, counts[i]);
        await_streams(&c, counts[i]);
        do { /* or a stream that comes again ends the one that is to end */
            dwcp_target_stats(c.target.target, &at_target);
        } while (at_target.streams != counts[i]);
    }
    g_assert_cmpuint(stats_of(&c).streams_lost, ==, 0);
    case_finish(&c);
    g_assert_cmpuint(stats_of(&c).resent_bytes, ==, 0);
    g_assert_cmpuint(stats_of(&c).pending_bytes, ==, 0);
    dwcp_target_stats(c.target.target, &at_target);
    g_assert_cmpuint(at_target.streams_lost, ==, 0);
    case_free(&c);
    usage_same(before);
    g_rand_free(rnd);
}

/* The target does not take frames yet: what was sent cannot be acknowledged, so
 * the stream stays until it is. */
static void test_held(void)
{
    Case c;

    case_new(&c, LARGE, (How){ 0 });
    await_streams(&c, DWCP_STREAMS_DEFAULT);
    memset(c.source.ram, 1, LARGE * PAGE);
    put_all(&c);
    dwcp_source_steer_to(c.source.source, 1);
    (void)poll(NULL, 0, 200); /* the other way would show by now */
    g_assert_cmpuint(stats_of(&c).streams, >, 1);
    case_begin(&c);
    await_streams(&c, 1);
    case_finish(&c);
    g_assert_cmpuint(stats_of(&c).resent_bytes, ==, 0);
    case_free(&c);
}

/* What the controller says is done: here that four more are not to be had. */
static void test_followed(void)
{
    DwcpStreams *count;
    Case c;
    End *source = &c.source;
    DwcpTargetOptions for_target = end_target_options();
    DwcpSourceOptions for_source;
    char port[8];

    for_target.resume_ms_max = 0;
    end_target(&c.target, &for_target, port);
    for_source = end_source_options(port);
    for_source.resume_ms_max = 0;
    for_source.streams = 0;
    end_source(source, &for_source);
    count = &source->source->count;
    count->state = DWCP_STREAMS_UP;
    count->wanted = 12;
    count->before = 5;
    count->since_ns -= DWCP_STREAMS_JOIN_NS;
    end_connect(source);
    end_wait_connected(source);
    while (stats_of(&c).streams_wanted != 5) {
        (void)poll(NULL, 0, 1);
    }
    await_streams(&c, 5);
    end_free(&c.source);
    end_free(&c.target);
}

static void stays(How how, unsigned streams)
{
    Case c;

    case_new(&c, LARGE, how);
    case_begin(&c);
    await_streams(&c, streams);
    dwcp_source_steer_to(c.source.source, streams + 1);
    g_assert_cmpuint(stats_of(&c).streams_wanted, ==, streams);
    memset(c.source.ram, 1, LARGE * PAGE);
    put_all(&c);
    dwcp_source_steer_to(c.source.source, 1);
    g_assert_cmpuint(stats_of(&c).streams_wanted, ==, streams);
    case_finish(&c);
    case_free(&c);
}

/* The user's count, or one that the target could not follow. */
static void test_stays(void)
{
    stays((How){ .streams = 4 }, 4);
    stays((How){ .never = true }, DWCP_STREAMS_DEFAULT);
}

static void test_frozen(void)
{
    Case c;

    case_new(&c, 4, (How){ 0 });
    case_begin(&c);
    g_assert_cmpint(dwcp_source_end(c.source.source), ==, 0);
    dwcp_source_steer_to(c.source.source, 2);
    g_assert_cmpuint(stats_of(&c).streams_wanted, ==, DWCP_STREAMS_DEFAULT);
    case_free(&c);
}

/* What HELLO says of a source with these options. */
static unsigned announced(unsigned streams, uint32_t resume_ms_max)
{
    uint8_t session[DWCP_SESSION_BYTES] = { 1 };
    DwcpSourceOptions options;
    char port[8];
    int listen_fd = kit_listen(port);
    End source;
    Raw raw;

    options = end_source_options(port);
    options.streams = streams;
    options.resume_ms_max = resume_ms_max;
    end_source(&source, &options);
    end_connect(&source);
    raw_serve(&raw, listen_fd, session);
    close(listen_fd);
    close(raw.fd);
    end_free(&source);
    return raw.said.streams;
}

static void test_announced(void)
{
    g_assert_cmpuint(announced(0, 0), ==, DWCP_STREAMS_MAX);
    g_assert_cmpuint(announced(5, 0), ==, 5);
    g_assert_cmpuint(announced(0, DWCP_RESUME_NEVER), ==,
                     DWCP_STREAMS_DEFAULT);
}

/* ------------------------------------------------------------- random -- */

/* Streams come, go and break, all the time that pages flow. */
static void broken(How how, unsigned seed)
{
    GRand *rnd = g_rand_new_with_seed(seed);
    unsigned round, i;
    Case c;

    case_new(&c, LARGE, how);
    fill(rnd, c.source.ram, LARGE);
    case_begin(&c);
    for (round = 0; round < 12; round++) {
        put_all(&c);
        for (i = (unsigned)g_rand_int_range(rnd, 1, 5); i; i--) {
            dwcp_source_steer_to(c.source.source,
                                 (unsigned)g_rand_int_range(rnd, 1, 25));
            if (g_rand_boolean(rnd)) {
                breaker_reset(c.breaker, g_rand_int_range(rnd, -2, 20));
            }
            (void)poll(NULL, 0, g_rand_int_range(rnd, 0, 60));
        }
        if (round % 4 == 3) {
            dwcp_source_steer_to(c.source.source, round % 8 == 3 ? 1 : 9);
            await_streams(&c, round % 8 == 3 ? 1 : 9);
        }
    }
    case_finish(&c);
    case_free(&c);
    g_rand_free(rnd);
}

static void test_broken(gconstpointer opaque)
{
    const How *how = opaque;
    unsigned seed, seeds = kit_soak(1, 30);

    for (seed = 0; seed < seeds; seed++) {
        broken(*how, seed);
    }
}

/* At any step of a move: move_end() knows what must hold. */
static void test_moves(void)
{
    DwcpTargetOptions for_target = end_target_options();
    DwcpSourceOptions for_source = end_source_options("1");
    unsigned seeds = kit_soak(30, 500), seed, events;
    Breaker *breaker;
    MoveOutcome out;
    char port[8];
    GRand *rnd;
    Move move;

    for_target.resume_ms_max = 0;
    for_source.resume_ms_max = 0;
    for_source.streams = 0;
    for (seed = 0; seed < seeds; seed++) {
        rnd = g_rand_new_with_seed(seed);
        move_new(&move, &for_target);
        breaker = breaker_new(move.port, port);
        for_source.level = g_rand_int_range(rnd, 0, 2);
        move_start(&move, &for_source, port);
        end_wait_connected(&move.target);
        move_wait(&move, (MoveStep)g_rand_int_range(rnd, MOVE_CONNECTED,
                                                    MOVE_READY + 1));
        for (events = (unsigned)g_rand_int_range(rnd, 1, 6); events; events--) {
            dwcp_source_steer_to(move.source.source,
                                 (unsigned)g_rand_int_range(rnd, 1, 16));
            if (g_rand_boolean(rnd)) {
                breaker_reset(breaker, g_rand_int_range(rnd, -2, 9));
            }
            if (g_rand_boolean(rnd)) {
                g_usleep((gulong)g_rand_int_range(rnd, 0, 3000));
            }
        }
        out = move_end(&move);
        if (!out.go || !out.gone) {
            g_error("seed %u, step %d: source: %s; target: %s", seed,
                    atomic_load(&move.step), move.source.error.text,
                    move.target.error.text);
        }
        move_free(&move);
        breaker_free(breaker);
        g_rand_free(rnd);
    }
}

/* Nobody steers but the controller. */
static void test_alone(void)
{
    GRand *rnd = g_rand_new_with_seed(3);
    unsigned i;
    Case c;

    case_new(&c, LARGE, (How){ .steered = true });
    fill(rnd, c.source.ram, LARGE);
    case_begin(&c);
    for (i = 0; i < 20; i++) {
        put_all(&c);
    }
    case_finish(&c);
    case_free(&c);
    g_rand_free(rnd);
}

int main(int argc, char **argv)
{
    static const How raw = { .level = 0 }, zstd = { .level = 1 },
                     keyed = { .level = 1, .keyed = true },
                     low = { .priority = DWCP_PRIORITY_LOW };

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/source-steer/mode/measured", test_measured);
    g_test_add_func("/source-steer/mode/pinned", test_pinned);
    g_test_add_data_func("/source-steer/yields/low", &low, test_yields);
    g_test_add_data_func("/source-steer/yields/normal", &raw, test_yields);
    g_test_add_data_func("/source-steer/retire/raw", &raw, test_retire);
    g_test_add_data_func("/source-steer/retire/zstd", &zstd, test_retire);
    g_test_add_data_func("/source-steer/retire/keyed", &keyed, test_retire);
    g_test_add_func("/source-steer/held", test_held);
    g_test_add_func("/source-steer/followed", test_followed);
    g_test_add_func("/source-steer/stays", test_stays);
    g_test_add_func("/source-steer/frozen", test_frozen);
    g_test_add_func("/source-steer/announced", test_announced);
    g_test_add_data_func("/source-steer/broken/raw", &raw, test_broken);
    g_test_add_data_func("/source-steer/broken/keyed", &keyed, test_broken);
    g_test_add_func("/source-steer/moves", test_moves);
    g_test_add_func("/source-steer/alone", test_alone);
    return g_test_run();
}
