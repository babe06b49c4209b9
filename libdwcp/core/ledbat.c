/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/ledbat.h"

#include <string.h>

#define NS_PER_S 1000000000ull
#define BASE_NS (60 * NS_PER_S)
#define PEAK_NS (600 * NS_PER_S)
/* A round in which no stream heard anything goes on for this long. */
#define DEAF_NS NS_PER_S
/* The first slowdown comes soon, the others seldom. */
#define SLOW_FIRST_NS (3 * NS_PER_S)
#define SLOW_NS (30 * NS_PER_S)
#define SLOW_ROUNDS 4u
#define MSS 1448u
#define GAIN_MAX 0.25
#define BOLD_MAX 12u

void dwcp_ledbat_init(DwcpLedbat *ledbat)
{
    memset(ledbat, 0, sizeof(*ledbat));
    ledbat->holds = true;
    ledbat->rate_bytes_per_s = DWCP_LEDBAT_RATE_START;
}

static struct DwcpLedbatFlow flow_at(const DwcpFlowInfo *info)
{
    return (struct DwcpLedbatFlow){
        .id = info->id,
        .acked_bytes = info->acked_bytes,
        .acks = info->acks,
        .srtt_us = info->srtt_us,
        .retrans_segs = info->retrans_segs,
    };
}

static void round_start(DwcpLedbat *ledbat, const DwcpFlowInfo *infos,
                        unsigned count, uint64_t now_ns)
{
    unsigned i;

    for (i = 0; i < count; i++) {
        ledbat->flows[i] = flow_at(&infos[i]);
    }
    ledbat->count = count;
    ledbat->start_ns = now_ns;
}

/* The average RTT since @first, of which the smoothed one keeps 7/8 at each
 * ACK.  0 = nothing was heard. */
static uint32_t rtt_since(const struct DwcpLedbatFlow *first,
                          const DwcpFlowInfo *info)
{
    uint32_t acks = info->acks - first->acks;
    double kept = 1, rtt_us;

    if (!acks || !first->srtt_us || info->min_rtt_us == UINT32_MAX) {
        return acks ? info->srtt_us : 0;
    }
    for (; acks && kept > 0.001; acks--) {
        kept *= 7.0 / 8;
    }
    rtt_us = (info->srtt_us - kept * first->srtt_us) / (1 - kept);
    /* Where fewer ACKs were counted than there were, it goes too far. */
    return rtt_us < info->min_rtt_us ? info->min_rtt_us : (uint32_t)rtt_us;
}

typedef struct Round {
    double rate;     /* bytes/s carried */
    double lost;     /* part of it */
    uint32_t rtt_us; /* of the median stream; 0 = nothing was heard */
    uint32_t least_us;
    double span_s;
} Round;

static void round_look(const DwcpLedbat *ledbat, const DwcpFlowInfo *infos,
                       unsigned count, uint64_t now_ns, Round *round)
{
    uint32_t rtts_us[DWCP_STREAMS_MAX], rtt_us;
    double bytes = 0, segs = 0;
    unsigned i, j, known = 0;

    *round = (Round){.least_us = UINT32_MAX};
    for (i = 0; i < count; i++) {
        for (j = 0; j < ledbat->count && ledbat->flows[j].id != infos[i].id;) {
            j++;
        }
        if (j == ledbat->count) {
            continue; /* came in this round */
        }
        bytes += (double)(infos[i].acked_bytes - ledbat->flows[j].acked_bytes);
        segs += infos[i].retrans_segs - ledbat->flows[j].retrans_segs;
        if (infos[i].min_rtt_us < round->least_us) {
            round->least_us = infos[i].min_rtt_us;
        }
        rtt_us = rtt_since(&ledbat->flows[j], &infos[i]);
        if (rtt_us) {
            for (j = known++; j && rtts_us[j - 1] > rtt_us; j--) {
                rtts_us[j] = rtts_us[j - 1];
            }
            rtts_us[j] = rtt_us;
        }
    }
    round->span_s = (double)(now_ns - ledbat->start_ns) / 1e9;
    round->rate = bytes / round->span_s;
    round->lost = bytes > 0 ? segs * MSS / bytes : 0;
    round->rtt_us = known ? rtts_us[(known - 1) / 2] : 0;
    if (round->rtt_us && round->rtt_us < round->least_us) {
        round->least_us = round->rtt_us;
    }
}

