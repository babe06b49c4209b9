/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/rdma-write.h"

#include <errno.h>

#include "core/fail.h"
#include "io/lane-end.h"

#define TICK_NS 500000000ull

/* ---------------------------------------------------------- messages -- */

int dwcp_source_lane_acked(DwcpSourceLane *lane, uint64_t frames,
                           DwcpError *err)
{
    const DwcpFlightFrame *frame;
    int rc;

    while ((rc = dwcp_flight_ack(&lane->flight, frames, &frame, err)) == 1) {
        rc = dwcp_feed_lane_acked(&lane->source->feed, frame->number,
                                  frame->count, frame->pages, err);
        if (rc < 0) {
            break;
        }
    }
    return rc;
}

static int got(void *opaque, const uint8_t *bytes, uint32_t length,
               DwcpError *err)
{
    DwcpSourceLane *lane = opaque;
    DwcpLaneMessage message;
    int rc = dwcp_lane_decode(bytes, length, false, lane->session->page_size,
                              &message, err);

    if (rc == 0) {
        rc = dwcp_flight_credit(&lane->flight, message.credits, err);
    }
    if (rc < 0) {
        return rc;
    }
    lane->moved_ns = dwcp_now_ns();
    atomic_store(&lane->session->heard_ns, lane->moved_ns);
    return message.type == DWCP_LANE_ACK
               ? dwcp_source_lane_acked(lane, message.frames, err)
               : dwcp_pieces_remote(&lane->pieces, message.block, message.piece,
                                    message.bytes, message.rkey,
                                    message.address, err);
}

/* ------------------------------------------------------------ pieces -- */

/* Asks for the pieces that come next, at both ends.  Returns: how many, or an
 * error. */
static int ask(DwcpSourceLane *lane, DwcpError *err)
{
    const uint32_t page_size = lane->session->page_size;
    DwcpLaneMessage message = { .type = DWCP_LANE_REGISTER };
    const uint8_t *host;
    uint8_t *slot;
    unsigned i;
    int rc, count = 0;

    for (i = 0; i < lane->staged_count; i++) {
        const DwcpPages *pages =
            &lane->staged[(lane->staged_at + i) % DWCP_LANE_STAGED].pages;

        while (lane->flight.credits && dwcp_link_room(&lane->link) &&
               (slot = dwcp_link_slot(&lane->link)) &&
               dwcp_pieces_want(&lane->pieces, pages, page_size,
                                &message.block, &message.piece)) {
            message.bytes = dwcp_pieces_bytes(&lane->pieces, message.block,
                                              message.piece);
            host = lane->source->blocks[message.block].host +
                   (uint64_t)message.piece * DWCP_PIECE_BYTES;
            dwcp_pin_push(&lane->pin,
                          dwcp_pieces_at(&lane->pieces, message.block,
                                         message.piece),
                          (void *)host, message.bytes);
            dwcp_flight_spend(&lane->flight);
            rc = dwcp_link_send(&lane->link, dwcp_lane_encode(slot, &message),
                                err);
            if (rc < 0) {
                return rc;
            }
            count++;
        }
    }
    return count;
}

/* Returns: how many pieces have been registered here since, or an error. */
static int take_pins(DwcpSourceLane *lane, DwcpError *err)
{
    DwcpPinJob job;
    int count = 0;

    while (dwcp_pin_take(&lane->pin, &job)) {
        if (!job.mr) {
            *err = job.error;
            return job.error.code;
        }
        job.piece->handle = job.mr;
        job.piece->local = true;
        atomic_fetch_add(&lane->session->rdma_registered_bytes, job.bytes);
        count++;
    }
    return count;
}

/* ------------------------------------------------------------ frames -- */

void dwcp_source_lane_unstage(DwcpSourceLane *lane)
{
    lane->staged_at = (lane->staged_at + 1) % DWCP_LANE_STAGED;
    lane->staged_count--;
}

/* Fills the queue.  Returns: how many frames, or an error. */
static int stage(DwcpSourceLane *lane, DwcpError *err)
{
    DwcpFrame *frame;
    unsigned at;
    int count = 0;

    lane->pull_wait_ns = UINT64_MAX;
    while (lane->staged_count < DWCP_LANE_STAGED &&
           (frame = dwcp_feed_lane_pull(&lane->source->feed,
                                        &lane->pull_wait_ns))) {
        at = (lane->staged_at + lane->staged_count) % DWCP_LANE_STAGED;
        lane->staged[at].frame = frame;
        lane->staged_count++;
        count++;
        /* Our own encoder's. */
        if (dwcp_pages_decode(frame->bytes + DWCP_RECORD_HEADER,
                              (uint32_t)frame->length - DWCP_RECORD_HEADER,
                              lane->session->page_size,
                              &lane->staged[at].pages, err) < 0 ||
            lane->staged[at].pages.codec != DWCP_CODEC_RAW) {
            return dwcp_fail(err, -EIO, "RDMA: a frame is not raw");
        }
    }
    return count;
}

static uint64_t plain_of(const DwcpPages *pages, unsigned chunk)
{
    return chunk < pages->count
               ? pages->chunks[chunk].present & ~pages->chunks[chunk].zero
               : 0;
}

