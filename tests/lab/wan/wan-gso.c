/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-gso.h"
#include "wan-sum.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>

_Static_assert(sizeof(struct virtio_net_hdr) == WAN_VNET_BYTES,
               "the TUN device's header");

int wan_gso_parse(const uint8_t *frame, size_t length, WanSegments *out)
{
    struct virtio_net_hdr vnet;
    uint32_t packet_bytes, header_bytes, data_offset;

    if (length < WAN_VNET_BYTES + sizeof(struct ip) || length > WAN_FRAME_MAX) {
        return -EBADMSG;
    }
    memcpy(&vnet, frame, sizeof(vnet));
    packet_bytes = (uint32_t)(length - WAN_VNET_BYTES);

    if (vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        *out = (WanSegments){.payload_bytes = packet_bytes,
                             .segment_bytes = packet_bytes,
                             .count = 1,
                             .wire_bytes = packet_bytes};
        return 0;
    }
    if (vnet.gso_type != VIRTIO_NET_HDR_GSO_TCPV4 &&
        vnet.gso_type != VIRTIO_NET_HDR_GSO_TCPV6) {
        return -EBADMSG;
    }
    /* The kernel leaves the checksum of each super-packet to us, so it always
     * says where the TCP header starts. */
    if (!(vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || vnet.gso_size == 0 ||
        vnet.csum_start + sizeof(struct tcphdr) > packet_bytes) {
        return -EBADMSG;
    }
    data_offset = frame[WAN_VNET_BYTES + vnet.csum_start + 12] >> 4;
    header_bytes = vnet.csum_start + data_offset * 4;
    if (data_offset < 5 || header_bytes >= packet_bytes) {
        return -EBADMSG;
    }
    if ((packet_bytes - header_bytes - 1) / vnet.gso_size + 1 >
        WAN_SEGMENTS_MAX) {
        return -EBADMSG;
    }
    out->header_bytes = header_bytes;
    out->payload_bytes = packet_bytes - header_bytes;
    out->segment_bytes = vnet.gso_size;
    out->count = (out->payload_bytes - 1) / vnet.gso_size + 1;
    out->wire_bytes = out->payload_bytes + out->count * header_bytes;
    return 0;
}

/* The payload bytes of segments [first, first + count). */
static uint32_t range_payload_bytes(const WanSegments *shape, uint32_t first,
                                    uint32_t count)
{
    uint32_t start = first * shape->segment_bytes;
    uint32_t end = (first + count) * shape->segment_bytes;

    assert(count > 0 && first + count <= shape->count);
    return (end < shape->payload_bytes ? end : shape->payload_bytes) - start;
}

uint32_t wan_gso_wire_bytes(const WanSegments *shape, uint32_t first,
                            uint32_t count)
{
    return range_payload_bytes(shape, first, count) +
           count * shape->header_bytes;
}

/* Gives an IPv4 header its length, identification and checksum. */
static void fix_ipv4(uint8_t *packet, uint32_t packet_bytes, uint32_t first)
{
    struct ip header;
    size_t header_bytes;

    memcpy(&header, packet, sizeof(header));
    header_bytes = (size_t)header.ip_hl * 4;
    header.ip_len = htons((uint16_t)packet_bytes);
    header.ip_id = htons((uint16_t)(ntohs(header.ip_id) + first));
    header.ip_sum = 0;
    memcpy(packet, &header, sizeof(header));
    header.ip_sum =
        (uint16_t)~wan_sum_fold(wan_sum_bytes(packet, header_bytes, 0));
    memcpy(packet, &header, sizeof(header));
}

static void fix_ipv6(uint8_t *packet, uint32_t packet_bytes)
{
    struct ip6_hdr header;

    memcpy(&header, packet, sizeof(header));
    header.ip6_plen = htons((uint16_t)(packet_bytes - sizeof(header)));
    memcpy(packet, &header, sizeof(header));
}

/* With a checksum left to the device, TCP's checksum field holds the sum of
 * the pseudo header, which covers the length. */
static uint16_t pseudo_sum(const uint8_t *packet, bool ipv4, uint32_t tcp_bytes)
{
    uint32_t sum = tcp_bytes + IPPROTO_TCP;

    if (ipv4) {
        return wan_sum_fold(
            wan_sum_bytes(packet + offsetof(struct ip, ip_src), 8, sum));
    }
    return wan_sum_fold(
        wan_sum_bytes(packet + offsetof(struct ip6_hdr, ip6_src), 32, sum));
}

size_t wan_gso_extract(const uint8_t *frame, const WanSegments *shape,
                       uint32_t first, uint32_t count, uint8_t *out)
{
    uint32_t payload_bytes = range_payload_bytes(shape, first, count);
    uint32_t packet_bytes = shape->header_bytes + payload_bytes;
    uint32_t skipped = first * shape->segment_bytes;
    uint8_t *packet = out + WAN_VNET_BYTES;
    struct virtio_net_hdr vnet;
    struct tcphdr tcp;
    bool ipv4;

    memcpy(out, frame, WAN_VNET_BYTES + shape->header_bytes);
    memcpy(packet + shape->header_bytes,
           frame + WAN_VNET_BYTES + shape->header_bytes + skipped,
           payload_bytes);
    if (count == shape->count) {
        return WAN_VNET_BYTES + packet_bytes;
    }

    memcpy(&vnet, out, sizeof(vnet));
    ipv4 = vnet.gso_type == VIRTIO_NET_HDR_GSO_TCPV4;
    if (count == 1) {
        vnet.gso_type = VIRTIO_NET_HDR_GSO_NONE;
        vnet.gso_size = 0;
        memcpy(out, &vnet, sizeof(vnet));
    }
    if (ipv4) {
        fix_ipv4(packet, packet_bytes, first);
    } else {
        fix_ipv6(packet, packet_bytes);
    }

    memcpy(&tcp, packet + vnet.csum_start, sizeof(tcp));
    tcp.th_seq = htonl(ntohl(tcp.th_seq) + skipped);
    if (first + count < shape->count) {
        tcp.th_flags &= (uint8_t) ~(TH_FIN | TH_PUSH);
    }
    tcp.th_sum = pseudo_sum(packet, ipv4, packet_bytes - vnet.csum_start);
    memcpy(packet + vnet.csum_start, &tcp, sizeof(tcp));
    return WAN_VNET_BYTES + packet_bytes;
}
