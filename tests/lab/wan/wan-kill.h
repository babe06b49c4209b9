/*
 * Ends TCP connections that go over the link.
 *
 * By resets: both ends get one at once, in the other's name, with the number
 * that they expect next; from then on everything that is under way or comes is
 * dropped, and what comes is answered by a reset. Linux asks back when the
 * number is old by the time the reset arrives, and gets that answer.
 *
 * By dropping: nothing passes any more, and nobody is told.
 *
 * Threads: the main thread; takes both pumps' locks, a to b first.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_KILL_H
#define WAN_KILL_H

#include "wan-control.h"

/* One of all, random and number. Only open connections are meant. */
typedef struct WanKill {
    WanFate fate;
    bool all;
    bool random;
    uint32_t number; /* as wan_report_flows() tells it */
    uint16_t port;   /* of either end, in host order; 0 is any */
} WanKill;

/* A connection is two flows; ba is NULL if nothing came back yet. */
typedef struct WanPair {
    WanFlow *ab;
    WanFlow *ba;
} WanPair;

/*
 * The next connection with @port at either end; from a pair of NULL on. Its
 * ab is NULL after the last one. The caller has both locks.
 */
WanPair wan_pair_next(const Wan *wan, WanPair after, uint16_t port);

/* Whether both ends may still send. */
bool wan_pair_is_open(const WanPair *pair);

/* Answers with the numbers as JSON, or an error if nobody is meant. */
void wan_kill(Wan *wan, const WanKill *kill, char *answer, size_t bytes);

#endif
