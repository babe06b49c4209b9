/*
 * The internet checksum, RFC 1071.
 *
 * Threads: no state, any thread.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_SUM_H
#define WAN_SUM_H

#include <arpa/inet.h>
#include <stddef.h>
#include <stdint.h>

/* The one's complement sum, not yet folded. Bytes in memory order are summed
 * as big-endian words; an odd last byte is padded with zero. */
static inline uint32_t wan_sum_bytes(const uint8_t *bytes, size_t length,
                                     uint32_t sum)
{
    size_t i;

    for (i = 0; i + 1 < length; i += 2) {
        sum += ((uint32_t)bytes[i] << 8) | bytes[i + 1];
    }
    return i < length ? sum + ((uint32_t)bytes[i] << 8) : sum;
}

/* Folded, in network order, not inverted. */
static inline uint16_t wan_sum_fold(uint32_t sum)
{
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return htons((uint16_t)sum);
}

#endif
