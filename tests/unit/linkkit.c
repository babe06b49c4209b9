/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "linkkit.h"

#include <assert.h>
#include <string.h>

WanLink link_;

void link_setup(const WanLinkConfig *config, size_t ring_bytes)
{
    assert(wan_link_init(&link_, ring_bytes, 42) == 0);
    wan_link_configure(&link_, config, 0);
}

void link_offer(uint32_t bytes, uint32_t mark, uint64_t now_ns)
{
    uint8_t *frame = wan_link_reserve(&link_);

    memset(frame, 0, WAN_VNET_BYTES);
    memset(frame + WAN_VNET_BYTES, (int)(mark & 0xff), bytes);
    memcpy(frame + WAN_VNET_BYTES, &mark, sizeof(mark));
    wan_link_offer(&link_, frame, WAN_VNET_BYTES + bytes, now_ns);
}

uint32_t link_take(uint64_t now_ns)
{
    uint32_t mark;
    size_t length, i;
    const uint8_t *frame = wan_link_due(&link_, now_ns, &length);

    if (!frame) {
        return UINT32_MAX;
    }
    memcpy(&mark, frame + WAN_VNET_BYTES, sizeof(mark));
    for (i = WAN_VNET_BYTES + sizeof(mark); i < length; i++) {
        assert(frame[i] == (uint8_t)mark);
    }
    wan_link_done(&link_);
    return mark;
}
