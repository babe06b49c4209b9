/*
 * What does each TCP stream wait for?
 *
 * TCP_INFO is read often (a tick); its counters are compared over a round, an
 * RTT or DWCP_FLOW_ROUND_NS, whichever is longer.  At the end of a round each
 * stream waits for one of
 *
 *   APPLICATION  half of the ticks found nothing unsent
 *   WINDOW       a limit of one connection: the send buffer, or the peer's
 *                window, full of what is in flight.  More streams help
 *   RECEIVER     the peer's window, but less than 5/8 of it is in flight: the
 *                rest waits in the peer's buffer, it reads too slowly.  More
 *                streams do not help
 *   NETWORK      its congestion window
 *
 * and all of them together wait for what most of them wait for; where that is
 * NETWORK and no queue stands in front of the link, it is not the link that
 * keeps the windows small, but
 *
 *   LOSS         something was retransmitted of late
 *   ROOM         nothing was: they have not grown into the link yet
 *
 * A congestion control that is blind to loss (BBR) is in neither.
 *
 * The queue is the smallest smoothed RTT of the round's ticks, in the median
 * stream, above the least RTT that any stream remembers; it stands if it is
 * an eighth of that, but 1 ms at least and 10 ms at most.
 *
 * Source: RFC 4898; TCP_INFO's busy_time, rwnd_limited and sndbuf_limited.
 * Threads: none of its own; the owner locks.  Time comes in with each call.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_FLOW_H
#define DWCP_CORE_FLOW_H

#include "core/bounds.h"

#define DWCP_FLOW_ROUND_NS 50000000ull
/* Rounds that a retransmission counts as of late. */
#define DWCP_FLOW_LOSS_ROUNDS 8u
/* A smoothed RTT is news for so long after the last acknowledgement. */
#define DWCP_FLOW_NEWS_MS 200u

/*
 * DwcpFlowInfo: one stream at a tick; the fields of struct tcp_info, of which
 * those marked (sum) count from the start of the connection
 *
 * @id: of the connection; a new one has a new id
 */
typedef struct DwcpFlowInfo {
    uint64_t id;
    uint64_t acked_bytes;       /* (sum) tcpi_bytes_acked */
    uint64_t busy_us;           /* (sum) tcpi_busy_time */
    uint64_t rwnd_limited_us;   /* (sum) */
    uint64_t sndbuf_limited_us; /* (sum) */
    uint32_t retrans_segs;      /* (sum) tcpi_total_retrans; may wrap */
    uint32_t acks;              /* (sum) tcpi_segs_in, about; may wrap */
    uint32_t srtt_us;           /* tcpi_rtt; 0 = not known yet */
    uint32_t min_rtt_us;        /* UINT32_MAX = not known yet */
    uint32_t peer_window_bytes; /* tcpi_snd_wnd; 0 = an older kernel */
    uint32_t unsent_bytes;      /* tcpi_notsent_bytes */
    uint32_t silent_ms;         /* tcpi_last_ack_recv */
    bool loss_blind;            /* TCP_CONGESTION is bbr or its like */
} DwcpFlowInfo;

typedef enum DwcpFlowLimit {
    DWCP_FLOW_APPLICATION,
    DWCP_FLOW_RECEIVER,
    DWCP_FLOW_WINDOW,
    DWCP_FLOW_NETWORK,
    DWCP_FLOW_ROOM,
    DWCP_FLOW_LOSS,
    DWCP_FLOW_LIMITS,
} DwcpFlowLimit;

/* DwcpFlowRound: what a round has shown */
typedef struct DwcpFlowRound {
    unsigned streams; /* that were there at its end */
    uint64_t span_ns;
    uint64_t rate_bytes_per_s; /* acknowledged, all together */
    uint32_t rtt_us;           /* median */
    uint32_t queue_us;         /* of rtt_us, what is not the path */
    bool queue_stands;
    DwcpFlowLimit limit; /* of all together */
} DwcpFlowRound;

typedef struct DwcpFlows {
    struct DwcpFlow {
        DwcpFlowInfo first; /* at the round's start */
        uint32_t least_us;  /* srtt in this round */
        unsigned ticks, empty_ticks;
    } flows[DWCP_STREAMS_MAX];
    unsigned count;
    uint64_t start_ns; /* of the round; 0 = none yet */
    uint32_t rtt_us;   /* of the round before; 0 = not known */
    unsigned lossless_rounds;
} DwcpFlows;

void dwcp_flows_init(DwcpFlows *flows);

/*
 * dwcp_flows_tick: look at all streams
 *
 * @infos, @count: those that stand, the oldest first: one whose place changes
 *                 otherwise than by others leaving is taken for a new one
 *
 * Returns: true and *@round when a round ended.
 * Complexity: O(count), at a round's end O(count^2).
 */
bool dwcp_flows_tick(DwcpFlows *flows, const DwcpFlowInfo *infos,
                     unsigned count, uint64_t now_ns, DwcpFlowRound *round);

/* dwcp_flows_rtt_us: smoothed, of the median stream of those that have news, or
 * if none has of all; 0 = not known.  The others remember what the path was. */
uint32_t dwcp_flows_rtt_us(const DwcpFlowInfo *infos, unsigned count);
/* dwcp_flows_min_rtt_us: the least that any remembers; UINT32_MAX = not known */
uint32_t dwcp_flows_min_rtt_us(const DwcpFlowInfo *infos, unsigned count);

#endif