/* The kernel's least RTT counts for the minute in which it was heard first: it
 * may be a path's that is gone. */
static void base_learn(DwcpLedbat *ledbat, const Round *round, uint64_t now_ns)
{
    uint32_t seen_us = ledbat->base_us ? round->rtt_us : round->least_us;
    uint32_t *base_us;
    unsigned i;

    if (round->least_us < ledbat->base_us) {
        seen_us = round->least_us;
    }
    if (!seen_us || seen_us == UINT32_MAX) {
        return;
    }
    if (!ledbat->base_ns || now_ns - ledbat->base_ns >= BASE_NS) {
        ledbat->base_at = (ledbat->base_at + 1) % DWCP_LEDBAT_BASES;
        ledbat->bases_us[ledbat->base_at] = 0;
        ledbat->base_ns = now_ns;
    }
    base_us = &ledbat->bases_us[ledbat->base_at];
    if (!*base_us || seen_us < *base_us) {
        *base_us = seen_us;
    }
    ledbat->base_us = 0;
    for (i = 0; i < DWCP_LEDBAT_BASES; i++) {
        if (ledbat->bases_us[i] &&
            (!ledbat->base_us || ledbat->bases_us[i] < ledbat->base_us)) {
            ledbat->base_us = ledbat->bases_us[i];
        }
    }
}

static double root(double value)
{
    double x = value > 1 ? value : 1;
    unsigned i;

    for (i = 0; i < 40; i++) {
        x = (x + value / x) / 2;
    }
    return x;
}

/* Rounds until a change shows.  Streams follow it when they look next, which
 * may take as long as a short round. */
static unsigned settle_rounds(const Round *round)
{
    return round->rtt_us < round->span_s * 5e5 ? 2 : 1;
}

/* From a change to when it is known what it did. */
static double delay_s(const Round *round)
{
    return round->rtt_us / 1e6 + round->span_s * (settle_rounds(round) + 1);
}

/* Near the target; see the header. */
static double follow(const Round *round, double queue, double target_us)
{
    double gain = target_us / 1e6 / (2 * delay_s(round));
    double more, rate = round->rate;

    gain = gain < GAIN_MAX ? gain : GAIN_MAX;
    more = 0.8 * root(rate * DWCP_LEDBAT_RATE_START);
    more = more < rate / 2 ? more : rate / 2;
    return rate + gain * more - (queue > 1 ? gain * (queue - 1) * rate : 0) +
           (queue < 1 ? gain * (1 - queue) * rate : 0);
}

/* Up to where it was of late by doubling and more, from there on by steps that make a
 * queue of a target at most, but twice as large each time that they make none. */
static double climb(DwcpLedbat *ledbat, double step)
{
    double allowed = (double)ledbat->rate_bytes_per_s;
    double known = 0.9 * (double)ledbat->peak;

    if (!ledbat->slow_ns) {
        return 2 * allowed; /* no queue has stood yet: slow start */
    }
    if (allowed < known) {
        /* Far below, in steps of four. */
        return 8 * allowed < known   ? 4 * allowed
               : 2 * allowed < known ? 2 * allowed
                                     : known;
    }
    step *= 1u << (ledbat->bold / 2);
    ledbat->bold = ledbat->bold ? ledbat->bold + 2 : 1;
    ledbat->bold = ledbat->bold < BOLD_MAX ? ledbat->bold : BOLD_MAX;
    return step < 1 ? allowed * (1 + step) : 2 * allowed;
}

/* Returns: the new rate. */
static double answer(DwcpLedbat *ledbat, const Round *round, double target_us)
{
    double queue = ledbat->queue_us / target_us; /* in targets */
    double allowed = (double)ledbat->rate_bytes_per_s;
    double carried = round->rate < allowed ? round->rate : allowed;

    if (queue > 2 || round->lost > 0.02) {
        ledbat->bold = 0;
        if (ledbat->settles) {
            ledbat->settles--;
            return allowed;
        }
        ledbat->settles = settle_rounds(round);
        if (ledbat->climbed && (double)ledbat->peak > 1.4 * round->rate) {
            ledbat->peak = (uint64_t)(0.7 * (double)ledbat->peak);
        }
        ledbat->climbed = false;
        return carried / 2;
    }
    if (ledbat->settles) {
        ledbat->settles--;
        return allowed;
    }
    if (queue < 0.5 && round->rate < 0.7 * allowed) {
        return allowed;
    }
    if (queue < 0.25) {
        ledbat->settles = settle_rounds(round);
        ledbat->climbed = true;
        return climb(ledbat, target_us / 1e6 / delay_s(round));
    }
    ledbat->bold = 0;
    ledbat->climbed = false;
    return follow(round, queue, target_us);
}

