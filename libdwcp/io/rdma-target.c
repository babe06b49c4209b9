/*
 * The target's end of an RDMA lane
 *
 * Offer, one connection with the right token, then messages: pieces are
 * registered as the source asks for them, frames' heads are applied.  While the
 * queue pair stands the source can write to what is registered, unseen.  So it
 * is destroyed before memory is complete, and when anything goes wrong; only
 * then RDMA_DOWN is said.  Deregistering, which takes its time with much memory,
 * comes after that: a key without a queue pair opens nothing.
 *
 * Threads: the lane's own, but dwcp_lane_target_start.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "core/fail.h"
#include "core/rampieces.h"
#include "io/lane-end.h"
#include "io/rdma-link.h"
#include "io/rdma-memory.h"
#include "io/rdma.h"

#define BACKLOG 4
#define TICK_NS 1000000000ull
/* Messages between answers: a frame of zeros is 16 MiB to look through. */
#define POLL_MAX 4

typedef struct TargetLane {
    DwcpTarget *target;
    DwcpSession *session;
    struct sockaddr_storage at;
    DwcpLaneOffer offer;

    DwcpLink link;
    DwcpPieces pieces;
    uint64_t memory_bytes;
    uint64_t frames;  /* applied */
    bool used;        /* it was open */
    unsigned credits; /* messages taken in and not answered */
    bool ack;         /* a frame is among them */
    struct {
        uint32_t block, piece;
    } wanted[DWCP_LANE_CREDITS]; /* to be registered and answered */
    unsigned wanted_count;
} TargetLane;

/* ------------------------------------------------------------- set-up -- */

static void any_port(struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)address)->sin6_port = 0;
    } else {
        ((struct sockaddr_in *)address)->sin_port = 0;
    }
}

