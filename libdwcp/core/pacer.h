/*
 * Token bucket: how long must a sender wait so that a rate is kept?
 *
 * Debt instead of credit: a frame goes out whole as soon as the bucket is not
 * in debt, and its bytes are taken even if that leaves a debt, which the next
 * frame waits for.  The average is exact, a burst at most one tick plus one
 * frame.
 *
 * Threads: none of its own; the owner locks.  Time comes in with each call.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_PACER_H
#define DWCP_CORE_PACER_H

#include <stdint.h>

typedef struct DwcpPacer {
    uint64_t rate_bytes_per_s; /* 0 = no limit */
    uint64_t free_at_ns;       /* when the debt is paid */
} DwcpPacer;

/* dwcp_pacer_set_rate: a debt that was made at the old rate is kept in time,
 * but never longer than a second */
void dwcp_pacer_set_rate(DwcpPacer *pacer, uint64_t rate_bytes_per_s,
                         uint64_t now_ns);

/* dwcp_pacer_wait_ns: time until something may be sent; 0 = now */
uint64_t dwcp_pacer_wait_ns(const DwcpPacer *pacer, uint64_t now_ns);

/* dwcp_pacer_take: @bytes are being sent */
void dwcp_pacer_take(DwcpPacer *pacer, uint64_t bytes, uint64_t now_ns);

#endif
