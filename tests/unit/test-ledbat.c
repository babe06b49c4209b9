/*
 * core/ledbat: a session that yields
 *
 * Proves against the model of TCP flows, in virtual time and with what the
 * controller sees delayed by a round trip, on links of 20 to 1000 Mbit/s and 1 to
 * 200 ms, that alone it holds nine tenths of the link with a queue near its
 * target, and does not swing; that beside one and eight CUBIC flows it keeps a
 * small part, and these what they have alone; that it has the link again soon
 * after they have left; that two share, though one comes late; and that what the
 * application does not send is not taken for the network.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <math.h>
#include <stdlib.h>

#include "core/ledbat.h"
#include "steer.h"

#define TICK_S 0.05
#define STREAMS 8u
#define SEEN_MAX 64u

typedef struct Seen {
    DwcpFlowInfo infos[DWCP_STREAMS_MAX];
    unsigned count;
} Seen;

/* Sessions of STREAMS flows each, then others. */
typedef struct World {
    Fluid fluid;
    DwcpLedbat sessions[2];
    unsigned count; /* of sessions */
    bool datacenter;
    double most;         /* bytes/s that a session's application has; 0 = any */
    Seen seen[SEEN_MAX]; /* a ring of ticks */
    unsigned ticks;
    double acked[3]; /* of the sessions, of others, in the last run */
    double queue_s, queue_most_s; /* average, most in the last run */
    double rate_least, rate_most; /* of the first session */
} World;

static World *world_new(double mbit, double rtt_s, double queue_s)
{
    World *world = g_new0(World, 1);

    world->fluid = steer_path(mbit, rtt_s, queue_s, 0, 7);
    world->fluid.per_ack = true;
    world->datacenter = rtt_s < 0.01;
    return world;
}

static void world_session(World *world)
{
    dwcp_ledbat_init(&world->sessions[world->count++]);
    fluid_join(&world->fluid, STREAMS * world->count);
}

static void world_pace(World *world)
{
    unsigned i;

    for (i = 0; i < STREAMS * world->count; i++) {
        double rate =
            (double)world->sessions[i / STREAMS].rate_bytes_per_s / STREAMS;

        world->fluid.flows[i].pace =
            world->most ? MIN(rate, world->most / STREAMS) : rate;
    }
}

static void world_look(World *world)
{
    unsigned delay = (unsigned)ceil(world->fluid.rtt_s / TICK_S), i, j, n;
    DwcpFlowInfo mine[DWCP_STREAMS_MAX];
    const Seen *seen;

    world->seen[world->ticks % SEEN_MAX].count =
        fluid_infos(&world->fluid, world->seen[world->ticks % SEEN_MAX].infos);
    world->ticks++;
    if (world->ticks <= delay) {
        return;
    }
    seen = &world->seen[(world->ticks - 1 - delay) % SEEN_MAX];
    for (i = 0; i < world->count; i++) {
        for (n = j = 0; j < seen->count; j++) {
            if ((seen->infos[j].id - 1) / STREAMS == i) {
                mine[n++] = seen->infos[j];
            }
        }
        (void)dwcp_ledbat_tick(&world->sessions[i], mine, n, world->datacenter,
                               1 + (uint64_t)(world->fluid.now_s * 1e9));
    }
}

static void world_run(World *world, double time_s)
{
    double before[DWCP_STREAMS_MAX], queue_s;
    unsigned i, tick, ticks = (unsigned)(time_s / TICK_S + 0.5);

    for (i = 0; i < DWCP_STREAMS_MAX; i++) {
        before[i] = world->fluid.flows[i].acked;
    }
    world->queue_s = world->queue_most_s = world->rate_most = 0;
    world->rate_least = 1e18;
    for (tick = 0; tick < ticks; tick++) {
        world_pace(world);
        fluid_run(&world->fluid, TICK_S);
        world_look(world);
        queue_s = world->fluid.queue / world->fluid.capacity;
        world->queue_s += queue_s / ticks;
        world->queue_most_s = MAX(world->queue_most_s, queue_s);
        if (!world->sessions[0].slow) {
            double rate = (double)world->sessions[0].rate_bytes_per_s;

            world->rate_least = MIN(world->rate_least, rate);
            world->rate_most = MAX(world->rate_most, rate);
        }
        if (g_getenv("DWCP_TEST_SHOW") && tick % 4 == 0) {
            g_test_message("%.2f s: %.2f %.2f of the link, queue %.1f ms, seen "
                           "%.1f",
                           world->fluid.now_s,
                           (double)world->sessions[0].rate_bytes_per_s /
                               world->fluid.capacity,
                           (double)world->sessions[1].rate_bytes_per_s /
                               world->fluid.capacity,
                           queue_s * 1e3, world->sessions[0].queue_us / 1e3);
        }
    }
    world->acked[0] = world->acked[1] = world->acked[2] = 0;
    for (i = 0; i < world->fluid.count; i++) {
        world->acked[i < STREAMS * world->count ? i / STREAMS : 2] +=
            (world->fluid.flows[i].acked - before[i]) / time_s /
            world->fluid.capacity;
    }
}

