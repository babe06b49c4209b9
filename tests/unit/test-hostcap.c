/*
 * core/hostcap: a cap that migrations share is kept, and shared fairly
 *
 * Proves, in virtual time with threads that wake up late, that the sum is exact
 * for one to 63 members; that members have equal shares whatever their frames
 * and threads, that who asks for less leaves the rest to others, and who has
 * asked for nothing gets no more later; that a dead member costs nothing; that
 * a new rate is obeyed; that no content of the memory makes a call wait for
 * more than it may, or never end.  And with real threads that the sum does not
 * exceed the cap.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <time.h>

#include "core/hostcap.h"
#include "fluid.h"

#define S 1000000000ull
#define MS (S / 1000)
#define MIB (1ull << 20)
#define THREADS_MAX 256

typedef struct Sender {
    unsigned member;
    uint64_t bytes;
    uint64_t busy_ns; /* after a frame */
    uint64_t next_ns; /* UINT64_MAX = is dead */
} Sender;

typedef struct Sim {
    DwcpHostcap cap;
    DwcpHostcapMember members[DWCP_HOSTCAP_PLACES + 2];
    uint64_t sent[DWCP_HOSTCAP_PLACES + 2];
    Sender senders[THREADS_MAX];
    unsigned members_count, senders_count;
    uint64_t now_ns, late_ns, seed;
} Sim;

static void header(DwcpHostcap *cap, uint64_t rate)
{
    memset(cap, 0, sizeof(*cap));
    memcpy(cap->magic, DWCP_HOSTCAP_MAGIC, sizeof(cap->magic));
    cap->version = DWCP_HOSTCAP_VERSION;
    cap->size = DWCP_HOSTCAP_BYTES;
    atomic_store(&cap->rate, rate);
}

static Sim *sim_new(uint64_t rate)
{
    Sim *sim = g_new0(Sim, 1);

    header(&sim->cap, rate);
    sim->now_ns = 1000 * S;
    sim->late_ns = S / 5000; /* 200 us */
    sim->seed = 0x9e3779b97f4a7c15ull;
    return sim;
}

/* A session of @threads that send frames of @bytes. */
static unsigned sim_join(Sim *sim, unsigned threads, uint64_t bytes,
                         uint64_t busy_ns)
{
    unsigned member = sim->members_count++;

    dwcp_hostcap_join(&sim->members[member], &sim->cap, member + 1);
    for (; threads; threads--) {
        g_assert_cmpuint(sim->senders_count, <, THREADS_MAX);
        sim->senders[sim->senders_count++] =
            (Sender){member, bytes, busy_ns, sim->now_ns};
    }
    return member;
}

static void sim_run(Sim *sim, uint64_t time_ns)
{
    const uint64_t end_ns = sim->now_ns + time_ns;
    uint64_t wait_ns;
    Sender *next;
    unsigned i;

    for (i = 0; i < sim->members_count; i++) {
        sim->sent[i] = 0;
    }
    for (;;) {
        next = &sim->senders[0];
        for (i = 1; i < sim->senders_count; i++) {
            if (sim->senders[i].next_ns < next->next_ns) {
                next = &sim->senders[i];
            }
        }
        if (next->next_ns >= end_ns) {
            break;
        }
        sim->now_ns = MAX(sim->now_ns, next->next_ns);
        wait_ns = dwcp_hostcap_take(&sim->members[next->member], next->bytes,
                                    sim->now_ns);
        g_assert_cmpuint(wait_ns, <=, DWCP_HOSTCAP_WAIT_NS);
        if (!wait_ns) {
            sim->sent[next->member] += next->bytes;
            wait_ns = next->busy_ns;
        } else {
            wait_ns +=
                (uint64_t)(fluid_random(&sim->seed) * (double)sim->late_ns);
        }
        next->next_ns = sim->now_ns + wait_ns;
    }
    sim->now_ns = end_ns;
}

