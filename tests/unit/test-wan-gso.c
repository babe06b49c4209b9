/*
 * wan-gso: a super-packet's shape is read right, a range of its segments is
 * cut out as packets that a receiver accepts, and what does not fit together
 * is refused.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-gso.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MSS 1000u
#define FIRST_SEQ 0xfffffe00u /* wraps within the packet */
#define TCP_BYTES 32u         /* with the usual timestamps */

static uint8_t frame[WAN_FRAME_MAX];
static uint8_t piece[WAN_FRAME_MAX];

static uint32_t ip_bytes(bool ipv4)
{
    return ipv4 ? (uint32_t)sizeof(struct ip)
                : (uint32_t)sizeof(struct ip6_hdr);
}

/* A TCP super-packet with FIN and PSH set, its payload a known pattern. */
static size_t build(bool ipv4, uint32_t payload_bytes)
{
    uint32_t header_bytes = ip_bytes(ipv4) + TCP_BYTES;
    uint8_t *packet = frame + WAN_VNET_BYTES;
    struct virtio_net_hdr vnet = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = ipv4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6,
        .gso_size = MSS,
        .hdr_len = (uint16_t)header_bytes,
        .csum_start = (uint16_t)ip_bytes(ipv4),
        .csum_offset = offsetof(struct tcphdr, th_sum)};
    struct tcphdr tcp = {.th_off = TCP_BYTES / 4};
    uint32_t i;

    memset(frame, 0, sizeof(frame));
    memcpy(frame, &vnet, sizeof(vnet));
    if (ipv4) {
        struct ip ip = {.ip_v = 4,
                        .ip_hl = 5,
                        .ip_len =
                            htons((uint16_t)(header_bytes + payload_bytes)),
                        .ip_id = htons(0xffff),
                        .ip_p = IPPROTO_TCP,
                        .ip_src = {htonl(0x0a4d0001)},
                        .ip_dst = {htonl(0x0a4d0002)}};

        memcpy(packet, &ip, sizeof(ip));
    } else {
        struct ip6_hdr ip = {.ip6_src = {.s6_addr = {0xfd, 0x77}},
                             .ip6_dst = {.s6_addr = {0xfd, 0x77, 1}}};

        ip.ip6_nxt = IPPROTO_TCP;
        ip.ip6_plen = htons((uint16_t)(TCP_BYTES + payload_bytes));
        memcpy(packet, &ip, sizeof(ip));
    }
    tcp.th_seq = htonl(FIRST_SEQ);
    tcp.th_flags = TH_ACK | TH_PUSH | TH_FIN;
    memcpy(packet + ip_bytes(ipv4), &tcp, sizeof(tcp));
    for (i = 0; i < payload_bytes; i++) {
        packet[header_bytes + i] = (uint8_t)(i * 7 + i / 251);
    }
    return WAN_VNET_BYTES + header_bytes + payload_bytes;
}

/* RFC 1071 written another way than in the module: over 16-bit words in host
 * order of a copy, zero-padded. */
