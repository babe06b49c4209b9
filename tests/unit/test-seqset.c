/*
 * core/seqset: which frame numbers have been seen
 *
 * Proves it against a plain list of booleans for random orders, the window's
 * edges on both sides, and numbers far into a session.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>

#include "core/seqset.h"

#define AHEAD DWCP_NUMBERS_AHEAD_MAX

static DwcpSeqset set;

static void test_dense(void)
{
    uint64_t n;

    dwcp_seqset_init(&set);
    g_assert_cmpuint(set.below, ==, 0);
    for (n = 1; n <= 3 * AHEAD; n++) {
        g_assert_cmpint(dwcp_seqset_add(&set, n), ==, 1);
        g_assert_cmpuint(set.below, ==, n);
        g_assert_cmpint(dwcp_seqset_add(&set, n), ==, 0);
    }
    g_assert_cmpint(dwcp_seqset_add(&set, 1), ==, 0);
}

static void test_edges(void)
{
    uint64_t n;

    dwcp_seqset_init(&set);
    g_assert_cmpint(dwcp_seqset_add(&set, 0), ==, -ENOBUFS);
    g_assert_cmpint(dwcp_seqset_add(&set, AHEAD + 1ull), ==, -ENOBUFS);
    g_assert_cmpint(dwcp_seqset_add(&set, UINT64_MAX), ==, -ENOBUFS);
    g_assert_cmpint(dwcp_seqset_add(&set, AHEAD), ==, 1);
    g_assert_cmpint(dwcp_seqset_add(&set, AHEAD), ==, 0);
    g_assert_cmpuint(set.below, ==, 0);
    for (n = AHEAD - 1; n > 1; n--) {
        g_assert_cmpint(dwcp_seqset_add(&set, n), ==, 1);
        g_assert_cmpuint(set.below, ==, 0);
    }
    g_assert_cmpint(dwcp_seqset_add(&set, 1), ==, 1);
    g_assert_cmpuint(set.below, ==, AHEAD);
    /* The ring is empty again: all its bits may be used anew. */
    g_assert_cmpint(dwcp_seqset_add(&set, 2ull * AHEAD), ==, 1);
    g_assert_cmpint(dwcp_seqset_add(&set, 2ull * AHEAD + 1), ==, -ENOBUFS);
    g_assert_cmpuint(set.below, ==, AHEAD);
}

/* Numbers in random order within a window, against a list. */
static void test_random(void)
{
    enum { COUNT = 4 * AHEAD };
    gboolean *seen = g_new0(gboolean, COUNT + 1);
    GRand *rnd = g_rand_new_with_seed(20);
    uint64_t below = 0, n, i;
    int rc;

    dwcp_seqset_init(&set);
    for (i = 0; below < COUNT && i < 40 * (uint64_t)COUNT; i++) {
        n = below + (uint64_t)g_rand_int_range(rnd, -3, 200);
        if (n > COUNT) {
            n = below + 1;
        }
        rc = dwcp_seqset_add(&set, n);
        if (n == 0) {
            g_assert_cmpint(rc, ==, -ENOBUFS);
            continue;
        }
        g_assert_cmpint(rc, ==, seen[n] ? 0 : 1);
        seen[n] = TRUE;
        while (below < COUNT && seen[below + 1]) {
            below++;
        }
        g_assert_cmpuint(set.below, ==, below);
    }
    g_assert_cmpuint(below, ==, COUNT);
    g_rand_free(rnd);
    g_free(seen);
}

static void test_far(void)
{
    const uint64_t start = DWCP_NUMBERS_MAX - AHEAD;
    uint64_t n;

    dwcp_seqset_init(&set);
    set.below = start;
    for (n = DWCP_NUMBERS_MAX; n > start; n--) {
        g_assert_cmpint(dwcp_seqset_add(&set, n), ==, 1);
    }
    g_assert_cmpuint(set.below, ==, DWCP_NUMBERS_MAX);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/seqset/dense", test_dense);
    g_test_add_func("/seqset/edges", test_edges);
    g_test_add_func("/seqset/random", test_random);
    g_test_add_func("/seqset/far", test_far);
    return g_test_run();
}
