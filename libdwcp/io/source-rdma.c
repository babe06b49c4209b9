/*
 * The source's records about RDMA: when to ask for a lane, and what comes of it
 *
 * With rdma=on the lane is asked for at once, with auto when the path turns out
 * to be a datacenter's; not any more once the guest is stopped.  Whatever goes
 * wrong before it carries pages leaves these on TCP, and the reason in the
 * statistics.
 *
 * Threads: stream 0's.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>

#include "core/fail.h"
#include "io/lane-end.h"
#include "io/rdma.h"

void dwcp_source_rdma_ask(DwcpStream *stream)
{
    DwcpSource *source = dwcp_source_of(stream);
    DwcpSession *session = &source->session;

    if (!atomic_load(&session->rdma_agreed) || session->lane.asked ||
        atomic_load(&source->ended_ns) ||
        (session->rdma_wish == DWCP_RDMA_AUTO &&
         source->path.mode != DWCP_MODE_DATACENTER)) {
        return;
    }
    /* A queue that is full is asked again with the next sample. */
    session->lane.asked = dwcp_stream_queue(stream, DWCP_RECORD_RDMA_ASK, NULL,
                                            0, NULL, 0) == 0;
}

static int record_offer(DwcpStream *stream, const uint8_t *body, DwcpError *err)
{
    DwcpSource *source = dwcp_source_of(stream);
    DwcpSession *session = &source->session;
    DwcpLaneOffer offer;
    DwcpError why;
    int rc = dwcp_lane_offer_decode(body, &offer, err);

    if (rc < 0) {
        return rc;
    }
    if (session->lane.offered) {
        return dwcp_fail(err, -EPROTO, "RDMA_OFFER for the second time");
    }
    session->lane.offered = true;
    if (session->lane.given_up || atomic_load(&source->ended_ns)) {
        rc = dwcp_fail(&why, -ETIMEDOUT, "the offer came too late");
    } else {
        rc = dwcp_lane_source_start(source, stream->tcp.fd, &offer, &why);
    }
    if (rc < 0) {
        dwcp_rdma_set(session, DWCP_RDMA_UNUSED, "%s", why.text);
        dwcp_lane_say_down(session, 0, why.text);
    }
    return 0;
}

int dwcp_source_rdma_record(DwcpStream *stream, const DwcpRecord *record,
                            const uint8_t *body, DwcpError *err)
{
    DwcpSession *session = stream->session;
    int rc;

    if (!session->lane.asked) {
        return dwcp_fail(err, -EPROTO, "record type %u and nobody asked",
                         (unsigned)record->type);
    }
    if (record->type == DWCP_RECORD_RDMA_OFFER) {
        return record_offer(stream, body, err);
    }
    rc = dwcp_lane_heard_down(stream, record, body, err);
    if (rc == 0 && !session->lane.started) {
        dwcp_rdma_set(session, DWCP_RDMA_UNUSED, "the target: %s",
                      session->lane.heard_down.text);
    }
    return rc;
}

int dwcp_lane_ready_check(DwcpSource *source, DwcpError *err)
{
    DwcpSession *session = &source->session;
    bool heard, stands;

    pthread_mutex_lock(&session->lock);
    heard = session->lane.heard;
    pthread_mutex_unlock(&session->lock);
    pthread_mutex_lock(&source->feed.lock);
    stands = source->feed.way == DWCP_WAY_LANE;
    pthread_mutex_unlock(&source->feed.lock);
    return stands && !heard
               ? dwcp_fail(err, -EPROTO, "READY while the RDMA lane stands")
               : 0;
}

/* An offer that was on its way is lost: it is not worth a second one. */
int dwcp_source_rdma_resumed(DwcpStream *stream, DwcpError *err)
{
    DwcpSession *session = stream->session;

    if (session->lane.asked && !session->lane.offered &&
        !session->lane.given_up) {
        session->lane.given_up = true;
        dwcp_rdma_set(session, DWCP_RDMA_UNUSED,
                      "the connection was lost while RDMA was being set up");
    }
    return dwcp_lane_resumed(stream) < 0
               ? dwcp_fail(err, -ENOBUFS, "the target does not read")
               : 0;
}
