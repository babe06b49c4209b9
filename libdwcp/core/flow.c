/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/flow.h"

#include <assert.h>
#include <string.h>

#define NS_PER_US 1000ull
#define QUEUE_US_MIN 1000u
#define QUEUE_US_MAX 10000u

void dwcp_flows_init(DwcpFlows *flows)
{
    memset(flows, 0, sizeof(*flows));
    flows->lossless_rounds = DWCP_FLOW_LOSS_ROUNDS;
}

/* The stream's place, emptied if another connection had it. */
static struct DwcpFlow *flow_of(DwcpFlows *flows, unsigned index,
                                const DwcpFlowInfo *info)
{
    struct DwcpFlow *flow = &flows->flows[index];
    unsigned i;

    if (index < flows->count && flow->first.id == info->id) {
        return flow;
    }
    /* One before it has gone: they all move up. */
    for (i = index + 1; i < flows->count; i++) {
        if (flows->flows[i].first.id == info->id) {
            memmove(flow, &flows->flows[i], (flows->count - i) * sizeof(*flow));
            flows->count -= i - index;
            return flow;
        }
    }
    *flow = (struct DwcpFlow){ .first = *info, .least_us = UINT32_MAX };
    flows->count = index + 1;
    return flow;
}

/* @values is sorted; O(count^2). */
static uint32_t median(uint32_t *values, unsigned count)
{
    unsigned i, j;
    uint32_t value;

    for (i = 1; i < count; i++) {
        value = values[i];
        for (j = i; j > 0 && values[j - 1] > value; j--) {
            values[j] = values[j - 1];
        }
        values[j] = value;
    }
    return count ? values[(count - 1) / 2] : 0;
}

static uint32_t rtt_of(const DwcpFlowInfo *infos, unsigned count,
                       uint32_t silent_ms_max)
{
    uint32_t srtt_us[DWCP_STREAMS_MAX];
    unsigned i, known = 0;

    for (i = 0; i < count; i++) {
        if (infos[i].srtt_us && infos[i].silent_ms <= silent_ms_max) {
            srtt_us[known++] = infos[i].srtt_us;
        }
    }
    return known ? median(srtt_us, known) : 0;
}

uint32_t dwcp_flows_rtt_us(const DwcpFlowInfo *infos, unsigned count)
{
    uint32_t news_us = rtt_of(infos, count, DWCP_FLOW_NEWS_MS);

    return news_us ? news_us : rtt_of(infos, count, UINT32_MAX);
}

uint32_t dwcp_flows_min_rtt_us(const DwcpFlowInfo *infos, unsigned count)
{
    uint32_t least_us = UINT32_MAX;
    unsigned i;

    for (i = 0; i < count; i++) {
        least_us = infos[i].min_rtt_us < least_us ? infos[i].min_rtt_us
                                                  : least_us;
    }
    return least_us;
}

/* Is the peer's window full of what is in flight, or of what it has not read?
 */
static bool window_in_flight(const DwcpFlowInfo *info, uint64_t acked_bytes,
                             uint64_t span_ns)
{
    double flight =
        (double)acked_bytes * info->srtt_us * NS_PER_US / (double)span_ns;

    return flight * 8 >= (double)info->peer_window_bytes * 5;
}

static DwcpFlowLimit flow_limit(const struct DwcpFlow *flow,
                                const DwcpFlowInfo *info, uint64_t span_ns)
{
    uint64_t busy_us = info->busy_us - flow->first.busy_us;
    uint64_t rwnd_us = info->rwnd_limited_us - flow->first.rwnd_limited_us;
    uint64_t sndbuf_us =
        info->sndbuf_limited_us - flow->first.sndbuf_limited_us;

    if (2 * rwnd_us > busy_us) {
        return window_in_flight(
                   info, info->acked_bytes - flow->first.acked_bytes, span_ns)
                   ? DWCP_FLOW_WINDOW
                   : DWCP_FLOW_RECEIVER;
    }
    if (2 * sndbuf_us > busy_us) {
        return DWCP_FLOW_WINDOW;
    }
    return 2 * flow->empty_ticks >= flow->ticks ? DWCP_FLOW_APPLICATION
                                                : DWCP_FLOW_NETWORK;
}

