/*
 * A path of the WAN emulator in virtual time, for its tests
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_LINKKIT_H
#define DWCP_TESTS_LINKKIT_H

#include "wan-link.h"

#define MS 1000000u
#define PACKET 1500u
#define RING (8u * WAN_FRAME_MAX)
/* 1500 bytes take one millisecond. */
#define MS_RATE 12000000u

extern WanLink link_;

void link_setup(const WanLinkConfig *config, size_t ring_bytes);

/* link_offer: an ordinary packet of @bytes that carries @mark */
void link_offer(uint32_t bytes, uint32_t mark, uint64_t now_ns);

/* link_take: what is due; Returns: its mark, or UINT32_MAX if nothing is */
uint32_t link_take(uint64_t now_ns);

#endif
