/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/channel.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/fail.h"
#include "core/wipe.h"

int dwcp_channel_init(DwcpChannel *channel)
{
    *channel = (DwcpChannel){ 0 };
    channel->ring = malloc(DWCP_CHANNEL_WINDOW);
    return channel->ring ? 0 : -ENOMEM;
}

void dwcp_channel_clear(DwcpChannel *channel)
{
    dwcp_wipe_free(channel->ring, channel->received < DWCP_CHANNEL_WINDOW
                                      ? (size_t)channel->received
                                      : DWCP_CHANNEL_WINDOW);
    channel->ring = NULL;
}

uint32_t dwcp_channel_room(const DwcpChannel *channel)
{
    assert(channel->sent - channel->peer_consumed <= DWCP_CHANNEL_WINDOW);
    return DWCP_CHANNEL_WINDOW -
           (uint32_t)(channel->sent - channel->peer_consumed);
}

int dwcp_channel_credit(DwcpChannel *channel, uint64_t consumed, DwcpError *err)
{
    if (consumed > channel->sent || consumed < channel->peer_consumed) {
        return dwcp_fail(err, -EPROTO,
                         "WINDOW: %llu bytes consumed of %llu, %llu before",
                         (unsigned long long)consumed,
                         (unsigned long long)channel->sent,
                         (unsigned long long)channel->peer_consumed);
    }
    channel->peer_consumed = consumed;
    return 0;
}

int dwcp_channel_push(DwcpChannel *channel, const uint8_t *data,
                      uint32_t length, DwcpError *err)
{
    uint32_t used = (uint32_t)(channel->received - channel->consumed);
    uint32_t at = (uint32_t)(channel->received % DWCP_CHANNEL_WINDOW);
    uint32_t first;

    if (channel->received_eof) {
        return dwcp_fail(err, -EPROTO, "CHANNEL: data after its end");
    }
    if (length > DWCP_CHANNEL_WINDOW - used) {
        return dwcp_fail(err, -EPROTO, "CHANNEL: %u bytes, window has %u",
                         length, DWCP_CHANNEL_WINDOW - used);
    }
    first = DWCP_CHANNEL_WINDOW - at;
    first = length < first ? length : first;
    memcpy(channel->ring + at, data, first);
    memcpy(channel->ring, data + first, length - first);
    channel->received += length;
    return 0;
}

uint32_t dwcp_channel_peek(const DwcpChannel *channel, const uint8_t **data)
{
    uint32_t used = (uint32_t)(channel->received - channel->consumed);
    uint32_t at = (uint32_t)(channel->consumed % DWCP_CHANNEL_WINDOW);
    uint32_t first = DWCP_CHANNEL_WINDOW - at;

    *data = channel->ring + at;
    return used < first ? used : first;
}

void dwcp_channel_consume(DwcpChannel *channel, uint32_t length)
{
    assert(length <= channel->received - channel->consumed);
    channel->consumed += length;
}

bool dwcp_channel_report(DwcpChannel *channel, uint32_t bytes)
{
    if (channel->consumed - channel->reported < bytes) {
        return false;
    }
    channel->reported = channel->consumed;
    return true;
}
