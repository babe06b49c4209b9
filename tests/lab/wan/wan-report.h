/*
 * Configuration and counters of both directions as JSON.
 *
 * Threads: the main thread; it takes the pumps' locks.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_REPORT_H
#define WAN_REPORT_H

#include "wan-control.h"

#include <stddef.h>

/* Writes one line without newline, cut to @bytes (4096 is always enough). */
void wan_report(Wan *wan, char *out, size_t bytes);

/* Connections in a list, about 200 bytes each; older ones are left out. */
#define WAN_LIST_MAX 240u

/*
 * Writes the connections with @port at either end (0: all), in the order in
 * which they came, as one line:
 *
 *   {"older":0,"flows":[{"number":1,"open":true,"fate":"none",
 *     "a":["10.77.0.1",40000],"b":["10.77.0.2",4444],
 *     "ab":{"first":1500,"again":0},"ba":{...}}]}
 *
 * first and again are the bytes carried for the first time and again, with
 * headers, since the counters were reset.
 */
void wan_report_flows(Wan *wan, uint16_t port, char *out, size_t bytes);

#endif
