/*
 * A small model of TCP flows through one bottleneck, for tests
 *
 * Fluid, in steps of a fraction of the RTT: each flow sends its window each
 * RTT into one queue that is served at the link's rate and overflows.  Flows
 * are CUBIC (slow start with HyStart's delay exit; RFC 9438's growth with its
 * Reno region; 0.7 at a loss, once an RTT), blind to loss (BBR's shape: the
 * window follows the best delivery of late), held by the peer's window, or by
 * an application that has only so much to send.  Losses on the line are random
 * from a seed.
 *
 * FLUID_BURST fits the model to what Linux 6.1 was measured at: at 0.1 % loss,
 * 300 Mbit/s and 100 ms 8, 32 and 64 CUBIC streams hold 66, 217 and 287
 * Mbit/s, at 1 % 12, 46 and 92.  Segments leave in bursts, and the losses of a
 * burst are one event.  The model has 0.7 to 1.5 of these.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_FLUID_H
#define DWCP_TESTS_FLUID_H

#include "core/flow.h"

#define FLUID_BURST 0.6
#define FLUID_MSS 1448.0

typedef enum FluidKind {
    FLUID_CUBIC,
    FLUID_BBR,
} FluidKind;

typedef struct FluidFlow {
    bool alive;
    uint64_t id;
    FluidKind kind;
    double begin_s; /* sends from then on */
    double window;  /* segments; what congestion control allows */
    double slow_threshold, window_max, epoch_s, reno;
    double recover_s;        /* no second reduction before */
    double best, plain_s;    /* BBR: delivery, when it last grew */
    bool startup;            /* BBR */
    double peer_window;      /* bytes; 0 = no limit */
    double demand;           /* bytes/s; 0 = no limit */
    double pace;             /* the same, of this flow alone */
    double acks;
    double acked, delivered; /* bytes; bytes/s in the last step */
    double retrans, busy_s, rwnd_s, srtt_s, min_rtt_s;
    bool idle, held; /* by the application, by the peer's window */
} FluidFlow;

typedef struct Fluid {
    /* the path; may change at any time */
    double capacity;  /* bytes/s */
    double rtt_s;     /* without queue */
    double queue_max; /* bytes */
    double loss;      /* of segments, at random */
    /* what flows begin with */
    FluidKind kind;
    double peer_window;               /* bytes; 0 = no limit */
    double demand_total, demand_each; /* bytes/s; 0 = no limit */
    double paced_total; /* bytes/s of the first paced_count; 0 = no limit */
    unsigned paced_count;
    double early; /* slow start ends at this part of what others leave of the
                   * link, as by HyStart's ACK trains; 0 = at a queue only */
    bool per_ack; /* the smoothed RTT follows the ACKs, one for two segments */
    bool hidden; /* TCP_INFO does not show that it is the application */

    FluidFlow flows[DWCP_STREAMS_MAX];
    unsigned count;
    uint64_t next_id;
    double now_s, queue; /* bytes */
    double starting, others; /* in flight, in slow start and not */
    uint64_t seed;
} Fluid;

/* fluid_random: [0, 1), the next of @seed */
double fluid_random(uint64_t *seed);

/* fluid_join: flows until @count are there; new ones send two RTTs later */
void fluid_join(Fluid *fluid, unsigned count);

/* fluid_leave: the newest flows go until @count are left */
void fluid_leave(Fluid *fluid, unsigned count);

/* fluid_run: let @time_s pass */
void fluid_run(Fluid *fluid, double time_s);

/* fluid_infos: as TCP_INFO would show it; Returns: flows that have begun */
unsigned fluid_infos(const Fluid *fluid, DwcpFlowInfo infos[DWCP_STREAMS_MAX]);

/* fluid_acked: bytes, of all flows that are there */
double fluid_acked(const Fluid *fluid);

#endif
