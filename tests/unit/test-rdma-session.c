/*
 * Whole sessions whose pages take an RDMA lane
 *
 * Needs a device at 10.9.0.1 or DWCP_RDMA_ADDRESS, as the machine of tests/rdma
 * has one (Soft-RoCE); else all of it is skipped.  Proves that guest RAM is the
 * same at both ends for seeded guests that write while they are moved; that
 * the first page is written when two pieces are registered at the most, and
 * that pieces without a page to write are not; that whatever goes wrong, before
 * the lane carries pages or in the middle, leaves a session that ends well on
 * TCP and says why; that a cancel leaves nothing; and that no queue pair
 * stands at the target when memory is complete.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "io/source.h"
#include "rdmakit.h"

#define MIB_PAGES 256u
#define PAGES (20u * MIB_PAGES) /* two pieces, one of them short */

/* From end() on, and what must hold of the lane meanwhile. */
static void finish(RdmaPair *pair)
{
    DwcpError err = { 0 };

    g_assert_cmpint(dwcp_source_end(pair->source.source), ==, 0);
    if (end_wait_complete(&pair->target) != 1) {
        g_error("%s", pair->target.error.text);
    }
    /* Sealed: nothing can write. */
    g_assert_cmpuint(rdma_standing(RDMA_TARGET), ==, 0);
    g_assert_cmpint(dwcp_target_ready(pair->target.target), ==, 0);
    if (dwcp_source_finish(pair->source.source, &err) != 0) {
        g_error("%s", err.text);
    }
    g_assert_cmpint(dwcp_target_go(pair->target.target), ==, 1);
    g_assert_cmpint(memcmp(pair->source.ram, pair->target.ram,
                           pair->source.pages * PAGE),
                    ==, 0);
    g_assert_cmpuint(dwcp_source_pending_bytes(pair->source.source), ==, 0);
}

/* The lane did all of it. */
static void check_used(RdmaPair *pair)
{
    DwcpStats stats = rdma_source_stats(pair);

    g_assert_cmpuint(stats.rdma, ==, DWCP_RDMA_ENDED);
    g_assert_cmpstr(stats.rdma_why, ==, "");
    g_assert_cmpuint(stats.rdma_bytes, >, 0);
    g_assert_cmpuint(stats.rdma_first_pieces, >=, 1);
    g_assert_cmpuint(stats.rdma_first_pieces, <=, 2);
    g_assert_cmpuint(stats.resent_bytes, ==, 0);
    g_assert_cmpstr(rdma_target_stats(pair).rdma_why, ==, "");
}

/* The pages took TCP, and the statistics say why. */
static void check_unused(RdmaPair *pair, const char *why)
{
    DwcpStats stats = rdma_source_stats(pair);

    g_test_message("why: %s", stats.rdma_why);
    g_assert_cmpuint(stats.rdma, ==, DWCP_RDMA_UNUSED);
    g_assert_nonnull(strstr(stats.rdma_why, why));
    g_assert_cmpuint(stats.rdma_bytes, ==, 0);
}

static void move_some(RdmaPair *pair, Guest *guest, unsigned rounds)
{
    unsigned i;

    for (i = 0; i < rounds; i++) {
        g_assert_cmpint(guest_round(guest), ==, 0);
        g_assert_cmpint(dwcp_source_wait(pair->source.source, 50), >=, 0);
    }
}

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
    move_some(&pair, guest, 5);
    rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
    move_some(&pair, guest, 5);
    g_assert_cmpint(guest_stop(guest), ==, 0);
    finish(&pair);
    check_used(&pair);
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
    g_assert_cmpuint(rdma_source_stats(&pair).rdma_bytes, ==, 0);
    g_assert_cmpuint(rdma_source_stats(&pair).rdma_registered_bytes, ==, 0);
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
    g_assert_cmpstr(rdma_source_stats(&pair).rdma_why, ==, "");
    g_assert_cmpuint(rdma_source_stats(&pair).rdma_bytes, ==, PAGE);
    g_assert_cmpuint(rdma_source_stats(&pair).rdma_registered_bytes, ==,
                     4 * MIB_PAGES * PAGE);
    g_assert_cmpuint(rdma_target_stats(&pair).rdma_registered_bytes, ==,
                     4 * MIB_PAGES * PAGE);
    g_assert_cmpuint(rdma_source_stats(&pair).rdma_first_pieces, ==, 1);
    g_assert_cmpuint(rdma_source_stats(&pair).zero_pages, ==,
                     pair.source.pages);
    finish(&pair);
    check_used(&pair);
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
    finish(&pair);
    check_used(&pair);
    g_assert_cmpuint(rdma_source_stats(&pair).rdma_bytes, ==, 12 * PAGE);
    rdma_pair_free(&pair);
}

