/*
 * core/mode: the path's kind is found within 2 s, and does not flap
 *
 * Proves that each step from one of several kinds of path to another ends in
 * the right mode within 2 s, with a sender whose window fills the link and its
 * queue; and that no trace of 1,000 whose RTT and rate stay near the
 * thresholds and jitter enters a mode twice.  A judge without hysteresis must
 * flap on a good part of the same traces, or they would prove nothing.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>

#include "core/mode.h"

#define MS 1000000ull
#define S (1000 * MS)
#define STEP_NS (DWCP_MODE_SAMPLE_MS * MS)

/* -------------------------------------------------------------- steps -- */

typedef struct Bench {
    DwcpModeState state;
    uint64_t now_ns;
} Bench;

typedef struct Path {
    double rtt_s, capacity, demand; /* bytes/s */
} Path;

static const Path paths[] = {
    {0.0002, 25000e6 / 8, 1e12}, {0.001, 10000e6 / 8, 1e12},
    {0.005, 2000e6 / 8, 1e12},   {0.001, 10000e6 / 8, 200e6 / 8},
    {0.005, 500e6 / 8, 1e12},    {0.002, 300e6 / 8, 1e12},
    {0.025, 1000e6 / 8, 1e12},   {0.03, 300e6 / 8, 50e6 / 8},
    {0.08, 300e6 / 8, 1e12},     {0.1, 2000e6 / 8, 1e12},
    {0.5, 900e6 / 8, 1e12},      {0.3, 100e6 / 8, 20e6 / 8},
};

/* A sender whose window grows until the queue is full, and one of its link. */
typedef struct Plant {
    double window;     /* bytes */
    uint64_t probe_ns; /* when the answer is there; 0 = not asked */
    double queue_s;
    double min_rtt_s; /* of its life, as the kernel's; 0 = none yet */
} Plant;

static void plant_step(Plant *plant, const Path *path, Bench *bench)
{
    double bdp = path->capacity * path->rtt_s, rtt_s, rate;
    double most = bdp + path->capacity * plant->queue_s;
    DwcpModeSample sample = { .now_ns = bench->now_ns += STEP_NS };
    double growth = 1 + 0.5 * ((double)STEP_NS / 1e9) / path->rtt_s;

    if (plant->window > most) {
        plant->window = most * 0.7;
    }
    rtt_s = MAX(path->rtt_s, plant->window / path->capacity);
    rate = plant->window / rtt_s;
    sample.network_limited = rate < path->demand;
    if (sample.network_limited) {
        plant->window *= MIN(growth, 2);
    } else {
        rate = path->demand;
        rtt_s = path->rtt_s;
    }
    sample.rtt_us = (uint32_t)(rtt_s * 1e6);
    if (!plant->min_rtt_s || path->rtt_s < plant->min_rtt_s) {
        plant->min_rtt_s = path->rtt_s;
    }
    sample.min_rtt_us = (uint32_t)(plant->min_rtt_s * 1e6);
    sample.rate_bytes_per_s = (uint64_t)rate;
    (void)dwcp_mode_sample(&bench->state, &sample);
    if (plant->probe_ns && bench->now_ns >= plant->probe_ns) {
        plant->probe_ns = 0;
        (void)dwcp_mode_probe(&bench->state, (uint32_t)(path->rtt_s * 1e6),
                              bench->now_ns);
    }
    if (dwcp_mode_doubt(&bench->state, bench->now_ns)) {
        plant->probe_ns =
            bench->now_ns + (uint64_t)((rtt_s + path->rtt_s) * 1e9);
    }
}

/* What the issue says. */
static DwcpMode right_mode(DwcpMode before, const Path *path)
{
    if (path->rtt_s > 0.05) {
        return DWCP_MODE_INTERNET;
    }
    if (path->rtt_s >= 0.01) {
        return before;
    }
    if (path->capacity >= 125e6) {
        return DWCP_MODE_DATACENTER;
    }
    return before == DWCP_MODE_DATACENTER ? DWCP_MODE_HYBRID : before;
}

/* Returns: the time until the mode was right for good. */
static uint64_t step_time(const Path *a, const Path *b, double queue_s,
                          unsigned phase)
{
    Plant plant = { .window = 14480, .queue_s = queue_s };
    uint64_t change_ns, right_ns;
    DwcpMode before, right;
    Bench bench;

    bench = (Bench){ .now_ns = 5 * S };
    dwcp_mode_init(&bench.state, bench.now_ns);
    while (bench.now_ns < 15 * S + phase * STEP_NS) {
        plant_step(&plant, a, &bench);
    }
    before = bench.state.mode;
    g_assert_cmpint(before, ==, right_mode(DWCP_MODE_HYBRID, a));
    right = right_mode(before, b);
    change_ns = right_ns = bench.now_ns;
    while (bench.now_ns < change_ns + 15 * S) {
        plant_step(&plant, b, &bench);
        if (bench.state.mode != right) {
            right_ns = bench.now_ns + STEP_NS;
        }
    }
    if (bench.state.mode != right) {
        g_test_message("from %g s, %g to %g s, %g", a->rtt_s, a->capacity,
                       b->rtt_s, b->capacity);
    }
    g_assert_cmpint(bench.state.mode, ==, right);
    return right_ns - change_ns;
}

