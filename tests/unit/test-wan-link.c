/*
 * wan-link: the model of a path keeps its promises about rate, delay, queue,
 * loss, outage and order, in virtual time, and never hands out other bytes
 * than it got.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "linkkit.h"

#include <assert.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <string.h>

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

static void test_rate_and_delay(void)
{
    uint32_t i;

    link_setup(&(WanLinkConfig){.rate_bits_per_s = MS_RATE,
                                .delay_ns = 10 * MS},
               RING);
    assert(wan_link_deadline_ns(&link_) == WAN_NEVER);
    for (i = 0; i < 5; i++) {
        link_offer(PACKET, i, 0);
    }
    for (i = 0; i < 5; i++) {
        uint64_t due_ns = (11 + i) * MS;

        assert(wan_link_deadline_ns(&link_) == due_ns);
        assert(link_take(due_ns - 1) == UINT32_MAX);
        assert(link_take(due_ns) == i);
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

    link_setup(&(WanLinkConfig){.rate_bits_per_s = 7}, RING);
    for (i = 0; i < 1000; i++) {
        link_offer(40, i, now_ns);
        now_ns = wan_link_deadline_ns(&link_);
        assert(link_take(now_ns) == i);
    }
    /* 320 bits at 7 a second, a thousand times: rounding down, once. */
    assert(link_.busy_until_ns == 320000ull * 1000000000u / 7);
    wan_link_clear(&link_);
}

static void test_unlimited(void)
{
    link_setup(&(WanLinkConfig){.delay_ns = 3 * MS}, RING);
    link_offer(PACKET, 1, 5);
    link_offer(PACKET, 2, 5);
    assert(link_take(3 * MS + 4) == UINT32_MAX);
    assert(link_take(3 * MS + 5) == 1);
    assert(link_take(3 * MS + 5) == 2);
    wan_link_clear(&link_);
}

static void test_queue_limit(void)
{
    WanLinkConfig config = {.rate_bits_per_s = MS_RATE,
                            .queue_bytes = 3 * PACKET};
    uint32_t i;

    link_setup(&config, RING);
    for (i = 0; i < 5; i++) {
        link_offer(PACKET, i, 0);
    }
    assert(link_.counters.queue_drops.packets == 2);
    /* After one has left there is room for one. */
    link_offer(PACKET, 5, MS);
    link_offer(PACKET, 6, MS);
    assert(link_.counters.queue_drops.packets == 3);
    assert(link_take(10 * MS) == 0 && link_take(10 * MS) == 1 &&
           link_take(10 * MS) == 2);
    assert(link_take(10 * MS) == 5 && link_take(10 * MS) == UINT32_MAX);
    wan_link_clear(&link_);

    /* The same limit said in time, and a super-packet that fits in part. */
    config = (WanLinkConfig){.rate_bits_per_s = MS_RATE, .queue_ns = 3 * MS};
    link_setup(&config, RING);
    offer_super(5, 0);
    assert(link_.counters.offered.packets == 5);
    assert(link_.counters.queue_drops.packets == 2);
    assert(link_.counters.queue_drops.bytes == 2 * PACKET);
    assert(link_.queued_bytes == 3 * PACKET);
    wan_link_clear(&link_);

    /* Less than a packet's room still lets one at a time through. */
    config = (WanLinkConfig){.rate_bits_per_s = MS_RATE, .queue_bytes = 10};
    link_setup(&config, RING);
    offer_super(5, 0);
    assert(link_.counters.queue_drops.packets == 4);
    wan_link_clear(&link_);
}

static void test_loss_uses_the_bottleneck(void)
{
    WanLinkConfig config = {.rate_bits_per_s = MS_RATE, .loss.random = 1};

    link_setup(&config, RING);
    link_offer(PACKET, 0, 0);
    config.loss.random = 0;
    wan_link_configure(&link_, &config, 0);
    link_offer(PACKET, 1, 0);
    assert(link_take(2 * MS - 1) == UINT32_MAX);
    assert(link_take(2 * MS) == 1);
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

    link_setup(&config, RING);
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
    link_setup(&(WanLinkConfig){.rate_bits_per_s = MS_RATE, .delay_ns = MS},
               RING);
    link_offer(PACKET, 0, 0);
    link_offer(PACKET, 1, 0);
    link_offer(PACKET, 2, 0);
    assert(link_take(2 * MS) == 0);
    /* One is in the delay line and one in the queue. */
    wan_link_set_cut(&link_, true, 2 * MS);
    link_offer(PACKET, 3, 3 * MS);
    assert(link_.counters.cut_drops.packets == 3);
    assert(link_take(100 * MS) == UINT32_MAX);
    assert(wan_link_deadline_ns(&link_) == WAN_NEVER);
    wan_link_set_cut(&link_, false, 100 * MS);
    link_offer(PACKET, 4, 100 * MS);
    assert(link_take(102 * MS) == 4);
    wan_link_clear(&link_);
}

