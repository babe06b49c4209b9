/*
 * wan-link: the model of a path knows the connections on it, what it carries
 * for the first time and what again, and can end one of them.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "linkkit.h"

#include <arpa/inet.h>
#include <assert.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <string.h>

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

    link_setup(&config, RING);
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
    link_offer(PACKET, 9, 50 * MS);
    assert(link_take(60 * MS) == 9 && link_.counters.sent.packets == 51);
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

    link_setup(&(WanLinkConfig){.rate_bits_per_s = MS_RATE, .delay_ns = 5 * MS},
               RING);
    flow = offer_tcp(1, 1, 0);
    (void)offer_tcp(2000, 1, 0);
    link_offer(PACKET, 7, 0); /* no TCP: whatever becomes of the flow */
    assert(!wan_link_reply(&link_, &length));
    assert(deliver_all(6 * MS) == 1);
    flow->fate = WAN_FATE_DROP;
    (void)offer_tcp(4000, 3, 6 * MS);
    assert(!wan_link_reply(&link_, &length));
    assert(link_.counters.killed_drops.packets == 3);
    assert(link_take(20 * MS) == 7 && link_take(20 * MS) == UINT32_MAX);
    assert(link_.counters.killed_drops.packets == 4);

    flow->fate = WAN_FATE_RESET;
    (void)offer_tcp(9000, 1, 20 * MS);
    reply = wan_link_reply(&link_, &length);
    assert(reply && wan_tcp_parse(reply, length, &tcp));
    assert(tcp.flags == TH_RST && tcp.seq == 4321);
    assert(tcp.key.source[0] == 2 && tcp.key.target[0] == 1);
    link_offer(PACKET, 8, 20 * MS);
    assert(!wan_link_reply(&link_, &length));
    assert(link_take(40 * MS) == 8 && link_take(40 * MS) == UINT32_MAX);
    wan_link_clear(&link_);
}

int main(void)
{
    test_first_and_again();
    test_killed_flow();
    return 0;
}
