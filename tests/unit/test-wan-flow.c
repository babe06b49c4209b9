/*
 * wan-flow: what a connection sends is counted as first and again exactly,
 * whatever was dropped, repeated or out of order; flows are told apart, also
 * one from the next between the same ports; and the table never overflows.
 *
 * Random sequences are checked against a map of every byte.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-flow.h"
#include "wan-loss.h"

#include <assert.h>
#include <netinet/tcp.h>
#include <string.h>

#define MSS 1000u
#define HEADER 52u
#define ISN 0xfffff000u /* wraps soon */
#define SPACE 60000u

static WanFlows flows;
static WanLoss dice;

static WanTcp packet(uint16_t port, uint32_t seq, uint8_t flags)
{
    WanTcp tcp = {.key = {.source = {10}, .target = {11}, .version = 4}};

    tcp.key.source_port = port;
    tcp.seq = seq;
    tcp.flags = flags;
    return tcp;
}

static WanFlow *note(uint16_t port, uint32_t seq, uint8_t flags)
{
    WanTcp tcp = packet(port, seq, flags);

    return wan_flows_note(&flows, &tcp);
}

static void carry(const WanFlow *flow, uint32_t at, uint32_t bytes)
{
    WanRun run = {.flow = wan_flows_ref(&flows, flow),
                  .seq = ISN + 1 + at,
                  .payload_bytes = bytes,
                  .segment_bytes = MSS,
                  .header_bytes = HEADER};

    wan_flows_carry(&flows, &run);
}

static void check_counts(const WanFlow *flow, uint64_t first_packets,
                         uint64_t first_bytes, uint64_t again_packets,
                         uint64_t again_bytes)
{
    assert(flow->first.packets == first_packets);
    assert(flow->first.bytes == first_bytes + first_packets * HEADER);
    assert(flow->again.packets == again_packets);
    assert(flow->again.bytes == again_bytes + again_packets * HEADER);
}

static void test_first_and_again(void)
{
    WanFlow *flow;

    assert(wan_flows_init(&flows) == 0);
    flow = note(1, ISN, TH_SYN);
    carry(flow, 0, 3 * MSS + 1);
    check_counts(flow, 4, 3 * MSS + 1, 0, 0);
    carry(flow, MSS, MSS);
    check_counts(flow, 4, 3 * MSS + 1, 1, MSS);
    /* The last byte again, and new ones in the same segment. */
    carry(flow, 3 * MSS, 10);
    check_counts(flow, 5, 3 * MSS + 10, 1, MSS + 1);
    assert(flows.first.bytes == flow->first.bytes);
    assert(flows.again.packets == 1);

    /* What the queue has dropped comes for the first time later. */
    carry(flow, 10 * MSS, 2 * MSS);
    carry(flow, 5 * MSS, 2 * MSS); /* the middle of what is missing */
    carry(flow, 4 * MSS, 4 * MSS); /* the rest of it, half twice */
    check_counts(flow, 5 + 2 + 2 + 2, 3 * MSS + 10 + 6 * MSS, 1 + 2,
                 MSS + 1 + 2 * MSS);

    /* Counters start anew; what was carried does not. */
    wan_flows_reset_counters(&flows);
    assert(flows.first.bytes == 0 && flows.again.bytes == 0);
    carry(flow, 10 * MSS, MSS);
    carry(flow, 8 * MSS, MSS);
    check_counts(flow, 1, MSS, 1, MSS);
    wan_flows_clear(&flows);
}

/* Any order of pieces, against a map of bytes. */
static void test_against_a_map(uint64_t seed)
{
    static bool seen[SPACE];
    uint64_t first = 0, again = 0;
    WanFlow *flow;
    uint32_t i, j;

    memset(seen, 0, sizeof(seen));
    wan_loss_init(&dice, seed);
    assert(wan_flows_init(&flows) == 0);
    flow = note(1, ISN, TH_SYN);
    for (i = 0; i < 2000; i++) {
        uint32_t bytes = 1 + (uint32_t)(wan_loss_uniform(&dice) * 3000);
        uint32_t at =
            (uint32_t)(wan_loss_uniform(&dice) * (double)(SPACE - bytes));

        for (j = at; j < at + bytes; j++) {
            first += !seen[j];
            again += seen[j];
            seen[j] = true;
        }
        carry(flow, at, bytes);
        assert(flow->first.bytes - flow->first.packets * HEADER == first);
        assert(flow->again.bytes - flow->again.packets * HEADER == again);
    }
    wan_flows_clear(&flows);
}

