/*
 * wan-link: the model of a path keeps its promises about rate, delay, queue,
 * loss, outage and order, in virtual time, and never hands out other bytes
 * than it got.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-link.h"

#include <arpa/inet.h>
#include <assert.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <string.h>

#define MS 1000000u
#define PACKET 1500u
#define RING (8u * WAN_FRAME_MAX)
/* 1500 bytes take one millisecond. */
#define MS_RATE 12000000u

static WanLink link_;

static void setup(const WanLinkConfig *config, size_t ring_bytes)
{
    assert(wan_link_init(&link_, ring_bytes, 42) == 0);
    wan_link_configure(&link_, config, 0);
}

/* Offers an ordinary packet of @bytes that carries @mark. */
static void offer(uint32_t bytes, uint32_t mark, uint64_t now_ns)
{
    uint8_t *frame = wan_link_reserve(&link_);

    memset(frame, 0, WAN_VNET_BYTES);
    memset(frame + WAN_VNET_BYTES, (int)(mark & 0xff), bytes);
    memcpy(frame + WAN_VNET_BYTES, &mark, sizeof(mark));
    wan_link_offer(&link_, frame, WAN_VNET_BYTES + bytes, now_ns);
}

/* Offers a TCP super-packet of @count segments of 1500 bytes on the wire. */
static void offer_super(uint32_t count, uint64_t now_ns)
{
    uint32_t header_bytes = sizeof(struct ip) + sizeof(struct tcphdr);
    uint32_t mss = PACKET - header_bytes;
    struct virtio_net_hdr vnet = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                  .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                  .gso_size = (uint16_t)mss,
                                  .csum_start = sizeof(struct ip)};
    uint8_t *frame = wan_link_reserve(&link_);

    memset(frame, 0, WAN_VNET_BYTES + header_bytes + count * mss);
    memcpy(frame, &vnet, sizeof(vnet));
    frame[WAN_VNET_BYTES] = 0x45;
    frame[WAN_VNET_BYTES + sizeof(struct ip) + 12] = 0x50;
    wan_link_offer(&link_, frame, WAN_VNET_BYTES + header_bytes + count * mss,
                   now_ns);
}

/* Takes what is due; returns its mark, or UINT32_MAX if nothing is. */
static uint32_t take(uint64_t now_ns)
{
    uint32_t mark;
    size_t length, i;
    const uint8_t *frame = wan_link_due(&link_, now_ns, &length);

    if (!frame) {
        return UINT32_MAX;
    }
    memcpy(&mark, frame + WAN_VNET_BYTES, sizeof(mark));
    for (i = WAN_VNET_BYTES + sizeof(mark); i < length; i++) {
        assert(frame[i] == (uint8_t)mark);
    }
    wan_link_done(&link_);
    return mark;
}

static void test_rate_and_delay(void)
{
    uint32_t i;

    setup(&(WanLinkConfig){.rate_bits_per_s = MS_RATE, .delay_ns = 10 * MS},
          RING);
    assert(wan_link_deadline_ns(&link_) == WAN_NEVER);
    for (i = 0; i < 5; i++) {
        offer(PACKET, i, 0);
    }
    for (i = 0; i < 5; i++) {
        uint64_t due_ns = (11 + i) * MS;

        assert(wan_link_deadline_ns(&link_) == due_ns);
        assert(take(due_ns - 1) == UINT32_MAX);
        assert(take(due_ns) == i);
    }
    assert(wan_link_deadline_ns(&link_) == WAN_NEVER);
    assert(link_.counters.delivered.packets == 5);
    assert(link_.counters.delivered.bytes == 5 * PACKET);
    assert(link_.counters.queue_high_bytes == 5 * PACKET);
    wan_link_clear(&link_);
}

/* A rate that does not divide evenly must not drift. */
static void test_rate_is_exact(void)
{
    uint64_t now_ns = 0;
    uint32_t i;

    setup(&(WanLinkConfig){.rate_bits_per_s = 7}, RING);
    for (i = 0; i < 1000; i++) {
        offer(40, i, now_ns);
        now_ns = wan_link_deadline_ns(&link_);
        assert(take(now_ns) == i);
    }
    /* 320 bits at 7 a second, a thousand times: rounding down, once. */
    assert(link_.busy_until_ns == 320000ull * 1000000000u / 7);
    wan_link_clear(&link_);
}

