/*
 * core/streams against modelled TCP flows: one situation each
 *
 * Proves that it asks for more only where that can help, gives back what does
 * not, remembers, and keeps what the user said.  test-streams-grid has a grid
 * of paths.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>

#include "steer.h"

/* Losses begin on a path that was clean. */
static void test_onset(void)
{
    static const double losses[] = {0.003, 0.01, 0.03};
    double asked, first, last;
    unsigned i, seed;
    Steer run;

    for (i = 0; i < G_N_ELEMENTS(losses); i++) {
        first = last = 0;
        for (seed = 1; seed <= 5; seed++) {
            steer_begin(&run, steer_path(300, 0.1, 0.1, 0, seed),
                        DWCP_MODE_INTERNET, 8);
            (void)steer_run(&run, 20);
            g_assert_cmpuint(run.streams.changes, ==, 0);
            run.fluid.loss = losses[i];
            /* The windows of the clean path take a while to melt. */
            while (run.streams.wanted == 8) {
                (void)steer_run(&run, 0.1);
                g_assert_cmpfloat(run.fluid.now_s, <, 24);
            }
            asked = run.fluid.now_s;
            while (run.streams.wanted < 64) {
                (void)steer_run(&run, 0.1);
                g_assert_cmpfloat(run.fluid.now_s, <, 30);
            }
            first = MAX(first, (asked - 20) / 0.1);
            last = MAX(last, (run.fluid.now_s - asked) / 0.1);
        }
        g_test_message("%g: 32 after %.0f RTT at most, 64 %.0f later",
                       losses[i], first, last);
        g_assert_cmpfloat(first, <=, 12);
        g_assert_cmpfloat(last, <=, i == 2 ? 12 : 25);
    }
}

/* A congestion control that is blind to loss needs no more streams. */
static void test_blind(void)
{
    static const double losses[] = {0, 0.001, 0.01, 0.05};
    unsigned i;
    double rate;

    for (i = 0; i < G_N_ELEMENTS(losses); i++) {
        Fluid fluid = steer_path(300, 0.1, 0.1, losses[i], i + 1);
        Steer run;

        fluid.kind = FLUID_BBR;
        steer_begin(&run, fluid, DWCP_MODE_INTERNET, 8);
        (void)steer_run(&run, 3);
        rate = steer_run(&run, 57) / MBIT;
        g_assert_cmpuint(run.streams.changes, ==, 0);
        g_assert_cmpfloat(rate, >=, 0.9 * 300 * (1 - losses[i]));
    }
}

/* A connection's own window: twice as many carry twice as much, within the
 * bounds of the mode. */
static void test_window(void)
{
    Fluid fluid = steer_path(900, 0.05, 0.1, 0, 1);
    double rate;
    Steer run;

    fluid.peer_window = 1 << 19; /* 84 Mbit/s a stream */
    steer_begin(&run, fluid, DWCP_MODE_INTERNET, 4);
    (void)steer_run(&run, 3);
    rate = steer_run(&run, 57) / MBIT;
    g_assert_cmpuint(run.streams.wanted, ==, 16);
    g_assert_cmpuint(run.streams.changes, ==, 2);
    g_assert_cmpint(run.streams.reason, ==, DWCP_STREAMS_WINDOW);
    g_assert_cmpfloat(rate, >=, 0.9 * 900);
    /* 28 Mbit/s a stream on a long path. */
    fluid.rtt_s = 0.3;
    fluid.peer_window = 1 << 20;
    steer_begin(&run, fluid, DWCP_MODE_INTERNET, 16);
    (void)steer_run(&run, 30);
    g_assert_cmpuint(run.streams.wanted, >=, 32);
    /* 64 KiB for each of 64, where the mode lets it. */
    fluid.rtt_s = 0.005;
    fluid.capacity = 8000 * MBIT;
    fluid.peer_window = 65536;
    steer_begin(&run, fluid, DWCP_MODE_DATACENTER, 8);
    (void)steer_run(&run, 10);
    g_assert_cmpuint(run.streams.wanted, ==, 64);
}

