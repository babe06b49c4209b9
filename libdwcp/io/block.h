/*
 * What both roles ask of a RAM block
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_BLOCK_H
#define DWCP_IO_BLOCK_H

#include "core/bounds.h"

/* dwcp_block_check: may block number @index be added?
 * Returns: 0, -EINVAL, -ENOBUFS */
int dwcp_block_check(const void *host, uint64_t length, uint32_t page_size,
                     unsigned index, DwcpError *err) DWCP_CHECKED;

#endif
