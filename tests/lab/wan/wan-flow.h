/*
 * The TCP connections in one direction of a link: how much of each the link
 * carries for the first time and how much again, and whether it still lets a
 * connection through.
 *
 * What is carried is noted when it leaves the bottleneck, so a segment that
 * the queue dropped is carried for the first time when it comes again, and one
 * that the path lost is carried twice. What has not been carried below the
 * highest byte is kept as a list of holes, per flow in rising order. Holes come
 * from a pool; without a free one a hole is forgotten, and what fills it later
 * counts as carried again.
 *
 * A flow that is to end has a fate: its packets are dropped (a path that takes
 * no more of it) or answered by resets (a firewall that has forgotten it).
 * A new connection between the same ports is a new flow.
 *
 * All memory is allocated at the start. When all flows are in use, the one that
 * has been silent for longest makes room.
 *
 * Threads: the caller's lock around every call.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_FLOW_H
#define WAN_FLOW_H

#include "wan-tcp.h"

/* A power of two, as is the number of hash chains. */
#define WAN_FLOWS_MAX 1024u
#define WAN_FLOW_CHAINS 256u
#define WAN_HOLES_MAX 32768u

typedef struct WanCount {
    uint64_t packets; /* segments as a wire would carry them */
    uint64_t bytes;   /* with their IP and TCP headers */
} WanCount;

typedef enum WanFate { WAN_FATE_NONE, WAN_FATE_DROP, WAN_FATE_RESET } WanFate;

/* A place in the table and the number of who is there: it names nobody once
 * the place has been given to another. 0 is no flow. */
typedef struct WanFlowRef {
    uint32_t number;
    uint32_t place;
} WanFlowRef;

typedef struct WanFlow {
    WanTcpKey key;
    uint32_t number; /* from 1 on, in the order of their first packets */
    uint32_t next;   /* place of the next in its hash chain */
    uint32_t first_seq;
    uint32_t ack; /* the newest that its sender has acknowledged */
    bool has_ack;
    bool reset;    /* a reset was seen */
    bool finished; /* a FIN was seen */
    WanFate fate;
    uint64_t used;    /* when it was last seen, in packets */
    uint64_t end;     /* position after the highest byte carried */
    uint32_t hole;    /* its first hole */
    uint32_t hole_at; /* its last */
    WanCount first;   /* segments with bytes not carried before */
    WanCount again;   /* the others, and bytes carried before in the first */
} WanFlow;

/* [start, end) has not been carried. */
typedef struct WanHole {
    uint64_t start;
    uint64_t end;
    uint32_t next;
} WanHole;

typedef struct WanFlows {
    WanFlow *flows;
    WanHole *holes;
    uint32_t chains[WAN_FLOW_CHAINS];
    uint32_t hole_free;
    uint32_t number;
    uint64_t seen; /* packets */
    WanCount first;
    WanCount again;
} WanFlows;

/* Segments of one flow that leave the bottleneck together. */
typedef struct WanRun {
    WanFlowRef flow;
    uint32_t seq;
    uint32_t payload_bytes;
    uint32_t segment_bytes; /* payload of each but the last */
    uint32_t header_bytes;  /* of each */
} WanRun;

/* Returns: 0, or -ENOMEM. */
int wan_flows_init(WanFlows *flows) __attribute__((warn_unused_result));
void wan_flows_clear(WanFlows *flows);

/* Sets all counters to 0; what was carried stays known. */
void wan_flows_reset_counters(WanFlows *flows);

/* Notes a packet that the sender offers, and returns its flow. */
WanFlow *wan_flows_note(WanFlows *flows, const WanTcp *tcp);

WanFlowRef wan_flows_ref(const WanFlows *flows, const WanFlow *flow);

/* The flow that is meant; NULL if it has been forgotten. */
WanFlow *wan_flows_at(const WanFlows *flows, WanFlowRef ref);
WanFlow *wan_flows_find(const WanFlows *flows, const WanTcpKey *key);
WanFlow *wan_flows_by_number(const WanFlows *flows, uint32_t number);

/* The flow with the next higher number; from NULL on. NULL ends it.
 * Complexity: WAN_FLOWS_MAX. */
WanFlow *wan_flows_next(const WanFlows *flows, const WanFlow *after);

/* Counts what the link has carried. */
void wan_flows_carry(WanFlows *flows, const WanRun *run);

#endif
