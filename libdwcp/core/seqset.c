/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/seqset.h"

#include <errno.h>
#include <string.h>

_Static_assert((DWCP_NUMBERS_AHEAD_MAX & (DWCP_NUMBERS_AHEAD_MAX - 1)) == 0 &&
                   DWCP_NUMBERS_AHEAD_MAX % 64 == 0,
               "numbers map to ring bits by masking");

void dwcp_seqset_init(DwcpSeqset *set)
{
    memset(set, 0, sizeof(*set));
}

static uint64_t *word_of(DwcpSeqset *set, uint64_t number, uint64_t *bit)
{
    uint64_t at = number & (DWCP_NUMBERS_AHEAD_MAX - 1);

    *bit = 1ull << (at % 64);
    return &set->bits[at / 64];
}

int dwcp_seqset_add(DwcpSeqset *set, uint64_t number)
{
    uint64_t *word, bit;

    if (number == 0) {
        return -ENOBUFS;
    }
    if (number <= set->below) {
        return 0;
    }
    if (number - set->below > DWCP_NUMBERS_AHEAD_MAX) {
        return -ENOBUFS;
    }
    word = word_of(set, number, &bit);
    if (*word & bit) {
        return 0;
    }
    *word |= bit;
    /* Let `below` run over all that is now contiguous; free its bits. */
    for (word = word_of(set, set->below + 1, &bit); *word & bit;
         word = word_of(set, set->below + 1, &bit)) {
        *word &= ~bit;
        set->below++;
    }
    return 1;
}
