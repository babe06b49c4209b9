/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/pacer.h"

#define NS_PER_S 1000000000ull
/* Unused time counts for this long: what a stream was late, it may catch up. */
#define CREDIT_NS (NS_PER_S / 100)

void dwcp_pacer_set_rate(DwcpPacer *pacer, uint64_t rate_bytes_per_s,
                         uint64_t now_ns)
{
    pacer->rate_bytes_per_s = rate_bytes_per_s;
    if (pacer->free_at_ns > now_ns + NS_PER_S) {
        pacer->free_at_ns = now_ns + NS_PER_S;
    }
}

uint64_t dwcp_pacer_wait_ns(const DwcpPacer *pacer, uint64_t now_ns)
{
    if (!pacer->rate_bytes_per_s || pacer->free_at_ns <= now_ns) {
        return 0;
    }
    return pacer->free_at_ns - now_ns;
}

void dwcp_pacer_take(DwcpPacer *pacer, uint64_t bytes, uint64_t now_ns)
{
    uint64_t start_ns;

    if (!pacer->rate_bytes_per_s) {
        pacer->free_at_ns = now_ns;
        return;
    }
    start_ns = pacer->free_at_ns;
    if (now_ns > CREDIT_NS && start_ns < now_ns - CREDIT_NS) {
        start_ns = now_ns - CREDIT_NS;
    }
    pacer->free_at_ns =
        start_ns + (uint64_t)((double)bytes * (double)NS_PER_S /
                              (double)pacer->rate_bytes_per_s);
}
