/*
 * Messages of the RDMA lane and the records around it: what is accepted is
 * lawful, and can be written again
 *
 * The first byte says from which side the message comes.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <string.h>

#include "core/flight.h"
#include "core/lane.h"
#include "core/rampieces.h"
#include "fuzz.h"

#define PAGE 4096u

static void one_frame(const DwcpPages *pages)
{
    static DwcpFlight flight;

    fuzz_require(pages->codec == DWCP_CODEC_RAW);
    fuzz_require((uint64_t)dwcp_pages_plain(pages) * PAGE <=
                 dwcp_plain_bytes_max(PAGE));
    dwcp_flight_init(&flight);
    fuzz_require(dwcp_flight_may(&flight, pages));
    dwcp_flight_begin(&flight, pages, PAGE);
    fuzz_require(!dwcp_flight_may(&flight, pages));
    fuzz_require(dwcp_flight_next(&flight) && flight.bytes == 0);
}

static void one_message(const uint8_t *data, uint32_t size, bool from_source)
{
    uint8_t again[DWCP_LANE_PAGES_BYTES_MAX];
    DwcpLaneMessage message;
    DwcpError err;
    int rc = dwcp_lane_decode(data, size, from_source, PAGE, &message, &err);

    fuzz_require(rc == 0 || (rc == -EPROTO && err.code == rc));
    if (rc < 0) {
        return;
    }
    if (message.type == DWCP_LANE_PAGES) {
        one_frame(&message.pages);
        return;
    }
    fuzz_require(dwcp_lane_encode(again, &message) == size);
    fuzz_require(memcmp(again, data, size) == 0);
}

static void one_record(const uint8_t *data, uint32_t size)
{
    uint8_t again[DWCP_LANE_DOWN_BODY_MAX];
    DwcpLaneOffer offer;
    DwcpLaneDown down;
    DwcpError err;

    if (size >= DWCP_LANE_OFFER_BODY &&
        dwcp_lane_offer_decode(data, &offer, &err) == 0) {
        dwcp_lane_offer_encode(again, &offer);
        fuzz_require(memcmp(again, data, DWCP_LANE_OFFER_BODY) == 0);
    }
    if (size >= 8 && size <= DWCP_LANE_DOWN_BODY_MAX) {
        dwcp_lane_down_decode(data, size, &down);
        fuzz_require(dwcp_lane_down_encode(again, &down) == size);
        fuzz_require(memcmp(again, data, 8) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 1) {
        one_message(data + 1, (uint32_t)size - 1, data[0] & 1);
        one_record(data + 1, (uint32_t)size - 1);
    }
    return 0;
}
