/*
 * The thread that moves frames in one direction: from one TUN device through
 * a WanLink to the other.
 *
 * The link is guarded by the pump's lock. The pump holds it while it moves
 * frames, not while it waits; whoever changes the link from outside uses
 * wan_pump_lock() and wan_pump_unlock(), which wakes the pump.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_PUMP_H
#define WAN_PUMP_H

#include "wan-link.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct WanPump {
    /* Set before the thread starts, then read only. */
    int from_fd;
    int to_fd;
    int wake_fd; /* an eventfd */
    int gone_fd; /* an eventfd of the owner: written when a device went away */
    pthread_t thread;

    pthread_mutex_t lock;
    WanLink link;          /* guarded by lock */
    uint64_t write_errors; /* guarded by lock: frames the kernel refused */
    bool stop;             /* guarded by lock: set by the owner, once */
} WanPump;

uint64_t wan_now_ns(void);

/* Starts the thread; the link is set up by the caller. Returns 0 or -errno. */
int wan_pump_start(WanPump *pump, int from_fd, int to_fd, int gone_fd)
    __attribute__((warn_unused_result));

/* Ends the thread and waits for it. */
void wan_pump_stop(WanPump *pump);

void wan_pump_lock(WanPump *pump);
void wan_pump_unlock(WanPump *pump);

#endif
