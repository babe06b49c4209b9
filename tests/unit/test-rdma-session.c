/*
 * Whole sessions whose pages take an RDMA lane
 *
 * Needs a device at 10.9.0.1 or DWCP_RDMA_ADDRESS, as the machine of tests/rdma
 * has one (Soft-RoCE); else all of it is skipped.  Proves that guest RAM is the
 * same at both ends for seeded guests that write while they are moved; that
 * the first page is written when two pieces are registered at the most, and
 * that pieces without a page to write are not; that a cancel leaves nothing; and
 * that no queue pair stands at the target when memory is complete.  What goes
 * wrong is test-rdma-lost's.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <string.h>

#include "rdmamove.h"

/* One guest.  @early: pages are handed over before the lane stands */
static void one_seed(uint32_t seed, bool early)
{
    DwcpSourceOptions source_options = rdma_source_options();
    DwcpTargetOptions target_options = rdma_target_options();
    RdmaPair pair;
    Guest *guest;

    source_options.level = seed % 3 ? 1 : 0;
    source_options.workers = 1 + seed % 2;
    rdma_pair(&pair, &source_options, &target_options, PAGES);
    guest_fill(&pair.source, seed);
    if (!early) {
        rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
    }
    guest = guest_start(&pair.source, seed + 1000);
    g_assert_cmpint(dwcp_source_put(pair.source.source, 0, 0, PAGES), ==, 0);
    rdma_move_some(&pair, guest, 5);
    rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
    rdma_move_some(&pair, guest, 5);
    g_assert_cmpint(guest_stop(guest), ==, 0);
    rdma_finish(&pair);
    rdma_check_used(&pair);
    rdma_pair_free(&pair);
}

static void test_seeds(void)
{
    uint32_t seed;

    for (seed = 0; seed < kit_soak(20, 300); seed++) {
        one_seed(seed, seed % 4 == 3);
    }
}

/* Untouched memory is neither registered nor made real by it. */
static void test_zeros(void)
{
    DwcpSourceOptions source_options = rdma_source_options();
    DwcpTargetOptions target_options = rdma_target_options();
    DwcpSource *source;
    RdmaPair pair;

    rdma_pair(&pair, &source_options, &target_options, 100 * MIB_PAGES);
    source = pair.source.source;
    rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
    g_assert_cmpint(dwcp_source_put(source, 0, 0, pair.source.pages), ==, 0);
    dwcp_source_flush(source);
    while (dwcp_source_pending_bytes(source)) {
        g_assert_cmpint(dwcp_source_wait(source, 1000), >=, 0);
    }
    g_assert_cmpuint(end_stats(&pair.source).rdma_bytes, ==, 0);
    g_assert_cmpuint(end_stats(&pair.source).rdma_registered_bytes, ==, 0);
    g_assert_cmpuint(rdma_target_stats(&pair).rdma_registered_bytes, ==, 0);
    /* One page: one piece, the last, which is short. */
    dwcp_source_round(source);
    memset(pair.source.ram + (pair.source.pages - 1) * PAGE, 1, PAGE);
    g_assert_cmpint(dwcp_source_put(source, 0, pair.source.pages - 1, 1), ==,
                    0);
    dwcp_source_flush(source);
    while (dwcp_source_pending_bytes(source)) {
        g_assert_cmpint(dwcp_source_wait(source, 1000), >=, 0);
    }
    g_assert_cmpstr(end_stats(&pair.source).rdma_why, ==, "");
    g_assert_cmpuint(end_stats(&pair.source).rdma_bytes, ==, PAGE);
    g_assert_cmpuint(end_stats(&pair.source).rdma_registered_bytes, ==,
                     4 * MIB_PAGES * PAGE);
    g_assert_cmpuint(rdma_target_stats(&pair).rdma_registered_bytes, ==,
                     4 * MIB_PAGES * PAGE);
    g_assert_cmpuint(end_stats(&pair.source).rdma_first_pieces, ==, 1);
    g_assert_cmpuint(end_stats(&pair.source).zero_pages, ==,
                     pair.source.pages);
    rdma_finish(&pair);
    rdma_check_used(&pair);
    rdma_pair_free(&pair);
}

/* Pages that lie far apart, one in each of 12 pieces: the first is written when
 * two are registered. */
static void test_first_write(void)
{
    DwcpSourceOptions source_options = rdma_source_options();
    DwcpTargetOptions target_options = rdma_target_options();
    uint64_t pages = 12 * 16 * MIB_PAGES, page;
    RdmaPair pair;

    rdma_pair(&pair, &source_options, &target_options, pages);
    rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
    for (page = 5; page < pages; page += 16 * MIB_PAGES) {
        memset(pair.source.ram + page * PAGE, 7, PAGE);
        g_assert_cmpint(dwcp_source_put(pair.source.source, 0, page, 1), ==, 0);
    }
    rdma_finish(&pair);
    rdma_check_used(&pair);
    g_assert_cmpuint(end_stats(&pair.source).rdma_bytes, ==, 12 * PAGE);
    rdma_pair_free(&pair);
}

