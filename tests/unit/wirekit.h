/*
 * Connections with faults on them, in virtual time
 *
 * A filter stands on one end of a socket, the other end is plain, and the test
 * moves the clock.  The linker is to route dwcp_now_ns here.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_WIREKIT_H
#define DWCP_TESTS_WIREKIT_H

#include <sys/socket.h>
#include <sys/types.h>

#include "io/fault.h"
#include "io/socket.h"
#include "kit.h"

#define MS 1000000ull
#define SECOND (1000 * MS)

extern uint64_t wire_now_ns;

/* Connections with a session's faults on them; the far ends are plain. */
typedef struct Wire {
    DwcpSession session;
    DwcpTcp tcp[4];
    DwcpTransport *near[4];
    int far[4];
    unsigned count;
    uint8_t data[1 << 16];
} Wire;

/* wire_up: no connection yet; faults as @spec says */
void wire_up(Wire *wire, const char *spec);
void wire_down(Wire *wire);

/* wire_add: another connection, of stream @index; Returns: its number */
unsigned wire_add(Wire *wire, unsigned index, bool tcp);

/* wire_put: send of data, in three parts, so that filters have to cut them;
 * wire_get: receive; both return what the filter does */
ssize_t wire_put(Wire *wire, unsigned n, size_t at, size_t length);
ssize_t wire_get(Wire *wire, unsigned n, uint8_t *out, size_t length);

void wire_again(ssize_t n); /* the call said EAGAIN */

/* wire_asked: what poll() for @events would be told; Returns: those that are
 * left */
short wire_asked(Wire *wire, unsigned n, short events, uint64_t *wait_ns);

/* wire_arrived: these bytes of data are what the far end reads next */
void wire_arrived(Wire *wire, unsigned n, size_t at, size_t length);

/* wire_corrupted: all bytes but @where are as sent; Returns: the bits of that
 * which are not */
unsigned wire_corrupted(const uint8_t *got, const uint8_t *sent, size_t length,
                        size_t where);

#endif