static int make_offer(TargetLane *lane, DwcpError *err)
{
    uint8_t body[DWCP_LANE_OFFER_BODY];
    DwcpSession *session = lane->session;
    DwcpLink *link = &lane->link;
    int rc = dwcp_link_open(link, err);

    if (rc < 0) {
        return rc;
    }
    if (rdma_create_id(link->events, &link->listener, NULL, RDMA_PS_TCP) < 0 ||
        rdma_bind_addr(link->listener, (struct sockaddr *)&lane->at) < 0 ||
        rdma_listen(link->listener, BACKLOG) < 0) {
        return dwcp_fail(err, -EIO, "RDMA: listen: %s", strerror(errno));
    }
    lane->offer.port = ntohs(rdma_get_src_port(link->listener));
    randombytes_buf(lane->offer.token, sizeof(lane->offer.token));
    dwcp_lane_offer_encode(body, &lane->offer);
    pthread_mutex_lock(&session->lock);
    if (!session->streams[0] ||
        dwcp_stream_queue(session->streams[0], DWCP_RECORD_RDMA_OFFER, body,
                          sizeof(body), NULL, 0) < 0) {
        rc = dwcp_fail(err, -ENOTCONN,
                       "the connection was lost while RDMA was being set up");
    } else {
        dwcp_stream_wake(session->streams[0]);
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}

/* Is it our source that asks, and may it still come? */
static int judge(TargetLane *lane, const struct rdma_cm_event *event,
                 DwcpError *err)
{
    DwcpSession *session = lane->session;
    int rc = 0;

    if (event->event != RDMA_CM_EVENT_CONNECT_REQUEST) {
        return dwcp_fail(err, -EIO, "RDMA: %s", rdma_event_str(event->event));
    }
    if (dwcp_lane_hello_check(event->param.conn.private_data,
                              event->param.conn.private_data_len, session->id,
                              lane->offer.token, err) < 0) {
        return -EACCES;
    }
    pthread_mutex_lock(&session->lock);
    if ((session->phase != DWCP_PHASE_UP &&
         session->phase != DWCP_PHASE_BEGUN) ||
        dwcp_target_arrived_locked(lane->target)) {
        rc = dwcp_fail(err, -ECANCELED, "RDMA: it came too late");
    } else {
        session->lane.open = lane->used = true;
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}

/* The one that has the token; others are turned away. */
static int await_source(TargetLane *lane, uint64_t deadline_ns, DwcpError *err)
{
    DwcpLink *link = &lane->link;
    struct rdma_cm_event *event;
    struct rdma_cm_id *id;
    unsigned attempts;
    int rc = -EACCES;

    for (attempts = 0; rc == -EACCES; attempts++) {
        if (attempts == DWCP_LANE_ATTEMPTS_MAX) {
            return dwcp_fail(err, -EACCES,
                             "RDMA: %u connections were not for this session",
                             attempts);
        }
        rc = dwcp_link_event(link, lane->session, deadline_ns, &event, err);
        if (rc < 0) {
            return rc;
        }
        rc = judge(lane, event, err);
        id = event->event == RDMA_CM_EVENT_CONNECT_REQUEST ? event->id : NULL;
        (void)rdma_ack_cm_event(event);
        if (rc == 0) {
            link->id = id;
        } else if (id) {
            (void)rdma_reject(id, NULL, 0);
            (void)rdma_destroy_id(id);
            dwcp_session_tell_warned(lane->session, err);
        }
    }
    return rc;
}

static int set_up(TargetLane *lane, DwcpError *err)
{
    uint64_t deadline_ns = dwcp_now_ns() + DWCP_LANE_SETUP_MS * 1000000ull;
    struct rdma_conn_param params = dwcp_link_params();
    DwcpLink *link = &lane->link;
    int rc = make_offer(lane, err);

    if (rc == 0) {
        rc = await_source(lane, deadline_ns, err);
    }
    if (rc == 0) {
        rc = dwcp_link_make(link, err);
    }
    if (rc == 0 && rdma_accept(link->id, &params) < 0) {
        rc = dwcp_fail(err, -EIO, "RDMA: accept: %s", strerror(errno));
    }
    if (rc == 0) {
        rc = dwcp_link_expect(link, lane->session, deadline_ns,
                              RDMA_CM_EVENT_ESTABLISHED, err);
    }
    if (rc == 0) { /* nobody else comes in */
        (void)rdma_destroy_id(link->listener);
        link->listener = NULL;
    }
    return rc;
}

/* ----------------------------------------------------------- messages -- */

static int know_ram(TargetLane *lane, DwcpError *err)
{
    DwcpTarget *target = lane->target;
    DwcpRamBlock *block;
    bool begun;
    unsigned i;

    pthread_mutex_lock(&lane->session->lock);
    begun = target->begun;
    pthread_mutex_unlock(&lane->session->lock);
    if (!begun) {
        return dwcp_fail(err, -EPROTO, "RDMA: REGISTER before BEGIN");
    }
    for (i = lane->pieces.blocks_count; i < target->ram.blocks_count; i++) {
        block = &target->ram.blocks[i];
        if (dwcp_pieces_add(&lane->pieces,
                            block->pages * target->ram.page_size) < 0) {
            return dwcp_fail(err, -ENOMEM, "out of memory");
        }
    }
    lane->memory_bytes = sizeof(*lane) + dwcp_pieces_memory(&lane->pieces) +
                         (DWCP_LANE_CREDITS + DWCP_LINK_SENDS) *
                             DWCP_LINK_SLOT_BYTES;
    atomic_fetch_add(&lane->session->memory_bytes, lane->memory_bytes);
    return 0;
}

static int want(TargetLane *lane, const DwcpLaneMessage *message,
                DwcpError *err)
{
    DwcpPiece *piece;
    int rc = lane->pieces.blocks_count ? 0 : know_ram(lane, err);

    if (rc < 0) {
        return rc;
    }
    piece = dwcp_pieces_at(&lane->pieces, message->block, message->piece);
    if (!piece || piece->asked ||
        message->bytes != dwcp_pieces_bytes(&lane->pieces, message->block,
                                            message->piece)) {
        return dwcp_fail(err, -EPROTO,
                         "RDMA: REGISTER piece %u of block %u, %u bytes",
                         message->piece, message->block, message->bytes);
    }
    piece->asked = true;
    /* As many receives are posted: no more can have come. */
    lane->wanted[lane->wanted_count].block = message->block;
    lane->wanted[lane->wanted_count++].piece = message->piece;
    return 0;
}

/* Pages that were written stand in pieces that could be. */
static int frame(TargetLane *lane, const DwcpPages *pages, DwcpError *err)
{
    const DwcpChunk *chunk;
    DwcpPiece *piece;
    unsigned i;
    int rc;

    for (i = 0; i < pages->count; i++) {
        chunk = &pages->chunks[i];
        piece = dwcp_pieces_at(&lane->pieces, chunk->block,
                               dwcp_piece_of(chunk, lane->session->page_size));
        if (chunk->present != chunk->zero && (!piece || !piece->local)) {
            return dwcp_fail(err, -EPROTO,
                             "RDMA: chunk %llu stands in no registered piece",
                             (unsigned long long)pages->number + i);
        }
    }
    rc = dwcp_target_lane_frame(lane->target, pages, err);
    if (rc == 0) {
        lane->frames++;
        lane->credits++;
        lane->ack = true;
    }
    return rc;
}

static int got(void *opaque, const uint8_t *bytes, uint32_t length,
               DwcpError *err)
{
    TargetLane *lane = opaque;
    DwcpLaneMessage message;
    int rc = dwcp_lane_decode(bytes, length, true, lane->session->page_size,
                              &message, err);

    atomic_store(&lane->session->heard_ns, dwcp_now_ns());
    if (rc < 0) {
        return rc;
    }
    return message.type == DWCP_LANE_REGISTER
               ? want(lane, &message, err)
               : frame(lane, &message.pages, err);
}

/* ------------------------------------------------------------ answers -- */

static int answer(TargetLane *lane, DwcpLaneMessage *message, DwcpError *err)
{
    uint8_t *slot = dwcp_link_slot(&lane->link);

    if (!slot || !dwcp_link_room(&lane->link)) {
        return dwcp_fail(err, -ENOBUFS, "RDMA: answers do not get through");
    }
    message->credits = lane->credits;
    lane->credits = 0;
    return dwcp_link_send(&lane->link, dwcp_lane_encode(slot, message), err);
}

static int register_piece(TargetLane *lane, uint32_t block, uint32_t piece,
                          DwcpError *err)
{
    DwcpPiece *at = dwcp_pieces_at(&lane->pieces, block, piece);
    DwcpLaneMessage message = {
        .type = DWCP_LANE_REGISTERED,
        .block = block,
        .piece = piece,
        .bytes = dwcp_pieces_bytes(&lane->pieces, block, piece),
    };
    uint8_t *host = lane->target->ram.blocks[block].host +
                    (uint64_t)piece * DWCP_PIECE_BYTES;
    struct ibv_mr *mr;

    mr = dwcp_rdma_register(lane->link.pd, host, message.bytes,
                            IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE,
                            err);
    if (!mr) {
        return err->code;
    }
    at->handle = mr;
    at->local = true;
    atomic_fetch_add(&lane->session->rdma_registered_bytes, message.bytes);
    message.rkey = mr->rkey;
    message.address = (uintptr_t)host;
    lane->credits++;
    return answer(lane, &message, err);
}

static int answer_all(TargetLane *lane, DwcpError *err)
{
    DwcpLaneMessage message = { .type = DWCP_LANE_ACK };
    unsigned i;
    int rc = 0;

    /* First what is ready: registering takes a while. */
    if (lane->ack) {
        message.frames = lane->frames;
        rc = answer(lane, &message, err);
        lane->ack = false;
    }
    if (rc == 0) {
        rc = dwcp_link_flush(&lane->link, err);
    }
    for (i = 0; rc == 0 && i < lane->wanted_count; i++) {
        rc = register_piece(lane, lane->wanted[i].block, lane->wanted[i].piece,
                            err);
    }
    lane->wanted_count = 0;
    return rc < 0 ? rc : dwcp_link_flush(&lane->link, err);
}

/* All that END named has been applied: the lane has done its work. */
static bool arrived(TargetLane *lane)
{
    bool all;

    pthread_mutex_lock(&lane->session->lock);
    all = dwcp_target_arrived_locked(lane->target);
    pthread_mutex_unlock(&lane->session->lock);
    return all;
}

/* Returns: 0 it has done its work, or why it has not. */
static int serve(TargetLane *lane, DwcpError *err)
{
    int rc = 0, count;

    while (rc == 0 && !arrived(lane)) {
        if (dwcp_lane_over(lane->session)) {
            return dwcp_fail(err, -ECANCELED, "the lane is over");
        }
        count = dwcp_link_poll(&lane->link, POLL_MAX, got, lane, err);
        rc = count < 0 ? count : answer_all(lane, err);
        if (rc == 0) {
            rc = dwcp_link_alive(&lane->link, lane->session, err);
        }
        if (rc == 0 && count == 0) {
            dwcp_link_wait(&lane->link, lane->session->lane.fd, TICK_NS);
        }
    }
    return rc;
}

/* --------------------------------------------------------------- end -- */

/* @why: NULL: it has done its work */
static void take_down(TargetLane *lane, const DwcpError *why)
{
    DwcpSession *session = lane->session;
    const char *text = why ? why->text : NULL;

    dwcp_link_cut(&lane->link);
    pthread_mutex_lock(&session->lock);
    session->lane.open = false;
    if (why && session->lane.heard) { /* the source's word says more */
        text = session->lane.heard_down.text;
    }
    dwcp_lane_say_down_locked(session, lane->frames, text);
    pthread_mutex_unlock(&session->lock);
    dwcp_rdma_set(session, lane->used ? DWCP_RDMA_ENDED : DWCP_RDMA_UNUSED,
                  "%s", text ? text : "");
    dwcp_target_check_complete(lane->target);
    dwcp_rdma_deregister(session, &lane->pieces);
    atomic_fetch_sub(&session->memory_bytes, lane->memory_bytes);
    dwcp_link_close(&lane->link);
}

static void *lane_run(void *opaque)
{
    TargetLane *lane = opaque;
    DwcpError err = { .text = "" };
    int rc = set_up(lane, &err);

    if (rc == 0) {
        dwcp_rdma_set(lane->session, DWCP_RDMA_ACTIVE, "%s", "");
        rc = serve(lane, &err);
    }
    if (rc == -EPROTO) {
        dwcp_session_fail(lane->session, &err, true);
    }
    take_down(lane, rc < 0 ? &err : NULL);
    free(lane);
    return NULL;
}

int dwcp_lane_target_start(DwcpTarget *target, int fd, DwcpError *err)
{
    socklen_t length = sizeof(struct sockaddr_storage);
    TargetLane *lane = calloc(1, sizeof(*lane));
    int rc = 0;

    if (!lane) {
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    lane->target = target;
    lane->session = &target->session;
    dwcp_pieces_init(&lane->pieces);
    if (getsockname(fd, (struct sockaddr *)&lane->at, &length) < 0) {
        rc = dwcp_fail(err, -errno, "the connection's address: %s",
                       strerror(errno));
    }
    any_port(&lane->at);
    if (rc == 0) {
        rc = dwcp_lane_start(&target->session, lane_run, lane, err);
    }
    if (rc < 0) {
        free(lane);
    }
    return rc;
}
