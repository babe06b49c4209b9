/*
 * core/mode: each rule by hand-made samples
 *
 * test-mode-paths has whole paths.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>

#include "core/mode.h"

#define MS 1000000ull
#define S (1000 * MS)
#define MBIT 125000ull /* bytes/s */
#define STEP_NS (DWCP_MODE_SAMPLE_MS * MS)

typedef struct Bench {
    DwcpModeState state;
    uint64_t now_ns;
    unsigned changes;
} Bench;

static void begin(Bench *bench)
{
    *bench = (Bench){ .now_ns = 5 * S };
    dwcp_mode_init(&bench->state, bench->now_ns);
}

/* @windows windows, each sample the same. */
static void feed(Bench *bench, unsigned windows, uint32_t rtt_us,
                 uint64_t rate_bytes_per_s, bool limited)
{
    unsigned i;

    for (i = 0; i < windows * DWCP_MODE_WINDOW; i++) {
        DwcpModeSample sample = {
            .now_ns = bench->now_ns += STEP_NS,
            .rtt_us = rtt_us,
            .min_rtt_us = rtt_us,
            .rate_bytes_per_s = rate_bytes_per_s,
            .network_limited = limited,
        };

        bench->changes += dwcp_mode_sample(&bench->state, &sample);
    }
}

static void assert_mode(const Bench *bench, DwcpMode mode,
                        DwcpModeReason reason)
{
    g_assert_cmpstr(dwcp_mode_name(bench->state.mode), ==,
                    dwcp_mode_name(mode));
    g_assert_cmpstr(dwcp_mode_reason_text(bench->state.reason), ==,
                    dwcp_mode_reason_text(reason));
}

static void test_three_windows(void)
{
    Bench bench;

    begin(&bench);
    assert_mode(&bench, DWCP_MODE_HYBRID, DWCP_MODE_REASON_START);
    feed(&bench, 2, 50001, 10 * MBIT, false);
    feed(&bench, 1, 50000, 10 * MBIT, false); /* not above: a new row */
    feed(&bench, 2, 50001, 10 * MBIT, false);
    assert_mode(&bench, DWCP_MODE_HYBRID, DWCP_MODE_REASON_START);
    feed(&bench, 1, 50001, 10 * MBIT, false);
    assert_mode(&bench, DWCP_MODE_INTERNET, DWCP_MODE_REASON_FAR);
    g_assert_cmpuint(bench.state.since_ns, ==, bench.now_ns);
    feed(&bench, 9, 10000, 10 * MBIT, false);
    assert_mode(&bench, DWCP_MODE_INTERNET, DWCP_MODE_REASON_FAR);
    feed(&bench, 3, 9999, 10 * MBIT, false);
    assert_mode(&bench, DWCP_MODE_DATACENTER, DWCP_MODE_REASON_NEAR);
    feed(&bench, 9, 50000, 10 * MBIT, false);
    assert_mode(&bench, DWCP_MODE_DATACENTER, DWCP_MODE_REASON_NEAR);
    g_assert_cmpuint(bench.changes, ==, 2);
}

/* Four outliers of ten move no median; a gap ends a row. */
static void test_median_and_gap(void)
{
    Bench bench;
    unsigned i;

    begin(&bench);
    for (i = 0; i < 6 * DWCP_MODE_WINDOW; i++) {
        DwcpModeSample sample = {
            .now_ns = bench.now_ns += STEP_NS,
            .rtt_us = i % DWCP_MODE_WINDOW < 4 ? 400000 : 9000,
            .min_rtt_us = 9000,
        };

        (void)dwcp_mode_sample(&bench.state, &sample);
    }
    assert_mode(&bench, DWCP_MODE_DATACENTER, DWCP_MODE_REASON_NEAR);
    feed(&bench, 2, 80000, 0, false);
    bench.now_ns += 300 * MS;
    feed(&bench, 2, 80000, 0, false);
    assert_mode(&bench, DWCP_MODE_DATACENTER, DWCP_MODE_REASON_NEAR);
    feed(&bench, 1, 80000, 0, false);
    assert_mode(&bench, DWCP_MODE_INTERNET, DWCP_MODE_REASON_FAR);
}

/* Samples that come too fast, or without an RTT, count for nothing. */
static void test_void_samples(void)
{
    DwcpModeSample sample = { .now_ns = 5 * S, .rtt_us = 80000 };
    DwcpModeState state;
    unsigned i;

    dwcp_mode_init(&state, 5 * S);
    for (i = 0; i < 360; i++) { /* 0.9 s; 0.96 s at least are needed */
        sample.now_ns += 5 * MS / 2;
        (void)dwcp_mode_sample(&state, &sample);
    }
    g_assert_cmpint(state.mode, ==, DWCP_MODE_HYBRID);
    sample.rtt_us = 0;
    for (i = 0; i < 100; i++) {
        sample.now_ns += STEP_NS;
        g_assert_false(dwcp_mode_sample(&state, &sample));
    }
    g_assert_cmpint(state.mode, ==, DWCP_MODE_HYBRID);
}

