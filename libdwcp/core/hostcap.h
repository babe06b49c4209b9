/*
 * A cap that all migrations of a host share: a token bucket in shared memory
 *
 * Those that agree to it map the same memory.  One word in it says when the
 * debt of all together is paid, as core/pacer's does for one session: who finds
 * it in the past moves it forward by what its frame costs, with a
 * compare-and-swap.  The sum is exact, a burst at most CREDIT_NS and one frame,
 * however many take part.
 *
 * Shares: frames differ in size and sessions in threads, so who comes first
 * would get more.  Each member shows how many bytes it has had, and until when
 * it waits for the bucket.  Who is ahead of one that waits, by more than 10 ms
 * of the rate, lets it go first (start-time fair queueing, Goyal et al. 1996,
 * with some slack, so that at high rates nobody waits for a thread to wake up).
 * Who asks for less than its share is never in debt for that, and the others
 * have the rest.
 *
 * No locks: a member that dies is waited for until the time that it said, 105
 * ms at most, and its place is free again after PLACE_NS.
 *
 * Nothing in the memory is trusted.  What another writes can make a member
 * wait, ever again 100 ms at a time, or unfairly; nothing more: no length or index is
 * read from it.  So it is for those that one manager runs.
 *
 * The layout is one of this host, in its byte order, and described in
 * docs/wire.md; who makes it needs no library.
 *
 * Threads: a member belongs to one owner, who locks; members in any threads and
 * processes.  Time is that of CLOCK_MONOTONIC, the same for all.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_HOSTCAP_H
#define DWCP_CORE_HOSTCAP_H

#include <stdatomic.h>

#include "core/bounds.h"

#define DWCP_HOSTCAP_MAGIC "DWCPCAP"
#define DWCP_HOSTCAP_VERSION 1u
#define DWCP_HOSTCAP_BYTES 4096u
#define DWCP_HOSTCAP_PLACES 63u
/* No member is told to wait for longer: so fast a new rate is obeyed. */
#define DWCP_HOSTCAP_WAIT_NS 100000000ull

typedef struct DwcpHostcapPlace {
    atomic_ullong owner;    /* 0 = free; else its member's id */
    atomic_ullong asked_ns; /* when it asked last */
    atomic_ullong until_ns; /* waits, and comes before; 0 = does not wait */
    atomic_ullong served;   /* bytes that it has had, as shares count them */
    uint64_t reserved[4];
} DwcpHostcapPlace;

typedef struct DwcpHostcap {
    char magic[8]; /* DWCP_HOSTCAP_MAGIC */
    uint32_t version;
    uint32_t size;      /* DWCP_HOSTCAP_BYTES */
    atomic_ullong rate; /* bytes/s; 0 = no limit; may change at any time */
    atomic_ullong free_at_ns; /* when the debt is paid */
    atomic_ullong served;     /* the most that any member has had */
    uint64_t reserved[3];
    DwcpHostcapPlace places[DWCP_HOSTCAP_PLACES];
} DwcpHostcap;

typedef struct DwcpHostcapMember {
    DwcpHostcap *cap; /* NULL = is in none */
    uint64_t id;      /* random, not 0 */
    unsigned place;   /* DWCP_HOSTCAP_PLACES = has none */
    uint64_t served;
    uint64_t rest; /* of the last frame, in bytes/s * ns */
} DwcpHostcapMember;

/*
 * dwcp_hostcap_check: may the memory be a cap?
 *
 * @memory: DWCP_HOSTCAP_BYTES that stay mapped, aligned to 8
 *
 * Returns: 0; -EINVAL
 */
int dwcp_hostcap_check(const void *memory, DwcpError *err) DWCP_CHECKED;

/* dwcp_hostcap_join: take part; @id: random, not 0.  That all places are taken
 * costs only fair shares. */
void dwcp_hostcap_join(DwcpHostcapMember *member, DwcpHostcap *cap,
                       uint64_t id);

/* dwcp_hostcap_leave: the place is free; a member that is in none may leave */
void dwcp_hostcap_leave(DwcpHostcapMember *member);

/*
 * dwcp_hostcap_take: may @bytes be sent now?
 *
 * Returns: 0 yes, they were taken; else how many ns to wait before asking
 * again, DWCP_HOSTCAP_WAIT_NS at most.
 * Complexity: O(DWCP_HOSTCAP_PLACES).
 */
uint64_t dwcp_hostcap_take(DwcpHostcapMember *member, uint64_t bytes,
                           uint64_t now_ns);

#endif