static uint64_t sim_sum(const Sim *sim)
{
    uint64_t sum = 0;
    unsigned i;

    for (i = 0; i < sim->members_count; i++) {
        sum += sim->sent[i];
    }
    return sum;
}

/* The sum over @time_ns is what the cap is worth, but for @slack bytes. */
static void exact(const Sim *sim, uint64_t time_ns, uint64_t slack)
{
    double due = (double)atomic_load(&sim->cap.rate) * (double)time_ns / 1e9;
    double sum = (double)sim_sum(sim);

    g_assert_cmpfloat(sum, <=, due + due / 100 + (double)slack);
    g_assert_cmpfloat(sum, >=, due - due / 200 - (double)slack);
}

static void test_check(void)
{
    DwcpHostcap cap;
    DwcpError err;

    header(&cap, 1);
    g_assert_cmpint(dwcp_hostcap_check(&cap, &err), ==, 0);
    cap.size = 4095;
    g_assert_cmpint(dwcp_hostcap_check(&cap, &err), ==, -EINVAL);
    g_assert_nonnull(strstr(err.text, "4095"));
    header(&cap, 1);
    cap.version = 2;
    g_assert_cmpint(dwcp_hostcap_check(&cap, &err), ==, -EINVAL);
    g_assert_nonnull(strstr(err.text, "version 2"));
    header(&cap, 1);
    cap.magic[7] = 'x';
    g_assert_cmpint(dwcp_hostcap_check(&cap, &err), ==, -EINVAL);
    g_assert_nonnull(strstr(err.text, "magic"));
}

static void test_sum(void)
{
    static const uint64_t rates[] = {MIB, 12500000, 1250000000};
    static const uint64_t frames[] = {56, 70000, 2 * MIB};
    static const unsigned counts[] = {1, 2, 5, DWCP_HOSTCAP_PLACES};
    uint64_t time_ns;
    unsigned i, j, k, n;
    Sim *sim;

    for (i = 0; i < G_N_ELEMENTS(rates); i++) {
        for (j = 0; j < G_N_ELEMENTS(frames); j++) {
            for (k = 0; k < G_N_ELEMENTS(counts); k++) {
                sim = sim_new(rates[i]);
                /* Frames of 56 bytes at 10 Gbit/s: for a short time. */
                time_ns = frames[j] < 100 ? S / 10 : 5 * S;
                for (n = 0; n < counts[k]; n++) {
                    (void)sim_join(sim, 4, frames[j], 0);
                }
                sim_run(sim, time_ns);
                exact(sim, time_ns, rates[i] / 100 + frames[j]);
                g_free(sim);
            }
        }
    }
}

static void share_is(const Sim *sim, unsigned member, double least, double most)
{
    double share = (double)sim->sent[member] / (double)sim_sum(sim);

    g_assert_cmpfloat(share, >=, least);
    g_assert_cmpfloat(share, <=, most);
}

static void test_shares(void)
{
    static const uint64_t rates[] = {4 * MIB, 12500000, 125000000, 1250000000};
    Sim *sim;
    unsigned i, a, b, c;

    for (i = 0; i < G_N_ELEMENTS(rates); i++) {
        sim = sim_new(rates[i]);
        /* Raw and many threads, zstd and few. */
        a = sim_join(sim, 32, 2 * MIB, MS / 10);
        b = sim_join(sim, 1, 60000, 0);
        sim_run(sim, 10 * S);
        exact(sim, 10 * S, rates[i] / 100 + 2 * MIB);
        share_is(sim, a, 0.45, 0.55);
        share_is(sim, b, 0.45, 0.55);
        /* One that comes later has no more and no less than they. */
        c = sim_join(sim, 8, 300000, 0);
        sim_run(sim, 10 * S);
        share_is(sim, a, 0.30, 0.37);
        share_is(sim, b, 0.30, 0.37);
        share_is(sim, c, 0.30, 0.37);
        g_free(sim);
    }
}