static void test_rate(void)
{
    Bench bench;

    /* Loaded, 5 ms, 500 Mbit/s: no datacenter, and once that is known an
     * idle link is no reason to think otherwise. */
    begin(&bench);
    feed(&bench, 9, 5000, 500 * MBIT, true);
    feed(&bench, 9, 5000, 100 * MBIT, false);
    assert_mode(&bench, DWCP_MODE_HYBRID, DWCP_MODE_REASON_START);
    /* A rate that proves it counts whatever limits it. */
    feed(&bench, 3, 5000, 1000 * MBIT, false);
    assert_mode(&bench, DWCP_MODE_DATACENTER, DWCP_MODE_REASON_NEAR_FAST);
    /* It waits for its encoders: that says nothing about the link. */
    feed(&bench, 9, 5000, 100 * MBIT, false);
    feed(&bench, 9, 5000, 601 * MBIT, true);
    assert_mode(&bench, DWCP_MODE_DATACENTER, DWCP_MODE_REASON_NEAR_FAST);
    feed(&bench, 2, 5000, 500 * MBIT, true);
    assert_mode(&bench, DWCP_MODE_DATACENTER, DWCP_MODE_REASON_NEAR_FAST);
    feed(&bench, 1, 5000, 500 * MBIT, true);
    assert_mode(&bench, DWCP_MODE_HYBRID, DWCP_MODE_REASON_SLOW);
    /* What was known of a path ends with the path. */
    feed(&bench, 3, 80000, 100 * MBIT, false);
    assert_mode(&bench, DWCP_MODE_INTERNET, DWCP_MODE_REASON_FAR);
    feed(&bench, 3, 5000, 100 * MBIT, false);
    assert_mode(&bench, DWCP_MODE_DATACENTER, DWCP_MODE_REASON_NEAR);
}

/* Our own queue makes 5 ms look like 105: it is asked for, not believed. */
static void test_own_queue(void)
{
    Bench bench;

    begin(&bench);
    feed(&bench, 1, 5000, 2000 * MBIT, true);
    feed(&bench, 1, 105000, 2000 * MBIT, true);
    g_assert_true(dwcp_mode_doubt(&bench.state, bench.now_ns));
    feed(&bench, 9, 105000, 2000 * MBIT, true);
    assert_mode(&bench, DWCP_MODE_HYBRID, DWCP_MODE_REASON_START);
    g_assert_false(dwcp_mode_doubt(&bench.state, bench.now_ns));
    g_assert_true(dwcp_mode_probe(&bench.state, 5100, bench.now_ns));
    assert_mode(&bench, DWCP_MODE_DATACENTER, DWCP_MODE_REASON_NEAR_FAST);
    /* A quarter more is a reason to ask again, and the answer may be: far. */
    feed(&bench, 3, 150000, 2000 * MBIT, true);
    g_assert_true(dwcp_mode_doubt(&bench.state, bench.now_ns));
    g_assert_true(dwcp_mode_probe(&bench.state, 80000, bench.now_ns));
    assert_mode(&bench, DWCP_MODE_INTERNET, DWCP_MODE_REASON_FAR);
    /* An idle link has no queue. */
    begin(&bench);
    feed(&bench, 4, 5000, 2000 * MBIT, true);
    feed(&bench, 3, 80000, 2000 * MBIT, false);
    assert_mode(&bench, DWCP_MODE_INTERNET, DWCP_MODE_REASON_FAR);
}

/* At once near, on a slow link and on a busy machine as well; never where the
 * path is long, or became so, or is said to be. */
static void test_near(void)
{
    Bench bench;

    begin(&bench);
    g_assert_false(dwcp_mode_near(&bench.state)); /* nothing is known */
    g_assert_false(dwcp_mode_sample(&bench.state,
                                    &(DwcpModeSample){
                                        .now_ns = bench.now_ns += STEP_NS,
                                        .rtt_us = 30000,
                                        .min_rtt_us = 9999,
                                    }));
    g_assert_true(dwcp_mode_near(&bench.state));
    feed(&bench, 4, 9000, 10 * MBIT, true);
    g_assert_true(dwcp_mode_near(&bench.state));
    feed(&bench, 4, 60000, 10 * MBIT, false);
    bench.state.min_rtt_us = 100; /* of minutes ago */
    g_assert_cmpint(bench.state.mode, ==, DWCP_MODE_INTERNET);
    g_assert_false(dwcp_mode_near(&bench.state));
    begin(&bench);
    feed(&bench, 1, 10000, 9000 * MBIT, false);
    g_assert_false(dwcp_mode_near(&bench.state));
    dwcp_mode_pin(&bench.state, DWCP_MODE_DATACENTER, bench.now_ns);
    g_assert_true(dwcp_mode_near(&bench.state));
    dwcp_mode_pin(&bench.state, DWCP_MODE_HYBRID, bench.now_ns);
    feed(&bench, 1, 100, 9000 * MBIT, false);
    g_assert_false(dwcp_mode_near(&bench.state));
}

static void test_pin(void)
{
    Bench bench;

    begin(&bench);
    dwcp_mode_pin(&bench.state, DWCP_MODE_INTERNET, bench.now_ns);
    feed(&bench, 9, 1000, 5000 * MBIT, true);
    assert_mode(&bench, DWCP_MODE_INTERNET, DWCP_MODE_REASON_PINNED);
    g_assert_cmpuint(bench.changes, ==, 0);
    g_assert_cmpuint(bench.state.since_ns, ==, 5 * S);
    dwcp_mode_unpin(&bench.state);
    feed(&bench, 2, 1000, 5000 * MBIT, true);
    assert_mode(&bench, DWCP_MODE_INTERNET, DWCP_MODE_REASON_PINNED);
    feed(&bench, 1, 1000, 5000 * MBIT, true);
    assert_mode(&bench, DWCP_MODE_DATACENTER, DWCP_MODE_REASON_NEAR_FAST);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mode/three-windows", test_three_windows);
    g_test_add_func("/mode/median-and-gap", test_median_and_gap);
    g_test_add_func("/mode/void-samples", test_void_samples);
    g_test_add_func("/mode/rate", test_rate);
    g_test_add_func("/mode/own-queue", test_own_queue);
    g_test_add_func("/mode/near", test_near);
    g_test_add_func("/mode/pin", test_pin);
    return g_test_run();
}
