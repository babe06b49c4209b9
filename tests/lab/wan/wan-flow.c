/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-flow.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#define NOWHERE UINT32_MAX
/* Positions are sequence numbers that do not wrap; this far from 0, so that
 * the first can be gone below. */
#define POSITION_BASE ((uint64_t)1 << 32)

_Static_assert((WAN_FLOW_CHAINS & (WAN_FLOW_CHAINS - 1)) == 0,
               "chains are found by masking");

int wan_flows_init(WanFlows *flows)
{
    uint32_t i;

    memset(flows, 0, sizeof(*flows));
    flows->flows = calloc(WAN_FLOWS_MAX, sizeof(*flows->flows));
    flows->holes = calloc(WAN_HOLES_MAX, sizeof(*flows->holes));
    if (!flows->flows || !flows->holes) {
        wan_flows_clear(flows);
        return -ENOMEM;
    }
    for (i = 0; i < WAN_FLOW_CHAINS; i++) {
        flows->chains[i] = NOWHERE;
    }
    for (i = 0; i < WAN_HOLES_MAX; i++) {
        flows->holes[i].next = i + 1 < WAN_HOLES_MAX ? i + 1 : NOWHERE;
    }
    return 0;
}

void wan_flows_clear(WanFlows *flows)
{
    free(flows->flows);
    free(flows->holes);
    memset(flows, 0, sizeof(*flows));
}

void wan_flows_reset_counters(WanFlows *flows)
{
    uint32_t i;

    flows->first = flows->again = (WanCount){0, 0};
    for (i = 0; i < WAN_FLOWS_MAX; i++) {
        flows->flows[i].first = flows->flows[i].again = (WanCount){0, 0};
    }
}

static uint32_t chain_of(const WanTcpKey *key)
{
    const uint8_t *bytes = (const uint8_t *)key;
    uint32_t hash = 2166136261u; /* FNV-1a */
    size_t i;

    for (i = 0; i < sizeof(*key); i++) {
        hash = (hash ^ bytes[i]) * 16777619u;
    }
    return (hash ^ hash >> 16) & (WAN_FLOW_CHAINS - 1);
}

WanFlow *wan_flows_find(const WanFlows *flows, const WanTcpKey *key)
{
    uint32_t at;

    for (at = flows->chains[chain_of(key)]; at != NOWHERE;
         at = flows->flows[at].next) {
        if (memcmp(&flows->flows[at].key, key, sizeof(*key)) == 0) {
            return &flows->flows[at];
        }
    }
    return NULL;
}

WanFlowRef wan_flows_ref(const WanFlows *flows, const WanFlow *flow)
{
    return (WanFlowRef){flow->number, (uint32_t)(flow - flows->flows)};
}

WanFlow *wan_flows_at(const WanFlows *flows, WanFlowRef ref)
{
    WanFlow *flow = &flows->flows[ref.place];

    return ref.number != 0 && flow->number == ref.number ? flow : NULL;
}

WanFlow *wan_flows_by_number(const WanFlows *flows, uint32_t number)
{
    uint32_t i;

    for (i = 0; i < WAN_FLOWS_MAX; i++) {
        if (number != 0 && flows->flows[i].number == number) {
            return &flows->flows[i];
        }
    }
    return NULL;
}

WanFlow *wan_flows_next(const WanFlows *flows, const WanFlow *after)
{
    uint32_t number = after ? after->number : 0;
    WanFlow *found = NULL;
    uint32_t i;

    for (i = 0; i < WAN_FLOWS_MAX; i++) {
        WanFlow *flow = &flows->flows[i];

        if (flow->number > number && (!found || flow->number < found->number)) {
            found = flow;
        }
    }
    return found;
}

static void free_holes(WanFlows *flows, WanFlow *flow)
{
    if (flow->hole == NOWHERE) {
        return;
    }
    flows->holes[flow->hole_at].next = flows->hole_free;
    flows->hole_free = flow->hole;
    flow->hole = flow->hole_at = NOWHERE;
}

static void forget(WanFlows *flows, WanFlow *flow)
{
    uint32_t place = (uint32_t)(flow - flows->flows);
    uint32_t *link = &flows->chains[chain_of(&flow->key)];

    while (*link != place) {
        link = &flows->flows[*link].next;
    }
    *link = flow->next;
    free_holes(flows, flow);
    flow->number = 0;
}

/* A place that nobody has, or the one that was silent for longest. */
static WanFlow *make_room(WanFlows *flows)
{
    WanFlow *oldest = &flows->flows[0];
    uint32_t i;

    for (i = 0; i < WAN_FLOWS_MAX; i++) {
        WanFlow *flow = &flows->flows[i];

        if (flow->number == 0) {
            return flow;
        }
        if (flow->used < oldest->used) {
            oldest = flow;
        }
    }
    forget(flows, oldest);
    return oldest;
}

static WanFlow *flow_new(WanFlows *flows, const WanTcp *tcp)
{
    WanFlow *flow = make_room(flows);
    uint32_t *chain = &flows->chains[chain_of(&tcp->key)];
    /* The first byte's number is one more than the SYN's. */
    uint32_t start = tcp->seq + ((tcp->flags & TH_SYN) != 0);

    *flow = (WanFlow){.key = tcp->key,
                      .number = ++flows->number,
                      .next = *chain,
                      .first_seq = tcp->seq,
                      .end = POSITION_BASE + start,
                      .hole = NOWHERE,
                      .hole_at = NOWHERE};
    *chain = (uint32_t)(flow - flows->flows);
    return flow;
}