/* A queue pair in the error state, at either end, early and late. */
static void test_broken(void)
{
    DwcpSourceOptions source_options = rdma_source_options();
    DwcpTargetOptions target_options = rdma_target_options();
    uint64_t resent = 0;
    DwcpStats stats;
    RdmaPair pair;
    Guest *guest;
    uint32_t seed;

    for (seed = 0; seed < kit_soak(10, 100); seed++) {
        rdma_pair(&pair, &source_options, &target_options, PAGES);
        guest_fill(&pair.source, seed);
        rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
        guest = guest_start(&pair.source, seed + 1000);
        g_assert_cmpint(dwcp_source_put(pair.source.source, 0, 0, PAGES), ==,
                        0);
        dwcp_source_flush(pair.source.source);
        while (rdma_source_stats(&pair).rdma_bytes < seed / 2 * 2500000ull) {
            (void)poll(NULL, 0, 1);
        }
        g_assert_true(rdma_break(seed % 2 ? RDMA_SOURCE : RDMA_TARGET));
        move_some(&pair, guest, 5);
        rdma_wait_state(&pair, DWCP_RDMA_ENDED);
        move_some(&pair, guest, 2);
        g_assert_cmpint(guest_stop(guest), ==, 0);
        finish(&pair);
        stats = rdma_source_stats(&pair);
        g_test_message("why: %s; resent %lu", stats.rdma_why,
                       (unsigned long)stats.resent_bytes);
        g_assert_cmpuint(stats.rdma, ==, DWCP_RDMA_ENDED);
        g_assert_cmpstr(stats.rdma_why, !=, "");
        g_assert_cmpstr(rdma_target_stats(&pair).rdma_why, !=, "");
        g_assert_cmpuint(stats.rdma_registered_bytes, ==, 0);
        resent += stats.resent_bytes;
        rdma_pair_free(&pair);
    }
    g_assert_cmpuint(resent, >, 0);
}

/* With the guest stopped, and END said. */
static void test_broken_at_end(void)
{
    DwcpSourceOptions source_options = rdma_source_options();
    DwcpTargetOptions target_options = rdma_target_options();
    RdmaPair pair;
    uint32_t seed;

    for (seed = 0; seed < 4; seed++) {
        rdma_pair(&pair, &source_options, &target_options, PAGES);
        guest_fill(&pair.source, seed);
        rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
        g_assert_cmpint(dwcp_source_put(pair.source.source, 0, 0, PAGES), ==,
                        0);
        g_assert_cmpint(dwcp_source_end(pair.source.source), ==, 0);
        (void)rdma_break(seed % 2 ? RDMA_SOURCE : RDMA_TARGET);
        g_assert_cmpint(end_wait_complete(&pair.target), ==, 1);
        g_assert_cmpuint(rdma_standing(RDMA_TARGET), ==, 0);
        g_assert_cmpint(dwcp_target_ready(pair.target.target), ==, 0);
        g_assert_cmpint(dwcp_source_finish(pair.source.source, NULL), ==, 0);
        g_assert_cmpint(memcmp(pair.source.ram, pair.target.ram,
                               (size_t)PAGES * PAGE),
                        ==, 0);
        rdma_pair_free(&pair);
    }
}

/* The device goes, or memory may not be locked, before anything was written. */
static void test_unusable(void)
{
    static const struct {
        RdmaFaults faults;
        const char *why;
        bool stood; /* the lane stood, and carried nothing */
    } rows[] = {
        { { .no_qp = { true, false } }, "a queue pair", false },
        { { .no_qp = { false, true } }, "RDMA: ", false },
        { { .wrong_token = true }, "RDMA: RDMA_CM_EVENT_REJECTED", false },
        { { .pieces_max = 1 }, "limit of locked memory", true },
    };
    DwcpSourceOptions source_options = rdma_source_options();
    DwcpTargetOptions target_options = rdma_target_options();
    RdmaPair pair;
    DwcpStats stats;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        rdma_faults(&rows[i].faults);
        rdma_pair(&pair, &source_options, &target_options, PAGES);
        guest_fill(&pair.source, i);
        do {
            (void)poll(NULL, 0, 1);
            stats = rdma_source_stats(&pair);
        } while (stats.rdma == DWCP_RDMA_WAITING);
        if (rows[i].faults.wrong_token) {
            end_wait_warned(&pair.target, 1);
            g_assert_nonnull(strstr(pair.target.warning.text,
                                    "not for this session"));
        }
        g_assert_cmpint(dwcp_source_put(pair.source.source, 0, 0, PAGES), ==,
                        0);
        finish(&pair);
        stats = rdma_source_stats(&pair);
        if (rows[i].stood) {
            g_test_message("why: %s", stats.rdma_why);
            g_assert_cmpuint(stats.rdma, ==, DWCP_RDMA_ENDED);
            g_assert_nonnull(strstr(stats.rdma_why, rows[i].why));
            g_assert_cmpuint(stats.rdma_bytes, ==, 0);
        } else {
            check_unused(&pair, rows[i].why);
        }
        rdma_pair_free(&pair);
        rdma_faults(NULL);
    }
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
        finish(&pair);
        if (rows[i].used) {
            check_used(&pair);
        } else {
            check_unused(&pair, rows[i].why);
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
    finish(&pair);
    g_assert_cmpuint(rdma_source_stats(&pair).rdma, ==, DWCP_RDMA_WAITING);
    g_assert_cmpuint(rdma_source_stats(&pair).rdma_bytes, ==, 0);
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
    finish(&pair);
    memset(pair.target.ram, 0xa5, (size_t)PAGES * PAGE);
    memset(pair.source.ram, 0x5a, (size_t)PAGES * PAGE);
    end_free(&pair.source);
    for (i = 0; i < (uint64_t)PAGES * PAGE; i++) {
        g_assert_cmpuint(pair.target.ram[i], ==, 0xa5);
    }
    end_free(&pair.target);
    usage_same(pair.before);
}