static uint16_t checksum(const uint8_t *bytes, size_t length, uint32_t sum)
{
    size_t i;

    for (i = 0; i < length; i++) {
        sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
    }
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

static void check_ip(bool ipv4, uint32_t packet_bytes, uint32_t first)
{
    const uint8_t *packet = piece + WAN_VNET_BYTES;

    if (ipv4) {
        struct ip ip;

        memcpy(&ip, packet, sizeof(ip));
        assert(ntohs(ip.ip_len) == packet_bytes);
        assert(ntohs(ip.ip_id) == (uint16_t)(0xffff + first));
        assert(checksum(packet, sizeof(ip), 0) == 0xffff);
    } else {
        struct ip6_hdr ip;

        memcpy(&ip, packet, sizeof(ip));
        assert(ntohs(ip.ip6_plen) == packet_bytes - sizeof(ip));
    }
}

/* The sum that TCP leaves for the device to go on from. */
static void check_pseudo_sum(bool ipv4, const struct tcphdr *tcp,
                             uint32_t tcp_bytes)
{
    const uint8_t *packet = piece + WAN_VNET_BYTES;
    const uint8_t *addresses = packet + (ipv4 ? 12 : 8);

    assert(ntohs(tcp->th_sum) ==
           checksum(addresses, ipv4 ? 8 : 32, tcp_bytes + IPPROTO_TCP));
}

static void check_range(bool ipv4, const WanSegments *shape, uint32_t first,
                        uint32_t count)
{
    size_t length = wan_gso_extract(frame, shape, first, count, piece);
    uint32_t header_bytes = ip_bytes(ipv4) + TCP_BYTES;
    uint32_t packet_bytes = (uint32_t)length - WAN_VNET_BYTES;
    bool last = first + count == shape->count;
    struct virtio_net_hdr vnet;
    struct tcphdr tcp;
    WanSegments again;

    assert(wan_gso_parse(piece, length, &again) == 0);
    assert(again.count == count);
    assert(again.wire_bytes == wan_gso_wire_bytes(shape, first, count));
    check_ip(ipv4, packet_bytes, first);
    memcpy(&vnet, piece, sizeof(vnet));
    assert(vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
    assert((vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE) == (count == 1));
    memcpy(&tcp, piece + WAN_VNET_BYTES + vnet.csum_start, sizeof(tcp));
    assert(ntohl(tcp.th_seq) == FIRST_SEQ + first * MSS);
    assert((tcp.th_flags & TH_ACK) != 0);
    assert(((tcp.th_flags & TH_FIN) != 0) == last);
    assert(((tcp.th_flags & TH_PUSH) != 0) == last);
    check_pseudo_sum(ipv4, &tcp, packet_bytes - vnet.csum_start);
    assert(memcmp(piece + WAN_VNET_BYTES + header_bytes,
                  frame + WAN_VNET_BYTES + header_bytes + first * MSS,
                  packet_bytes - header_bytes) == 0);
}

/* Every range but the whole of a packet of four and a half segments. */
static void test_ranges(bool ipv4)
{
    WanSegments shape;
    uint32_t first, count;
    size_t length = build(ipv4, 4 * MSS + MSS / 2);

    assert(wan_gso_parse(frame, length, &shape) == 0);
    assert(shape.count == 5);
    assert(shape.header_bytes == ip_bytes(ipv4) + TCP_BYTES);
    assert(shape.wire_bytes ==
           4 * MSS + MSS / 2 + 5 * (ip_bytes(ipv4) + TCP_BYTES));
    for (first = 0; first < 5; first++) {
        for (count = 1; first + count <= 5; count++) {
            if (count < 5) {
                check_range(ipv4, &shape, first, count);
            }
        }
    }
    assert(wan_gso_extract(frame, &shape, 0, 5, piece) == length);
    assert(memcmp(frame, piece, length) == 0);
}

static void test_exact_multiple(void)
{
    WanSegments shape;
    size_t length = build(true, 3 * MSS);

    assert(wan_gso_parse(frame, length, &shape) == 0);
    assert(shape.count == 3);
    assert(wan_gso_wire_bytes(&shape, 2, 1) == MSS + 52);
}

static void test_ordinary_packet(void)
{
    WanSegments shape;

    memset(frame, 0, sizeof(frame));
    assert(wan_gso_parse(frame, WAN_VNET_BYTES + 84, &shape) == 0);
    assert(shape.count == 1 && shape.wire_bytes == 84);
    assert(wan_gso_wire_bytes(&shape, 0, 1) == 84);
}

/* Turns one field of a good super-packet bad; it must be refused. */
static void refuse(size_t offset, uint16_t value, size_t width)
{
    WanSegments shape = {.count = 77};
    size_t length = build(true, 3 * MSS);

    assert(wan_gso_parse(frame, length, &shape) == 0);
    shape.count = 77;
    memcpy(frame + offset, &value, width);
    assert(wan_gso_parse(frame, length, &shape) == -EBADMSG);
    assert(shape.count == 77);
}

static void test_refused(void)
{
    WanSegments shape;
    size_t length = build(true, 3 * MSS);

    assert(wan_gso_parse(frame, 0, &shape) == -EBADMSG);
    assert(wan_gso_parse(frame, WAN_VNET_BYTES + 19, &shape) == -EBADMSG);
    assert(wan_gso_parse(frame, WAN_FRAME_MAX + 1, &shape) == -EBADMSG);
    /* The packet ends with its header. */
    assert(wan_gso_parse(frame, WAN_VNET_BYTES + 52, &shape) == -EBADMSG);
    assert(wan_gso_parse(frame, WAN_VNET_BYTES + 53, &shape) == 0);
    refuse(offsetof(struct virtio_net_hdr, flags), 0, 1);
    refuse(offsetof(struct virtio_net_hdr, gso_type), VIRTIO_NET_HDR_GSO_UDP,
           1);
    refuse(offsetof(struct virtio_net_hdr, gso_size), 0, 2);
    refuse(offsetof(struct virtio_net_hdr, gso_size), 1, 2);
    refuse(offsetof(struct virtio_net_hdr, csum_start), 0xffff, 2);
    refuse(offsetof(struct virtio_net_hdr, csum_start),
           (uint16_t)(length - WAN_VNET_BYTES - 19), 2);
    /* A TCP header of 16 bytes. */
    refuse(WAN_VNET_BYTES + 20 + 12, 0x40, 1);
}

int main(void)
{
    test_ranges(true);
    test_ranges(false);
    test_exact_multiple();
    test_ordinary_packet();
    test_refused();
    return 0;
}