/* What either side allows, and what the path is. */
static void test_wishes(void)
{
    static const struct {
        DwcpRdma source, target;
        DwcpMode mode;
        bool used;
        const char *why;
    } rows[] = {
        { DWCP_RDMA_ON, DWCP_RDMA_ON, DWCP_MODE_INTERNET, true, "" },
        { DWCP_RDMA_AUTO, DWCP_RDMA_AUTO, DWCP_MODE_DATACENTER, true, "" },
        { DWCP_RDMA_ON, DWCP_RDMA_OFF, DWCP_MODE_DATACENTER, false,
          "the target does not offer RDMA" },
        { DWCP_RDMA_OFF, DWCP_RDMA_ON, DWCP_MODE_DATACENTER, false, "" },
    };
    DwcpSourceOptions source_options = rdma_source_options();
    DwcpTargetOptions target_options = rdma_target_options();
    RdmaPair pair;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        source_options.rdma = rows[i].source;
        source_options.mode = rows[i].mode;
        target_options.rdma = rows[i].target;
        rdma_pair(&pair, &source_options, &target_options, 2 * MIB_PAGES);
        guest_fill(&pair.source, i);
        if (rows[i].used) {
            rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
        }
        g_assert_cmpint(dwcp_source_put(pair.source.source, 0, 0,
                                        2 * MIB_PAGES),
                        ==, 0);
        rdma_finish(&pair);
        if (rows[i].used) {
            rdma_check_used(&pair);
        } else {
            rdma_check_unused(&pair, rows[i].why);
        }
        rdma_pair_free(&pair);
    }
    /* Auto where the path is no datacenter's: it waits, and harms nobody. */
    source_options.rdma = target_options.rdma = DWCP_RDMA_AUTO;
    source_options.mode = DWCP_MODE_INTERNET;
    rdma_pair(&pair, &source_options, &target_options, 2 * MIB_PAGES);
    guest_fill(&pair.source, 9);
    g_assert_cmpint(dwcp_source_put(pair.source.source, 0, 0, 2 * MIB_PAGES),
                    ==, 0);
    rdma_finish(&pair);
    g_assert_cmpuint(end_stats(&pair.source).rdma, ==, DWCP_RDMA_WAITING);
    g_assert_cmpuint(end_stats(&pair.source).rdma_bytes, ==, 0);
    rdma_pair_free(&pair);
}

/* At any moment, from either end: nothing is left, and the other end hears. */
static void test_cancel(void)
{
    DwcpSourceOptions source_options = rdma_source_options();
    DwcpTargetOptions target_options = rdma_target_options();
    RdmaPair pair;
    unsigned i;

    for (i = 0; i < kit_soak(12, 200); i++) {
        rdma_pair(&pair, &source_options, &target_options, PAGES);
        guest_fill(&pair.source, i);
        if (i % 3 == 0) {
            rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
        }
        g_assert_cmpint(dwcp_source_put(pair.source.source, 0, 0, PAGES), ==,
                        0);
        dwcp_source_flush(pair.source.source);
        if (i % 3 != 1) { /* else in the middle of the set-up */
            g_assert_cmpint(dwcp_source_wait(pair.source.source, 5 * i), >=, 0);
        }
        if (i % 2) {
            dwcp_source_cancel(pair.source.source);
            end_wait_failed(&pair.target);
        } else {
            dwcp_target_cancel(pair.target.target);
            end_wait_failed(&pair.source);
        }
        g_assert_false(dwcp_source_gone(pair.source.source));
        rdma_pair_free(&pair);
    }
}

/* After GO the target's memory is the target's. */
static void test_sealed(void)
{
    DwcpSourceOptions source_options = rdma_source_options();
    DwcpTargetOptions target_options = rdma_target_options();
    RdmaPair pair;
    uint64_t i;

    rdma_pair(&pair, &source_options, &target_options, PAGES);
    guest_fill(&pair.source, 3);
    rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
    g_assert_cmpint(dwcp_source_put(pair.source.source, 0, 0, PAGES), ==, 0);
    rdma_finish(&pair);
    memset(pair.target.ram, 0xa5, (size_t)PAGES * PAGE);
    memset(pair.source.ram, 0x5a, (size_t)PAGES * PAGE);
    end_free(&pair.source);
    for (i = 0; i < (uint64_t)PAGES * PAGE; i++) {
        g_assert_cmpuint(pair.target.ram[i], ==, 0xa5);
    }
    end_free(&pair.target);
    usage_same(pair.before);
}

int main(int argc, char **argv)
{
    const char *why;

    g_test_init(&argc, &argv, NULL);
    if (!rdma_address(&why)) {
        g_print("1..0 # SKIP %s\n", why);
        return 0;
    }
    g_test_add_func("/rdma-session/wishes", test_wishes);
    g_test_add_func("/rdma-session/zeros", test_zeros);
    g_test_add_func("/rdma-session/first-write", test_first_write);
    g_test_add_func("/rdma-session/seeds", test_seeds);
    g_test_add_func("/rdma-session/sealed", test_sealed);
    g_test_add_func("/rdma-session/cancel", test_cancel);
    return g_test_run();
}
