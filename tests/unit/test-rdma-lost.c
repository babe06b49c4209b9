/*
 * Whole sessions whose RDMA lane is lost, or never stands
 *
 * Needs a device, as test-rdma-session does.  Proves that whatever goes wrong,
 * before the lane carries pages or in the middle, leaves a session that ends well
 * on TCP and says why.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "io/source.h"
#include "rdmamove.h"

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
            stats = end_stats(&pair.source);
        } while (stats.rdma == DWCP_RDMA_WAITING);
        if (rows[i].faults.wrong_token) {
            end_wait_warned(&pair.target, 1);
            g_assert_nonnull(strstr(pair.target.warning.text,
                                    "not for this session"));
        }
        g_assert_cmpint(dwcp_source_put(pair.source.source, 0, 0, PAGES), ==,
                        0);
        rdma_finish(&pair);
        stats = end_stats(&pair.source);
        if (rows[i].stood) {
            g_test_message("why: %s", stats.rdma_why);
            g_assert_cmpuint(stats.rdma, ==, DWCP_RDMA_ENDED);
            g_assert_nonnull(strstr(stats.rdma_why, rows[i].why));
            g_assert_cmpuint(stats.rdma_bytes, ==, 0);
        } else {
            rdma_check_unused(&pair, rows[i].why);
        }
        rdma_pair_free(&pair);
        rdma_faults(NULL);
    }
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
        while (end_stats(&pair.source).rdma_bytes < seed / 2 * 2500000ull) {
            (void)poll(NULL, 0, 1);
        }
        g_assert_true(rdma_break(seed % 2 ? RDMA_SOURCE : RDMA_TARGET));
        rdma_move_some(&pair, guest, 5);
        rdma_wait_state(&pair, DWCP_RDMA_ENDED);
        rdma_move_some(&pair, guest, 2);
        g_assert_cmpint(guest_stop(guest), ==, 0);
        rdma_finish(&pair);
        stats = end_stats(&pair.source);
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
        rdma_move_some(&pair, guest, 1);
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
        rdma_move_some(&pair, guest, 5);
        if (i % 2) {
            rdma_wait_state(&pair, DWCP_RDMA_ENDED);
        }
        g_assert_cmpint(guest_stop(guest), ==, 0);
        rdma_finish(&pair);
        g_assert_cmpuint(end_stats(&pair.source).streams_lost, >=, 1);
        if (i % 2 == 0) {
            g_assert_cmpstr(end_stats(&pair.source).rdma_why, ==, "");
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
    rdma_move_some(&pair, guest, 1);
    /* It may not end before we do: rdma_cm keeps the device open. */
    g_assert_true(g_spawn_command_line_async(g_getenv("DWCP_RDMA_REMOVE"),
                                             NULL));
    rdma_move_some(&pair, guest, 5);
    rdma_wait_state(&pair, DWCP_RDMA_ENDED);
    g_assert_cmpint(guest_stop(guest), ==, 0);
    rdma_finish(&pair);
    g_test_message("why: %s", end_stats(&pair.source).rdma_why);
    g_assert_cmpstr(end_stats(&pair.source).rdma_why, !=, "");
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
    g_test_add_func("/rdma-lost/unusable", test_unusable);
    g_test_add_func("/rdma-lost/broken", test_broken);
    g_test_add_func("/rdma-lost/broken-at-end", test_broken_at_end);
    g_test_add_func("/rdma-lost/tcp-lost", test_tcp_lost);
    if (g_getenv("DWCP_RDMA_REMOVE")) {
        g_test_add_func("/rdma-lost/removed", test_removed);
    }
    return g_test_run();
}
