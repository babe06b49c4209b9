/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/flight.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/fail.h"

void dwcp_flight_init(DwcpFlight *flight)
{
    memset(flight, 0, sizeof(*flight));
    flight->credits = DWCP_LANE_CREDITS;
}

void dwcp_flight_spend(DwcpFlight *flight)
{
    assert(flight->credits);
    flight->credits--;
}

int dwcp_flight_credit(DwcpFlight *flight, unsigned count, DwcpError *err)
{
    if (count > DWCP_LANE_CREDITS - flight->credits) {
        return dwcp_fail(err, -EPROTO,
                         "RDMA: %u credits for %u messages", count,
                         DWCP_LANE_CREDITS - flight->credits);
    }
    flight->credits += count;
    return 0;
}

/* A walk through a block meets each bucket once. */
static uint16_t bucket_of(const DwcpChunk *chunk)
{
    return (uint16_t)((chunk->chunk + chunk->block * 5119u) %
                      DWCP_FLIGHT_BUCKETS);
}

bool dwcp_flight_may(const DwcpFlight *flight, const DwcpPages *pages)
{
    unsigned i;

    if (!flight->credits || flight->bytes >= DWCP_LANE_FLIGHT_BYTES) {
        return false;
    }
    for (i = 0; i < pages->count; i++) {
        if (flight->chunks[bucket_of(&pages->chunks[i])]) {
            return false;
        }
    }
    return true;
}

void dwcp_flight_begin(DwcpFlight *flight, const DwcpPages *pages,
                       uint32_t page_size)
{
    DwcpFlightFrame *frame = &flight->frames[flight->begun % DWCP_LANE_CREDITS];
    unsigned i;

    dwcp_flight_spend(flight);
    /* Each has a credit: so many fit. */
    assert(flight->begun - flight->acked < DWCP_LANE_CREDITS);
    frame->number = pages->number;
    frame->count = pages->count;
    frame->pages = dwcp_pages_present(pages);
    frame->bytes = (uint64_t)dwcp_pages_plain(pages) * page_size;
    for (i = 0; i < pages->count; i++) {
        frame->buckets[i] = bucket_of(&pages->chunks[i]);
        flight->chunks[frame->buckets[i]]++;
    }
    flight->bytes += frame->bytes;
    flight->begun++;
}

const DwcpFlightFrame *dwcp_flight_next(DwcpFlight *flight)
{
    const DwcpFlightFrame *frame;
    unsigned i;

    if (flight->acked == flight->begun) {
        return NULL;
    }
    frame = &flight->frames[flight->acked++ % DWCP_LANE_CREDITS];
    for (i = 0; i < frame->count; i++) {
        assert(flight->chunks[frame->buckets[i]]);
        flight->chunks[frame->buckets[i]]--;
    }
    flight->bytes -= frame->bytes;
    return frame;
}

int dwcp_flight_ack(DwcpFlight *flight, uint64_t frames,
                    const DwcpFlightFrame **out, DwcpError *err)
{
    if (frames < flight->acked || frames > flight->begun) {
        return dwcp_fail(err, -EPROTO,
                         "RDMA: ACK of %llu frames, %llu were sent, %llu "
                         "acknowledged",
                         (unsigned long long)frames,
                         (unsigned long long)flight->begun,
                         (unsigned long long)flight->acked);
    }
    if (frames == flight->acked) {
        return 0;
    }
    *out = dwcp_flight_next(flight);
    return 1;
}
