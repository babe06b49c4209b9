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
    channel->kept = malloc(DWCP_CHANNEL_WINDOW);
    return channel->ring && channel->kept ? 0 : -ENOMEM;
}

/* Of a ring that so many bytes have gone through. */
static size_t used(uint64_t bytes)
{
    return bytes < DWCP_CHANNEL_WINDOW ? (size_t)bytes : DWCP_CHANNEL_WINDOW;
}

void dwcp_channel_clear(DwcpChannel *channel)
{
    dwcp_wipe_free(channel->ring, used(channel->received));
    dwcp_wipe_free(channel->kept, used(channel->sent));
    channel->ring = channel->kept = NULL;
}

uint32_t dwcp_channel_room(const DwcpChannel *channel)
{
    assert(channel->sent - channel->peer_consumed <= DWCP_CHANNEL_WINDOW);
    return DWCP_CHANNEL_WINDOW -
           (uint32_t)(channel->sent - channel->peer_consumed);
}

uint32_t dwcp_channel_space(const DwcpChannel *channel, uint8_t **at)
{
    uint32_t room = dwcp_channel_room(channel);
    uint32_t begin = (uint32_t)(channel->sent % DWCP_CHANNEL_WINDOW);
    uint32_t piece = DWCP_CHANNEL_WINDOW - begin;

    *at = channel->kept + begin;
    return room < piece ? room : piece;
}

void dwcp_channel_took(DwcpChannel *channel, uint32_t length)
{
    assert(length <= dwcp_channel_room(channel));
    channel->sent += length;
}

uint32_t dwcp_channel_next(const DwcpChannel *channel, const uint8_t **data)
{
    uint64_t left = channel->sent - channel->queued;
    uint32_t begin = (uint32_t)(channel->queued % DWCP_CHANNEL_WINDOW);
    uint32_t piece = DWCP_CHANNEL_WINDOW - begin;

    *data = channel->kept + begin;
    piece = piece < DWCP_CHANNEL_DATA_MAX ? piece : DWCP_CHANNEL_DATA_MAX;
    return left < piece ? (uint32_t)left : piece;
}

void dwcp_channel_gave(DwcpChannel *channel, uint32_t length)
{
    assert(length <= channel->sent - channel->queued);
    channel->queued += length;
}

int dwcp_channel_resume(DwcpChannel *channel, uint64_t received,
                        uint64_t consumed, DwcpError *err)
{
    if (received < channel->peer_consumed || received > channel->queued ||
        consumed < channel->peer_consumed || consumed > received) {
        return dwcp_fail(err, -EPROTO,
                         "RESUME: %llu bytes received, %llu consumed, of "
                         "%llu; %llu before",
                         (unsigned long long)received,
                         (unsigned long long)consumed,
                         (unsigned long long)channel->queued,
                         (unsigned long long)channel->peer_consumed);
    }
    channel->queued = received;
    channel->peer_consumed = consumed;
    return 0;
}

int dwcp_channel_credit(DwcpChannel *channel, uint64_t consumed, DwcpError *err)
{
    if (consumed > channel->queued || consumed < channel->peer_consumed) {
        return dwcp_fail(err, -EPROTO,
                         "WINDOW: %llu bytes consumed of %llu, %llu before",
                         (unsigned long long)consumed,
                         (unsigned long long)channel->queued,
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
