/*
 * A real source with a hand-written target, for tests of what the source makes
 * of a target that breaks a rule
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_STAGE_H
#define DWCP_TESTS_STAGE_H

#include "kit.h"

#define STAGE_PAGES 70u

/* the session that the hand-written target gives */
extern const uint8_t stage_session[DWCP_SESSION_BYTES];

/* Two streams unless said otherwise; a descriptor of raw may be -1. */
typedef struct Stage {
    End source;
    int listen_fd;
    char port[8];
    Raw raw[2];
    Usage before;
} Stage;

/* How far it has come; @change: other options, or NULL */
void stage_connect(Stage *stage, const DwcpSourceOptions *change);
void stage_up(Stage *stage);
void stage_up_as(Stage *stage, const DwcpSourceOptions *change);
void stage_ended(Stage *stage); /* BEGIN was said, END has come */
void stage_ended_as(Stage *stage, const DwcpSourceOptions *change);

/* stage_free: both ends; nothing is left behind */
void stage_free(Stage *stage);

/* stage_dead: the source must have failed so, be dead for good, and not gone;
 * frees the stage */
void stage_dead(Stage *stage, int code, const char *text);

/* What the target may do, in a row of a table; say_abort: "no memory". */
void say_begin(Stage *stage);
void say_ready(Stage *stage);
void say_ready_twice(Stage *stage);
void say_sealed(Stage *stage);
void say_abort(Stage *stage);
void unknown_type(Stage *stage);
void vanish(Stage *stage);
void reset(Stage *stage);

#endif