/* Returns: whether the session is slow now. */
static bool slow_down(DwcpLedbat *ledbat, double target_us, uint64_t now_ns)
{
    if (ledbat->slow) {
        ledbat->slow--;
        if (!ledbat->slow || ledbat->queue_us < target_us / 8) {
            ledbat->slow = 0;
            ledbat->settles = 2;
            ledbat->rate_bytes_per_s = ledbat->slow_rate;
        }
        return true;
    }
    if (ledbat->queue_us < target_us / 2) {
        return false;
    }
    if (!ledbat->slow_ns) {
        ledbat->slow_ns = now_ns + SLOW_FIRST_NS;
    }
    if (now_ns < ledbat->slow_ns) {
        return false;
    }
    ledbat->slow_ns = now_ns + SLOW_NS;
    ledbat->slow = SLOW_ROUNDS;
    ledbat->slow_rate = ledbat->rate_bytes_per_s;
    return true;
}

static void round_end(DwcpLedbat *ledbat, const Round *round, unsigned count,
                      bool datacenter, uint64_t now_ns)
{
    double target_us =
        datacenter ? DWCP_LEDBAT_TARGET_DATACENTER_US : DWCP_LEDBAT_TARGET_US;
    double rate, least;

    base_learn(ledbat, round, now_ns);
    if (!ledbat->base_us || !round->rtt_us) {
        return;
    }
    ledbat->holds = round->rate >= 0.9 * (double)ledbat->rate_bytes_per_s;
    ledbat->rtt_us = round->rtt_us;
    ledbat->queue_us = round->rtt_us - ledbat->base_us;
    if ((uint64_t)round->rate > ledbat->peak ||
        now_ns - ledbat->peak_ns > PEAK_NS) {
        ledbat->peak = (uint64_t)round->rate;
        ledbat->peak_ns = now_ns;
    }
    /* Two segments for each stream and RTT: fewer tell nothing in time. */
    least = 2.0 * MSS * count * 1e6 / ledbat->base_us;
    if (least > (double)ledbat->peak / 32) {
        least = (double)ledbat->peak / 32;
    }
    if (!slow_down(ledbat, target_us, now_ns)) {
        rate = answer(ledbat, round, target_us);
        rate = rate > least ? rate : least;
        ledbat->rate_bytes_per_s =
            rate > DWCP_LEDBAT_RATE_MIN ? (uint64_t)rate : DWCP_LEDBAT_RATE_MIN;
    } else if (ledbat->slow) {
        ledbat->rate_bytes_per_s = least > DWCP_LEDBAT_RATE_MIN
                                       ? (uint64_t)least
                                       : DWCP_LEDBAT_RATE_MIN;
    }
}

bool dwcp_ledbat_tick(DwcpLedbat *ledbat, const DwcpFlowInfo *infos,
                      unsigned count, bool datacenter, uint64_t now_ns)
{
    uint64_t before = ledbat->rate_bytes_per_s;
    uint64_t round_ns = ledbat->rtt_us * 1000ull;
    Round round;

    if (!count) {
        ledbat->start_ns = 0;
        return false;
    }
    if (!ledbat->start_ns) {
        round_start(ledbat, infos, count, now_ns);
        return false;
    }
    if (round_ns < DWCP_LEDBAT_ROUND_NS) {
        round_ns = DWCP_LEDBAT_ROUND_NS;
    }
    if (now_ns - ledbat->start_ns < round_ns) {
        return false;
    }
    round_look(ledbat, infos, count, now_ns, &round);
    if (!round.rtt_us && now_ns - ledbat->start_ns < DEAF_NS) {
        return false;
    }
    round_end(ledbat, &round, count, datacenter, now_ns);
    round_start(ledbat, infos, count, now_ns);
    return ledbat->rate_bytes_per_s != before;
}
