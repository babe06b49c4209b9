/*
 * The source's end of an RDMA lane: connecting, and taking it down
 *
 * What it does with pages stands in rdma-write.c.  Whatever ends the lane, the
 * order is the same: destroy the queue pair, say RDMA_DOWN, deregister, wait for
 * the target's RDMA_DOWN, which says what has arrived, and only then let the
 * rest take TCP: the target cannot be written to any more.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "core/fail.h"
#include "io/lane-end.h"
#include "io/rdma-memory.h"
#include "io/rdma-write.h"
#include "io/rdma.h"

/* For the system to find the way to the target. */
#define RESOLVE_MS 3000

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *)address)->sin_port = htons(port);
    }
}

/* From the address of the TCP connection to that of its peer. */
static int connect_lane(DwcpSourceLane *lane, DwcpError *err)
{
    uint64_t deadline_ns = dwcp_now_ns() + DWCP_LANE_SETUP_MS * 1000000ull;
    struct rdma_conn_param params = dwcp_link_params();
    DwcpSession *session = lane->session;
    DwcpLink *link = &lane->link;
    int rc = dwcp_link_open(link, err);

    if (rc < 0) {
        return rc;
    }
    params.private_data = lane->hello;
    params.private_data_len = sizeof(lane->hello);
    if (rdma_create_id(link->events, &link->id, NULL, RDMA_PS_TCP) < 0 ||
        rdma_resolve_addr(link->id, (struct sockaddr *)&lane->from,
                          (struct sockaddr *)&lane->to, RESOLVE_MS) < 0) {
        return dwcp_fail(err, -EIO, "RDMA: resolve the address: %s",
                         strerror(errno));
    }
    rc = dwcp_link_expect(link, session, deadline_ns,
                          RDMA_CM_EVENT_ADDR_RESOLVED, err);
    if (rc == 0 && rdma_resolve_route(link->id, RESOLVE_MS) < 0) {
        rc = dwcp_fail(err, -EIO, "RDMA: resolve the route: %s",
                       strerror(errno));
    }
    if (rc == 0) {
        rc = dwcp_link_expect(link, session, deadline_ns,
                              RDMA_CM_EVENT_ROUTE_RESOLVED, err);
    }
    if (rc == 0) {
        rc = dwcp_link_make(link, err);
    }
    if (rc == 0 && rdma_connect(link->id, &params) < 0) {
        rc = dwcp_fail(err, -EIO, "RDMA: connect: %s", strerror(errno));
    }
    return rc < 0 ? rc
                  : dwcp_link_expect(link, session, deadline_ns,
                                     RDMA_CM_EVENT_ESTABLISHED, err);
}

static int know_ram(DwcpSourceLane *lane, DwcpError *err)
{
    DwcpSource *source = lane->source;
    uint64_t bytes;
    unsigned i;

    for (i = 0; i < source->blocks_count; i++) {
        bytes = source->blocks[i].pages * source->session.page_size;
        if (dwcp_pieces_add(&lane->pieces, bytes) < 0) {
            return dwcp_fail(err, -ENOMEM, "out of memory");
        }
    }
    lane->memory_bytes = sizeof(*lane) + dwcp_pieces_memory(&lane->pieces) +
                         (DWCP_LANE_CREDITS + DWCP_LINK_SENDS) *
                             DWCP_LINK_SLOT_BYTES;
    atomic_fetch_add(&source->session.memory_bytes, lane->memory_bytes);
    return 0;
}

/*
 * BEGIN, then all that took TCP, then the lane.  Once the guest is stopped it is
 * too late: draining would cost downtime.
 */
static int enter(DwcpSourceLane *lane, DwcpError *err)
{
    DwcpSession *session = lane->session;
    uint64_t deadline_ns = 0, now_ns;
    bool begun;
    int rc = 0;

    while (rc == 0 && !dwcp_feed_lane_enter(&lane->source->feed, &begun)) {
        now_ns = dwcp_now_ns();
        if (begun && !deadline_ns) {
            deadline_ns = now_ns + DWCP_LANE_SETUP_MS * 1000000ull;
        }
        if (dwcp_lane_over(session) || atomic_load(&lane->source->ended_ns)) {
            return dwcp_fail(err, -ECANCELED, "RDMA: it came too late");
        }
        if (deadline_ns && now_ns > deadline_ns) {
            return dwcp_fail(err, -ETIMEDOUT,
                             "RDMA: what is on its way on TCP does not drain");
        }
        rc = dwcp_link_alive(&lane->link, session, err);
        if (rc == 0) {
            dwcp_link_wait(&lane->link, session->lane.fd, 100000000ull);
        }
    }
    return rc < 0 ? rc : know_ram(lane, err);
}

/* --------------------------------------------------------------- end -- */

/* All that was registered, by whatever way it came to be. */
static void deregister(DwcpSourceLane *lane)
{
    DwcpPinJob job;

    dwcp_pin_stop(&lane->pin);
    while (lane->pin.started && dwcp_pin_take(&lane->pin, &job)) {
        job.piece->handle = job.mr;
    }
    dwcp_pin_clear(&lane->pin);
    dwcp_rdma_deregister(lane->session, &lane->pieces);
}

