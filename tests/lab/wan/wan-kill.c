/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-kill.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>

WanPair wan_pair_next(const Wan *wan, WanPair after, uint16_t port)
{
    const WanFlows *there = &wan->pumps[WAN_AB].link.flows;
    const WanFlows *back = &wan->pumps[WAN_BA].link.flows;
    WanPair pair = {wan_flows_next(there, after.ab), NULL};

    while (pair.ab && port != 0 && ntohs(pair.ab->key.source_port) != port &&
           ntohs(pair.ab->key.target_port) != port) {
        pair.ab = wan_flows_next(there, pair.ab);
    }
    if (pair.ab) {
        WanTcpKey key = wan_tcp_reverse(&pair.ab->key);

        pair.ba = wan_flows_find(back, &key);
    }
    return pair;
}

bool wan_pair_is_open(const WanPair *pair)
{
    return pair->ab && pair->ba && pair->ab->fate == WAN_FATE_NONE &&
           pair->ba->fate == WAN_FATE_NONE && !pair->ab->reset &&
           !pair->ba->reset && !(pair->ab->finished && pair->ba->finished);
}

/* Tells @flow's sender that it is over, with what it waits for. */
static void send_reset(WanPump *pump, const WanFlow *flow)
{
    WanTcpKey key = wan_tcp_reverse(&flow->key);
    uint8_t frame[WAN_RESET_MAX];
    size_t length;

    if (flow->has_ack) {
        length = wan_tcp_build_reset(&key, flow->ack, NULL, frame);
        if (write(pump->from_fd, frame, length) < 0) {
            pump->write_errors++;
        }
    }
}

static void end_pair(Wan *wan, const WanPair *pair, WanFate fate)
{
    pair->ab->fate = pair->ba->fate = fate;
    if (fate == WAN_FATE_RESET) {
        send_reset(&wan->pumps[WAN_AB], pair->ab);
        send_reset(&wan->pumps[WAN_BA], pair->ba);
    }
}

/* The number of an open connection, each as likely as the others; 0 if there
 * is none. */
static uint32_t choose(Wan *wan, uint16_t port)
{
    WanPair pair = {NULL, NULL};
    uint32_t seen = 0, chosen = 0;

    while ((pair = wan_pair_next(wan, pair, port)).ab) {
        if (wan_pair_is_open(&pair) &&
            wan_loss_uniform(&wan->dice) * ++seen < 1) {
            chosen = pair.ab->number;
        }
    }
    return chosen;
}

static void kill_locked(Wan *wan, const WanKill *kill, char *answer,
                        size_t bytes)
{
    uint32_t number = kill->random ? choose(wan, kill->port) : kill->number;
    WanPair pair = {NULL, NULL};
    size_t used;

    used = (size_t)snprintf(answer, bytes, "{\"killed\":[");
    while ((pair = wan_pair_next(wan, pair, kill->port)).ab) {
        if (!wan_pair_is_open(&pair) ||
            (!kill->all && pair.ab->number != number)) {
            continue;
        }
        end_pair(wan, &pair, kill->fate);
        /* All flows that there can be have room. */
        used += (size_t)snprintf(answer + used, bytes - used, "%u,",
                                 pair.ab->number);
    }
    if (answer[used - 1] != ',') {
        (void)snprintf(answer, bytes, "error: no such connection is open");
    } else {
        (void)snprintf(answer + used - 1, bytes - used + 1, "]}");
    }
}

void wan_kill(Wan *wan, const WanKill *kill, char *answer, size_t bytes)
{
    _Static_assert(WAN_ANSWER_BYTES > 16 + 11 * WAN_FLOWS_MAX,
                   "all numbers fit");

    wan_pump_lock(&wan->pumps[WAN_AB]);
    wan_pump_lock(&wan->pumps[WAN_BA]);
    kill_locked(wan, kill, answer, bytes);
    wan_pump_unlock(&wan->pumps[WAN_BA]);
    wan_pump_unlock(&wan->pumps[WAN_AB]);
}