typedef struct Path {
    double mbit, rtt_s, queue_s;
} Path;

static const Path paths[] = {
    {20, 0.02, 0.1},   {100, 0.02, 0.1}, {100, 0.08, 0.1},    {300, 0.08, 0.1},
    {1000, 0.08, 0.1}, {100, 0.2, 0.2},  {1000, 0.001, 0.02},
};

static void test_alone(gconstpointer opaque)
{
    const Path *path = opaque;
    World *world = world_new(path->mbit, path->rtt_s, path->queue_s);
    double target_s = (world->datacenter ? DWCP_LEDBAT_TARGET_DATACENTER_US
                                         : DWCP_LEDBAT_TARGET_US) /
                      1e6;

    world_session(world);
    world_run(world, 10 + 20 * path->rtt_s);
    world_run(world, 120);
    g_test_message("%g Mbit/s, %g ms: %.3f, queue %.1f ms, at most %.1f, rate "
                   "%.2f to %.2f",
                   path->mbit, path->rtt_s * 1e3, world->acked[0],
                   world->queue_s * 1e3, world->queue_most_s * 1e3,
                   world->rate_least / world->fluid.capacity,
                   world->rate_most / world->fluid.capacity);
    g_assert_cmpfloat(world->acked[0], >=, 0.9);
    g_assert_cmpfloat(world->queue_s, <=, 1.6 * target_s);
    g_assert_cmpfloat(world->queue_most_s, <=, 2.5 * target_s);
    g_assert_cmpfloat(world->rate_least, >=, 0.75 * world->fluid.capacity);
    g_assert_cmpfloat(world->rate_most, <=, 1.4 * world->fluid.capacity);
    g_free(world);
}

static void beside(const Path *path, unsigned others)
{
    World *world = world_new(path->mbit, path->rtt_s, path->queue_s);
    double alone, back_s = 0;

    fluid_join(&world->fluid, others);
    fluid_run(&world->fluid, 30);
    alone = fluid_acked(&world->fluid);
    fluid_run(&world->fluid, 30);
    alone = (fluid_acked(&world->fluid) - alone) / 30 / world->fluid.capacity;
    g_free(world);

    world = world_new(path->mbit, path->rtt_s, path->queue_s);
    world_session(world);
    world_run(world, 20);
    fluid_join(&world->fluid, STREAMS + others);
    world_run(world, 60); /* CUBIC takes half a minute to fill a long link */
    world_run(world, 60);
    g_test_message("%g Mbit/s, %g ms, %u flows: %.3f beside %.3f, which are "
                   "%.3f alone",
                   path->mbit, path->rtt_s * 1e3, others, world->acked[0],
                   world->acked[2], alone);
    g_assert_cmpfloat(world->acked[0], <=, 0.1);
    g_assert_true(world->sessions[0].holds);
    g_assert_cmpfloat(world->acked[2], >=, 0.9 * alone);
    fluid_leave(&world->fluid, STREAMS);
    while ((double)world->sessions[0].rate_bytes_per_s <
               0.85 * world->fluid.capacity &&
           back_s < 60) {
        world_run(world, TICK_S);
        back_s += TICK_S;
    }
    g_test_message("back after %.2f s, %.0f rounds", back_s,
                   back_s / MAX(path->rtt_s, TICK_S));
    g_assert_cmpfloat(back_s / MAX(path->rtt_s, TICK_S), <=, 20);
    g_free(world);
}

