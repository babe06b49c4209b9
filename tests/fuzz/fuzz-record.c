/*
 * Record headers and the channel's window: what is accepted is lawful
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "core/channel.h"
#include "core/wire.h"
#include "fuzz.h"

static void one_header(const uint8_t *data)
{
    uint8_t again[DWCP_RECORD_HEADER];
    DwcpRecord record;
    DwcpError err;
    int rc = dwcp_record_decode(data, 4096, &record, &err);

    fuzz_require(rc == 0 || (rc == -EPROTO && err.code == rc));
    if (rc == 0) {
        dwcp_record_encode(again, record.type, record.length);
        fuzz_require(memcmp(again, data, sizeof(again)) == 0);
    }
}

/* The rest drives a channel: lengths, credits, consumption. */
static void one_channel(const uint8_t *data, size_t size)
{
    static uint8_t bytes[DWCP_CHANNEL_DATA_MAX];
    DwcpChannel channel;
    const uint8_t *out;
    uint32_t n;

    if (dwcp_channel_init(&channel) < 0) {
        return;
    }
    for (; size >= 5; data += 5, size -= 5) {
        n = dwcp_get_le32(data + 1);
        switch (data[0] & 3) {
        case 0:
            (void)!dwcp_channel_push(&channel, bytes, n % sizeof(bytes), NULL);
            break;
        case 1:
            n = dwcp_channel_peek(&channel, &out) ? n : 0;
            dwcp_channel_consume(&channel,
                                 n % (dwcp_channel_peek(&channel, &out) + 1));
            break;
        case 2:
            channel.sent += n % (dwcp_channel_room(&channel) + 1);
            break;
        default:
            (void)!dwcp_channel_credit(&channel, n, NULL);
        }
        fuzz_require(channel.received - channel.consumed <=
                     DWCP_CHANNEL_WINDOW);
        fuzz_require(dwcp_channel_room(&channel) <= DWCP_CHANNEL_WINDOW);
        (void)dwcp_channel_report(&channel, DWCP_CHANNEL_REPORT);
    }
    dwcp_channel_clear(&channel);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= DWCP_RECORD_HEADER) {
        one_header(data);
        one_channel(data + DWCP_RECORD_HEADER, size - DWCP_RECORD_HEADER);
    }
    return 0;
}
