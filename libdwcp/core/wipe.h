/*
 * Memory that held keys or a guest's pages is wiped before it is freed
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_WIPE_H
#define DWCP_CORE_WIPE_H

#include <sodium.h>
#include <stdlib.h>

/* dwcp_wipe_free: free(), after @length bytes were wiped; NULL is allowed */
static inline void dwcp_wipe_free(void *memory, size_t length)
{
    if (memory) {
        sodium_memzero(memory, length);
        free(memory);
    }
}

#endif