static void test_unlimited(void)
{
    setup(&(WanLinkConfig){.delay_ns = 3 * MS}, RING);
    offer(PACKET, 1, 5);
    offer(PACKET, 2, 5);
    assert(take(3 * MS + 4) == UINT32_MAX);
    assert(take(3 * MS + 5) == 1);
    assert(take(3 * MS + 5) == 2);
    wan_link_clear(&link_);
}

static void test_queue_limit(void)
{
    WanLinkConfig config = {.rate_bits_per_s = MS_RATE,
                            .queue_bytes = 3 * PACKET};
    uint32_t i;

    setup(&config, RING);
    for (i = 0; i < 5; i++) {
        offer(PACKET, i, 0);
    }
    assert(link_.counters.queue_drops.packets == 2);
    /* After one has left there is room for one. */
    offer(PACKET, 5, MS);
    offer(PACKET, 6, MS);
    assert(link_.counters.queue_drops.packets == 3);
    assert(take(10 * MS) == 0 && take(10 * MS) == 1 && take(10 * MS) == 2);
    assert(take(10 * MS) == 5 && take(10 * MS) == UINT32_MAX);
    wan_link_clear(&link_);

    /* The same limit said in time, and a super-packet that fits in part. */
    config = (WanLinkConfig){.rate_bits_per_s = MS_RATE, .queue_ns = 3 * MS};
    setup(&config, RING);
    offer_super(5, 0);
    assert(link_.counters.offered.packets == 5);
    assert(link_.counters.queue_drops.packets == 2);
    assert(link_.counters.queue_drops.bytes == 2 * PACKET);
    assert(link_.queued_bytes == 3 * PACKET);
    wan_link_clear(&link_);

    /* Less than a packet's room still lets one at a time through. */
    config = (WanLinkConfig){.rate_bits_per_s = MS_RATE, .queue_bytes = 10};
    setup(&config, RING);
    offer_super(5, 0);
    assert(link_.counters.queue_drops.packets == 4);
    wan_link_clear(&link_);
}

static void test_loss_uses_the_bottleneck(void)
{
    WanLinkConfig config = {.rate_bits_per_s = MS_RATE, .loss.random = 1};

    setup(&config, RING);
    offer(PACKET, 0, 0);
    config.loss.random = 0;
    wan_link_configure(&link_, &config, 0);
    offer(PACKET, 1, 0);
    assert(take(2 * MS - 1) == UINT32_MAX);
    assert(take(2 * MS) == 1);
    assert(link_.counters.sent.packets == 2);
    assert(link_.counters.lost.packets == 1);
    assert(link_.counters.delivered.packets == 1);
    wan_link_clear(&link_);
}

/* Single segments of super-packets get lost, and the counters add up. */
static void test_loss_of_segments(void)
{
    WanLinkConfig config = {.loss.random = 0.1};
    uint64_t segments = 0;
    uint32_t i;

    setup(&config, RING);
    for (i = 0; i < 1000; i++) {
        const uint8_t *frame;
        size_t length;

        offer_super(40, i);
        while ((frame = wan_link_due(&link_, i, &length))) {
            WanSegments shape;

            assert(wan_gso_parse(frame, length, &shape) == 0);
            segments += shape.count;
            wan_link_done(&link_);
        }
    }
    assert(link_.counters.offered.packets == 40000);
    assert(link_.counters.sent.packets == 40000);
    assert(link_.counters.lost.packets > 3700);
    assert(link_.counters.lost.packets < 4300);
    assert(link_.counters.delivered.packets == segments);
    assert(segments + link_.counters.lost.packets == 40000);
    assert(link_.counters.delivered.bytes + link_.counters.lost.bytes ==
           40000 * PACKET);
    wan_link_clear(&link_);
}

static void test_cut(void)
{
    setup(&(WanLinkConfig){.rate_bits_per_s = MS_RATE, .delay_ns = MS}, RING);
    offer(PACKET, 0, 0);
    offer(PACKET, 1, 0);
    offer(PACKET, 2, 0);
    assert(take(2 * MS) == 0);
    /* One is in the delay line and one in the queue. */
    wan_link_set_cut(&link_, true, 2 * MS);
    offer(PACKET, 3, 3 * MS);
    assert(link_.counters.cut_drops.packets == 3);
    assert(take(100 * MS) == UINT32_MAX);
    assert(wan_link_deadline_ns(&link_) == WAN_NEVER);
    wan_link_set_cut(&link_, false, 100 * MS);
    offer(PACKET, 4, 100 * MS);
    assert(take(102 * MS) == 4);
    wan_link_clear(&link_);
}

