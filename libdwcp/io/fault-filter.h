/*
 * One filter: a rule on a connection; for fault.c alone
 *
 * Threads: the stream's own.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_FAULT_FILTER_H
#define DWCP_IO_FAULT_FILTER_H

#include "io/fault.h"
#include "io/transport.h"

/* DwcpFaults: of a session */
typedef struct DwcpFaults {
    DwcpTransportWrap wrap;
    DwcpFaultSpec spec; /* read-only */
    atomic_ullong began_ns; /* the first connection stood; 0 = none has */
    atomic_uint connections[DWCP_STREAMS_MAX]; /* of each stream so far */
    atomic_uint hits[DWCP_FAULT_RULES_MAX];
    /* of a hold: bytes that passed, its way */
    atomic_ullong others_bytes[DWCP_FAULT_RULES_MAX];
} DwcpFaults;

/* dwcp_fault_random: next of a sequence that any @state begins (splitmix64) */
uint64_t dwcp_fault_random(uint64_t *state);

/*
 * dwcp_fault_new: put rule @number on @below
 *
 * @acts: else it only counts, for those that wait for others
 *
 * Returns: NULL when out of memory.
 */
DwcpTransport *dwcp_fault_new(DwcpFaults *faults, unsigned number,
                              DwcpTransport *below, uint64_t seed, bool acts);

/* dwcp_fault_drop: undo that; Returns: what it was put on */
DwcpTransport *dwcp_fault_drop(DwcpTransport *transport);

#endif