/* Posts one run of pages that stand side by side.  @piece: ready */
static int write_run(DwcpSourceLane *lane, const DwcpChunk *chunk,
                     DwcpPiece *piece, DwcpError *err)
{
    const uint32_t page_size = lane->session->page_size;
    unsigned first = (unsigned)__builtin_ctzll(lane->left);
    uint64_t rest = ~(lane->left >> first);
    unsigned pages = rest ? (unsigned)__builtin_ctzll(rest) : 64;
    uint64_t at = ((uint64_t)chunk->chunk * DWCP_CHUNK_PAGES + first) *
                  page_size;
    const struct ibv_mr *mr = piece->handle;

    if (!atomic_load(&lane->session->rdma_bytes)) {
        atomic_store(&lane->session->rdma_first_pieces,
                     (unsigned)lane->pieces.asked);
    }
    dwcp_pieces_write(&lane->pieces, piece);
    /* A run ends at the chunk's end, so it stands in one piece. */
    lane->left &= pages + first == 64 ? (1ull << first) - 1
                                      : ~(((1ull << pages) - 1) << first);
    atomic_fetch_add(&lane->session->rdma_bytes, (uint64_t)pages * page_size);
    return dwcp_link_write(&lane->link,
                           lane->source->blocks[chunk->block].host + at,
                           pages * page_size, mr->lkey,
                           piece->address + at % DWCP_PIECE_BYTES, piece->rkey,
                           err);
}

/* Returns: 1 all pages of the first frame are posted, 0 not now, or an error. */
static int write_pages(DwcpSourceLane *lane, DwcpError *err)
{
    const DwcpPages *pages = &lane->staged[lane->staged_at].pages;
    const DwcpChunk *chunk;
    DwcpPiece *piece;
    int rc;

    while (lane->chunk < pages->count) {
        if (!lane->left) {
            lane->chunk++;
            lane->left = plain_of(pages, lane->chunk);
            continue;
        }
        chunk = &pages->chunks[lane->chunk];
        piece = dwcp_pieces_at(&lane->pieces, chunk->block,
                               dwcp_piece_of(chunk, lane->session->page_size));
        if (!dwcp_piece_ready(piece) || !dwcp_link_room(&lane->link)) {
            return 0;
        }
        rc = write_run(lane, chunk, piece, err);
        if (rc < 0) {
            return rc;
        }
    }
    return 1;
}

/* The head, behind its pages.  Returns: 1, 0 not now, or an error. */
static int send_head(DwcpSourceLane *lane, DwcpError *err)
{
    DwcpFrame *frame = lane->staged[lane->staged_at].frame;
    uint8_t *slot;
    int rc;

    if (!dwcp_link_room(&lane->link) || !(slot = dwcp_link_slot(&lane->link))) {
        return 0;
    }
    rc = dwcp_link_send(&lane->link,
                        dwcp_lane_encode_pages(slot, frame->bytes, frame->head),
                        err);
    if (rc < 0) {
        return rc;
    }
    atomic_fetch_add(&lane->session->wire_bytes, frame->length);
    dwcp_feed_lane_sent(&lane->source->feed, frame);
    dwcp_source_lane_unstage(lane);
    lane->begun = false;
    return 1;
}

/* Returns: how many frames were sent to their end, or an error. */
static int post(DwcpSourceLane *lane, DwcpError *err)
{
    const DwcpPages *pages;
    int rc = 1, count = 0;

    while (rc == 1 && lane->staged_count) {
        pages = &lane->staged[lane->staged_at].pages;
        if (!lane->begun && !dwcp_flight_may(&lane->flight, pages)) {
            break;
        }
        if (!lane->begun) {
            dwcp_flight_begin(&lane->flight, pages, lane->session->page_size);
            lane->begun = true;
            lane->chunk = 0;
            lane->left = plain_of(pages, 0);
        }
        rc = write_pages(lane, err);
        if (rc == 1) {
            rc = send_head(lane, err);
            count += rc == 1;
        }
    }
    return rc < 0 ? rc : count;
}

/* --------------------------------------------------------------- loop -- */

/* Answers are due while messages are open. */
static int stall_check(DwcpSourceLane *lane, DwcpError *err)
{
    uint64_t now_ns = dwcp_now_ns();
    uint32_t limit_ms = DWCP_LANE_STALL_MS;

    if (lane->flight.credits == DWCP_LANE_CREDITS) {
        lane->moved_ns = now_ns;
    }
    if (atomic_load(&lane->source->ended_ns) &&
        lane->session->switchover_ms_max < limit_ms) {
        limit_ms = lane->session->switchover_ms_max;
    }
    return now_ns - lane->moved_ns > limit_ms * 1000000ull
               ? dwcp_fail(err, -ETIMEDOUT, "RDMA: no answer for %u ms",
                           limit_ms)
               : 0;
}

/* Returns: whether anything was done, or an error. */
static int turn(DwcpSourceLane *lane, DwcpError *err)
{
    int (*const steps[])(DwcpSourceLane *, DwcpError *) = { take_pins, stage,
                                                            ask, post };
    int rc = dwcp_link_poll(&lane->link, DWCP_LINK_POLL, got, lane, err), done;
    unsigned i;

    done = rc;
    for (i = 0; rc >= 0 && i < sizeof(steps) / sizeof(steps[0]); i++) {
        rc = steps[i](lane, err);
        done += rc;
    }
    if (rc >= 0) {
        rc = dwcp_link_flush(&lane->link, err);
    }
    if (rc == 0) {
        rc = dwcp_link_alive(&lane->link, lane->session, err);
    }
    if (rc == 0) {
        rc = stall_check(lane, err);
    }
    return rc < 0 ? rc : done > 0;
}

int dwcp_source_lane_serve(DwcpSourceLane *lane, DwcpError *err)
{
    int rc = 0;

    lane->moved_ns = dwcp_now_ns();
    while (rc >= 0) {
        if (dwcp_lane_over(lane->session)) {
            return dwcp_fail(err, -ECANCELED, "the lane is over");
        }
        rc = turn(lane, err);
        if (rc == 0) {
            dwcp_link_wait(&lane->link, lane->session->lane.fd,
                           lane->pull_wait_ns < TICK_NS ? lane->pull_wait_ns
                                                        : TICK_NS);
        }
    }
    return rc;
}