WanFlow *wan_flows_note(WanFlows *flows, const WanTcp *tcp)
{
    WanFlow *flow = wan_flows_find(flows, &tcp->key);

    if (flow && (tcp->flags & TH_SYN) && tcp->seq != flow->first_seq) {
        forget(flows, flow);
        flow = NULL;
    }
    if (!flow) {
        flow = flow_new(flows, tcp);
    }
    flow->used = ++flows->seen;
    flow->reset |= (tcp->flags & TH_RST) != 0;
    flow->finished |= (tcp->flags & TH_FIN) != 0;
    if ((tcp->flags & (TH_ACK | TH_RST)) == TH_ACK &&
        (!flow->has_ack || (int32_t)(tcp->ack - flow->ack) > 0)) {
        flow->has_ack = true;
        flow->ack = tcp->ack;
    }
    return flow;
}

/* Adds [flow's end, start) behind its other holes. */
static void add_hole(WanFlows *flows, WanFlow *flow, uint64_t start)
{
    uint32_t at = flows->hole_free;

    if (at == NOWHERE) {
        return;
    }
    flows->hole_free = flows->holes[at].next;
    flows->holes[at] = (WanHole){flow->end, start, NOWHERE};
    if (flow->hole == NOWHERE) {
        flow->hole = at;
    } else {
        flows->holes[flow->hole_at].next = at;
    }
    flow->hole_at = at;
}

/* Splits a hole before @start, which lies within it. Returns whether there was
 * a place for the second half; otherwise that is forgotten. */
static bool split_hole(WanFlows *flows, WanFlow *flow, uint32_t at,
                       uint64_t start)
{
    uint32_t second = flows->hole_free;
    WanHole *hole = &flows->holes[at];

    if (second == NOWHERE) {
        hole->end = start;
        return false;
    }
    flows->hole_free = flows->holes[second].next;
    flows->holes[second] = (WanHole){start, hole->end, hole->next};
    hole->end = start;
    hole->next = second;
    if (flow->hole_at == at) {
        flow->hole_at = second;
    }
    return true;
}

/* Takes [start, end) out of the flow's holes; returns how many bytes of it
 * were in them. */
static uint64_t fill_holes(WanFlows *flows, WanFlow *flow, uint64_t start,
                           uint64_t end)
{
    uint32_t *link = &flow->hole, before = NOWHERE;
    uint64_t filled = 0;

    while (*link != NOWHERE && flows->holes[*link].start < end) {
        uint32_t at = *link;
        WanHole *hole = &flows->holes[at];

        if (hole->end <= start) {
            before = at;
            link = &hole->next;
            continue;
        }
        if (hole->start < start) {
            uint64_t whole_end = hole->end < end ? hole->end : end;

            if (!split_hole(flows, flow, at, start)) {
                filled += whole_end - start;
            }
            continue; /* its second half is the next */
        }
        if (hole->end > end) {
            filled += end - hole->start;
            hole->start = end;
            break;
        }
        filled += hole->end - hole->start;
        *link = hole->next;
        if (flow->hole_at == at) {
            flow->hole_at = before;
        }
        hole->next = flows->hole_free;
        flows->hole_free = at;
    }
    return filled;
}

static void count(WanCount *counter, uint64_t packets, uint64_t bytes)
{
    counter->packets += packets;
    counter->bytes += bytes;
}

static void carry_segment(WanFlows *flows, WanFlow *flow, uint64_t start,
                          uint32_t bytes, uint32_t header_bytes)
{
    uint64_t end = start + bytes, fresh = 0;

    if (start < flow->end) {
        fresh = fill_holes(flows, flow, start, end);
    } else if (start > flow->end) {
        add_hole(flows, flow, start);
    }
    if (end > flow->end) {
        fresh += end - (start > flow->end ? start : flow->end);
        flow->end = end;
    }
    if (fresh > 0) {
        count(&flow->first, 1, fresh + header_bytes);
        count(&flows->first, 1, fresh + header_bytes);
        count(&flow->again, 0, bytes - fresh);
        count(&flows->again, 0, bytes - fresh);
    } else {
        count(&flow->again, 1, bytes + header_bytes);
        count(&flows->again, 1, bytes + header_bytes);
    }
}

void wan_flows_carry(WanFlows *flows, const WanRun *run)
{
    WanFlow *flow = wan_flows_at(flows, run->flow);
    uint32_t done, bytes;
    uint64_t start;

    if (!flow) {
        return;
    }
    start = flow->end +
            (uint64_t)(int64_t)(int32_t)(run->seq - (uint32_t)flow->end);
    for (done = 0; done < run->payload_bytes; done += bytes) {
        bytes = run->payload_bytes - done;
        if (bytes > run->segment_bytes) {
            bytes = run->segment_bytes;
        }
        carry_segment(flows, flow, start + done, bytes, run->header_bytes);
    }
}
