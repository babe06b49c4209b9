/*
 * The emulator's commands: a line in, a line out.
 *
 *   set [ab|ba] NAME VALUE [NAME VALUE ...]   see wan-config.h; all or nothing
 *   cut [ab|ba]        drop everything, as a cable that is pulled
 *   mend [ab|ba]
 *   stats              configuration and counters as one line of JSON
 *   flows [PORT]       the TCP connections, see wan-report.h
 *   kill reset|drop all|random|NUMBER [PORT]   see wan-kill.h
 *   reset              set all counters to 0
 *   series PATH        write bytes per 100 ms to a new file; "off" ends it
 *
 * Without ab (from host a to host b) or ba a command means both directions.
 * The answer is JSON, "ok", or "error: " and a text.
 *
 * Threads: the main thread; it takes the pumps' locks.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_CONTROL_H
#define WAN_CONTROL_H

#include "wan-pump.h"
#include "wan-series.h"

#define WAN_COMMAND_BYTES 512u
#define WAN_ANSWER_BYTES 65536u

typedef enum WanDirection { WAN_AB, WAN_BA, WAN_DIRECTIONS } WanDirection;

typedef struct Wan {
    WanPump pumps[WAN_DIRECTIONS];
    WanSeries series;
    WanLoss dice; /* chooses connections; main thread only */
} Wan;

/*
 * Carries a command out.
 *
 * @line: without newline; is changed
 * @answer: WAN_ANSWER_BYTES; receives one line without newline
 */
void wan_control_run(Wan *wan, char *line, char *answer);

#endif
