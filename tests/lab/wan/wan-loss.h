/*
 * Which packets a path loses: each by itself with one probability, and in
 * bursts by the two-state chain of Gilbert (1960) and Elliott (1963). Both may
 * be on at once. The same seed and the same sequence of packets lose the same.
 *
 * Threads: the caller's lock.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_LOSS_H
#define WAN_LOSS_H

#include <stdbool.h>
#include <stdint.h>

/* Fractions of 1, but burst_packets. */
typedef struct WanLossConfig {
    double random;        /* each packet by itself */
    double burst;         /* mean loss that bursts make; 0 is none */
    double burst_packets; /* mean length of the bad state, at least 1 */
    double burst_density; /* loss within the bad state, over burst, to 1 */
} WanLossConfig;

typedef struct WanLoss {
    WanLossConfig config;
    double enter_bad; /* per packet, from the good state */
    double leave_bad; /* per packet, from the bad state */
    bool bad;
    uint64_t random_state;
} WanLoss;

void wan_loss_init(WanLoss *loss, uint64_t seed);

/* Takes a new configuration and starts in the good state. */
void wan_loss_configure(WanLoss *loss, const WanLossConfig *config);

/* Whether the next packet is lost. */
bool wan_loss_draw(WanLoss *loss);

/* A number in [0, 1) from the same generator. */
double wan_loss_uniform(WanLoss *loss);

#endif
