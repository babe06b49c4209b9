/*
 * One connection through a man in the middle, who knows each byte's place
 *
 * From the first byte of the handshake on, he keeps what passes and may change
 * one bit of it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_MIDDLE_H
#define DWCP_TESTS_MIDDLE_H

#include "kit.h"

typedef struct Middle {
    char port[8]; /* where the source is sent */
    int listen_fd;
    const char *target_port;
    int change_dir; /* 0: what the source says, 1: the target; -1: nothing */
    size_t change_at;
    size_t passed[2]; /* bytes so far */
    struct _GByteArray *seen[2]; /* what passed */
    struct _GThread *thread;
} Middle;

/* middle_start: listens on port; @dir, @at: as change_dir and change_at */
void middle_start(Middle *middle, const char *target_port, int dir, size_t at);

/* middle_wait: what was seen is complete once the connection has ended */
void middle_wait(Middle *middle);
void middle_end(Middle *middle);

#endif
