/*
 * One queue pair with what belongs to it: what both ends of a lane do alike
 *
 * Messages go by send and receive from slots of registered memory, writes
 * straight from guest RAM.  As many receives are posted as messages may come
 * (core/lane.h), and each again as soon as its message was looked at, before
 * it can be answered.  Work is posted in batches, and only every
 * DWCP_LINK_SIGNAL-th asks for a completion: one that has come stands for all
 * before it.  The connection manager's events and completions come without
 * waiting; whoever waits does so in dwcp_link_wait.
 *
 * Threads: the lane's own.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_RDMA_LINK_H
#define DWCP_IO_RDMA_LINK_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "core/lane.h"
#include "io/session.h"

#define DWCP_LINK_SLOT_BYTES 2112u
#define DWCP_LINK_SENDS 256u /* slots for messages that leave */
#define DWCP_LINK_DEPTH 512u /* work that may be posted and not done */
#define DWCP_LINK_SIGNAL 32u
#define DWCP_LINK_BATCH 32u
#define DWCP_LINK_POLL 32

typedef struct DwcpLink {
    struct rdma_event_channel *events;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id;
    struct ibv_pd *pd;
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq;
    struct ibv_mr *mr;
    uint8_t *slots; /* DWCP_LANE_CREDITS to receive, then DWCP_LINK_SENDS */
    bool has_qp;
    bool armed; /* the completion channel tells of the next one */

    uint64_t posted, done; /* sends and writes, counted */
    unsigned unsignaled;
    unsigned send_next;
    uint64_t send_at[DWCP_LINK_SENDS]; /* posted, when the slot was used last */

    unsigned batch; /* not posted yet */
    struct ibv_send_wr wrs[DWCP_LINK_BATCH];
    struct ibv_sge sges[DWCP_LINK_BATCH];
} DwcpLink;

/* DwcpLinkGot: a message; valid during the call.  Returns: 0 or an error */
typedef int DwcpLinkGot(void *opaque, const uint8_t *bytes, uint32_t length,
                        DwcpError *err);

/* dwcp_link_open: what events come on; Returns: 0 or an error */
int dwcp_link_open(DwcpLink *link, DwcpError *err) DWCP_CHECKED;

/* dwcp_link_make: queue pair, completion queue, slots, and all receives, for
 * link->id, whose device is known; Returns: 0 or an error */
int dwcp_link_make(DwcpLink *link, DwcpError *err) DWCP_CHECKED;

/* dwcp_link_cut: destroy the queue pair: from here on nothing is written to
 * guest RAM, or read from it, through it */
void dwcp_link_cut(DwcpLink *link);
/* dwcp_link_close: the rest; what is registered must be gone; zeroed is
 * allowed */
void dwcp_link_close(DwcpLink *link);

/*
 * dwcp_link_event: the next event of the connection manager, to be acknowledged
 *
 * Waits until @deadline_ns (0: not at all), or until the session or the peer's
 * lane is over.
 *
 * Returns: 0; -EAGAIN none (with no deadline); -ETIMEDOUT, -ECANCELED, -EIO.
 */
int dwcp_link_event(DwcpLink *link, DwcpSession *session, uint64_t deadline_ns,
                    struct rdma_cm_event **event, DwcpError *err) DWCP_CHECKED;

/* dwcp_link_expect: the same, and it must be this one, which is acknowledged;
 * Returns: 0, or as above, or what the event means */
int dwcp_link_expect(DwcpLink *link, DwcpSession *session, uint64_t deadline_ns,
                     enum rdma_cm_event_type type, DwcpError *err) DWCP_CHECKED;

/* dwcp_link_alive: have events come that end the connection?  Returns: 0 or
 * -ECONNRESET */
int dwcp_link_alive(DwcpLink *link, DwcpSession *session,
                    DwcpError *err) DWCP_CHECKED;

/* dwcp_link_params: of a connection, for rdma_connect and rdma_accept */
struct rdma_conn_param dwcp_link_params(void);

/* dwcp_link_slot: where the next message is written; NULL: all are on their way.
 * Taken by dwcp_link_send. */
uint8_t *dwcp_link_slot(DwcpLink *link);
/* dwcp_link_room: is there room for one more send or write? */
bool dwcp_link_room(const DwcpLink *link);

/* dwcp_link_send, _write: post, when the batch is full or with dwcp_link_flush;
 * there is room.  Returns: 0 or -EIO. */
int dwcp_link_send(DwcpLink *link, uint32_t length, DwcpError *err) DWCP_CHECKED;
int dwcp_link_write(DwcpLink *link, const void *from, uint32_t length,
                    uint32_t lkey, uint64_t to, uint32_t rkey,
                    DwcpError *err) DWCP_CHECKED;
int dwcp_link_flush(DwcpLink *link, DwcpError *err) DWCP_CHECKED;

/* dwcp_link_poll: take what has completed, @max at the most, which is up to
 * DWCP_LINK_POLL; Returns: how many, -EIO the connection is broken, or what @got
 * said */
int dwcp_link_poll(DwcpLink *link, int max, DwcpLinkGot *got, void *opaque,
                   DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_link_wait: until something completes, an event comes, or the lane is
 * woken; at most @timeout_ns
 *
 * The first call after a poll that found something only asks for a
 * notification: what came in between would be missed otherwise.
 */
void dwcp_link_wait(DwcpLink *link, int wake_fd, uint64_t timeout_ns);

#endif
