/*
 * A session that yields: at what rate may it send and not be in the way?
 *
 * A less-than-best-effort transport (scavenger) in the way of LEDBAT: the delay
 * that the session adds to the path's own is kept at a target, and as others
 * fill the queue it gives way.  What is left over it takes.  Source: RFC 6817,
 * and the drafts of LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus) for the
 * slowdown and for fairness among each other.  Unlike them it does not set a
 * window but a pace, for all streams together; their own congestion controls
 * go on below it.
 *
 * Once a round, the RTT but at least DWCP_LEDBAT_ROUND_NS:
 *
 *   queue      = RTT in this round, less the least of the last minutes
 *   queue > 2 targets, or losses of more than a fiftieth
 *              the half of what was carried
 *   queue < a quarter of the target, and what was allowed was carried
 *              twice or four times as much, up to 9/10 of the most that was
 *              carried of late; from there on steps that make a queue of one
 *              target, if any, and grow while they make none
 *   else       what was carried, less gain * (queue / target - 1) of it, and a
 *              little more that grows with its square root.  So the queue
 *              stands a little above the target, the same for all that share
 *              it, and all have the same rate in the end
 *   less than 7/10 of what was allowed was carried, without a queue
 *              it is not the network: nothing changes
 *
 * After a halving or a step up the next round does not count: it shows what was
 * before.
 *
 * The gain is such that the time before an answer shows, an RTT and two or three
 * rounds, cannot make it swing: target / (2 * that).
 *
 * Slowdown: now and then the session sends next to nothing for a few rounds, so
 * that it sees the path without its own queue.  Else a late one would take the
 * queue of the first for the path.
 *
 * The RTT of a round is got back from the smoothed one (RFC 6298: each ACK has
 * weight 1/8), which at a low rate tells of long ago.
 *
 * Threads: none of its own; the owner locks.  Time comes in with each call.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_LEDBAT_H
#define DWCP_CORE_LEDBAT_H

#include "core/flow.h"

#define DWCP_LEDBAT_TARGET_US 25000u
#define DWCP_LEDBAT_TARGET_DATACENTER_US 5000u
#define DWCP_LEDBAT_ROUND_NS 50000000ull
/* It never stops: a session without any sign of life fails. */
#define DWCP_LEDBAT_RATE_MIN (64u << 10)
#define DWCP_LEDBAT_RATE_START (1u << 20)
#define DWCP_LEDBAT_BASES 5u /* minutes; the kernel's least RTT is as old */

typedef struct DwcpLedbat {
    uint64_t rate_bytes_per_s; /* the answer, for all streams together */
    bool holds; /* the streams carried nine tenths of it in the last round */
    uint32_t queue_us;         /* in the last round; for statistics */
    uint32_t base_us;          /* 0 = not known */

    uint32_t bases_us[DWCP_LEDBAT_BASES]; /* of each minute, a ring */
    unsigned base_at;
    uint64_t base_ns; /* since when that minute */

    struct DwcpLedbatFlow {
        uint64_t id, acked_bytes;
        uint32_t acks, srtt_us, retrans_segs;
    } flows[DWCP_STREAMS_MAX]; /* at the round's start */
    unsigned count;
    uint64_t start_ns; /* of the round; 0 = none yet */
    uint32_t rtt_us;   /* of the round before; 0 = not known */

    unsigned settles; /* rounds to come that show what was before a change */
    bool climbed;     /* without a queue, just now */
    unsigned bold;    /* steps up in a row that made no queue */
    uint64_t peak;    /* bytes/s, the most that was carried of late */
    uint64_t peak_ns;
    uint64_t slow_ns; /* when to slow down next; 0 = once a queue stands */
    unsigned slow; /* rounds of a slowdown that are left */
    uint64_t slow_rate; /* to come back to */
} DwcpLedbat;

void dwcp_ledbat_init(DwcpLedbat *ledbat);

/*
 * dwcp_ledbat_tick: look at all streams, each 20 to 50 ms
 *
 * @infos, @count: those that stand
 *
 * Returns: did the rate change?
 * Complexity: O(count^2).
 */
bool dwcp_ledbat_tick(DwcpLedbat *ledbat, const DwcpFlowInfo *infos,
                      unsigned count, bool datacenter, uint64_t now_ns);

#endif
