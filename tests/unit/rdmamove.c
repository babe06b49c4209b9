/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "rdmamove.h"

#include <glib.h>
#include <stdatomic.h>
#include <string.h>

/* ------------------------------------------------------------- guest -- */

struct Guest {
    End *source;
    GRand *rand;
    GThread *thread;
    uint64_t *log; /* a bit per page, set after the write */
    atomic_bool stop;
};

static void set_dirty(Guest *guest, uint64_t page)
{
    (void)__atomic_fetch_or(&guest->log[page / 64], 1ull << (page % 64),
                            __ATOMIC_SEQ_CST);
}

static void write_page(End *source, uint64_t page, GRand *rand)
{
    uint8_t *at = source->ram + page * PAGE;
    uint32_t value = g_rand_int(rand), i;

    if (value % 3 == 0) {
        memset(at, 0, PAGE);
    } else {
        for (i = 0; i < PAGE; i += 64) {
            memcpy(at + i, &value, sizeof(value));
            value = value * 2654435761u + 1;
        }
    }
}

static gpointer guest_run(gpointer opaque)
{
    Guest *guest = opaque;
    /* A part of it is written often: the same chunks again and again. */
    gint32 pages = (gint32)guest->source->pages, hot = pages / 16 + 1;
    uint64_t page;

    while (!atomic_load(&guest->stop)) {
        page = (uint64_t)g_rand_int_range(guest->rand, 0,
                                          g_rand_boolean(guest->rand) ? hot
                                                                      : pages);
        write_page(guest->source, page, guest->rand);
        set_dirty(guest, page);
    }
    return NULL;
}

void guest_fill(End *source, uint32_t seed)
{
    GRand *rand = g_rand_new_with_seed(seed);
    uint64_t page;

    for (page = 0; page < source->pages; page++) {
        write_page(source, page, rand);
    }
    g_rand_free(rand);
}

Guest *guest_start(End *source, uint32_t seed)
{
    Guest *guest = g_new0(Guest, 1);

    guest->source = source;
    guest->rand = g_rand_new_with_seed(seed);
    guest->log = g_new0(uint64_t, source->pages / 64 + 1);
    guest->thread = g_thread_new("guest", guest_run, guest);
    return guest;
}

int guest_round(Guest *guest)
{
    DwcpSource *source = guest->source->source;
    uint64_t word, bits;
    int rc = 0;

    dwcp_source_round(source);
    for (word = 0; rc == 0 && word * 64 < guest->source->pages; word++) {
        bits = __atomic_exchange_n(&guest->log[word], 0, __ATOMIC_SEQ_CST);
        for (; rc == 0 && bits; bits &= bits - 1) {
            rc = dwcp_source_put(source, 0,
                                 word * 64 + (unsigned)__builtin_ctzll(bits),
                                 1);
        }
    }
    dwcp_source_flush(source);
    return rc;
}

int guest_stop(Guest *guest)
{
    int rc;

    atomic_store(&guest->stop, true);
    g_thread_join(guest->thread);
    rc = guest_round(guest);
    g_rand_free(guest->rand);
    g_free(guest->log);
    g_free(guest);
    return rc;
}

/* -------------------------------------------------------------- move -- */

void rdma_move_some(RdmaPair *pair, Guest *guest, unsigned rounds)
{
    unsigned i;

    for (i = 0; i < rounds; i++) {
        g_assert_cmpint(guest_round(guest), ==, 0);
        g_assert_cmpint(dwcp_source_wait(pair->source.source, 50), >=, 0);
    }
}

void rdma_finish(RdmaPair *pair)
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

void rdma_check_used(RdmaPair *pair)
{
    DwcpStats stats = end_stats(&pair->source);

    g_assert_cmpuint(stats.rdma, ==, DWCP_RDMA_ENDED);
    g_assert_cmpstr(stats.rdma_why, ==, "");
    g_assert_cmpuint(stats.rdma_bytes, >, 0);
    g_assert_cmpuint(stats.rdma_first_pieces, >=, 1);
    g_assert_cmpuint(stats.rdma_first_pieces, <=, 2);
    g_assert_cmpuint(stats.resent_bytes, ==, 0);
    g_assert_cmpstr(rdma_target_stats(pair).rdma_why, ==, "");
}

void rdma_check_unused(RdmaPair *pair, const char *why)
{
    DwcpStats stats = end_stats(&pair->source);

    g_test_message("why: %s", stats.rdma_why);
    g_assert_cmpuint(stats.rdma, ==, DWCP_RDMA_UNUSED);
    g_assert_nonnull(strstr(stats.rdma_why, why));
    g_assert_cmpuint(stats.rdma_bytes, ==, 0);
}
