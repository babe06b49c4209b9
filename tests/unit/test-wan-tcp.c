/*
 * wan-tcp: what a packet says is read right, by IPv4 and IPv6, whole or in a
 * super-packet; what is cut short or is no TCP is refused; and a reset is one
 * that a receiver takes: sums, addresses and numbers are right.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-gso.h"
#include "wan-tcp.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_BYTES 12u
#define TCP_BYTES (20u + OPTIONS_BYTES)
#define PAYLOAD 1000u

static uint8_t frame[WAN_FRAME_MAX];

static size_t ip_bytes(bool ipv4)
{
    return ipv4 ? sizeof(struct ip) : sizeof(struct ip6_hdr);
}

static size_t build(bool ipv4, uint8_t flags, uint32_t payload_bytes)
{
    struct tcphdr tcp = {.th_sport = htons(40000),
                         .th_dport = htons(4444),
                         .th_seq = htonl(0xfffffff0u),
                         .th_ack = htonl(77),
                         .th_off = TCP_BYTES / 4,
                         .th_flags = flags};
    uint8_t *packet = frame + WAN_VNET_BYTES;
    size_t bytes = ip_bytes(ipv4) + TCP_BYTES + payload_bytes;

    memset(frame, 0, sizeof(frame));
    if (ipv4) {
        struct ip ip = {.ip_v = 4,
                        .ip_hl = 5,
                        .ip_len = htons((uint16_t)bytes),
                        .ip_p = IPPROTO_TCP,
                        .ip_src = {htonl(0x0a4d0001)},
                        .ip_dst = {htonl(0x0a4d0002)}};

        memcpy(packet, &ip, sizeof(ip));
    } else {
        struct ip6_hdr ip = {.ip6_src = {.s6_addr = {0xfd, 0x77, 1}},
                             .ip6_dst = {.s6_addr = {0xfd, 0x77, 2}}};

        ip.ip6_flow = htonl(6u << 28);
        ip.ip6_nxt = IPPROTO_TCP;
        ip.ip6_plen = htons((uint16_t)(TCP_BYTES + payload_bytes));
        memcpy(packet, &ip, sizeof(ip));
    }
    memcpy(packet + ip_bytes(ipv4), &tcp, sizeof(tcp));
    return WAN_VNET_BYTES + bytes;
}

static void test_read(bool ipv4)
{
    size_t length = build(ipv4, TH_ACK | TH_PUSH, PAYLOAD);
    WanTcpKey reverse, twice;
    WanTcp tcp;

    assert(wan_tcp_parse(frame, length, &tcp));
    assert(tcp.key.version == (ipv4 ? 4 : 6));
    assert(tcp.key.source_port == htons(40000));
    assert(tcp.key.target_port == htons(4444));
    assert(tcp.key.source[ipv4 ? 3 : 2] == 1);
    assert(tcp.key.target[ipv4 ? 3 : 2] == 2);
    assert(tcp.seq == 0xfffffff0u && tcp.ack == 77);
    assert(tcp.flags == (TH_ACK | TH_PUSH));
    assert(tcp.payload_bytes == PAYLOAD);
    reverse = wan_tcp_reverse(&tcp.key);
    assert(reverse.source_port == htons(4444));
    assert(reverse.target[ipv4 ? 3 : 2] == 1);
    twice = wan_tcp_reverse(&reverse);
    assert(memcmp(&twice, &tcp.key, sizeof(twice)) == 0);

    /* Ethernet would pad a short packet; IP says where it ends. */
    length = build(ipv4, TH_ACK, 0);
    assert(wan_tcp_parse(frame, length + 6, &tcp));
    assert(tcp.payload_bytes == 0);
}

static void test_refuse(bool ipv4)
{
    size_t whole = build(ipv4, TH_ACK, PAYLOAD), length;
    WanTcp tcp = {.seq = 5};

    for (length = 0; length < whole; length++) {
        /* Memory of just this size: a sanitizer sees what lies behind it. */
        uint8_t *copy = malloc(length + 1);

        assert(copy);
        memcpy(copy, frame, length);
        assert(!wan_tcp_parse(copy, length, &tcp));
        free(copy);
    }
    frame[WAN_VNET_BYTES + ip_bytes(ipv4) + 12] = 4 << 4;
    assert(!wan_tcp_parse(frame, whole, &tcp));
    frame[WAN_VNET_BYTES + ip_bytes(ipv4) + 12] = TCP_BYTES / 4 << 4;
    assert(wan_tcp_parse(frame, whole, &tcp));

    frame[WAN_VNET_BYTES + (ipv4 ? 9 : 6)] = IPPROTO_UDP;
    assert(!wan_tcp_parse(frame, whole, &tcp));
    (void)build(ipv4, TH_ACK, PAYLOAD);
    frame[WAN_VNET_BYTES] = 5 << 4;
    assert(!wan_tcp_parse(frame, whole, &tcp));
    if (ipv4) {
        (void)build(ipv4, TH_ACK, PAYLOAD);
        frame[WAN_VNET_BYTES + 7] = 8; /* a fragment that is not the first */
        assert(!wan_tcp_parse(frame, whole, &tcp));
    }
}

/* RFC 1071 over a header and its pseudo header: all ones if it is right. */
static uint32_t sum(const uint8_t *bytes, size_t length, uint32_t start)
{
    size_t i;

    for (i = 0; i < length; i++) {
        start += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
    }
    while (start > 0xffff) {
        start = (start & 0xffff) + (start >> 16);
    }
    return start;
}

static void check_sums(bool ipv4, const uint8_t *reset)
{
    const uint8_t *packet = reset + WAN_VNET_BYTES;
    uint32_t pseudo = sum(packet + (ipv4 ? 12 : 8), ipv4 ? 8 : 32,
                          IPPROTO_TCP + sizeof(struct tcphdr));

    assert(sum(packet + ip_bytes(ipv4), sizeof(struct tcphdr), pseudo) ==
           0xffff);
    assert(!ipv4 || sum(packet, sizeof(struct ip), 0) == 0xffff);
}

static void test_answer(bool ipv4)
{
    uint8_t reset[WAN_RESET_MAX];
    WanTcp tcp, answer;
    WanTcpKey back;
    size_t length = build(ipv4, TH_ACK, PAYLOAD);

    assert(wan_tcp_parse(frame, length, &tcp));
    back = wan_tcp_reverse(&tcp.key);
    length = wan_tcp_build_answer(&tcp, reset);
    assert(wan_tcp_parse(reset, length, &answer));
    assert(memcmp(&answer.key, &back, sizeof(back)) == 0);
    assert(answer.flags == TH_RST && answer.seq == 77);
    assert(answer.payload_bytes == 0);
    check_sums(ipv4, reset);
    /* To a reset there is no answer, or two would talk for ever. */
    assert(wan_tcp_build_answer(&answer, reset) == 0);

    /* Whoever has sent a SYN expects nothing yet, but to be acknowledged. */
    length = build(ipv4, TH_SYN, 0);
    assert(wan_tcp_parse(frame, length, &tcp));
    length = wan_tcp_build_answer(&tcp, reset);
    assert(wan_tcp_parse(reset, length, &answer));
    assert(answer.flags == (TH_RST | TH_ACK));
    assert(answer.seq == 0 && answer.ack == 0xfffffff1u);
    check_sums(ipv4, reset);
}

int main(void)
{
    bool ipv4 = true;

    do {
        test_read(ipv4);
        test_refuse(ipv4);
        test_answer(ipv4);
        ipv4 = !ipv4;
    } while (!ipv4);
    return 0;
}