/* One member asks for a tenth: it gets that, and the other all else. */
static void test_rest(void)
{
    Sim *sim = sim_new(100 * MIB);
    unsigned a = sim_join(sim, 1, MIB, 100 * MS), b;

    b = sim_join(sim, 8, MIB, 0);
    sim_run(sim, 10 * S);
    exact(sim, 10 * S, 2 * MIB);
    share_is(sim, a, 0.075, 0.105);
    share_is(sim, b, 0.89, 0.93);
    /* Then it asks for all: what it did not ask for before is not due to it. */
    sim->senders[0].busy_ns = 0;
    sim_run(sim, S);
    share_is(sim, a, 0.45, 0.58);
    g_free(sim);
}

/* It waits, and dies; its place is another's some day. */
static void test_dead(void)
{
    Sim *sim = sim_new(10 * MIB);
    unsigned i;

    for (i = 0; i < DWCP_HOSTCAP_PLACES; i++) {
        (void)sim_join(sim, 1, 100000, 0);
    }
    sim_run(sim, 2 * S);
    for (i = 1; i < DWCP_HOSTCAP_PLACES; i++) {
        sim->senders[i].next_ns = UINT64_MAX;
    }
    sim_run(sim, S);
    g_assert_cmpuint(sim->sent[0], >, 95 * 10 * MIB / 100);
    /* Two more: no place yet, and the cap still holds. */
    (void)sim_join(sim, 1, 100000, 0);
    (void)sim_join(sim, 1, 100000, 0);
    sim_run(sim, S);
    exact(sim, S, 300000);
    g_assert_cmpuint(sim->members[64].place, ==, DWCP_HOSTCAP_PLACES);
    sim_run(sim, 11 * S);
    g_assert_cmpuint(sim->members[63].place, <, DWCP_HOSTCAP_PLACES);
    g_assert_cmpuint(sim->members[64].place, <, DWCP_HOSTCAP_PLACES);
    sim_run(sim, 10 * S);
    share_is(sim, 0, 0.32, 0.35);
    g_free(sim);
}

static void test_leave(void)
{
    Sim *sim = sim_new(10 * MIB);

    (void)sim_join(sim, 2, 100000, 0);
    sim_run(sim, S);
    g_assert_cmpuint(atomic_load(&sim->cap.places[0].owner), ==, 1);
    dwcp_hostcap_leave(&sim->members[0]);
    g_assert_cmpuint(atomic_load(&sim->cap.places[0].owner), ==, 0);
    dwcp_hostcap_leave(&sim->members[0]);
    /* Not its own any more: it stays. */
    dwcp_hostcap_join(&sim->members[0], &sim->cap, 7);
    (void)dwcp_hostcap_take(&sim->members[0], 1, sim->now_ns);
    atomic_store(&sim->cap.places[0].owner, 8);
    dwcp_hostcap_leave(&sim->members[0]);
    g_assert_cmpuint(atomic_load(&sim->cap.places[0].owner), ==, 8);
    g_free(sim);
}

static void test_change(void)
{
    Sim *sim = sim_new(1);
    unsigned i;

    (void)sim_join(sim, 2, 2 * MIB, 0);
    sim_run(sim, S);
    g_assert_cmpuint(sim_sum(sim), ==, 2 * MIB); /* 24 days of debt */
    atomic_store(&sim->cap.rate, 100 * MIB);
    sim_run(sim, 4 * S);
    exact(sim, 4 * S, 120 * MIB / 10);
    atomic_store(&sim->cap.rate, 0);
    for (i = 0; i < 1000; i++) {
        g_assert_cmpuint(
            dwcp_hostcap_take(&sim->members[0], 1ull << 40, sim->now_ns), ==,
            0);
    }
    atomic_store(&sim->cap.rate, 10 * MIB);
    sim_run(sim, 4 * S);
    exact(sim, 4 * S, 2 * MIB);
    g_free(sim);
}

