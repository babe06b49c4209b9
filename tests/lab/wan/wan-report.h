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

#endif