/* More holes than there is room for: nothing breaks, nothing is counted as
 * first twice, and all room comes back. */
static void test_too_many_holes(void)
{
    WanFlow *flow;
    uint32_t i;

    assert(wan_flows_init(&flows) == 0);
    flow = note(1, ISN, TH_SYN);
    for (i = 1; i <= WAN_HOLES_MAX + 100; i++) {
        carry(flow, 2 * i, 1);
    }
    assert(flow->first.packets == WAN_HOLES_MAX + 100);
    /* The first hole is two bytes wide, and cannot be split now. */
    carry(flow, 1, 1);
    carry(flow, 0, 2 * WAN_HOLES_MAX + 300);
    assert(flow->first.bytes - flow->first.packets * HEADER <=
           2 * WAN_HOLES_MAX + 300);
    assert(flow->hole == UINT32_MAX);
    /* One with holes makes room for another. */
    carry(flow, 5000000, 1);
    carry(flow, 5000010, 1);
    (void)note(1, ISN + 1000000, TH_SYN);
    for (i = 0; flows.hole_free != UINT32_MAX; i++) {
        flows.hole_free = flows.holes[flows.hole_free].next;
    }
    assert(i == WAN_HOLES_MAX);
    wan_flows_clear(&flows);
}

static void test_told_apart(void)
{
    WanFlow *one, *other, *next;
    WanTcp tcp;
    WanFlowRef ref;

    assert(wan_flows_init(&flows) == 0);
    one = note(1, ISN, TH_SYN);
    other = note(2, 5, TH_ACK); /* from the middle on */
    assert(one != other && one->number == 1 && other->number == 2);
    assert(note(1, ISN, TH_SYN) == one); /* the SYN again */
    assert(wan_flows_find(&flows, &one->key) == one);
    assert(wan_flows_by_number(&flows, 2) == other);
    assert(wan_flows_by_number(&flows, 0) == NULL);
    assert(wan_flows_next(&flows, NULL) == one);
    assert(wan_flows_next(&flows, one) == other);
    assert(wan_flows_next(&flows, other) == NULL);

    tcp = packet(1, ISN + 1, TH_ACK);
    tcp.ack = 0xfffffffe;
    assert(wan_flows_note(&flows, &tcp)->ack == 0xfffffffe && one->has_ack);
    tcp.ack = 3;
    assert(wan_flows_note(&flows, &tcp)->ack == 3);
    tcp.ack = 1; /* an old packet */
    assert(wan_flows_note(&flows, &tcp)->ack == 3);
    assert(!one->finished && note(1, ISN + 1, TH_FIN | TH_ACK)->finished);
    assert(!one->reset && note(1, ISN + 2, TH_RST)->reset);

    /* A new connection from the same port is another flow. */
    ref = wan_flows_ref(&flows, one);
    one->fate = WAN_FATE_DROP;
    next = note(1, ISN + 7, TH_SYN);
    assert(next->number == 3 && next->fate == WAN_FATE_NONE);
    assert(wan_flows_at(&flows, ref) == NULL);
    carry(&(WanFlow){.number = 0}, 0, 0);
    wan_flows_clear(&flows);
}

static void test_room(void)
{
    WanFlow *kept;
    WanFlowRef lost;
    uint32_t i;

    assert(wan_flows_init(&flows) == 0);
    kept = note(0, ISN, TH_SYN);
    lost = wan_flows_ref(&flows, note(1, ISN, TH_SYN));
    for (i = 2; i < WAN_FLOWS_MAX + 500; i++) {
        note((uint16_t)i, ISN, TH_SYN);
        note(0, ISN + 1, TH_ACK);
    }
    assert(wan_flows_at(&flows, lost) == NULL);
    assert(note(0, ISN + 1, TH_ACK) == kept && kept->number == 1);
    for (i = WAN_FLOWS_MAX; i < WAN_FLOWS_MAX + 500; i++) {
        WanTcp tcp = packet((uint16_t)i, ISN, TH_SYN);

        assert(wan_flows_find(&flows, &tcp.key)->number == i + 1);
    }
    wan_flows_clear(&flows);
}

int main(void)
{
    uint64_t seed;

    test_first_and_again();
    for (seed = 1; seed <= 5; seed++) {
        test_against_a_map(seed);
    }
    test_too_many_holes();
    test_told_apart();
    test_room();
    return 0;
}
