/*
 * Streams that come, go and break while pages flow
 *
 * Proves that whatever number of streams the controller asks for, and whichever
 * connections break meanwhile, at any step of a move, the target's memory equals
 * the source's at the end.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <poll.h>
#include <string.h>

#include "io/source.h"
#include "move.h"
#include "steercase.h"

/* Streams come, go and break, all the time that pages flow. */
static void broken(SteerHow how, unsigned seed)
{
    GRand *rnd = g_rand_new_with_seed(seed);
    unsigned round, i;
    ResumeCase c;

    steer_case_new(&c, STEER_LARGE, how);
    kit_fill(rnd, c.source.ram, STEER_LARGE);
    steer_case_begin(&c);
    for (round = 0; round < 12; round++) {
        steer_put_all(&c);
        for (i = (unsigned)g_rand_int_range(rnd, 1, 5); i; i--) {
            dwcp_source_steer_to(c.source.source,
                                 (unsigned)g_rand_int_range(rnd, 1, 25));
            if (g_rand_boolean(rnd)) {
                breaker_reset(c.breaker, g_rand_int_range(rnd, -2, 20));
            }
            (void)poll(NULL, 0, g_rand_int_range(rnd, 0, 60));
        }
        if (round % 4 == 3) {
            dwcp_source_steer_to(c.source.source, round % 8 == 3 ? 1 : 9);
            steer_await(&c, round % 8 == 3 ? 1 : 9);
        }
    }
    steer_case_finish(&c);
    case_free(&c);
    g_rand_free(rnd);
}

static void test_broken(gconstpointer opaque)
{
    const SteerHow *how = opaque;
    unsigned seed, seeds = kit_soak(1, 30);

    for (seed = 0; seed < seeds; seed++) {
        broken(*how, seed);
    }
}

/* At any step of a move: move_end() knows what must hold. */
static void test_moves(void)
{
    DwcpTargetOptions for_target = end_target_options();
    DwcpSourceOptions for_source = end_source_options("1");
    unsigned seeds = kit_soak(30, 500), seed, events;
    Breaker *breaker;
    MoveOutcome out;
    char port[8];
    GRand *rnd;
    Move move;

    for_target.resume_ms_max = 0;
    for_source.resume_ms_max = 0;
    for_source.streams = 0;
    for (seed = 0; seed < seeds; seed++) {
        rnd = g_rand_new_with_seed(seed);
        move_new(&move, &for_target);
        breaker = breaker_new(move.port, port);
        for_source.level = g_rand_int_range(rnd, 0, 2);
        move_start(&move, &for_source, port);
        end_wait_connected(&move.target);
        move_wait(&move, (MoveStep)g_rand_int_range(rnd, MOVE_CONNECTED,
                                                    MOVE_READY + 1));
        for (events = (unsigned)g_rand_int_range(rnd, 1, 6); events; events--) {
            dwcp_source_steer_to(move.source.source,
                                 (unsigned)g_rand_int_range(rnd, 1, 16));
            if (g_rand_boolean(rnd)) {
                breaker_reset(breaker, g_rand_int_range(rnd, -2, 9));
            }
            if (g_rand_boolean(rnd)) {
                g_usleep((gulong)g_rand_int_range(rnd, 0, 3000));
            }
        }
        out = move_end(&move);
        if (!out.go || !out.gone) {
            g_error("seed %u, step %d: source: %s; target: %s", seed,
                    atomic_load(&move.step), move.source.error.text,
                    move.target.error.text);
        }
        move_free(&move);
        breaker_free(breaker);
        g_rand_free(rnd);
    }
}

/* Nobody steers but the controller. */
static void test_alone(void)
{
    GRand *rnd = g_rand_new_with_seed(3);
    unsigned i;
    ResumeCase c;

    steer_case_new(&c, STEER_LARGE, (SteerHow){ .steered = true });
    kit_fill(rnd, c.source.ram, STEER_LARGE);
    steer_case_begin(&c);
    for (i = 0; i < 20; i++) {
        steer_put_all(&c);
    }
    steer_case_finish(&c);
    case_free(&c);
    g_rand_free(rnd);
}

int main(int argc, char **argv)
{
    static const SteerHow raw = { .level = 0 },
                     keyed = { .level = 1, .keyed = true };

    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/source-steer-random/broken/raw", &raw, test_broken);
    g_test_add_data_func("/source-steer-random/broken/keyed", &keyed, test_broken);
    g_test_add_func("/source-steer-random/moves", test_moves);
    g_test_add_func("/source-steer-random/alone", test_alone);
    return g_test_run();
}
