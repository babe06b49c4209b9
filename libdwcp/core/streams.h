/*
 * How many streams?
 *
 * A hill is climbed with evidence.  Rounds (core/flow) say what the streams
 * wait for and what they carry together.
 *
 *   STEADY   the count is kept
 *   UP       more were asked for; are they worth it?
 *   DOWN     some were given back; were they worth anything?
 *
 * STEADY -> UP when two rounds in a row found the streams waiting for what
 * more streams change: losses without a queue, windows that neither a queue nor
 * losses keep from growing and that are out of slow start (HyStart leaves it at
 * two thirds of a link) on a long path, or a connection's own window; in
 * datacenter mode also threads (frames are ready, the streams find nothing
 * unsent).  By four times if windows are small, else twice.  Up to 64 in
 * datacenter mode, on a long path and for losses, else 16; never while
 * max-bandwidth is what holds them.
 * UP -> STEADY, with what was added, as soon as the total has grown by a
 * quarter of what that many times the streams would carry if all were alike,
 * though by half at most (8 to 32: half more, 32 to 64: a quarter more); or
 * when it has fallen by 15 % and the same is still waited for: what it is
 * compared with is gone (after a loss-free time CUBIC's windows melt for many
 * RTTs).  If the same is still waited for then, at once on.  Or when the new
 * streams have had their time (to join, as many RTTs as slow start takes to
 * where the old ones are, and SETTLE_ROUNDS): if the total has grown by an
 * eighth, or the link is full, they are kept.  Else they are given back, and
 * that more is no use is remembered for DWCP_STREAMS_LOOK_NS, twice as long
 * each time, or until the total falls below 3/4 of what it was.
 * STEADY -> DOWN to a half when the streams have not waited for what more of
 * them change for DWCP_STREAMS_REST_NS, and are more than DWCP_STREAMS_NORMAL,
 * or all that time found nothing to send and are more than
 * DWCP_STREAMS_LEAST.
 * DOWN -> STEADY after REST_ROUNDS: a total that fell by a tenth brings them
 * back, by a quarter already after SETTLE_ROUNDS.  If they come back, then or
 * in the time until the next look, that waits twice as long.
 *
 * The link is full if it carries 95 % of what it did when a queue stood in
 * front of it last, in the last 30 s: CUBIC streams that fill a link empty its
 * queue for a while now and then, and that is no reason for more of them.
 *
 * So a steady path sees two changes (there and back) in DWCP_STREAMS_LOOK_NS
 * at most, and ever fewer.  A count that the user gave is kept.
 *
 * How fast: a step is a join (2 RTT), slow start to a part of what the old
 * streams hold, and a round to see it: 4 to 6 RTT.  From 8 streams to 64 are
 * two steps and the two rounds before the first: 10 to 14 RTT where losses are
 * there from the start.  Where they begin later, the old windows melt first,
 * and what they still carry is judged with the rest: up to 35.
 *
 * Threads: none of its own; the owner locks.  Time comes in with each call.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_STREAMS_H
#define DWCP_CORE_STREAMS_H

#include "core/flow.h"
#include "core/mode.h"

#define DWCP_STREAMS_LEAST 4u
#define DWCP_STREAMS_NORMAL 16u
#define DWCP_STREAMS_LOOK_NS 60000000000ull
#define DWCP_STREAMS_LOOK_NS_MAX 960000000000ull
#define DWCP_STREAMS_REST_NS 60000000000ull
/* The owner could not make the streams that were asked for. */
#define DWCP_STREAMS_JOIN_NS 12000000000ull

/* DwcpStreamsReason: of the last change */
typedef enum DwcpStreamsReason {
    DWCP_STREAMS_START,
    DWCP_STREAMS_PINNED,
    DWCP_STREAMS_LOSS,
    DWCP_STREAMS_ROOM,
    DWCP_STREAMS_WINDOW,
    DWCP_STREAMS_THREADS,
    DWCP_STREAMS_NO_GAIN, /* more did not help */
    DWCP_STREAMS_NO_JOIN, /* more could not be made */
    DWCP_STREAMS_REST,    /* fewer may do */
    DWCP_STREAMS_MISSED,  /* fewer did not do */
    DWCP_STREAMS_REASONS,
} DwcpStreamsReason;

typedef struct DwcpStreamsTick {
    uint64_t now_ns;
    const DwcpFlowInfo *infos; /* as dwcp_flows_tick, without those retired */
    unsigned count;
    DwcpMode mode;
    bool paced;   /* since the last tick the token bucket was waited for */
    bool backlog; /* encoded frames waited for a stream then */
} DwcpStreamsTick;

typedef struct DwcpStreams {
    unsigned wanted; /* the answer */
    DwcpStreamsReason reason;
    uint64_t since_ns;
    uint64_t changes;
    bool pinned;
    DwcpFlowRound round; /* the last; for statistics */

    DwcpFlows flows;
    enum { DWCP_STREAMS_STEADY, DWCP_STREAMS_UP, DWCP_STREAMS_DOWN } state;
    bool paced, backlog; /* in this round */
    bool grows;          /* as in slow start, in the last round */
    unsigned hungry;     /* rounds in a row, for the same */
    DwcpFlowLimit hunger;
    unsigned busy;    /* rounds in a row with something to send */
    uint64_t fed_ns;  /* since when they have not been; 0 = they are */
    uint64_t idle_ns; /* since when there is nothing to send; 0 = there is */

    /* of the try under way */
    unsigned before; /* streams */
    uint64_t before_bytes_per_s;
    uint64_t joined_ns; /* 0 = not all yet */
    unsigned rounds, rounds_max;

    double average;            /* bytes/s, of the last rounds */
    uint64_t full_ns;          /* when a queue stood last; 0 = not of late */
    uint64_t full_bytes_per_s; /* the average then */

    /* what is remembered */
    uint64_t up_ns, up_wait_ns; /* no look for more until */
    uint64_t up_bytes_per_s;
    uint64_t down_ns, down_wait_ns; /* no look for fewer until */
    uint64_t rested_ns;             /* the last look for fewer; 0 = none */
} DwcpStreams;

/* dwcp_streams_init: @wanted 1 to DWCP_STREAMS_MAX to begin with; @pinned: and
 * for ever */
void dwcp_streams_init(DwcpStreams *streams, unsigned wanted, bool pinned,
                       uint64_t now_ns);

/*
 * dwcp_streams_tick: look at the streams, each 20 to 50 ms
 *
 * Returns: did `wanted` change?
 */
bool dwcp_streams_tick(DwcpStreams *streams, const DwcpStreamsTick *tick);

const char *dwcp_streams_reason_text(DwcpStreamsReason reason);

#endif
