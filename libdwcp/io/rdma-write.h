/*
 * The source's end of an RDMA lane, shared by its two files
 *
 * Frames are pulled from the feed into a short queue, so that the pieces of guest
 * RAM that they need are registered while those before them are written.  The
 * first of the queue is begun when no chunk of it is under way (core/flight.h);
 * its pages that are not zero are written run by run, each as soon as its piece
 * is ready at both ends, and its head follows them.
 *
 * Threads: the lane's own.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_RDMA_WRITE_H
#define DWCP_IO_RDMA_WRITE_H

#include <sys/socket.h>

#include "core/flight.h"
#include "core/rampieces.h"
#include "io/rdma-link.h"
#include "io/rdma-pin.h"
#include "io/source.h"

typedef struct DwcpSourceLane {
    DwcpSource *source;
    DwcpSession *session;
    struct sockaddr_storage from, to;
    uint8_t hello[DWCP_LANE_HELLO_BYTES];

    DwcpLink link;
    DwcpPin pin;
    DwcpPieces pieces;
    DwcpFlight flight;
    uint64_t memory_bytes;

    struct {
        DwcpFrame *frame;
        DwcpPages pages;
    } staged[DWCP_LANE_STAGED]; /* a ring */
    unsigned staged_at, staged_count;
    /* of the first of them */
    bool begun;
    unsigned chunk; /* that is being written, */
    uint64_t left;  /* and its pages that are not posted yet */

    uint64_t pull_wait_ns; /* what the feed said */
    uint64_t moved_ns;     /* something was answered, or nothing was open */
} DwcpSourceLane;

/* dwcp_source_lane_unstage: the first of the queue is done with */
void dwcp_source_lane_unstage(DwcpSourceLane *lane);

/* dwcp_source_lane_acked: the target has applied so many frames of the lane in
 * all; Returns: 0 or -EPROTO */
int dwcp_source_lane_acked(DwcpSourceLane *lane, uint64_t frames,
                           DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_source_lane_serve: move pages until something ends it
 *
 * Returns: -ECANCELED the session is over, or the target has said RDMA_DOWN;
 * -EPROTO the target broke the protocol; or what went wrong with the lane.
 */
int dwcp_source_lane_serve(DwcpSourceLane *lane, DwcpError *err) DWCP_CHECKED;

#endif
