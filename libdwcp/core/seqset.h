/*
 * Which of the numbers 1, 2, 3, ... have been seen, in any order
 *
 * Everything up to `below` has; beyond it a ring of bits holds what came
 * early, DWCP_NUMBERS_AHEAD_MAX numbers at most.  The target counts applied
 * chunks with it, the source acknowledged ones.
 *
 * Threads: none of its own; the owner locks.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_SEQSET_H
#define DWCP_CORE_SEQSET_H

#include "core/bounds.h"

typedef struct DwcpSeqset {
    uint64_t below; /* 1 .. below have been seen; below + 1 has not */
    uint64_t bits[DWCP_NUMBERS_AHEAD_MAX / 64]; /* ring; bit n % size */
} DwcpSeqset;

void dwcp_seqset_init(DwcpSeqset *set);

/*
 * dwcp_seqset_add: @number has been seen
 *
 * Returns: 1 for the first time, 0 again; -ENOBUFS it is 0 or more than
 * DWCP_NUMBERS_AHEAD_MAX beyond `below`.
 * Complexity: amortised O(1).
 */
int dwcp_seqset_add(DwcpSeqset *set, uint64_t number) DWCP_CHECKED;

#endif
