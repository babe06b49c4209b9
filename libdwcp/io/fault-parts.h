/*
 * What a filter asks of the bytes of a call: parts of them, and where records
 * begin
 *
 * Threads: none of its own.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_FAULT_PARTS_H
#define DWCP_IO_FAULT_PARTS_H

#include <sys/uio.h>

#include "core/wire.h"

/*
 * dwcp_parts_clip: the first @most bytes
 *
 * @out: @count entries
 *
 * Returns: entries of @out that are used.
 */
size_t dwcp_parts_clip(const struct iovec *parts, size_t count, size_t most,
                       struct iovec *out);

/* DwcpFollow: where a sequence of bytes stands among records; begins as 0 */
typedef struct DwcpFollow {
    uint8_t header[DWCP_RECORD_HEADER];
    unsigned head; /* bytes of it that have passed */
    uint32_t left; /* of the body */
} DwcpFollow;

/*
 * dwcp_follow: go over the first @most bytes, but not into a record of @type
 * (0 = any is fine)
 *
 * Returns: bytes that were gone over.
 */
size_t dwcp_follow(DwcpFollow *follow, const struct iovec *parts, size_t count,
                   size_t most, unsigned type);

#endif
