/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-tcp.h"
#include "wan-gso.h"
#include "wan-sum.h"

#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>

#define RESET_TTL 64

_Static_assert(WAN_VNET_BYTES + sizeof(struct ip6_hdr) +
                       sizeof(struct tcphdr) <=
                   WAN_RESET_MAX,
               "a reset has no options");

/* Reads the IP header. Returns its length, or 0 if TCP does not follow;
 * *packet_bytes becomes what IP says, without padding behind it. */
static size_t parse_ip(const uint8_t *packet, size_t *packet_bytes,
                       WanTcpKey *key)
{
    size_t header_bytes, said_bytes;

    if (*packet_bytes >= sizeof(struct ip6_hdr) && packet[0] >> 4 == 6) {
        struct ip6_hdr ip;

        memcpy(&ip, packet, sizeof(ip));
        header_bytes = sizeof(ip);
        said_bytes = header_bytes + ntohs(ip.ip6_plen);
        memcpy(key->source, &ip.ip6_src, sizeof(ip.ip6_src));
        memcpy(key->target, &ip.ip6_dst, sizeof(ip.ip6_dst));
        key->version = 6;
        if (ip.ip6_nxt != IPPROTO_TCP) {
            return 0;
        }
    } else if (*packet_bytes >= sizeof(struct ip) && packet[0] >> 4 == 4) {
        struct ip ip;

        memcpy(&ip, packet, sizeof(ip));
        header_bytes = (size_t)ip.ip_hl * 4;
        said_bytes = ntohs(ip.ip_len);
        memcpy(key->source, &ip.ip_src, sizeof(ip.ip_src));
        memcpy(key->target, &ip.ip_dst, sizeof(ip.ip_dst));
        key->version = 4;
        if (ip.ip_p != IPPROTO_TCP || header_bytes < sizeof(ip) ||
            (ntohs(ip.ip_off) & (IP_MF | IP_OFFMASK))) {
            return 0;
        }
    } else {
        return 0;
    }
    if (said_bytes > *packet_bytes) {
        return 0;
    }
    *packet_bytes = said_bytes;
    return header_bytes;
}

bool wan_tcp_parse(const uint8_t *frame, size_t length, WanTcp *out)
{
    const uint8_t *packet = frame + WAN_VNET_BYTES;
    size_t packet_bytes, ip_bytes, tcp_bytes;
    WanTcp found = {.seq = 0};
    struct tcphdr tcp;

    if (length < WAN_VNET_BYTES) {
        return false;
    }
    packet_bytes = length - WAN_VNET_BYTES;
    ip_bytes = parse_ip(packet, &packet_bytes, &found.key);
    if (ip_bytes == 0 || packet_bytes < ip_bytes + sizeof(tcp)) {
        return false;
    }
    memcpy(&tcp, packet + ip_bytes, sizeof(tcp));
    tcp_bytes = (size_t)tcp.th_off * 4;
    if (tcp_bytes < sizeof(tcp) || packet_bytes < ip_bytes + tcp_bytes) {
        return false;
    }
    found.key.source_port = tcp.th_sport;
    found.key.target_port = tcp.th_dport;
    found.seq = ntohl(tcp.th_seq);
    found.ack = ntohl(tcp.th_ack);
    found.flags = tcp.th_flags;
    found.payload_bytes = (uint32_t)(packet_bytes - ip_bytes - tcp_bytes);
    *out = found;
    return true;
}

WanTcpKey wan_tcp_reverse(const WanTcpKey *key)
{
    WanTcpKey reverse = *key;

    memcpy(reverse.source, key->target, sizeof(key->target));
    memcpy(reverse.target, key->source, sizeof(key->source));
    reverse.source_port = key->target_port;
    reverse.target_port = key->source_port;
    return reverse;
}

/* Writes the IP header; returns its length and adds to *sum what TCP's
 * checksum covers of it. */
static size_t build_ip(const WanTcpKey *key, uint8_t *packet, uint32_t *sum)
{
    *sum += IPPROTO_TCP + (uint32_t)sizeof(struct tcphdr);
    if (key->version == 6) {
        struct ip6_hdr ip = {.ip6_flow = htonl(6u << 28)};

        ip.ip6_plen = htons(sizeof(struct tcphdr));
        ip.ip6_nxt = IPPROTO_TCP;
        ip.ip6_hlim = RESET_TTL;
        memcpy(&ip.ip6_src, key->source, sizeof(ip.ip6_src));
        memcpy(&ip.ip6_dst, key->target, sizeof(ip.ip6_dst));
        memcpy(packet, &ip, sizeof(ip));
        *sum = wan_sum_bytes((const uint8_t *)&ip.ip6_src, 32, *sum);
        return sizeof(ip);
    } else {
        struct ip ip = {.ip_v = 4,
                        .ip_hl = sizeof(ip) / 4,
                        .ip_len = htons(sizeof(ip) + sizeof(struct tcphdr)),
                        .ip_off = htons(IP_DF),
                        .ip_ttl = RESET_TTL,
                        .ip_p = IPPROTO_TCP};

        memcpy(&ip.ip_src, key->source, sizeof(ip.ip_src));
        memcpy(&ip.ip_dst, key->target, sizeof(ip.ip_dst));
        memcpy(packet, &ip, sizeof(ip));
        ip.ip_sum =
            (uint16_t)~wan_sum_fold(wan_sum_bytes(packet, sizeof(ip), 0));
        memcpy(packet, &ip, sizeof(ip));
        *sum = wan_sum_bytes(packet + offsetof(struct ip, ip_src), 8, *sum);
        return sizeof(ip);
    }
}

size_t wan_tcp_build_reset(const WanTcpKey *key, uint32_t seq,
                           const uint32_t *ack, uint8_t *out)
{
    struct tcphdr tcp = {.th_sport = key->source_port,
                         .th_dport = key->target_port,
                         .th_seq = htonl(seq),
                         .th_ack = htonl(ack ? *ack : 0),
                         .th_off = sizeof(tcp) / 4,
                         .th_flags = TH_RST};
    uint8_t *packet = out + WAN_VNET_BYTES;
    uint32_t sum = 0;
    size_t ip_bytes;

    if (ack) {
        tcp.th_flags |= TH_ACK;
    }
    memset(out, 0, WAN_VNET_BYTES);
    ip_bytes = build_ip(key, packet, &sum);
    memcpy(packet + ip_bytes, &tcp, sizeof(tcp));
    tcp.th_sum = (uint16_t)~wan_sum_fold(
        wan_sum_bytes(packet + ip_bytes, sizeof(tcp), sum));
    memcpy(packet + ip_bytes, &tcp, sizeof(tcp));
    return WAN_VNET_BYTES + ip_bytes + sizeof(tcp);
}

size_t wan_tcp_build_answer(const WanTcp *tcp, uint8_t *out)
{
    WanTcpKey key = wan_tcp_reverse(&tcp->key);
    uint32_t next;

    if (tcp->flags & TH_RST) {
        return 0;
    }
    if (tcp->flags & TH_ACK) {
        return wan_tcp_build_reset(&key, tcp->ack, NULL, out);
    }
    next = tcp->seq + tcp->payload_bytes + ((tcp->flags & TH_SYN) != 0) +
           ((tcp->flags & TH_FIN) != 0);
    return wan_tcp_build_reset(&key, 0, &next, out);
}