/* A new rate holds for what still waits, a new delay for what has not left. */
static void test_change_while_running(void)
{
    WanLinkConfig config = {.rate_bits_per_s = MS_RATE};

    setup(&config, RING);
    offer(PACKET, 0, 0);
    offer(PACKET, 1, 0);
    config.rate_bits_per_s = MS_RATE / 10;
    wan_link_configure(&link_, &config, MS);
    assert(take(MS) == 0);
    assert(take(11 * MS - 1) == UINT32_MAX);
    assert(take(11 * MS) == 1);
    wan_link_clear(&link_);
}

static void test_jitter_keeps_order(void)
{
    uint64_t earliest_ns = UINT64_MAX, latest_ns = 0;
    uint32_t i, next = 0;

    setup(&(WanLinkConfig){.delay_ns = 20 * MS, .jitter_ns = 5 * MS}, RING);
    for (i = 0; i < 2000; i++) {
        uint64_t sent_ns = (uint64_t)i * 50 * MS, due_ns;

        offer(100, i, sent_ns);
        /* The deadline may be early, but it gets there. */
        while ((due_ns = wan_link_deadline_ns(&link_)) != WAN_NEVER) {
            uint32_t mark = take(due_ns);

            if (mark != UINT32_MAX) {
                uint64_t took_ns = due_ns - (uint64_t)mark * 50 * MS;

                assert(mark == next++);
                earliest_ns = took_ns < earliest_ns ? took_ns : earliest_ns;
                latest_ns = took_ns > latest_ns ? took_ns : latest_ns;
            }
        }
    }
    assert(next == 2000);
    assert(earliest_ns >= 15 * MS && earliest_ns < 16 * MS);
    assert(latest_ns <= 25 * MS && latest_ns > 24 * MS);
    wan_link_clear(&link_);

    /* Close together they would pass each other; they must not. */
    setup(&(WanLinkConfig){.delay_ns = 20 * MS, .jitter_ns = 5 * MS}, RING);
    for (i = 0; i < 1000; i++) {
        offer(100, i, i * 1000);
    }
    for (i = 0; i < 1000; i++) {
        assert(take(1000 * MS) == i);
    }
    wan_link_clear(&link_);
}

static void test_reorder(void)
{
    uint32_t i, swapped = 0;
    bool seen[1000] = {false};

    setup(&(WanLinkConfig){.delay_ns = MS, .reorder = 0.1}, RING);
    for (i = 0; i < 1000; i++) {
        offer(100, i, i);
    }
    for (i = 0; i < 1000; i++) {
        uint32_t mark = take(1000 * MS);

        assert(mark < 1000 && !seen[mark]);
        seen[mark] = true;
        swapped += mark != i;
    }
    assert(swapped > 100 && swapped < 300);
    wan_link_clear(&link_);
}

/* A frame that was overtaken keeps its bytes while it waits. */
static void test_overtaken_keeps_its_bytes(void)
{
    uint32_t big = 60000;

    setup(&(WanLinkConfig){.rate_bits_per_s = big * 8 * 1000,
                           .delay_ns = 10 * MS,
                           .reorder = 1},
          2 * WAN_FRAME_MAX);
    offer(big, 1, 0);
    offer(big, 2, 0);
    assert(take(11 * MS) == 2);
    /* There is no room before the first has gone as well. */
    offer(big, 3, 11 * MS);
    assert(link_.counters.buffer_drops.packets == 1);
    assert(take(12 * MS) == 1);
    offer(big, 4, 12 * MS);
    assert(link_.counters.buffer_drops.packets == 1);
    assert(take(23 * MS) == 4);
    wan_link_clear(&link_);
}

