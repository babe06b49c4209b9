/*
 * core/flow: what streams wait for, told by TCP_INFO's counters
 *
 * Each case is one round of eight streams, made by hand; then what rounds are,
 * and what streams that come and go do to them.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>

#include "core/flow.h"

#define MS 1000000ull
#define COUNT 8u
#define TICK_MS 20u

typedef struct Bench {
    DwcpFlows flows;
    DwcpFlowInfo infos[COUNT];
    DwcpFlowRound round;
    uint64_t now_ns;
} Bench;

/* 100 ms, 100 Mbit/s each, a window of 4 MiB, always something to send. */
static void begin(Bench *bench)
{
    unsigned i;

    *bench = (Bench){ .now_ns = 1 };
    dwcp_flows_init(&bench->flows);
    for (i = 0; i < COUNT; i++) {
        bench->infos[i] = (DwcpFlowInfo){
            .id = i + 1,
            .acked_bytes = 1ull << 40,
            .retrans_segs = UINT32_MAX, /* the next one wraps */
            .srtt_us = 100000,
            .min_rtt_us = 100000,
            .peer_window_bytes = 4 << 20,
            .unsent_bytes = 1,
        };
    }
    g_assert_false(dwcp_flows_tick(&bench->flows, bench->infos, COUNT,
                                   bench->now_ns, &bench->round));
}

/* A tick: busy, and the parts of it in percent that a window held it. */
static bool tick(Bench *bench, unsigned rwnd, unsigned sndbuf)
{
    unsigned i;

    bench->now_ns += TICK_MS * MS;
    for (i = 0; i < COUNT; i++) {
        bench->infos[i].acked_bytes += 12500000 / 1000 * TICK_MS;
        bench->infos[i].busy_us += TICK_MS * 1000;
        bench->infos[i].rwnd_limited_us += TICK_MS * 10 * rwnd;
        bench->infos[i].sndbuf_limited_us += TICK_MS * 10 * sndbuf;
    }
    return dwcp_flows_tick(&bench->flows, bench->infos, COUNT, bench->now_ns,
                           &bench->round);
}

static DwcpFlowLimit round_limit(Bench *bench, unsigned rwnd, unsigned sndbuf)
{
    while (!tick(bench, rwnd, sndbuf)) {
    }
    return bench->round.limit;
}

/* The first @count streams get @value, all others what they began with. */
#define SET(bench, count, field, begun, value)                                 \
    do {                                                                       \
        unsigned set_i;                                                        \
        for (set_i = 0; set_i < COUNT; set_i++) {                              \
            (bench)->infos[set_i].field = set_i < (count) ? (value) : (begun); \
        }                                                                      \
    } while (0)

static void set_window(Bench *bench, uint32_t bytes)
{
    SET(bench, COUNT, peer_window_bytes, 0, bytes);
}

static void set_idle(Bench *bench, unsigned count)
{
    SET(bench, count, unsent_bytes, 1, 0);
}

static void set_srtt(Bench *bench, uint32_t us)
{
    SET(bench, COUNT, srtt_us, 0, us);
}

static void set_blind(Bench *bench, unsigned count)
{
    SET(bench, count, loss_blind, false, true);
}

static void test_limits(void)
{
    Bench bench;

    begin(&bench);
    g_assert_cmpint(round_limit(&bench, 0, 0), ==, DWCP_FLOW_ROOM);
    g_assert_cmpuint(bench.round.streams, ==, COUNT);
    g_assert_cmpuint(bench.round.rate_bytes_per_s, ==, COUNT * 12500000ull);
    g_assert_cmpuint(bench.round.rtt_us, ==, 100000);
    g_assert_cmpuint(bench.round.queue_us, ==, 0);
    /* 1.25 MB are in flight. */
    g_assert_cmpint(round_limit(&bench, 60, 0), ==, DWCP_FLOW_RECEIVER);
    set_window(&bench, 2 << 20);
    g_assert_cmpint(round_limit(&bench, 60, 0), ==, DWCP_FLOW_RECEIVER);
    set_window(&bench, 19 << 16);
    g_assert_cmpint(round_limit(&bench, 60, 0), ==, DWCP_FLOW_WINDOW);
    g_assert_cmpint(round_limit(&bench, 50, 0), ==, DWCP_FLOW_ROOM);
    g_assert_cmpint(round_limit(&bench, 0, 60), ==, DWCP_FLOW_WINDOW);
    g_assert_cmpint(round_limit(&bench, 0, 50), ==, DWCP_FLOW_ROOM);
    /* Half of them are no majority. */
    set_idle(&bench, 4);
    g_assert_cmpint(round_limit(&bench, 0, 0), ==, DWCP_FLOW_ROOM);
    set_idle(&bench, 5);
    g_assert_cmpint(round_limit(&bench, 0, 0), ==, DWCP_FLOW_APPLICATION);
    /* Half of the ticks are enough: a round of five. */
    (void)tick(&bench, 0, 0);
    (void)tick(&bench, 0, 0);
    set_idle(&bench, 0);
    g_assert_cmpint(round_limit(&bench, 0, 0), ==, DWCP_FLOW_ROOM);
    (void)tick(&bench, 0, 0);
    set_idle(&bench, 8);
    g_assert_cmpint(round_limit(&bench, 0, 0), ==, DWCP_FLOW_APPLICATION);
}

