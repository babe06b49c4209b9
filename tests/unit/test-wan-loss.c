/*
 * wan-loss: the share of lost packets and the length of bursts are what was
 * asked for, and a seed gives the same losses each time.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-loss.h"

#include <assert.h>

#define DRAWS 2000000

typedef struct Sample {
    double share;       /* of packets lost */
    double run_packets; /* mean length of a run of lost packets */
} Sample;

static Sample draw(const WanLossConfig *config, uint64_t seed)
{
    WanLoss loss;
    long lost = 0, runs = 0;
    bool last = false;
    int i;

    wan_loss_init(&loss, seed);
    wan_loss_configure(&loss, config);
    for (i = 0; i < DRAWS; i++) {
        bool now = wan_loss_draw(&loss);

        lost += now;
        runs += now && !last;
        last = now;
    }
    return (Sample){(double)lost / DRAWS,
                    runs ? (double)lost / (double)runs : 0};
}

static void near(double value, double wanted, double tolerance)
{
    assert(value > wanted * (1 - tolerance));
    assert(value < wanted * (1 + tolerance));
}

static void test_extremes(void)
{
    assert(draw(&(WanLossConfig){0}, 1).share == 0);
    assert(draw(&(WanLossConfig){.random = 1}, 1).share == 1);
}

static void test_random(void)
{
    Sample sample = draw(&(WanLossConfig){.random = 0.01}, 1);

    near(sample.share, 0.01, 0.03);
    /* Independent losses rarely touch. */
    near(sample.run_packets, 1.01, 0.01);
}

static void test_bursts(void)
{
    WanLossConfig whole = {
        .burst = 0.02, .burst_packets = 8, .burst_density = 1};
    WanLossConfig half = {
        .burst = 0.02, .burst_packets = 8, .burst_density = 0.5};
    Sample sample = draw(&whole, 1);

    near(sample.share, 0.02, 0.05);
    near(sample.run_packets, 8, 0.05);
    whole.burst = 0.3;
    near(draw(&whole, 1).share, 0.3, 0.02);
    sample = draw(&half, 1);
    near(sample.share, 0.02, 0.05);
    assert(sample.run_packets < 2.5);
}

static void test_both(void)
{
    WanLossConfig config = {
        .random = 0.01, .burst = 0.02, .burst_packets = 8, .burst_density = 1};

    near(draw(&config, 1).share, 0.0298, 0.05);
}

static void test_seed(void)
{
    WanLossConfig config = {.random = 0.5};
    WanLoss first, again, other;
    int i, differ = 0;

    wan_loss_init(&first, 7);
    wan_loss_init(&again, 7);
    wan_loss_init(&other, 8);
    wan_loss_configure(&first, &config);
    wan_loss_configure(&again, &config);
    wan_loss_configure(&other, &config);
    for (i = 0; i < 1000; i++) {
        bool lost = wan_loss_draw(&first);

        assert(wan_loss_draw(&again) == lost);
        differ += wan_loss_draw(&other) != lost;
    }
    assert(differ > 400 && differ < 600);
}

int main(void)
{
    test_extremes();
    test_random();
    test_bursts();
    test_both();
    test_seed();
    return 0;
}
