/*
 * A real target with a hand-written source of two streams, for tests of what
 * the target makes of a source that breaks a rule
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_TARGETSTAGE_H
#define DWCP_TESTS_TARGETSTAGE_H

#include "kit.h"

#define PAGES_OF_BLOCK 70u

/* a descriptor of raw may be -1 */
typedef struct TargetStage {
    End target;
    char port[8];
    Raw raw[2];
} TargetStage;

/* zero_chunk, send_zero: a frame of one chunk of zeros */
DwcpPages zero_chunk(uint64_t number);
void send_zero(int fd, uint64_t number);

/* How far it has come; @silence_ms_max: 0 = the default */
void target_up(TargetStage *stage, uint32_t silence_ms_max);
void target_begun(TargetStage *stage);
void target_complete(TargetStage *stage);
void target_ready(TargetStage *stage);
void target_free(TargetStage *stage);

/* target_dead: the target must have failed so, and be dead for good */
void target_dead(TargetStage *stage, int code, const char *text);

#endif
