/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/fault.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "core/fail.h"
#include "io/fault-filter.h"

uint64_t dwcp_fault_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15ull;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static DwcpTransport *faults_put(DwcpTransportWrap *wrap, DwcpTransport *below,
                                 unsigned index)
{
    DwcpFaults *faults = (DwcpFaults *)wrap;
    unsigned nth = atomic_fetch_add(&faults->connections[index], 1);
    uint64_t never = 0, seed;
    DwcpTransport *top = below, *next;
    const DwcpFaultRule *rule;
    unsigned i;
    bool ours;

    (void)atomic_compare_exchange_strong(&faults->began_ns, &never,
                                         dwcp_now_ns());
    for (i = 0; i < faults->spec.count; i++) {
        rule = &faults->spec.rules[i];
        ours = rule->stream < 0 || rule->stream == (int)index;
        if (!ours && rule->kind != DWCP_FAULT_HOLD) { /* that counts them */
            continue;
        }
        seed = faults->spec.seed + ((uint64_t)nth << 32) + (index << 8) + i;
        seed = dwcp_fault_random(&seed);
        next = dwcp_fault_new(faults, i, top, seed, ours);
        if (!next) {
            while (top != below) {
                top = dwcp_fault_drop(top);
            }
            return NULL;
        }
        top = next;
    }
    return top;
}

static void faults_free(DwcpTransportWrap *wrap)
{
    free(wrap);
}

int dwcp_faults_set(DwcpSession *session, const char *text, DwcpError *err)
{
    DwcpFaultSpec spec;
    DwcpFaults *faults;
    unsigned i;
    int rc = dwcp_faultspec_parse(text, &spec, err);

    for (i = 0; rc == 0 && i < spec.count; i++) {
        if (spec.rules[i].record && session->security != DWCP_SECURITY_NONE) {
            rc = dwcp_fail(err, -EINVAL,
                           "faults: rule %u: record: the session is encrypted",
                           i + 1);
        }
    }
    if (rc < 0) {
        return rc;
    }
    assert(!session->wrap);
    faults = calloc(1, sizeof(*faults));
    if (!faults) {
        return dwcp_fail(err, -ENOMEM, "no memory for faults");
    }
    faults->spec = spec;
    faults->wrap = (DwcpTransportWrap){ faults_put, faults_free };
    session->wrap = &faults->wrap;
    return 0;
}

int dwcp_faults_set_from_environment(DwcpSession *session, DwcpError *err)
{
    const char *text = secure_getenv("DWCP_FAULTS");

    return text ? dwcp_faults_set(session, text, err) : 0;
}

unsigned dwcp_faults_hits(const DwcpSession *session, unsigned rule)
{
    const DwcpFaults *faults = (const DwcpFaults *)session->wrap;

    return atomic_load(&faults->hits[rule]);
}