/* What the target has is acknowledged; the rest is to be sent again. */
static int settle(DwcpSourceLane *lane, uint64_t frames, DwcpError *err)
{
    DwcpFeed *feed = &lane->source->feed;
    const DwcpFlightFrame *frame;
    int rc = dwcp_source_lane_acked(lane, frames, err);

    if (rc < 0) {
        return rc;
    }
    while ((frame = dwcp_flight_next(&lane->flight))) {
        dwcp_feed_lane_again(feed, frame->number, frame->count, frame->bytes,
                             NULL);
    }
    for (; lane->staged_count; dwcp_source_lane_unstage(lane)) {
        DwcpFrame *staged = lane->staged[lane->staged_at].frame;

        /* One that was begun was under way, and is dealt with. */
        dwcp_feed_lane_again(feed, staged->number,
                             lane->begun ? 0 : staged->count, 0, staged);
        lane->begun = false;
    }
    return 0;
}

/* The session ended first: nobody sends these. */
static void drop_frames(DwcpSourceLane *lane)
{
    for (; lane->staged_count; dwcp_source_lane_unstage(lane)) {
        dwcp_frame_free(lane->staged[lane->staged_at].frame);
    }
}

/*
 * Why the pages take TCP, for the statistics: what we saw ourselves, or, if that
 * was only that the target has gone, its own word.
 */
static void tell(DwcpSourceLane *lane, bool used, const DwcpError *why)
{
    DwcpRdmaState state = used ? DWCP_RDMA_ENDED : DWCP_RDMA_UNUSED;
    DwcpSession *session = lane->session;
    DwcpLaneDown down;
    bool heard;

    pthread_mutex_lock(&session->lock);
    heard = session->lane.heard;
    down = session->lane.heard_down;
    pthread_mutex_unlock(&session->lock);
    if (heard && !down.text[0]) { /* it has done its work */
        dwcp_rdma_set(session, state, "%s",
                      used ? "" : "RDMA: it came too late");
    } else if (heard && strcmp(down.text, why->text) != 0 &&
               (why->code == -ECONNRESET || why->code == -ECANCELED)) {
        dwcp_rdma_set(session, state, "the target: %s", down.text);
    } else {
        dwcp_rdma_set(session, state, "%s", why->text);
    }
}

static void take_down(DwcpSourceLane *lane, bool used, const DwcpError *why)
{
    DwcpSession *session = lane->session;
    DwcpError err;
    bool heard;
    int rc = 0;

    dwcp_link_cut(&lane->link);
    dwcp_lane_say_down(session, 0, why->text);
    deregister(lane);
    dwcp_link_close(&lane->link);
    /* Before the first frame there is nothing to wait for. */
    heard = used ? dwcp_lane_await_down(session) : false;
    if (used && heard) {
        rc = settle(lane, session->lane.heard_down.frames, &err);
    }
    drop_frames(lane);
    tell(lane, used, why);
    dwcp_feed_lane_attach(&lane->source->feed, -1);
    if (rc < 0) {
        dwcp_session_fail(session, &err, true);
    } else if (heard || !used) {
        dwcp_feed_lane_leave(&lane->source->feed);
    }
    atomic_fetch_sub(&session->memory_bytes, lane->memory_bytes);
}

static void *lane_run(void *opaque)
{
    DwcpSourceLane *lane = opaque;
    DwcpError err = { .text = "" };
    bool used = false;
    int rc = connect_lane(lane, &err);

    if (rc == 0) {
        dwcp_feed_lane_attach(&lane->source->feed, lane->session->lane.fd);
        rc = enter(lane, &err);
    }
    if (rc == 0) {
        used = true;
        rc = dwcp_pin_start(&lane->pin, lane->link.pd, lane->session->lane.fd,
                            &err);
    }
    if (rc == 0) {
        dwcp_rdma_set(lane->session, DWCP_RDMA_ACTIVE, "%s", "");
        rc = dwcp_source_lane_serve(lane, &err);
    }
    if (rc == -EPROTO) {
        dwcp_session_fail(lane->session, &err, true);
    }
    take_down(lane, used, &err);
    free(lane);
    return NULL;
}

int dwcp_lane_source_start(DwcpSource *source, int fd,
                           const DwcpLaneOffer *offer, DwcpError *err)
{
    socklen_t from_length = sizeof(struct sockaddr_storage);
    socklen_t to_length = from_length;
    DwcpSourceLane *lane = calloc(1, sizeof(*lane));
    int rc = 0;

    if (!lane) {
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    lane->source = source;
    lane->session = &source->session;
    dwcp_pieces_init(&lane->pieces);
    dwcp_flight_init(&lane->flight);
    dwcp_lane_hello_encode(lane->hello, source->session.id, offer->token);
    if (getsockname(fd, (struct sockaddr *)&lane->from, &from_length) < 0 ||
        getpeername(fd, (struct sockaddr *)&lane->to, &to_length) < 0) {
        rc = dwcp_fail(err, -errno, "the connection's address: %s",
                       strerror(errno));
    }
    set_port(&lane->from, 0);
    set_port(&lane->to, offer->port);
    if (rc == 0) {
        rc = dwcp_lane_start(&source->session, lane_run, lane, err);
    }
    if (rc < 0) {
        free(lane);
    }
    return rc;
}