/* Whatever stands there: each call ends, and waits no longer than it may; and
 * when the nonsense ends, the cap is kept again. */
static void test_nonsense(void)
{
    static const uint64_t values[] = {
        0, 1, S, 1000 * S, 1ull << 62, 1ull << 63, UINT64_MAX};
    Sim *sim = sim_new(10 * MIB);
    uint64_t *words = (uint64_t *)(void *)&sim->cap, i, wait_ns;
    unsigned at;

    (void)sim_join(sim, 2, 100000, 0);
    (void)sim_join(sim, 2, 100000, 0);
    for (i = 0; i < 200000; i++) {
        at = (unsigned)(fluid_random(&sim->seed) * 512);
        words[at < 512 ? at : 2] =
            values[(unsigned)(fluid_random(&sim->seed) * 7)] +
            (i % 3 ? sim->now_ns : 0);
        wait_ns = dwcp_hostcap_take(&sim->members[i % 2], 100000, sim->now_ns);
        g_assert_cmpuint(wait_ns, <=, DWCP_HOSTCAP_WAIT_NS);
        sim->now_ns += wait_ns ? wait_ns : 1;
    }
    atomic_store(&sim->cap.rate, 10 * MIB);
    for (i = 0; i < sim->senders_count; i++) {
        sim->senders[i].next_ns = sim->now_ns;
    }
    sim_run(sim, 15 * S);
    sim_run(sim, 10 * S);
    exact(sim, 10 * S, 300000);
    share_is(sim, 0, 0.47, 0.53);
    g_free(sim);
}

/* ------------------------------------------------------ real threads -- */

typedef struct Racer {
    DwcpHostcapMember member;
    uint64_t sent;
    uint64_t first_ns, last_ns;
} Racer;

static uint64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * S + (uint64_t)ts.tv_nsec;
}

static void *race(void *opaque)
{
    Racer *racer = opaque;
    unsigned i;

    racer->first_ns = clock_ns();
    for (i = 0; i < 200000; i++) {
        racer->last_ns = clock_ns();
        if (!dwcp_hostcap_take(&racer->member, 1000, racer->last_ns)) {
            racer->sent += 1000;
        }
    }
    return NULL;
}

static void test_race(void)
{
    Sim *sim = sim_new(100 * MIB);
    Racer racers[4] = {0};
    uint64_t first_ns = UINT64_MAX, last_ns = 0, sum = 0;
    GThread *threads[4];
    unsigned i;

    for (i = 0; i < 4; i++) {
        dwcp_hostcap_join(&racers[i].member, &sim->cap, i + 1);
        threads[i] = g_thread_new("race", race, &racers[i]);
    }
    for (i = 0; i < 4; i++) {
        g_thread_join(threads[i]);
        first_ns = MIN(first_ns, racers[i].first_ns);
        last_ns = MAX(last_ns, racers[i].last_ns);
        sum += racers[i].sent;
        g_assert_cmpuint(racers[i].member.place, <, DWCP_HOSTCAP_PLACES);
    }
    g_assert_cmpuint(sum, >, 0);
    g_assert_cmpfloat(
        (double)sum, <=,
        (double)(last_ns - first_ns + 10 * MS) * 100.0 * MIB / 1e9 + 1000);
    g_free(sim);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hostcap/check", test_check);
    g_test_add_func("/hostcap/sum", test_sum);
    g_test_add_func("/hostcap/shares", test_shares);
    g_test_add_func("/hostcap/rest", test_rest);
    g_test_add_func("/hostcap/dead", test_dead);
    g_test_add_func("/hostcap/leave", test_leave);
    g_test_add_func("/hostcap/change", test_change);
    g_test_add_func("/hostcap/nonsense", test_nonsense);
    g_test_add_func("/hostcap/race", test_race);
    return g_test_run();
}