static void test_one(gconstpointer path)
{
    beside(path, 1);
}

static void test_several(gconstpointer path)
{
    beside(path, 8);
}

static void test_two(gconstpointer opaque)
{
    const Path *path = opaque;
    World *world = world_new(path->mbit, path->rtt_s, path->queue_s);

    world_session(world);
    world_run(world, 20);
    world_session(world);
    world_run(world, 90);
    world_run(world, 60);
    g_test_message("%g Mbit/s, %g ms: %.3f and %.3f, queue %.1f ms", path->mbit,
                   path->rtt_s * 1e3, world->acked[0], world->acked[1],
                   world->queue_s * 1e3);
    g_assert_cmpfloat(world->acked[0] + world->acked[1], >=, 0.85);
    g_assert_cmpfloat(world->acked[0], >=, 0.25);
    g_assert_cmpfloat(world->acked[1], >=, 0.25);
    g_free(world);
}

/* What it has to send is a fifth of the link: no reason to grow, or to shrink;
 * then it is all there is. */
static void test_application(void)
{
    World *world = world_new(100, 0.08, 0.1);

    world_session(world);
    world->most = world->fluid.capacity / 5;
    world_run(world, 30);
    world_run(world, 30);
    g_test_message("%.3f, allowed %.2f to %.2f", world->acked[0],
                   world->rate_least / world->fluid.capacity,
                   world->rate_most / world->fluid.capacity);
    g_assert_cmpfloat(world->acked[0], >=, 0.19);
    g_assert_false(world->sessions[0].holds);
    g_assert_cmpfloat(world->rate_most, <=, 0.6 * world->fluid.capacity);
    world->most = 0;
    world_run(world, 5);
    g_assert_cmpfloat(world->queue_most_s, <=, 0.06);
    world_run(world, 10);
    g_assert_cmpfloat(world->acked[0], >=, 0.9);
    g_free(world);
}

/* The link is slower, and faster again; the path longer, which takes until the
 * short one is forgotten, and shorter. */
static void test_change(void)
{
    World *world = world_new(100, 0.04, 0.1);
    unsigned i;

    world_session(world);
    world_run(world, 20);
    world->fluid.capacity /= 3;
    world_run(world, 3);
    world_run(world, 20);
    g_assert_cmpfloat(world->acked[0], >=, 0.9);
    g_assert_cmpfloat(world->queue_most_s, <=, 0.06);
    world->fluid.capacity *= 6;
    world->fluid.queue_max *= 6;
    world_run(world, 10);
    world_run(world, 20);
    g_assert_cmpfloat(world->acked[0], >=, 0.9);
    world->fluid.rtt_s = 0.14;
    world_run(world, 300);
    for (i = 0; i < STREAMS; i++) { /* as the kernel does by then */
        world->fluid.flows[i].min_rtt_s = world->fluid.rtt_s;
    }
    world_run(world, 420);
    world_run(world, 20);
    g_assert_cmpfloat(world->acked[0], >=, 0.9);
    world->fluid.rtt_s = 0.02;
    world_run(world, 60);
    world_run(world, 20);
    g_assert_cmpfloat(world->acked[0], >=, 0.9);
    g_assert_cmpfloat(world->queue_s, <=, 0.04);
    g_free(world);
}

int main(int argc, char **argv)
{
    unsigned i;
    char *name;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(paths); i++) {
        name = g_strdup_printf("/ledbat/alone/%u", i);
        g_test_add_data_func(name, &paths[i], test_alone);
        g_free(name);
        name = g_strdup_printf("/ledbat/one/%u", i);
        g_test_add_data_func(name, &paths[i], test_one);
        g_free(name);
        name = g_strdup_printf("/ledbat/several/%u", i);
        g_test_add_data_func(name, &paths[i], test_several);
        g_free(name);
        name = g_strdup_printf("/ledbat/two/%u", i);
        g_test_add_data_func(name, &paths[i], test_two);
        g_free(name);
    }
    g_test_add_func("/ledbat/application", test_application);
    g_test_add_func("/ledbat/change", test_change);
    return g_test_run();
}
