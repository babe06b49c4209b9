/*
 * core/pacer: a rate is kept
 *
 * Proves, in virtual time, that the average is exact for small and large
 * frames, that idle time earns no more than a tick, and that a debt never
 * outlives a change of the rate by more than a second.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>

#include "core/pacer.h"

#define S 1000000000ull

/* Sends frames of @bytes whenever allowed; Returns: bytes in @time_ns. */
static uint64_t sent(DwcpPacer *pacer, uint64_t bytes, uint64_t start_ns,
                     uint64_t time_ns)
{
    uint64_t now_ns = start_ns, total = 0, wait_ns;

    while (now_ns < start_ns + time_ns) {
        wait_ns = dwcp_pacer_wait_ns(pacer, now_ns);
        if (wait_ns) {
            now_ns += wait_ns;
        } else {
            dwcp_pacer_take(pacer, bytes, now_ns);
            total += bytes;
        }
    }
    return total;
}

static void test_no_limit(void)
{
    DwcpPacer pacer = { 0 };

    dwcp_pacer_take(&pacer, 1ull << 40, 5 * S);
    g_assert_cmpuint(dwcp_pacer_wait_ns(&pacer, 5 * S), ==, 0);
    /* A limit that comes later does not make up for what was free. */
    dwcp_pacer_set_rate(&pacer, 1000, 5 * S);
    g_assert_cmpuint(dwcp_pacer_wait_ns(&pacer, 5 * S), ==, 0);
}

static void test_average(void)
{
    static const uint64_t frames[] = { 56, 1500, 262200 };
    static const uint64_t rates[] = { 1000000, 62500000, 1250000000 };
    uint64_t total, frame_ns;
    unsigned i, j;

    for (i = 0; i < G_N_ELEMENTS(frames); i++) {
        for (j = 0; j < G_N_ELEMENTS(rates); j++) {
            DwcpPacer pacer = { 0 };

            dwcp_pacer_set_rate(&pacer, rates[j], 7 * S);
            total = sent(&pacer, frames[i], 7 * S, 1 * S);
            g_assert_cmpuint(total, >=, rates[j]);
            /* A tick of 10 ms and a frame more; each frame's time is rounded
             * down to whole nanoseconds. */
            frame_ns = frames[i] * S / rates[j];
            g_assert_cmpuint(total / frames[i], <=,
                             (S + S / 100) / frame_ns + 2);
        }
    }
}

static void test_idle(void)
{
    DwcpPacer pacer = { 0 };
    uint64_t total;

    dwcp_pacer_set_rate(&pacer, 1000000, 1 * S);
    (void)sent(&pacer, 1000, 1 * S, 1 * S);
    /* An hour of silence is worth 10 ms. */
    total = sent(&pacer, 1000, 3600 * S, S / 10);
    g_assert_cmpuint(total, >=, 100000);
    g_assert_cmpuint(total, <=, 100000 + 10000 + 1000);
}

static void test_change(void)
{
    DwcpPacer pacer = { 0 };

    dwcp_pacer_set_rate(&pacer, 1000, 10 * S);
    dwcp_pacer_take(&pacer, 1000000, 10 * S); /* 1000 s of debt */
    g_assert_cmpuint(dwcp_pacer_wait_ns(&pacer, 10 * S), >, 900 * S);
    dwcp_pacer_set_rate(&pacer, 2000, 10 * S);
    g_assert_cmpuint(dwcp_pacer_wait_ns(&pacer, 10 * S), ==, 1 * S);
    g_assert_cmpuint(dwcp_pacer_wait_ns(&pacer, 11 * S - 1), ==, 1);
    g_assert_cmpuint(dwcp_pacer_wait_ns(&pacer, 11 * S), ==, 0);
    dwcp_pacer_take(&pacer, 4000, 11 * S);
    g_assert_cmpuint(dwcp_pacer_wait_ns(&pacer, 11 * S), >, 1 * S);
    dwcp_pacer_set_rate(&pacer, 0, 11 * S); /* no limit: nothing to wait for */
    g_assert_cmpuint(dwcp_pacer_wait_ns(&pacer, 11 * S), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pacer/no-limit", test_no_limit);
    g_test_add_func("/pacer/average", test_average);
    g_test_add_func("/pacer/idle", test_idle);
    g_test_add_func("/pacer/change", test_change);
    return g_test_run();
}
