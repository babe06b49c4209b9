/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/block.h"

#include <errno.h>

#include "core/fail.h"

int dwcp_block_check(const void *host, uint64_t length, uint32_t page_size,
                     unsigned index, DwcpError *err)
{
    if (!host || length == 0 || length % page_size ||
        length / page_size / DWCP_CHUNK_PAGES > UINT32_MAX - 1) {
        return dwcp_fail(err, -EINVAL,
                         "RAM block %u: %llu bytes are not whole pages of %u",
                         index, (unsigned long long)length, page_size);
    }
    if (index >= DWCP_BLOCKS_MAX) {
        return dwcp_fail(err, -ENOBUFS, "more than %u RAM blocks",
                         DWCP_BLOCKS_MAX);
    }
    return 0;
}