/* A new rate holds for what still waits, a new delay for what has not left. */
static void test_change_while_running(void)
{
    WanLinkConfig config = {.rate_bits_per_s = MS_RATE};

    link_setup(&config, RING);
    link_offer(PACKET, 0, 0);
    link_offer(PACKET, 1, 0);
    config.rate_bits_per_s = MS_RATE / 10;
    wan_link_configure(&link_, &config, MS);
    assert(link_take(MS) == 0);
    assert(link_take(11 * MS - 1) == UINT32_MAX);
    assert(link_take(11 * MS) == 1);
    wan_link_clear(&link_);
}

static void test_jitter_keeps_order(void)
{
    uint64_t earliest_ns = UINT64_MAX, latest_ns = 0;
    uint32_t i, next = 0;

    link_setup(&(WanLinkConfig){.delay_ns = 20 * MS, .jitter_ns = 5 * MS},
               RING);
    for (i = 0; i < 2000; i++) {
        uint64_t sent_ns = (uint64_t)i * 50 * MS, due_ns;

        link_offer(100, i, sent_ns);
        /* The deadline may be early, but it gets there. */
        while ((due_ns = wan_link_deadline_ns(&link_)) != WAN_NEVER) {
            uint32_t mark = link_take(due_ns);

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
    link_setup(&(WanLinkConfig){.delay_ns = 20 * MS, .jitter_ns = 5 * MS},
               RING);
    for (i = 0; i < 1000; i++) {
        link_offer(100, i, i * 1000);
    }
    for (i = 0; i < 1000; i++) {
        assert(link_take(1000 * MS) == i);
    }
    wan_link_clear(&link_);
}

static void test_reorder(void)
{
    uint32_t i, swapped = 0;
    bool seen[1000] = {false};

    link_setup(&(WanLinkConfig){.delay_ns = MS, .reorder = 0.1}, RING);
    for (i = 0; i < 1000; i++) {
        link_offer(100, i, i);
    }
    for (i = 0; i < 1000; i++) {
        uint32_t mark = link_take(1000 * MS);

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

    link_setup(&(WanLinkConfig){.rate_bits_per_s = big * 8 * 1000,
                           .delay_ns = 10 * MS,
                           .reorder = 1},
          2 * WAN_FRAME_MAX);
    link_offer(big, 1, 0);
    link_offer(big, 2, 0);
    assert(link_take(11 * MS) == 2);
    /* There is no room before the first has gone as well. */
    link_offer(big, 3, 11 * MS);
    assert(link_.counters.buffer_drops.packets == 1);
    assert(link_take(12 * MS) == 1);
    link_offer(big, 4, 12 * MS);
    assert(link_.counters.buffer_drops.packets == 1);
    assert(link_take(23 * MS) == 4);
    wan_link_clear(&link_);
}

/* Bytes survive any order of coming and going, the ring's end included. */
static void test_ring(double reorder)
{
    uint32_t offered = 0, taken = 0, i;
    uint64_t now_ns = 0, sum = 0;
    WanLoss dice;

    wan_loss_init(&dice, 3);
    link_setup(&(WanLinkConfig){.rate_bits_per_s = 100 * MS_RATE,
                           .delay_ns = MS,
                           .reorder = reorder},
          3 * WAN_FRAME_MAX);
    for (i = 0; i < 20000; i++) {
        uint32_t bytes = 40 + (uint32_t)(wan_loss_uniform(&dice) * 9000);

        now_ns += (uint64_t)(wan_loss_uniform(&dice) * 2 * MS);
        if (wan_loss_uniform(&dice) < 0.7) {
            uint64_t drops = link_.counters.buffer_drops.packets;

            link_offer(bytes, i, now_ns);
            if (link_.counters.buffer_drops.packets == drops) {
                offered++;
                sum += i;
            }
        } else {
            uint32_t mark;

            while ((mark = link_take(now_ns)) != UINT32_MAX) {
                taken++;
                sum -= mark;
            }
        }
    }
    now_ns += 1000 * MS;
    for (;;) {
        uint32_t mark = link_take(now_ns);

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

static void test_counters(void)
{
    link_setup(&(WanLinkConfig){.rate_bits_per_s = MS_RATE}, RING);
    link_offer(PACKET, 0, 0);
    link_offer(10, 0, 0); /* less than an IP header */
    assert(link_.counters.bad_frames.packets == 1);
    assert(link_.counters.offered.packets == 1);
    wan_link_reset_counters(&link_, 0);
    assert(link_.counters.offered.packets == 0);
    assert(link_.counters.queue_high_bytes == PACKET);
    assert(link_take(MS) == 0);
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
    return 0;
}
