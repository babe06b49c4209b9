/*
 * What is to go wrong on a session's connections, as a text
 *
 *   stall:stream=1,after=1M,for=500ms;corrupt:after=3M-4M;seed=7
 *
 * Rules are separated by semicolons.  A rule is a kind and, behind a colon, its
 * settings.  Each acts once on a connection, on no more than `times` of them in
 * a session, from its beginning on:
 *
 *   delay    by=TIME: what comes in is handed on so much later
 *   rate     limit=BYTES a second pass
 *   drop     the connection ends, how=reset or close
 *   corrupt  a bit of the next byte is changed
 *   stall    nothing passes
 *   short    most=BYTES (1): no call moves more than a random number up to that
 *   hold     nothing passes until=BYTES have on the other connections
 *
 *   stream=N            only connections of this stream
 *   way=send|receive    send; of delay receive, always
 *   after=BYTES[-BYTES] the beginning: so many bytes have passed this way since
 *                       the handshake; of two a random number between them
 *   at=TIME             or: so long after the session's first handshake
 *   record=NAME         or: before a record of this type (GO, PAGES, ...) is
 *                       sent, in plain text
 *   for=TIME            how long; else for ever, hold 1 s
 *   times=N             1; delay, rate, short: all connections
 *
 * BYTES are a number and K, M, G or nothing; TIME a number and us, ms or s.
 * `seed` makes other random numbers; it is no rule.
 *
 * Pure: no state, no system calls.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_FAULTSPEC_H
#define DWCP_CORE_FAULTSPEC_H

#include "core/wire.h"

typedef enum DwcpFaultKind {
    DWCP_FAULT_DELAY,
    DWCP_FAULT_RATE,
    DWCP_FAULT_DROP,
    DWCP_FAULT_CORRUPT,
    DWCP_FAULT_STALL,
    DWCP_FAULT_SHORT,
    DWCP_FAULT_HOLD,
    DWCP_FAULT_KINDS,
} DwcpFaultKind;

typedef struct DwcpFaultRule {
    DwcpFaultKind kind;
    int stream;            /* -1 = any */
    bool receive;          /* way */
    bool closes;           /* drop: how=close */
    uint64_t amount;       /* by in ns; limit, most, until in bytes */
    uint64_t after_min, after_max; /* bytes; unless one of the next two */
    uint64_t at_ns;        /* UINT64_MAX = not by time */
    DwcpRecordType record; /* 0 = none */
    uint64_t for_ns;       /* UINT64_MAX = for ever */
    uint32_t times;        /* UINT32_MAX = no limit */
} DwcpFaultRule;

#define DWCP_FAULT_RULES_MAX 16u
#define DWCP_FAULT_BYTES_MAX (1ull << 50)
#define DWCP_FAULT_NS_MAX (86400ull * 1000000000u)

typedef struct DwcpFaultSpec {
    uint64_t seed;
    unsigned count;
    DwcpFaultRule rules[DWCP_FAULT_RULES_MAX];
} DwcpFaultSpec;

/* dwcp_faultspec_parse: Returns: 0; -EINVAL, and what is wrong in which rule */
int dwcp_faultspec_parse(const char *text, DwcpFaultSpec *out,
                         DwcpError *err) DWCP_CHECKED;

const char *dwcp_fault_name(DwcpFaultKind kind);

#endif
