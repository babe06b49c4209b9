/*
 * What a frame says as TCP, and the reset that would answer it.
 *
 * A frame is a virtio_net_hdr followed by an IP packet (wan-gso.h). Of a
 * super-packet the numbers are those of the whole.
 *
 * Threads: no state, any thread.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_TCP_H
#define WAN_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The largest frame that wan_tcp_build_reset() writes. */
#define WAN_RESET_MAX 80u

/* Who sends to whom; everything in network order. Fits memcmp(). */
typedef struct WanTcpKey {
    uint8_t source[16]; /* of IPv4 the first four, the rest 0 */
    uint8_t target[16];
    uint16_t source_port;
    uint16_t target_port;
    uint32_t version; /* 4 or 6 */
} WanTcpKey;

typedef struct WanTcp {
    WanTcpKey key;
    uint32_t seq;
    uint32_t ack; /* with TH_ACK in flags */
    uint32_t payload_bytes;
    uint8_t flags;
} WanTcp;

/* Reads a frame. Returns false if it is not TCP, or only a fragment of it. */
bool wan_tcp_parse(const uint8_t *frame, size_t length, WanTcp *out);

/* The key of what flows in the other direction. */
WanTcpKey wan_tcp_reverse(const WanTcpKey *key);

/*
 * Writes a frame with a reset that @key's source seems to have sent.
 *
 * @seq: what its target expects next, or the target only asks back
 * @ack: acknowledged if not NULL: what a target wants to see that has sent its
 *       SYN and nothing else
 * @out: WAN_RESET_MAX bytes
 *
 * Returns: the frame's length.
 */
size_t wan_tcp_build_reset(const WanTcpKey *key, uint32_t seq,
                           const uint32_t *ack, uint8_t *out);

/* The reset that answers @tcp in the name of whom it was sent to; 0 if it is a
 * reset itself. */
size_t wan_tcp_build_answer(const WanTcp *tcp, uint8_t *out);

#endif
