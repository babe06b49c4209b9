/*
 * A raw frame that lands in guest RAM while it comes in
 *
 * What is not compressed need not wait in a buffer: its pages are received
 * where they belong, chunk by chunk, each piece under the chunk's lock.  A page
 * whose newer description has been applied before or meanwhile is received
 * into a scratch page instead.  Half a frame may stand in guest RAM at any
 * time, so memory is not complete while a frame lands.
 *
 * Threads: the stream's own.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_LANDING_H
#define DWCP_IO_LANDING_H

#include <sys/types.h>

#include "io/guestram.h"
#include "io/transport.h"

typedef struct DwcpLanding {
    DwcpGuestRam *ram; /* not owned */
    DwcpPages pages;
    size_t left;    /* bytes of the payload still to come; 0 = nothing lands */
    unsigned chunk; /* that they go on in; it has pages that are not zero */
    size_t done;    /* bytes of this chunk that have come */
    uint8_t scratch[]; /* a page, for bytes that are outdated */
} DwcpLanding;

/* dwcp_landing_new: nothing lands yet; Returns: NULL when out of memory */
DwcpLanding *dwcp_landing_new(DwcpGuestRam *ram);
void dwcp_landing_free(DwcpLanding *landing); /* NULL is allowed */
size_t dwcp_landing_bytes(const DwcpLanding *landing);

/* dwcp_landing_start: @pages, checked, raw, and not all zero, come now */
void dwcp_landing_start(DwcpLanding *landing, const DwcpPages *pages);

/*
 * dwcp_landing_copy: take bytes that were read already
 *
 * Returns: how many of the @length bytes belong to the frame.
 */
size_t dwcp_landing_copy(DwcpLanding *landing, const uint8_t *bytes,
                         size_t length);

/*
 * dwcp_landing_receive: one receive, which does not wait
 *
 * @ahead: @ahead_bytes for what comes behind the frame
 * @ahead_got: bytes that stand at @ahead now
 *
 * Returns: bytes received, at @ahead included; 0 the peer closed; -1 and errno.
 */
ssize_t dwcp_landing_receive(DwcpLanding *landing, DwcpTransport *transport,
                             uint8_t *ahead, size_t ahead_bytes,
                             size_t *ahead_got);

#endif