/* A demand below the link leaves "slow" as it was known; those pairs have
 * their own test above. */
static bool comparable(const Path *a, const Path *b)
{
    return !(b->demand < 125e6 && a->capacity < 125e6 && a->rtt_s < 0.05) &&
           !(b->demand < 125e6 && b->rtt_s < 0.01 && a->capacity < 125e6);
}

static void test_steps(void)
{
    uint64_t time_ns, longest_ns = 0;
    unsigned i, j, phase;

    for (i = 0; i < G_N_ELEMENTS(paths); i++) {
        for (j = 0; j < G_N_ELEMENTS(paths); j++) {
            for (phase = 0; phase < DWCP_MODE_WINDOW; phase++) {
                if (!comparable(&paths[i], &paths[j])) {
                    continue;
                }
                time_ns = step_time(&paths[i], &paths[j], 0.02, phase);
                if (time_ns > 2 * S) {
                    g_test_message("path %u to %u: %llu ms", i, j,
                                   (unsigned long long)(time_ns / MS));
                }
                longest_ns = MAX(longest_ns, time_ns);
            }
        }
    }
    g_test_message("longest %llu ms", (unsigned long long)(longest_ns / MS));
    g_assert_cmpuint(longest_ns, <=, 2 * S);
    g_assert_cmpuint(longest_ns, >=, 3 * DWCP_MODE_WINDOW * STEP_NS);
}

/* With a queue of 100 ms that this session keeps full, steps up may need a
 * probe, and a step that the queue hides waits for the next. */
static void test_steps_bloated(void)
{
    uint64_t longest_ns = 0;
    unsigned i, j, phase;

    for (i = 0; i < G_N_ELEMENTS(paths); i++) {
        for (j = 0; j < G_N_ELEMENTS(paths); j++) {
            for (phase = 0; phase < DWCP_MODE_WINDOW; phase += 3) {
                if (comparable(&paths[i], &paths[j])) {
                    longest_ns = MAX(longest_ns, step_time(&paths[i], &paths[j],
                                                           0.1, phase));
                }
            }
        }
    }
    g_test_message("longest %llu ms", (unsigned long long)(longest_ns / MS));
    g_assert_cmpuint(longest_ns, <=, 12 * S);
}

/* ------------------------------------------------------------- traces -- */

#define TRACES 1000u
#define TRACE_SAMPLES 1200u /* 60 s */

static uint64_t rand_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed * 0x2545f4914f6cdd1dull;
}

static double rand_from(uint64_t *seed, double low, double high)
{
    return low + (high - low) * (double)(rand_next(seed) >> 11) / 0x1p53;
}

/*
 * A path whose true RTT and rate stay where they are, within a tenth of a
 * threshold each; what is measured of it jitters.
 */
typedef struct Trace {
    double rtt_us, rate, rtt_jitter, rate_jitter, spikes, load;
    bool coupled; /* only datacenter mode sends enough to load the link */
    unsigned start;
} Trace;

static Trace trace_draw(uint64_t *seed)
{
    static const double rtts[] = {10000, 50000, 9000, 11000, 45000, 55000};
    static const double rates[] = {125e6, 75e6, 100e6};
    Trace trace = {
        .rtt_us = rtts[rand_next(seed) % 6] * rand_from(seed, 0.9, 1.1),
        .rate = rates[rand_next(seed) % 3] * rand_from(seed, 0.9, 1.1),
        .rtt_jitter = rand_from(seed, 0, 0.5),
        .rate_jitter = rand_from(seed, 0, 0.4),
        .spikes = rand_from(seed, 0, 0.1),
        .load = rand_from(seed, 0, 1),
        .coupled = rand_next(seed) % 4 == 0,
        .start = (unsigned)(rand_next(seed) % 3),
    };

    return trace;
}