static bool queue_stands(uint32_t queue_us, uint32_t path_us)
{
    return queue_us >= QUEUE_US_MAX ||
           (queue_us >= QUEUE_US_MIN && queue_us >= path_us / 8);
}

/* What more than half wait for; else NETWORK, which promises nothing. */
static DwcpFlowLimit most(const unsigned votes[DWCP_FLOW_LIMITS],
                          unsigned count)
{
    int limit;

    for (limit = 0; limit < DWCP_FLOW_LIMITS; limit++) {
        if (2 * votes[limit] > count) {
            return (DwcpFlowLimit)limit;
        }
    }
    return DWCP_FLOW_NETWORK;
}

static void round_end(DwcpFlows *flows, const DwcpFlowInfo *infos,
                      uint64_t span_ns, DwcpFlowRound *round)
{
    uint32_t least_us[DWCP_STREAMS_MAX];
    unsigned votes[DWCP_FLOW_LIMITS] = { 0 };
    uint32_t path_us = dwcp_flows_min_rtt_us(infos, flows->count), retrans = 0;
    unsigned i, known = 0, blind = 0;
    uint64_t acked = 0;

    for (i = 0; i < flows->count; i++) {
        const struct DwcpFlow *flow = &flows->flows[i];
        const DwcpFlowInfo *info = &infos[i];

        acked += info->acked_bytes - flow->first.acked_bytes;
        retrans += info->retrans_segs - flow->first.retrans_segs;
        votes[flow_limit(flow, info, span_ns)]++;
        blind += info->loss_blind;
        if (flow->least_us != UINT32_MAX) {
            least_us[known++] = flow->least_us;
        }
    }
    flows->lossless_rounds = retrans ? 0 : flows->lossless_rounds + 1;
    *round = (DwcpFlowRound){
        .streams = flows->count,
        .span_ns = span_ns,
        .rate_bytes_per_s = (uint64_t)((double)acked * 1e9 / (double)span_ns),
        .rtt_us = dwcp_flows_rtt_us(infos, flows->count),
        .queue_us = median(least_us, known),
        .limit =
            flows->count ? most(votes, flows->count) : DWCP_FLOW_APPLICATION,
    };
    round->queue_us -= path_us < round->queue_us ? path_us : round->queue_us;
    round->queue_stands = queue_stands(round->queue_us, path_us);
    if (round->limit == DWCP_FLOW_NETWORK && 2 * blind <= flows->count &&
        !round->queue_stands) {
        round->limit = flows->lossless_rounds < DWCP_FLOW_LOSS_ROUNDS
                           ? DWCP_FLOW_LOSS
                           : DWCP_FLOW_ROOM;
    }
    flows->rtt_us = round->rtt_us;
}

bool dwcp_flows_tick(DwcpFlows *flows, const DwcpFlowInfo *infos,
                     unsigned count, uint64_t now_ns, DwcpFlowRound *round)
{
    const uint64_t rtt_ns = flows->rtt_us * NS_PER_US;
    const uint64_t round_ns =
        rtt_ns > DWCP_FLOW_ROUND_NS ? rtt_ns : DWCP_FLOW_ROUND_NS;
    bool first = !flows->start_ns, ended;
    struct DwcpFlow *flow;
    unsigned i;

    assert(count <= DWCP_STREAMS_MAX && now_ns >= flows->start_ns);
    for (i = 0; i < count; i++) {
        flow = flow_of(flows, i, &infos[i]);
        flow->ticks++;
        flow->empty_ticks += infos[i].unsent_bytes == 0;
        if (infos[i].srtt_us && infos[i].srtt_us < flow->least_us) {
            flow->least_us = infos[i].srtt_us;
        }
    }
    flows->count = count;
    ended = !first && now_ns - flows->start_ns >= round_ns;
    if (ended) {
        round_end(flows, infos, now_ns - flows->start_ns, round);
    }
    if (first || ended) {
        flows->start_ns = now_ns;
        for (i = 0; i < count; i++) {
            flows->flows[i] = (struct DwcpFlow){
                .first = infos[i],
                .least_us = UINT32_MAX,
            };
        }
    }
    return ended;
}