static void test_loss(void)
{
    Bench bench;
    unsigned i;

    begin(&bench);
    (void)round_limit(&bench, 0, 0);
    bench.infos[0].retrans_segs++;
    for (i = 0; i < DWCP_FLOW_LOSS_ROUNDS; i++) {
        g_assert_cmpint(round_limit(&bench, 0, 0), ==, DWCP_FLOW_LOSS);
    }
    g_assert_cmpint(round_limit(&bench, 0, 0), ==, DWCP_FLOW_ROOM);
    /* A queue stands: 10 ms at most, an eighth of a shorter path. */
    bench.infos[7].retrans_segs++;
    set_srtt(&bench, 109999);
    (void)round_limit(&bench, 0, 0);
    g_assert_cmpint(bench.round.limit, ==, DWCP_FLOW_LOSS);
    g_assert_false(bench.round.queue_stands);
    g_assert_cmpuint(bench.round.queue_us, ==, 9999);
    set_srtt(&bench, 110000);
    (void)round_limit(&bench, 0, 0); /* its first tick is of the round before */
    g_assert_cmpint(round_limit(&bench, 0, 0), ==, DWCP_FLOW_NETWORK);
    g_assert_true(bench.round.queue_stands);
    /* The least of the round counts. */
    (void)tick(&bench, 0, 0);
    set_srtt(&bench, 100000);
    (void)tick(&bench, 0, 0);
    set_srtt(&bench, 150000);
    g_assert_cmpint(round_limit(&bench, 0, 0), ==, DWCP_FLOW_LOSS);
    g_assert_false(bench.round.queue_stands);
    g_assert_cmpuint(bench.round.rtt_us, ==, 150000);
    /* What is blind to loss is not kept small by it. */
    set_srtt(&bench, 100000);
    (void)round_limit(&bench, 0, 0);
    bench.infos[7].retrans_segs++;
    set_blind(&bench, 4);
    g_assert_cmpint(round_limit(&bench, 0, 0), ==, DWCP_FLOW_LOSS);
    set_blind(&bench, 5);
    g_assert_cmpint(round_limit(&bench, 0, 0), ==, DWCP_FLOW_NETWORK);
}

static void test_rounds(void)
{
    Bench bench;
    unsigned i;

    begin(&bench);
    /* Nothing is known of the RTT yet: 50 ms, then one of 100. */
    g_assert_false(tick(&bench, 0, 0));
    g_assert_false(tick(&bench, 0, 0));
    g_assert_true(tick(&bench, 0, 0));
    for (i = 0; i < 4; i++) {
        g_assert_false(tick(&bench, 0, 0));
    }
    g_assert_true(tick(&bench, 0, 0));
    g_assert_cmpuint(bench.round.span_ns, ==, 100 * MS);
    /* None at all. */
    bench.now_ns += 200 * MS;
    g_assert_true(
        dwcp_flows_tick(&bench.flows, NULL, 0, bench.now_ns, &bench.round));
    g_assert_cmpuint(bench.round.streams, ==, 0);
    g_assert_cmpuint(bench.round.rate_bytes_per_s, ==, 0);
    g_assert_cmpint(bench.round.limit, ==, DWCP_FLOW_APPLICATION);
}

/* One leaves, one comes with old counters: neither is taken for traffic. */
static void test_comings(void)
{
    Bench bench;
    unsigned i;

    begin(&bench);
    (void)round_limit(&bench, 0, 0);
    (void)tick(&bench, 0, 0);
    (void)tick(&bench, 0, 0);
    for (i = 2; i + 1 < COUNT; i++) {
        bench.infos[i] = bench.infos[i + 1];
    }
    bench.infos[COUNT - 1].id = 99;
    bench.infos[COUNT - 1].acked_bytes = 1ull << 50;
    while (!tick(&bench, 0, 0)) {
    }
    g_assert_cmpuint(bench.round.streams, ==, COUNT);
    /* Seven of five ticks; one of three, of which the first only begins. */
    g_assert_cmpuint(bench.round.rate_bytes_per_s, ==,
                     7 * 12500000ull + 12500000ull * 2 / 5);
    (void)round_limit(&bench, 0, 0);
    g_assert_cmpuint(bench.round.rate_bytes_per_s, ==, COUNT * 12500000ull);
}

/* A stream that has long heard nothing remembers the path as it was. */
static void test_news(void)
{
    DwcpFlowInfo infos[3] = {
        { .srtt_us = 90000, .silent_ms = DWCP_FLOW_NEWS_MS + 1 },
        { .srtt_us = 91000, .silent_ms = 5000 },
        { .srtt_us = 4000, .silent_ms = DWCP_FLOW_NEWS_MS },
    };

    g_assert_cmpuint(dwcp_flows_rtt_us(infos, 3), ==, 4000);
    infos[2].silent_ms = 6000;
    g_assert_cmpuint(dwcp_flows_rtt_us(infos, 3), ==, 90000);
    infos[2].silent_ms = 0;
    infos[2].srtt_us = 0; /* acknowledged, and not measured yet */
    g_assert_cmpuint(dwcp_flows_rtt_us(infos, 3), >=, 90000);
    g_assert_cmpuint(dwcp_flows_rtt_us(infos, 0), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/flow/limits", test_limits);
    g_test_add_func("/flow/loss", test_loss);
    g_test_add_func("/flow/rounds", test_rounds);
    g_test_add_func("/flow/comings", test_comings);
    g_test_add_func("/flow/news", test_news);
    return g_test_run();
}
