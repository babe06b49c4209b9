/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/rdma-link.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fail.h"
#include "io/lane-end.h"
#include "io/rdma-memory.h"

/* wr_id of a receive: this and its slot. */
#define RECEIVE (1ull << 63)
/* A packet is sent again when it was not acknowledged for 4.1 us << this (0.27 s,
 * devices may take four times that), seven times at most. */
#define ACK_TIMEOUT 16u
#define RETRIES 7u

_Static_assert(DWCP_LINK_SLOT_BYTES >= DWCP_LANE_PAGES_BYTES_MAX,
               "the largest message fits a slot");
_Static_assert(DWCP_LINK_DEPTH >= 2 * DWCP_LINK_SIGNAL,
               "what waits for room waits for a completion that comes");
_Static_assert(DWCP_LINK_SENDS >= DWCP_LANE_CREDITS + 2 * DWCP_LINK_SIGNAL,
               "nor do slots run out of completions");

int dwcp_link_open(DwcpLink *link, DwcpError *err)
{
    int flags;

    link->events = rdma_create_event_channel();
    if (!link->events) {
        return dwcp_fail(err, -errno, "rdma_cm: %s", strerror(errno));
    }
    flags = fcntl(link->events->fd, F_GETFL);
    if (fcntl(link->events->fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return dwcp_fail(err, -errno, "rdma_cm: %s", strerror(errno));
    }
    return 0;
}

static uint8_t *receive_slot(const DwcpLink *link, unsigned slot)
{
    return link->slots + (size_t)slot * DWCP_LINK_SLOT_BYTES;
}

static uint8_t *send_slot(const DwcpLink *link, unsigned slot)
{
    return receive_slot(link, DWCP_LANE_CREDITS + slot);
}

static int post_receive(DwcpLink *link, unsigned slot, DwcpError *err)
{
    struct ibv_sge sge = {
        .addr = (uintptr_t)receive_slot(link, slot),
        .length = DWCP_LINK_SLOT_BYTES,
        .lkey = link->mr->lkey,
    };
    struct ibv_recv_wr wr = {
        .wr_id = RECEIVE | slot,
        .sg_list = &sge,
        .num_sge = 1,
    };
    struct ibv_recv_wr *bad;
    int rc = ibv_post_recv(link->id->qp, &wr, &bad);

    return rc ? dwcp_fail(err, -EIO, "RDMA: post a receive: %s", strerror(rc))
              : 0;
}

static int make_slots(DwcpLink *link, DwcpError *err)
{
    size_t bytes = (size_t)(DWCP_LANE_CREDITS + DWCP_LINK_SENDS) *
                   DWCP_LINK_SLOT_BYTES;

    if (posix_memalign((void **)&link->slots, 4096, bytes) != 0) {
        link->slots = NULL;
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    memset(link->slots, 0, bytes);
    link->mr = dwcp_rdma_register(link->pd, link->slots, (uint32_t)bytes,
                                  IBV_ACCESS_LOCAL_WRITE, err);
    return link->mr ? 0 : err->code;
}

static int make_queues(DwcpLink *link, DwcpError *err)
{
    struct ibv_qp_init_attr attr = {
        .qp_type = IBV_QPT_RC,
        .cap = { .max_send_wr = DWCP_LINK_DEPTH,
                 .max_recv_wr = DWCP_LANE_CREDITS,
                 .max_send_sge = 1,
                 .max_recv_sge = 1 },
    };

    link->pd = ibv_alloc_pd(link->id->verbs);
    link->channel = ibv_create_comp_channel(link->id->verbs);
    if (!link->pd || !link->channel) {
        return dwcp_fail(err, -EIO, "RDMA: %s", strerror(errno));
    }
    (void)fcntl(link->channel->fd, F_SETFL,
                fcntl(link->channel->fd, F_GETFL) | O_NONBLOCK);
    link->cq = ibv_create_cq(link->id->verbs,
                             DWCP_LINK_DEPTH + DWCP_LANE_CREDITS + 8, NULL,
                             link->channel, 0);
    if (!link->cq) {
        return dwcp_fail(err, -EIO, "RDMA: a completion queue: %s",
                         strerror(errno));
    }
    attr.send_cq = attr.recv_cq = link->cq;
    if (rdma_create_qp(link->id, link->pd, &attr) < 0) {
        return dwcp_fail(err, -EIO, "RDMA: a queue pair: %s", strerror(errno));
    }
    link->has_qp = true;
    return 0;
}

int dwcp_link_make(DwcpLink *link, DwcpError *err)
{
    uint8_t timeout = ACK_TIMEOUT;
    unsigned i;
    int rc = make_queues(link, err);

    if (rc == 0) {
        rc = make_slots(link, err);
    }
    for (i = 0; rc == 0 && i < DWCP_LANE_CREDITS; i++) {
        rc = post_receive(link, i, err);
    }
    /* Without it a lost peer shows later: by our own limit. */
    (void)rdma_set_option(link->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT,
                          &timeout, sizeof(timeout));
    return rc;
}

void dwcp_link_cut(DwcpLink *link)
{
    if (link->listener) {
        (void)rdma_destroy_id(link->listener);
        link->listener = NULL;
    }
    if (link->has_qp) {
        (void)rdma_disconnect(link->id);
        rdma_destroy_qp(link->id);
        link->has_qp = false;
    }
}

void dwcp_link_close(DwcpLink *link)
{
    dwcp_link_cut(link);
    if (link->cq) {
        (void)ibv_destroy_cq(link->cq);
    }
    if (link->channel) {
        (void)ibv_destroy_comp_channel(link->channel);
    }
    if (link->mr) {
        (void)ibv_dereg_mr(link->mr);
    }
    free(link->slots);
    if (link->pd) {
        (void)ibv_dealloc_pd(link->pd);
    }
    if (link->id) {
        (void)rdma_destroy_id(link->id);
    }
    if (link->events) {
        rdma_destroy_event_channel(link->events);
    }
    memset(link, 0, sizeof(*link));
}

/* ------------------------------------------------------------ events -- */

static void wake_clear(int fd)
{
    uint64_t count;

    (void)!read(fd, &count, sizeof(count));
}

int dwcp_link_event(DwcpLink *link, DwcpSession *session, uint64_t deadline_ns,
                    struct rdma_cm_event **event, DwcpError *err)
{
    struct pollfd fds[2] = {
        { .fd = link->events->fd, .events = POLLIN },
        { .fd = session->lane.fd, .events = POLLIN },
    };
    uint64_t now_ns;

    while (rdma_get_cm_event(link->events, event) < 0) {
        if (errno != EAGAIN) {
            return dwcp_fail(err, -EIO, "rdma_cm: %s", strerror(errno));
        }
        now_ns = dwcp_now_ns();
        if (!deadline_ns) {
            return -EAGAIN;
        }
        if (dwcp_lane_over(session)) {
            return dwcp_fail(err, -ECANCELED, "the lane is not wanted any more");
        }
        if (now_ns >= deadline_ns) {
            return dwcp_fail(err, -ETIMEDOUT, "RDMA: no connection in time");
        }
        (void)poll(fds, 2, (int)((deadline_ns - now_ns) / 1000000u) + 1);
        if (fds[1].revents) {
            wake_clear(session->lane.fd);
        }
    }
    return 0;
}

int dwcp_link_expect(DwcpLink *link, DwcpSession *session, uint64_t deadline_ns,
                     enum rdma_cm_event_type type, DwcpError *err)
{
    struct rdma_cm_event *event;
    int rc = dwcp_link_event(link, session, deadline_ns, &event, err);
    enum rdma_cm_event_type got;
    int status;

    if (rc < 0) {
        return rc;
    }
    got = event->event;
    status = event->status;
    (void)rdma_ack_cm_event(event);
    return got == type ? 0
                       : dwcp_fail(err, -ECONNREFUSED, "RDMA: %s (%d)",
                                   rdma_event_str(got), status);
}

int dwcp_link_alive(DwcpLink *link, DwcpSession *session, DwcpError *err)
{
    struct rdma_cm_event *event;
    enum rdma_cm_event_type got;
    int rc;

    while ((rc = dwcp_link_event(link, session, 0, &event, err)) == 0) {
        got = event->event;
        (void)rdma_ack_cm_event(event);
        if (got == RDMA_CM_EVENT_DISCONNECTED) {
            return dwcp_fail(err, -ECONNRESET, "RDMA: the peer disconnected");
        }
        if (got == RDMA_CM_EVENT_DEVICE_REMOVAL) {
            return dwcp_fail(err, -ENODEV, "RDMA: the device was removed");
        }
        /* Others are of strangers, or of no consequence. */
    }
    return rc == -EAGAIN ? 0 : rc;
}

struct rdma_conn_param dwcp_link_params(void)
{
    return (struct rdma_conn_param){
        .responder_resources = 1,
        .initiator_depth = 1,
        .retry_count = RETRIES,
        /* A receiver that is not ready breaks the protocol. */
        .rnr_retry_count = 0,
    };
}

/* -------------------------------------------------------------- work -- */

bool dwcp_link_room(const DwcpLink *link)
{
    return link->posted - link->done < DWCP_LINK_DEPTH;
}

uint8_t *dwcp_link_slot(DwcpLink *link)
{
    unsigned slot = link->send_next % DWCP_LINK_SENDS;

    return link->send_at[slot] <= link->done ? send_slot(link, slot) : NULL;
}

int dwcp_link_flush(DwcpLink *link, DwcpError *err)
{
    struct ibv_send_wr *bad;
    int rc;

    if (!link->batch) {
        return 0;
    }
    link->wrs[link->batch - 1].next = NULL;
    rc = ibv_post_send(link->id->qp, link->wrs, &bad);
    link->batch = 0;
    return rc ? dwcp_fail(err, -EIO, "RDMA: post: %s", strerror(rc)) : 0;
}

/* Adds to the batch; the caller fills in what is special. */
static struct ibv_send_wr *next_wr(DwcpLink *link, uintptr_t from,
                                   uint32_t length, uint32_t lkey)
{
    struct ibv_send_wr *wr = &link->wrs[link->batch];
    struct ibv_sge *sge = &link->sges[link->batch];

    assert(dwcp_link_room(link));
    link->posted++;
    link->unsignaled++;
    *sge = (struct ibv_sge){ .addr = from, .length = length, .lkey = lkey };
    memset(wr, 0, sizeof(*wr));
    wr->wr_id = link->posted;
    wr->sg_list = sge;
    wr->num_sge = 1;
    wr->next = wr + 1; /* the last one is set by flush */
    if (link->unsignaled == DWCP_LINK_SIGNAL) {
        wr->send_flags = IBV_SEND_SIGNALED;
        link->unsignaled = 0;
    }
    link->batch++;
    return wr;
}

static int batched(DwcpLink *link, DwcpError *err)
{
    return link->batch == DWCP_LINK_BATCH ? dwcp_link_flush(link, err) : 0;
}

int dwcp_link_send(DwcpLink *link, uint32_t length, DwcpError *err)
{
    unsigned slot = link->send_next++ % DWCP_LINK_SENDS;
    struct ibv_send_wr *wr;

    assert(length <= DWCP_LINK_SLOT_BYTES);
    wr = next_wr(link, (uintptr_t)send_slot(link, slot), length,
                 link->mr->lkey);
    wr->opcode = IBV_WR_SEND;
    link->send_at[slot] = link->posted;
    return batched(link, err);
}

int dwcp_link_write(DwcpLink *link, const void *from, uint32_t length,
                    uint32_t lkey, uint64_t to, uint32_t rkey, DwcpError *err)
{
    struct ibv_send_wr *wr = next_wr(link, (uintptr_t)from, length, lkey);

    wr->opcode = IBV_WR_RDMA_WRITE;
    wr->wr.rdma.remote_addr = to;
    wr->wr.rdma.rkey = rkey;
    return batched(link, err);
}

static int completed(DwcpLink *link, const struct ibv_wc *wc, DwcpLinkGot *got,
                     void *opaque, DwcpError *err)
{
    unsigned slot;
    int rc;

    if (wc->status != IBV_WC_SUCCESS) {
        return dwcp_fail(err, -EIO, "RDMA: %s", ibv_wc_status_str(wc->status));
    }
    if (!(wc->wr_id & RECEIVE)) {
        link->done = wc->wr_id;
        return 0;
    }
    slot = (unsigned)(wc->wr_id & ~RECEIVE);
    rc = got(opaque, receive_slot(link, slot), wc->byte_len, err);
    return rc < 0 ? rc : post_receive(link, slot, err);
}

int dwcp_link_poll(DwcpLink *link, int max, DwcpLinkGot *got, void *opaque,
                   DwcpError *err)
{
    struct ibv_wc wcs[DWCP_LINK_POLL];
    int i, rc = 0, count;

    assert(max <= DWCP_LINK_POLL);
    count = ibv_poll_cq(link->cq, max, wcs);
    if (count < 0) {
        return dwcp_fail(err, -EIO, "RDMA: the completion queue failed");
    }
    if (count) {
        link->armed = false;
    }
    for (i = 0; rc == 0 && i < count; i++) {
        rc = completed(link, &wcs[i], got, opaque, err);
    }
    return rc < 0 ? rc : count;
}

void dwcp_link_wait(DwcpLink *link, int wake_fd, uint64_t timeout_ns)
{
    struct timespec ts = dwcp_timespec(timeout_ns);
    struct pollfd fds[3] = {
        { .fd = link->channel->fd, .events = POLLIN },
        { .fd = link->events->fd, .events = POLLIN },
        { .fd = wake_fd, .events = POLLIN },
    };
    struct ibv_cq *cq;
    void *context;

    if (!link->armed) {
        link->armed = ibv_req_notify_cq(link->cq, 0) == 0;
        return;
    }
    (void)ppoll(fds, 3, &ts, NULL);
    if (fds[0].revents) {
        if (ibv_get_cq_event(link->channel, &cq, &context) == 0) {
            ibv_ack_cq_events(cq, 1);
        }
        link->armed = false;
    }
    if (fds[2].revents) {
        wake_clear(wake_fd);
    }
}
