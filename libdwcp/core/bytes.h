/*
 * Little-endian integers in byte buffers: the only way to and from the wire
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_BYTES_H
#define DWCP_CORE_BYTES_H

#include <stdint.h>

static inline void dwcp_put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void dwcp_put_le32(uint8_t *p, uint32_t v)
{
    dwcp_put_le16(p, (uint16_t)v);
    dwcp_put_le16(p + 2, (uint16_t)(v >> 16));
}

static inline void dwcp_put_le64(uint8_t *p, uint64_t v)
{
    dwcp_put_le32(p, (uint32_t)v);
    dwcp_put_le32(p + 4, (uint32_t)(v >> 32));
}

static inline uint16_t dwcp_get_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t dwcp_get_le32(const uint8_t *p)
{
    return dwcp_get_le16(p) | (uint32_t)dwcp_get_le16(p + 2) << 16;
}

static inline uint64_t dwcp_get_le64(const uint8_t *p)
{
    return dwcp_get_le32(p) | (uint64_t)dwcp_get_le32(p + 4) << 32;
}

#endif
