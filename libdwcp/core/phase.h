/*
 * Where a session stands, and where it may go from there
 *
 * Source: CONNECTING -> UP -> ENDED -> READY -> GONE -> SEALED
 *   CONNECTING  no stream yet                       entry: new
 *   UP          runs are handed over                 entry: WELCOME
 *   ENDED       all is handed over, END is queued    entry: the user's end
 *   READY       the target could run                 entry: READY record
 *   GONE        GO is queued: must never run again   entry: the user's finish
 *   SEALED      the target runs                      entry: SEALED record
 * Target: CONNECTING -> UP -> BEGUN -> COMPLETE -> READY -> SEALED
 *   BEGUN       blocks are known, frames are applied entry: the user's begin
 *   COMPLETE    END has come and all its frames      entry: END or a frame
 *   READY       READY is queued                      entry: the user's ready
 *   SEALED      nothing writes guest RAM any more    entry: GO record
 * FAILED is final and reached from all but GONE and SEALED, which nothing can
 * take back.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_PHASE_H
#define DWCP_CORE_PHASE_H

#include <stdbool.h>

typedef enum DwcpPhase {
    DWCP_PHASE_CONNECTING,
    DWCP_PHASE_UP,
    DWCP_PHASE_BEGUN,    /* target only */
    DWCP_PHASE_ENDED,    /* source only */
    DWCP_PHASE_COMPLETE, /* target only */
    DWCP_PHASE_READY,
    DWCP_PHASE_GONE,     /* source only */
    DWCP_PHASE_SEALED,
    DWCP_PHASE_FAILED,
    DWCP_PHASE_COUNT,
} DwcpPhase;

typedef enum DwcpRole {
    DWCP_ROLE_SOURCE,
    DWCP_ROLE_TARGET,
} DwcpRole;

/* dwcp_phase_allowed: may a session of @role go from @from to @to? */
bool dwcp_phase_allowed(DwcpRole role, DwcpPhase from, DwcpPhase to);

const char *dwcp_phase_name(DwcpPhase phase);

#endif
