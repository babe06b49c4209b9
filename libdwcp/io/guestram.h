/*
 * The target's guest RAM: the newest description of each page wins
 *
 * Per page the number of the last hand-over that described it; what is older
 * is dropped page by page.  What comes again under the same number, because a
 * connection was lost, is written again: it was read later or earlier, but after
 * the hand-over, and what was written since is to come under a higher number.
 * So it does not matter either that a lost connection may leave half a page.
 * A hashed set of locks keeps two descriptions of
 * one chunk apart.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_GUESTRAM_H
#define DWCP_IO_GUESTRAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "core/wire.h"

#define DWCP_CHUNK_LOCKS 256u

typedef struct DwcpRamBlock {
    uint8_t *host;
    uint64_t pages;
    uint32_t *applied; /* per page: last number, 0 = never */
} DwcpRamBlock;

typedef struct DwcpGuestRam {
    /* set before the first frame, then read-only */
    uint32_t page_size;
    DwcpRamBlock *blocks;
    unsigned blocks_count;

    /* a lock guards the pages and numbers of the chunks that hash to it */
    pthread_mutex_t locks[DWCP_CHUNK_LOCKS];
    atomic_bool sealed; /* nothing is written any more; read under a lock */

    atomic_ullong zero_pages, zstd_pages, raw_pages;
} DwcpGuestRam;

void dwcp_guestram_init(DwcpGuestRam *ram, uint32_t page_size);
void dwcp_guestram_clear(DwcpGuestRam *ram);

/* dwcp_guestram_add: see dwcp_target_add_block; Returns: the index or error;
 * *bytes is what it holds for the block */
int dwcp_guestram_add(DwcpGuestRam *ram, void *host, uint64_t length,
                      uint64_t *bytes, DwcpError *err) DWCP_CHECKED;

/* dwcp_guestram_check: do the frame's blocks, chunks and pages exist?
 * Returns: 0, -EPROTO */
int dwcp_guestram_check(const DwcpGuestRam *ram, const DwcpPages *pages,
                        DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_guestram_seal: nothing is written any more when this returns
 *
 * What comes later is received and dropped, and so is the rest of what lands.
 *
 * Threads: any; waits for those that write a chunk now.
 */
void dwcp_guestram_seal(DwcpGuestRam *ram);

/*
 * dwcp_guestram_apply: write what is not older than what stands there
 *
 * @pages: checked
 * @plain: the pages that are not zero, one after the other
 *
 * Threads: any number at once.
 */
void dwcp_guestram_apply(DwcpGuestRam *ram, const DwcpPages *pages,
                         const uint8_t *plain);

/*
 * dwcp_guestram_land: where bytes of a raw chunk go that come in now
 *
 * Claims the chunk's pages that are not zero for @number and locks them until
 * dwcp_guestram_landed.  Between two such pairs a newer number may take a page;
 * the bytes that still come for it then go to @scratch.
 *
 * @done: bytes of the chunk that have come; less than all
 * @scratch: a page
 * @parts: DWCP_CHUNK_PAGES entries; filled with the places of all other bytes,
 *         in their order
 *
 * Returns: how many parts.
 */
unsigned dwcp_guestram_land(DwcpGuestRam *ram, const DwcpChunk *chunk,
                            uint32_t number, size_t done, uint8_t *scratch,
                            struct iovec *parts);
void dwcp_guestram_landed(DwcpGuestRam *ram, const DwcpChunk *chunk);

/*
 * dwcp_guestram_written: a frame's pages that are not zero were written behind
 * our back (RDMA): they get its numbers.  dwcp_guestram_finish is to follow.
 *
 * No look at what stands there: the source has seen to the order
 * (core/flight.h).
 */
void dwcp_guestram_written(DwcpGuestRam *ram, const DwcpPages *pages);

/* dwcp_guestram_finish: all bytes have landed; apply the zeros and count */
void dwcp_guestram_finish(DwcpGuestRam *ram, const DwcpPages *pages);

#endif
