/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-loss.h"

#include <assert.h>
#include <string.h>

void wan_loss_init(WanLoss *loss, uint64_t seed)
{
    memset(loss, 0, sizeof(*loss));
    loss->random_state = seed;
}

void wan_loss_configure(WanLoss *loss, const WanLossConfig *config)
{
    double bad_share;

    loss->config = *config;
    loss->bad = false;
    loss->enter_bad = 0;
    loss->leave_bad = 1;
    if (config->burst <= 0) {
        return;
    }
    assert(config->burst_packets >= 1);
    assert(config->burst_density > config->burst);
    /* In the long run a share of enter / (enter + leave) of the packets meets
     * the bad state; solve for the entry that gives the wanted mean loss. */
    bad_share = config->burst / config->burst_density;
    loss->leave_bad = 1 / config->burst_packets;
    loss->enter_bad = loss->leave_bad * bad_share / (1 - bad_share);
}

/* splitmix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
 * Generators", OOPSLA 2014, figure 17. */
static uint64_t next_random(WanLoss *loss)
{
    uint64_t z = loss->random_state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double wan_loss_uniform(WanLoss *loss)
{
    return (double)(next_random(loss) >> 11) * 0x1p-53;
}

bool wan_loss_draw(WanLoss *loss)
{
    bool lost = false;

    if (loss->config.random > 0) {
        lost = wan_loss_uniform(loss) < loss->config.random;
    }
    if (loss->config.burst > 0) {
        if (loss->bad) {
            loss->bad = wan_loss_uniform(loss) >= loss->leave_bad;
        } else {
            loss->bad = wan_loss_uniform(loss) < loss->enter_bad;
        }
        if (loss->bad && wan_loss_uniform(loss) < loss->config.burst_density) {
            lost = true;
        }
    }
    return lost;
}