/* A long path: slow start ends before the link is full, as Linux's does, and
 * windows of 3 MB hold 50 Mbit/s each.  8 streams were measured to hold 0.65 to
 * 0.69 of 500 Mbit/s at 500 ms from 10 RTT on, 16 0.80, 32 0.87, 64 0.945. */
static void test_long(void)
{
    static const double rates[] = {100, 300, 500, 900};
    static const double rtts[] = {0.1, 0.3, 0.5};
    double eight, soon, late;
    unsigned i;
    Steer run;

    for (i = 0; i < 12; i++) {
        Fluid fluid = steer_path(rates[i / 3], rtts[i % 3], 0.1, 0, 1);

        fluid.peer_window = 3.1e6;
        fluid.early = 0.6;
        steer_begin(&run, fluid, DWCP_MODE_INTERNET, 8);
        dwcp_streams_init(&run.streams, 8, true, 1);
        (void)steer_run(&run, 10 * rtts[i % 3]);
        eight = steer_run(&run, 20) / (rates[i / 3] * MBIT);
        steer_begin(&run, fluid, DWCP_MODE_INTERNET, 8);
        (void)steer_run(&run, 10 * rtts[i % 3]);
        soon = steer_run(&run, 20) / (rates[i / 3] * MBIT);
        late = steer_run(&run, 60) / (rates[i / 3] * MBIT);
        g_test_message("%g Mbit/s, %g ms: %.2f soon, %.2f later, 8 streams "
                       "%.2f; %u changes",
                       rates[i / 3], rtts[i % 3] * 1e3, soon, late, eight,
                       (unsigned)run.streams.changes);
        /* Half of what is missing, where there is time for it. */
        g_assert_cmpfloat(1 - soon, <=, i == 11 ? 0.4 : (1 - eight) / 2);
        g_assert_cmpfloat(late, >=, 0.95);
        g_assert_cmpuint(run.streams.changes, <=, 5);
    }
}

/* A limit that does not show, as a policer's or a slow target's: more streams
 * gain nothing, are given back, and are tried again ever more rarely. */
static void test_no_gain(void)
{
    Fluid fluid = steer_path(300, 0.05, 0.1, 0.001, 3);
    uint64_t changes;
    unsigned i;
    Steer run;

    fluid.demand_total = 40 * MBIT;
    fluid.hidden = true;
    steer_begin(&run, fluid, DWCP_MODE_INTERNET, 8);
    (void)steer_run(&run, 5);
    g_assert_cmpuint(run.streams.wanted, ==, 8);
    g_assert_cmpint(run.streams.reason, ==, DWCP_STREAMS_NO_GAIN);
    changes = run.streams.changes;
    for (i = 0; i < 10; i++) {
        changes = run.streams.changes;
        (void)steer_run(&run, 60);
        g_assert_cmpuint(run.streams.changes - changes, <=, 2);
    }
    g_assert_cmpuint(run.streams.changes, ==, 2 + 2 * 3);
    /* Another path than the one that was tried: it is tried at once. */
    run.fluid.demand_total = 0;
    run.fluid.hidden = false;
    run.fluid.loss = 0.03;
    (void)steer_run(&run, 3);
    g_assert_cmpuint(run.streams.wanted, ==, 64);
}

/* What was asked for does not come: no harm, and no asking again soon. */
static void test_no_join(void)
{
    Steer run;

    steer_begin(&run, steer_path(300, 0.1, 0.1, 0.01, 8), DWCP_MODE_INTERNET,
                8);
    run.deaf = true;
    (void)steer_run(&run, 10);
    g_assert_cmpuint(run.streams.wanted, ==, 32);
    (void)steer_run(&run, 40);
    g_assert_cmpuint(run.streams.wanted, ==, 8);
    g_assert_cmpuint(run.streams.changes, ==, 2);
    g_assert_cmpint(run.streams.reason, ==, DWCP_STREAMS_NO_JOIN);
}

