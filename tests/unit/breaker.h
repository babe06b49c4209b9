/*
 * A relay between a source and a target that breaks connections on demand
 *
 * It passes bytes and the end of them, and looks at none, so it serves keyed
 * sessions as well.  Connections are numbered in the order in which they came.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_BREAKER_H
#define DWCP_TESTS_BREAKER_H

#include "kit.h"

typedef struct Breaker Breaker;

/* breaker_new: for a target at @target_port; *@port is where it listens */
Breaker *breaker_new(const char *target_port, char *port);
void breaker_free(Breaker *breaker); /* all connections are reset */

/* breaker_reset: reset connection @number now, or all that stand (-1), or
 * one that stands, whichever (-2) */
void breaker_reset(Breaker *breaker, int number);

/* breaker_shut: new connections are reset at once from here on, or not any
 * more */
void breaker_shut(Breaker *breaker, bool shut);

/* breaker_hold: pass no bytes from here on, or go on */
void breaker_hold(Breaker *breaker, bool hold);

unsigned breaker_count(Breaker *breaker); /* connections that ever stood */
uint64_t breaker_passed(Breaker *breaker); /* bytes, both ways */

#endif