/* Windows judged one by one, one threshold each: what the rule improves on. */
static unsigned naive_mode(const DwcpModeSample *window, unsigned before)
{
    double rtt_us = 0, rate = 0;
    unsigned i;

    for (i = 0; i < DWCP_MODE_WINDOW; i++) {
        rtt_us += window[i].rtt_us / (double)DWCP_MODE_WINDOW;
        rate += (double)window[i].rate_bytes_per_s / DWCP_MODE_WINDOW;
    }
    if (rtt_us > DWCP_MODE_FAR_US) {
        return DWCP_MODE_INTERNET;
    }
    if (rtt_us < DWCP_MODE_NEAR_US && rate >= 125e6) {
        return DWCP_MODE_DATACENTER;
    }
    return rtt_us < 45000 ? DWCP_MODE_HYBRID : before;
}

static void trace_run(uint64_t seed, unsigned entered[DWCP_MODE_COUNT],
                      unsigned *naive)
{
    DwcpModeSample window[DWCP_MODE_WINDOW];
    unsigned i, mode = DWCP_MODE_HYBRID, next;
    Trace trace = trace_draw(&seed);
    Bench bench;

    bench = (Bench){ .now_ns = 5 * S };
    dwcp_mode_init(&bench.state, bench.now_ns);
    if (trace.start) { /* a clear past */
        for (i = 0; i < 4 * DWCP_MODE_WINDOW; i++) {
            DwcpModeSample sample = {
                .now_ns = bench.now_ns += STEP_NS,
                .rtt_us = trace.start == 1 ? 1000 : 100000,
                .rate_bytes_per_s = 250000000,
                .network_limited = true,
            };

            (void)dwcp_mode_sample(&bench.state, &sample);
        }
        mode = bench.state.mode;
    }
    for (i = *naive = 0; i < TRACE_SAMPLES; i++) {
        DwcpModeSample *s = &window[i % DWCP_MODE_WINDOW];
        bool quiet = trace.coupled && bench.state.mode != DWCP_MODE_DATACENTER;

        bench.now_ns += STEP_NS;
        *s = (DwcpModeSample){
            .now_ns = bench.now_ns,
            .rtt_us =
                (uint32_t)(trace.rtt_us * rand_from(&seed, 1 - trace.rtt_jitter,
                                                    1 + trace.rtt_jitter)),
            .min_rtt_us = (uint32_t)(trace.rtt_us / 2),
            .rate_bytes_per_s =
                (uint64_t)(trace.rate * (quiet ? 0.4 : 1) *
                           rand_from(&seed, 1 - trace.rate_jitter,
                                     1 + trace.rate_jitter)),
            .network_limited = !quiet && rand_from(&seed, 0, 1) < trace.load,
        };
        if (rand_from(&seed, 0, 1) < trace.spikes) {
            s->rtt_us *= 4;
        }
        if (dwcp_mode_sample(&bench.state, s)) {
            entered[bench.state.mode]++;
        }
        if (dwcp_mode_doubt(&bench.state, bench.now_ns) &&
            dwcp_mode_probe(&bench.state, s->rtt_us, bench.now_ns)) {
            entered[bench.state.mode]++;
        }
        if (i % DWCP_MODE_WINDOW == DWCP_MODE_WINDOW - 1) {
            next = naive_mode(window, mode);
            *naive += next != mode;
            mode = next;
        }
    }
}

/*
 * A flap: a mode is entered for the second time on a path that stays as it is.
 * Two changes are none if the second is what the first brought to light: a
 * link that was idle as hybrid is loaded as datacenter, and slow.
 */
static void test_no_flap(void)
{
    unsigned changes[4] = { 0 }, naive, naive_flaps = 0, i, j, sum;

    for (i = 0; i < TRACES; i++) {
        unsigned entered[DWCP_MODE_COUNT] = { 0 };

        trace_run(0x9e3779b97f4a7c15ull * (i + 1), entered, &naive);
        for (j = sum = 0; j < DWCP_MODE_COUNT; j++) {
            if (entered[j] > 1) {
                g_test_message("seed %u enters %s %u times", i,
                               dwcp_mode_name((DwcpMode)j), entered[j]);
            }
            g_assert_cmpuint(entered[j], <=, 1);
            sum += entered[j];
        }
        changes[sum]++;
        naive_flaps += naive > 2;
    }
    g_test_message("%u never change, %u once, %u twice; the naive judge makes "
                   "more than two changes in %u",
                   changes[0], changes[1], changes[2], naive_flaps);
    g_assert_cmpuint(changes[0], >, TRACES / 10);
    g_assert_cmpuint(changes[1], >, TRACES / 10);
    g_assert_cmpuint(changes[2], <, TRACES / 20);
    g_assert_cmpuint(changes[3], ==, 0);
    g_assert_cmpuint(naive_flaps, >, TRACES / 3);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mode/steps", test_steps);
    g_test_add_func("/mode/steps-bloated", test_steps_bloated);
    g_test_add_func("/mode/no-flap", test_no_flap);
    return g_test_run();
}