/* Where the sender has little to send, or is paced, nothing is added; idle
 * streams are given back after a while. */
static void test_no_need(void)
{
    Fluid fluid = steer_path(300, 0.1, 0.1, 0.001, 4);
    Steer run;

    fluid.demand_total = 2 * MBIT;
    steer_begin(&run, fluid, DWCP_MODE_INTERNET, 16);
    (void)steer_run(&run, 59);
    g_assert_cmpuint(run.streams.changes, ==, 0);
    (void)steer_run(&run, 300);
    g_assert_cmpuint(run.streams.wanted, ==, 4);
    g_assert_cmpuint(run.streams.changes, ==, 2);
    g_assert_cmpuint(run.most, ==, 16);

    fluid.demand_total = 0;
    fluid.loss = 0.01;
    steer_begin(&run, fluid, DWCP_MODE_INTERNET, 16);
    run.paced = true;
    (void)steer_run(&run, 30);
    g_assert_cmpuint(run.streams.changes, ==, 0);
    run.paced = false;
    (void)steer_run(&run, 5);
    g_assert_cmpuint(run.streams.wanted, ==, 64);
}

/* Frames wait, the streams have nothing unsent: in a datacenter threads are
 * what is short, and the model's demand of each stream stands for them. */
static void test_threads(void)
{
    Fluid fluid = steer_path(40000, 0.001, 0.01, 0, 5);
    Steer run;

    fluid.demand_each = 3000 * MBIT;
    steer_begin(&run, fluid, DWCP_MODE_DATACENTER, 4);
    run.backlog = true;
    (void)steer_run(&run, 10);
    g_assert_cmpuint(run.streams.wanted, ==, 16);
    g_assert_cmpint(run.streams.state, ==, DWCP_STREAMS_STEADY);
    steer_begin(&run, fluid, DWCP_MODE_INTERNET, 4);
    run.backlog = true;
    (void)steer_run(&run, 10);
    g_assert_cmpuint(run.streams.changes, ==, 0);
}

/* Losses that end: in a few minutes most of the streams are given back. */
static void test_rest(void)
{
    unsigned seed;
    Steer run;

    for (seed = 1; seed <= 8; seed++) {
        steer_begin(&run,
                    steer_path(seed & 1 ? 300 : 900, 0.1, 0.1, 0.01, seed),
                    DWCP_MODE_INTERNET, 8);
        (void)steer_run(&run, 10);
        g_assert_cmpuint(run.streams.wanted, ==, 64);
        run.fluid.loss = 0;
        (void)steer_run(&run, 300);
        g_assert_cmpuint(run.streams.wanted, ==, 16);
        g_assert_cmpuint(run.streams.changes, ==, 4);
        g_assert_cmpfloat(steer_run(&run, 30), >=, 0.95 * run.fluid.capacity);
    }
}

/* What the user said is kept. */
static void test_pinned(void)
{
    Steer run;

    steer_begin(&run, steer_path(300, 0.1, 0.1, 0.01, 7), DWCP_MODE_INTERNET,
                5);
    dwcp_streams_init(&run.streams, 5, true, 1);
    (void)steer_run(&run, 30);
    g_assert_cmpuint(run.streams.wanted, ==, 5);
    g_assert_cmpuint(run.streams.changes, ==, 0);
    g_assert_cmpuint(run.streams.round.rate_bytes_per_s, >, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/streams/onset", test_onset);
    g_test_add_func("/streams/blind", test_blind);
    g_test_add_func("/streams/window", test_window);
    g_test_add_func("/streams/long", test_long);
    g_test_add_func("/streams/no-gain", test_no_gain);
    g_test_add_func("/streams/no-join", test_no_join);
    g_test_add_func("/streams/no-need", test_no_need);
    g_test_add_func("/streams/threads", test_threads);
    g_test_add_func("/streams/rest", test_rest);
    g_test_add_func("/streams/pinned", test_pinned);
    return g_test_run();
}
