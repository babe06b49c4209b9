/*
 * A TCP relay that knows records: the network, in the hands of a test
 *
 * Sits between a source and its target, follows the handshakes and then the
 * records of each connection, and does something to the session when a record
 * of some type passes: before any of it, in its middle, or right after it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_RELAY_H
#define DWCP_TESTS_RELAY_H

#include "kit.h"

typedef enum RelayWhen {
    RELAY_BEFORE,
    RELAY_MIDDLE,
    RELAY_AFTER,
} RelayWhen;

typedef enum RelayAct {
    RELAY_CLOSE,  /* all connections, with a FIN */
    RELAY_RESET,  /* all connections, with a RST */
    RELAY_FREEZE, /* nothing passes any more, in either direction */
    RELAY_CALL,   /* a call of the test's, then on as before */
} RelayAct;

typedef struct RelayPlan {
    DwcpRecordType type;
    RelayWhen when;
    RelayAct act;
    void (*call)(void *opaque); /* RELAY_CALL */
    void *opaque;
} RelayPlan;

typedef struct Relay Relay;

/* relay_new: listens on @port, goes on to @target_port */
Relay *relay_new(const RelayPlan *plan, const char *target_port, char *port);

/* relay_free: closes all; Returns: whether the plan's moment came */
bool relay_free(Relay *relay);

#endif
