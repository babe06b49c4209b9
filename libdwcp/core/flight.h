/*
 * What the source has under way on the RDMA lane: credits, frames, chunks
 *
 * An RDMA write is not judged by the target, so the source must not let an
 * older description of a page pass a newer one.  Writes on one queue pair land
 * in their order, and a write that is posted later reads guest RAM later, so
 * two writes never do harm.  But the target's processor applies zero pages,
 * when it comes to their frame's head: a newer write could land before that and
 * be wiped out by it.  So no frame is begun while a chunk of it is described by
 * another that is not acknowledged.  Within a frame the target gives all
 * written pages their numbers first, and zeros after, which are then older or
 * newer as they should.
 *
 * Chunks are counted in buckets, by position: chunks that share one wait for
 * each other without need, which costs a round trip and nothing else.
 *
 * Threads: none of its own; the lane's thread.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_FLIGHT_H
#define DWCP_CORE_FLIGHT_H

#include "core/wire.h"

#define DWCP_FLIGHT_BUCKETS 16384u

typedef struct DwcpFlightFrame {
    uint64_t number;
    uint32_t count, pages; /* chunks, and pages of them */
    uint64_t bytes;        /* to be written */
    uint16_t buckets[DWCP_FRAME_CHUNKS_MAX];
} DwcpFlightFrame;

typedef struct DwcpFlight {
    unsigned credits;      /* messages that may be sent now */
    uint64_t begun, acked; /* frames, counted */
    uint64_t bytes;        /* of those begun and not acknowledged */
    DwcpFlightFrame frames[DWCP_LANE_CREDITS]; /* a ring */
    uint16_t chunks[DWCP_FLIGHT_BUCKETS];
} DwcpFlight;

void dwcp_flight_init(DwcpFlight *flight);

/* dwcp_flight_spend: one message is sent; there is a credit */
void dwcp_flight_spend(DwcpFlight *flight);
/* dwcp_flight_credit: @count messages were answered; Returns: 0; -EPROTO so many
 * were not sent */
int dwcp_flight_credit(DwcpFlight *flight, unsigned count,
                       DwcpError *err) DWCP_CHECKED;

/* dwcp_flight_may: may the frame be begun: is there a credit, room for its
 * bytes, and none of its chunks under way? */
bool dwcp_flight_may(const DwcpFlight *flight, const DwcpPages *pages);

/* dwcp_flight_begin: from now on it is under way; spends the credit of its head,
 * so that it can be sent whenever its pages are written */
void dwcp_flight_begin(DwcpFlight *flight, const DwcpPages *pages,
                       uint32_t page_size);

/*
 * dwcp_flight_ack: the next frame of those that @frames counts; call again until
 * there is none
 *
 * Returns: 1 and it, valid until the next dwcp_flight_begin; 0 none is left;
 * -EPROTO the target cannot have applied so many.
 */
int dwcp_flight_ack(DwcpFlight *flight, uint64_t frames,
                    const DwcpFlightFrame **out, DwcpError *err) DWCP_CHECKED;

/* dwcp_flight_next: the oldest that is not acknowledged is not under way any
 * more, for the lane is lost; NULL: there is none */
const DwcpFlightFrame *dwcp_flight_next(DwcpFlight *flight);

#endif
