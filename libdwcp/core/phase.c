/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/phase.h"

#include <assert.h>

#define TO(phase) (1u << DWCP_PHASE_##phase)

static const unsigned moves[2][DWCP_PHASE_COUNT] = {
    [DWCP_ROLE_SOURCE] = {
        [DWCP_PHASE_CONNECTING] = TO(UP) | TO(FAILED),
        [DWCP_PHASE_UP] = TO(ENDED) | TO(FAILED),
        [DWCP_PHASE_ENDED] = TO(READY) | TO(FAILED),
        [DWCP_PHASE_READY] = TO(GONE) | TO(FAILED),
        [DWCP_PHASE_GONE] = TO(SEALED),
    },
    [DWCP_ROLE_TARGET] = {
        [DWCP_PHASE_CONNECTING] = TO(UP) | TO(FAILED),
        [DWCP_PHASE_UP] = TO(BEGUN) | TO(FAILED),
        [DWCP_PHASE_BEGUN] = TO(COMPLETE) | TO(FAILED),
        [DWCP_PHASE_COMPLETE] = TO(READY) | TO(FAILED),
        [DWCP_PHASE_READY] = TO(SEALED) | TO(FAILED),
    },
};

static const char *const names[DWCP_PHASE_COUNT] = {
    [DWCP_PHASE_CONNECTING] = "connecting",
    [DWCP_PHASE_UP] = "up",
    [DWCP_PHASE_BEGUN] = "begun",
    [DWCP_PHASE_ENDED] = "ended",
    [DWCP_PHASE_COMPLETE] = "complete",
    [DWCP_PHASE_READY] = "ready",
    [DWCP_PHASE_GONE] = "gone",
    [DWCP_PHASE_SEALED] = "sealed",
    [DWCP_PHASE_FAILED] = "failed",
};

bool dwcp_phase_allowed(DwcpRole role, DwcpPhase from, DwcpPhase to)
{
    assert(from < DWCP_PHASE_COUNT && to < DWCP_PHASE_COUNT);
    return moves[role][from] & (1u << to);
}

const char *dwcp_phase_name(DwcpPhase phase)
{
    assert(phase < DWCP_PHASE_COUNT);
    return names[phase];
}
