/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/guestram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/codec.h"
#include "core/fail.h"
#include "io/block.h"

void dwcp_guestram_init(DwcpGuestRam *ram, uint32_t page_size)
{
    unsigned i;

    memset(ram, 0, sizeof(*ram));
    ram->page_size = page_size;
    for (i = 0; i < DWCP_CHUNK_LOCKS; i++) {
        pthread_mutex_init(&ram->locks[i], NULL);
    }
}

void dwcp_guestram_clear(DwcpGuestRam *ram)
{
    unsigned i;

    for (i = 0; i < ram->blocks_count; i++) {
        free(ram->blocks[i].applied);
    }
    free(ram->blocks);
    for (i = 0; i < DWCP_CHUNK_LOCKS; i++) {
        pthread_mutex_destroy(&ram->locks[i]);
    }
}

int dwcp_guestram_add(DwcpGuestRam *ram, void *host, uint64_t length,
                      uint64_t *bytes, DwcpError *err)
{
    DwcpRamBlock *blocks;
    uint64_t pages;
    int rc;

    rc = dwcp_block_check(host, length, ram->page_size, ram->blocks_count, err);
    if (rc < 0) {
        return rc;
    }
    blocks = realloc(ram->blocks, (ram->blocks_count + 1) * sizeof(*blocks));
    if (!blocks) {
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    ram->blocks = blocks;
    pages = length / ram->page_size;
    blocks[ram->blocks_count] = (DwcpRamBlock){
        host, pages, calloc(pages, sizeof(uint32_t))
    };
    if (!blocks[ram->blocks_count].applied) {
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    *bytes = pages * sizeof(uint32_t);
    return (int)ram->blocks_count++;
}

int dwcp_guestram_check(const DwcpGuestRam *ram, const DwcpPages *pages,
                        DwcpError *err)
{
    uint64_t first = (uint64_t)pages->chunk * DWCP_CHUNK_PAGES;
    uint64_t last =
        first + 63u - (unsigned)__builtin_clzll(pages->present);

    if (pages->block >= ram->blocks_count) {
        return dwcp_fail(err, -EPROTO, "frame %llu: block %u of %u",
                         (unsigned long long)pages->number, pages->block,
                         ram->blocks_count);
    }
    if (last >= ram->blocks[pages->block].pages) {
        return dwcp_fail(err, -EPROTO,
                         "frame %llu: page %llu of block %u, which has %llu",
                         (unsigned long long)pages->number,
                         (unsigned long long)last, pages->block,
                         (unsigned long long)ram->blocks[pages->block].pages);
    }
    return 0;
}

static pthread_mutex_t *lock_of(DwcpGuestRam *ram, const DwcpPages *pages)
{
    return &ram->locks[(pages->chunk + pages->block * 31u) % DWCP_CHUNK_LOCKS];
}

void dwcp_guestram_apply(DwcpGuestRam *ram, const DwcpPages *pages,
                         const uint8_t *plain)
{
    const DwcpRamBlock *block = &ram->blocks[pages->block];
    const uint32_t size = ram->page_size;
    const uint32_t number = (uint32_t)pages->number;
    pthread_mutex_t *lock = lock_of(ram, pages);
    uint64_t left, page;
    uint8_t *host;
    bool zero;

    pthread_mutex_lock(lock);
    for (left = pages->present; left; left &= left - 1) {
        page = (uint64_t)pages->chunk * DWCP_CHUNK_PAGES +
               (unsigned)__builtin_ctzll(left);
        host = block->host + page * size;
        zero = pages->zero & left & -left;
        if (block->applied[page] < number) {
            block->applied[page] = number;
            if (!zero) {
                memcpy(host, plain, size);
            } else if (!dwcp_page_is_zero(host, size)) {
                /* Only then: writing zeros to untouched memory would
                 * allocate it. */
                memset(host, 0, size);
            }
        }
        plain += zero ? 0 : size;
    }
    pthread_mutex_unlock(lock);
    atomic_fetch_add(&ram->zero_pages,
                     (unsigned)__builtin_popcountll(pages->zero));
    atomic_fetch_add(pages->codec == DWCP_CODEC_ZSTD ? &ram->zstd_pages
                                                     : &ram->raw_pages,
                     dwcp_pages_count(pages));
}