/* Bytes survive any order of coming and going, the ring's end included. */
static void test_ring(double reorder)
{
    uint32_t offered = 0, taken = 0, i;
    uint64_t now_ns = 0, sum = 0;
    WanLoss dice;

    wan_loss_init(&dice, 3);
    setup(&(WanLinkConfig){.rate_bits_per_s = 100 * MS_RATE,
                           .delay_ns = MS,
                           .reorder = reorder},
          3 * WAN_FRAME_MAX);
    for (i = 0; i < 20000; i++) {
        uint32_t bytes = 40 + (uint32_t)(wan_loss_uniform(&dice) * 9000);

        now_ns += (uint64_t)(wan_loss_uniform(&dice) * 2 * MS);
        if (wan_loss_uniform(&dice) < 0.7) {
            uint64_t drops = link_.counters.buffer_drops.packets;

            offer(bytes, i, now_ns);
            if (link_.counters.buffer_drops.packets == drops) {
                offered++;
                sum += i;
            }
        } else {
            uint32_t mark;

            while ((mark = take(now_ns)) != UINT32_MAX) {
                taken++;
                sum -= mark;
            }
        }
    }
    now_ns += 1000 * MS;
    for (;;) {
        uint32_t mark = take(now_ns);

        if (mark == UINT32_MAX) {
            break;
        }
        taken++;
        sum -= mark;
    }
    assert(taken == offered && taken > 5000 && sum == 0);
    assert(link_.counters.buffer_drops.packets > 0);
    wan_link_clear(&link_);
}

/* Offers TCP segments of one connection, as many as there are MSS; returns
 * their flow. */
static WanFlow *offer_tcp(uint32_t seq, uint32_t count, uint64_t now_ns)
{
    uint32_t header_bytes = sizeof(struct ip) + sizeof(struct tcphdr);
    uint32_t mss = PACKET - header_bytes;
    uint32_t bytes = header_bytes + count * mss;
    struct virtio_net_hdr vnet = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                  .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                  .gso_size = (uint16_t)mss,
                                  .csum_start = sizeof(struct ip)};
    struct ip ip = {.ip_v = 4,
                    .ip_hl = 5,
                    .ip_p = IPPROTO_TCP,
                    .ip_len = htons((uint16_t)bytes),
                    .ip_src = {1},
                    .ip_dst = {2}};
    struct tcphdr tcp = {.th_seq = htonl(seq),
                         .th_ack = htonl(4321),
                         .th_off = 5,
                         .th_flags = TH_ACK};
    uint8_t *frame = wan_link_reserve(&link_);
    WanTcp read;

    if (count == 1) {
        vnet.gso_type = VIRTIO_NET_HDR_GSO_NONE;
    }
    memset(frame, 0, WAN_VNET_BYTES + bytes);
    memcpy(frame, &vnet, sizeof(vnet));
    memcpy(frame + WAN_VNET_BYTES, &ip, sizeof(ip));
    memcpy(frame + WAN_VNET_BYTES + sizeof(ip), &tcp, sizeof(tcp));
    assert(wan_tcp_parse(frame, WAN_VNET_BYTES + bytes, &read));
    wan_link_offer(&link_, frame, WAN_VNET_BYTES + bytes, now_ns);
    return wan_flows_find(&link_.flows, &read.key);
}

static uint32_t deliver_all(uint64_t now_ns)
{
    uint32_t packets = 0;
    const uint8_t *frame;
    size_t length;

    while ((frame = wan_link_due(&link_, now_ns, &length))) {
        WanSegments shape;

        assert(wan_gso_parse(frame, length, &shape) == 0);
        packets += shape.count;
        wan_link_done(&link_);
    }
    return packets;
}

/* What the queue drops is carried for the first time when it comes again; what
 * the path loses is carried twice. */
