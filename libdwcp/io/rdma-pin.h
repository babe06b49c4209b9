/*
 * Registering pieces of the source's guest RAM beside the sending
 *
 * Pinning a piece takes milliseconds, in which the lane goes on with those that
 * are ready.  At most DWCP_PIECES_AHEAD wait here.
 *
 * Locks: `lock`, a leaf.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_RDMA_PIN_H
#define DWCP_IO_RDMA_PIN_H

#include <infiniband/verbs.h>
#include <pthread.h>

#include "core/rampieces.h"

typedef struct DwcpPinJob {
    DwcpPiece *piece;
    void *host;
    uint32_t bytes;
    struct ibv_mr *mr; /* NULL: see error */
    DwcpError error;
} DwcpPinJob;

typedef struct DwcpPin {
    /* set at init, read-only */
    struct ibv_pd *pd;
    int wake_fd; /* the lane's */
    pthread_t thread;
    bool started;

    pthread_mutex_t lock;
    pthread_cond_t work;
    /* guarded by lock; counts of a ring: out <= made <= in */
    DwcpPinJob jobs[DWCP_PIECES_AHEAD];
    unsigned in, made, out;
    bool stop;
} DwcpPin;

/* dwcp_pin_start: Returns: 0 or -EAGAIN */
int dwcp_pin_start(DwcpPin *pin, struct ibv_pd *pd, int wake_fd,
                   DwcpError *err) DWCP_CHECKED;
/* dwcp_pin_stop: join it; what it has made is still to be taken; zeroed is
 * allowed, as for dwcp_pin_clear, which is to follow */
void dwcp_pin_stop(DwcpPin *pin);
void dwcp_pin_clear(DwcpPin *pin);

/* dwcp_pin_push: register this; there are never more than DWCP_PIECES_AHEAD */
void dwcp_pin_push(DwcpPin *pin, DwcpPiece *piece, void *host, uint32_t bytes);

/* dwcp_pin_take: Returns: whether one is made, in *@job */
bool dwcp_pin_take(DwcpPin *pin, DwcpPinJob *job);

#endif
