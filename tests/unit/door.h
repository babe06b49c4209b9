/*
 * A target's listener, and who is not the rightful source at it
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_DOOR_H
#define DWCP_TESTS_DOOR_H

#include "kit.h"

typedef struct Door {
    End target;
    char port[8];
    unsigned warned; /* as expected so far */
    Usage before;
} Door;

void door_up(Door *door);

/* door_free: there was no warning but those that were expected, no failure, and
 * nothing is left behind */
void door_free(Door *door);

/* door_warned: one more warning than before; Returns: it */
DwcpError door_warned(Door *door);
void door_warned_of(Door *door, const char *text); /* with this in it */

/* door_move: the rightful source comes, and moves one chunk */
void door_move(Door *door);

/* door_knock: sends what is no handshake, or a part of one, and closes; the
 * warning has @text */
void door_knock(Door *door, const void *data, size_t length, const char *text);

#endif