static void test_first_and_again(void)
{
    WanLinkConfig config = {.rate_bits_per_s = MS_RATE,
                            .queue_bytes = 3 * PACKET};
    const WanFlows *flows = &link_.flows;
    uint32_t mss = PACKET - 40, i;

    setup(&config, RING);
    (void)offer_tcp(1, 5, 0);
    assert(deliver_all(10 * MS) == 3);
    assert(flows->first.packets == 3 && flows->first.bytes == 3 * PACKET);
    (void)offer_tcp(1 + 3 * mss, 2, 20 * MS);
    (void)offer_tcp(1, 1, 20 * MS);
    assert(deliver_all(30 * MS) == 3);
    assert(flows->first.packets == 5 && flows->first.bytes == 5 * PACKET);
    assert(flows->again.packets == 1 && flows->again.bytes == PACKET);

    config.loss.random = 1;
    wan_link_configure(&link_, &config, 30 * MS);
    (void)offer_tcp(1 + 5 * mss, 2, 30 * MS);
    assert(deliver_all(40 * MS) == 0);
    config.loss.random = 0;
    wan_link_configure(&link_, &config, 40 * MS);
    (void)offer_tcp(1 + 5 * mss, 2, 40 * MS);
    assert(deliver_all(50 * MS) == 2);
    assert(flows->first.packets == 7 && flows->again.packets == 3);
    assert(flows->first.bytes + flows->again.bytes ==
           link_.counters.sent.bytes);
    /* Some of a super-packet are lost: they were carried all the same. */
    config = (WanLinkConfig){.loss.random = 0.5};
    wan_link_configure(&link_, &config, 50 * MS);
    (void)offer_tcp(1 + 7 * mss, 40, 50 * MS);
    i = deliver_all(50 * MS);
    assert(i > 0 && i < 40);
    assert(flows->first.packets == 47 && flows->again.packets == 3);
    config.loss.random = 0;
    wan_link_configure(&link_, &config, 50 * MS);
    /* What is no TCP counts as neither. */
    offer(PACKET, 9, 50 * MS);
    assert(take(60 * MS) == 9 && link_.counters.sent.packets == 51);
    assert(flows->first.packets == 47 && flows->again.packets == 3);
    wan_link_reset_counters(&link_, 60 * MS);
    assert(flows->first.packets == 0 && flows->again.packets == 0);
    wan_link_clear(&link_);
}

static void test_killed_flow(void)
{
    const uint8_t *reply;
    size_t length;
    WanFlow *flow;
    WanTcp tcp;

    setup(&(WanLinkConfig){.rate_bits_per_s = MS_RATE, .delay_ns = 5 * MS},
          RING);
    flow = offer_tcp(1, 1, 0);
    (void)offer_tcp(2000, 1, 0);
    offer(PACKET, 7, 0); /* no TCP: whatever becomes of the flow */
    assert(!wan_link_reply(&link_, &length));
    assert(deliver_all(6 * MS) == 1);
    flow->fate = WAN_FATE_DROP;
    (void)offer_tcp(4000, 3, 6 * MS);
    assert(!wan_link_reply(&link_, &length));
    assert(link_.counters.killed_drops.packets == 3);
    assert(take(20 * MS) == 7 && take(20 * MS) == UINT32_MAX);
    assert(link_.counters.killed_drops.packets == 4);

    flow->fate = WAN_FATE_RESET;
    (void)offer_tcp(9000, 1, 20 * MS);
    reply = wan_link_reply(&link_, &length);
    assert(reply && wan_tcp_parse(reply, length, &tcp));
    assert(tcp.flags == TH_RST && tcp.seq == 4321);
    assert(tcp.key.source[0] == 2 && tcp.key.target[0] == 1);
    offer(PACKET, 8, 20 * MS);
    assert(!wan_link_reply(&link_, &length));
    assert(take(40 * MS) == 8 && take(40 * MS) == UINT32_MAX);
    wan_link_clear(&link_);
}

static void test_counters(void)
{
    setup(&(WanLinkConfig){.rate_bits_per_s = MS_RATE}, RING);
    offer(PACKET, 0, 0);
    offer(10, 0, 0); /* less than an IP header */
    assert(link_.counters.bad_frames.packets == 1);
    assert(link_.counters.offered.packets == 1);
    wan_link_reset_counters(&link_, 0);
    assert(link_.counters.offered.packets == 0);
    assert(link_.counters.queue_high_bytes == PACKET);
    assert(take(MS) == 0);
    assert(link_.counters.sent.packets == 1);
    wan_link_clear(&link_);
}

int main(void)
{
    test_rate_and_delay();
    test_rate_is_exact();
    test_unlimited();
    test_queue_limit();
    test_loss_uses_the_bottleneck();
    test_loss_of_segments();
    test_cut();
    test_change_while_running();
    test_jitter_keeps_order();
    test_reorder();
    test_overtaken_keeps_its_bytes();
    test_ring(0);
    test_ring(0.2);
    test_counters();
    test_first_and_again();
    test_killed_flow();
    return 0;
}