/* Connections of the session come and go; the lane stays, and can be lost with
 * them. */
static void test_tcp_lost(void)
{
    DwcpSourceOptions source_options = rdma_source_options();
    DwcpTargetOptions target_options = rdma_target_options();
    DwcpSession *session;
    RdmaPair pair;
    Guest *guest;
    unsigned i, j;

    for (i = 0; i < 4; i++) {
        rdma_pair(&pair, &source_options, &target_options, PAGES);
        guest_fill(&pair.source, i);
        rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
        guest = guest_start(&pair.source, i);
        g_assert_cmpint(dwcp_source_put(pair.source.source, 0, 0, PAGES), ==,
                        0);
        move_some(&pair, guest, 1);
        session = &pair.source.source->session;
        pthread_mutex_lock(&session->lock);
        for (j = 0; j < 2; j++) {
            if (session->streams[j]) {
                (void)shutdown(session->streams[j]->tcp.fd, SHUT_RDWR);
            }
        }
        pthread_mutex_unlock(&session->lock);
        if (i % 2) {
            g_assert_true(rdma_break(i == 1 ? RDMA_SOURCE : RDMA_TARGET));
        }
        move_some(&pair, guest, 5);
        if (i % 2) {
            rdma_wait_state(&pair, DWCP_RDMA_ENDED);
        }
        g_assert_cmpint(guest_stop(guest), ==, 0);
        finish(&pair);
        g_assert_cmpuint(rdma_source_stats(&pair).streams_lost, >=, 1);
        if (i % 2 == 0) {
            g_assert_cmpstr(rdma_source_stats(&pair).rdma_why, ==, "");
        }
        rdma_pair_free(&pair);
    }
}

/*
 * The device itself goes, for good, in the middle of a move: by the command in
 * DWCP_RDMA_REMOVE ("rdma link delete rxe0" where that is the test's to remove).
 */
static void test_removed(void)
{
    DwcpSourceOptions source_options = rdma_source_options();
    DwcpTargetOptions target_options = rdma_target_options();
    RdmaPair pair;
    Guest *guest;

    rdma_pair(&pair, &source_options, &target_options, PAGES);
    guest_fill(&pair.source, 5);
    rdma_wait_state(&pair, DWCP_RDMA_ACTIVE);
    guest = guest_start(&pair.source, 5);
    g_assert_cmpint(dwcp_source_put(pair.source.source, 0, 0, PAGES), ==, 0);
    move_some(&pair, guest, 1);
    /* It may not end before we do: rdma_cm keeps the device open. */
    g_assert_true(g_spawn_command_line_async(g_getenv("DWCP_RDMA_REMOVE"),
                                             NULL));
    move_some(&pair, guest, 5);
    rdma_wait_state(&pair, DWCP_RDMA_ENDED);
    g_assert_cmpint(guest_stop(guest), ==, 0);
    finish(&pair);
    g_test_message("why: %s", rdma_source_stats(&pair).rdma_why);
    g_assert_cmpstr(rdma_source_stats(&pair).rdma_why, !=, "");
    end_free(&pair.source);
    end_free(&pair.target);
    g_assert_cmpuint(rdma_standing(RDMA_SOURCE), ==, 0);
    g_assert_cmpuint(rdma_standing(RDMA_TARGET), ==, 0);
    g_assert_cmpuint(rdma_registered(), ==, 0);
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
    g_test_add_func("/rdma-session/unusable", test_unusable);
    g_test_add_func("/rdma-session/broken", test_broken);
    g_test_add_func("/rdma-session/broken-at-end", test_broken_at_end);
    g_test_add_func("/rdma-session/tcp-lost", test_tcp_lost);
    g_test_add_func("/rdma-session/cancel", test_cancel);
    if (g_getenv("DWCP_RDMA_REMOVE")) {
        g_test_add_func("/rdma-session/removed", test_removed);
    }
    return g_test_run();
}
