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

static int chunk_check(const DwcpGuestRam *ram, const DwcpChunk *chunk,
                       uint64_t number, DwcpError *err)
{
    uint64_t last = (uint64_t)chunk->chunk * DWCP_CHUNK_PAGES + 63u -
                    (unsigned)__builtin_clzll(chunk->present);

    if (chunk->block >= ram->blocks_count) {
        return dwcp_fail(err, -EPROTO, "chunk %llu: block %u of %u",
                         (unsigned long long)number, chunk->block,
                         ram->blocks_count);
    }
    if (last >= ram->blocks[chunk->block].pages) {
        return dwcp_fail(err, -EPROTO,
                         "chunk %llu: page %llu of block %u, which has %llu",
                         (unsigned long long)number, (unsigned long long)last,
                         chunk->block,
                         (unsigned long long)ram->blocks[chunk->block].pages);
    }
    return 0;
}

int dwcp_guestram_check(const DwcpGuestRam *ram, const DwcpPages *pages,
                        DwcpError *err)
{
    unsigned i;

    for (i = 0; i < pages->count; i++) {
        if (chunk_check(ram, &pages->chunks[i], pages->number + i, err) < 0) {
            return -EPROTO;
        }
    }
    return 0;
}

/* Is what stands there not newer?  By the chunk's lock. */
static bool takes(const DwcpGuestRam *ram, const DwcpRamBlock *block,
                  uint64_t page, uint32_t number)
{
    return block->applied[page] <= number && !atomic_load(&ram->sealed);
}

/* Returns: @plain behind the pages that the chunk took or dropped. */
static const uint8_t *apply_plain(DwcpGuestRam *ram, const DwcpChunk *chunk,
                                  uint32_t number, const uint8_t *plain)
{
    const DwcpRamBlock *block = &ram->blocks[chunk->block];
    const uint32_t size = ram->page_size;
    uint64_t left, page;

    for (left = chunk->present & ~chunk->zero; left; left &= left - 1) {
        page = (uint64_t)chunk->chunk * DWCP_CHUNK_PAGES +
               (unsigned)__builtin_ctzll(left);
        if (takes(ram, block, page, number)) {
            block->applied[page] = number;
            memcpy(block->host + page * size, plain, size);
        }
        plain += size;
    }
    return plain;
}

/* Writing zeros to untouched memory would allocate it, so look first. */
static void apply_zeros(DwcpGuestRam *ram, const DwcpChunk *chunk,
                        uint32_t number)
{
    const DwcpRamBlock *block = &ram->blocks[chunk->block];
    const uint32_t size = ram->page_size;
    uint64_t left, page;

    for (left = chunk->zero; left; left &= left - 1) {
        page = (uint64_t)chunk->chunk * DWCP_CHUNK_PAGES +
               (unsigned)__builtin_ctzll(left);
        if (takes(ram, block, page, number)) {
            block->applied[page] = number;
            if (!dwcp_page_is_zero(block->host + page * size, size)) {
                memset(block->host + page * size, 0, size);
            }
        }
    }
}

static pthread_mutex_t *lock_of(DwcpGuestRam *ram, const DwcpChunk *chunk)
{
    return &ram->locks[(chunk->chunk + chunk->block * 31u) % DWCP_CHUNK_LOCKS];
}

void dwcp_guestram_seal(DwcpGuestRam *ram)
{
    unsigned i;

    atomic_store(&ram->sealed, true);
    for (i = 0; i < DWCP_CHUNK_LOCKS; i++) { /* whoever did not see it is gone */
        pthread_mutex_lock(&ram->locks[i]);
        pthread_mutex_unlock(&ram->locks[i]);
    }
}

void dwcp_guestram_apply(DwcpGuestRam *ram, const DwcpPages *pages,
                         const uint8_t *plain)
{
    const DwcpChunk *chunk;
    unsigned i;

    for (i = 0; i < pages->count; i++) {
        chunk = &pages->chunks[i];
        pthread_mutex_lock(lock_of(ram, chunk));
        plain = apply_plain(ram, chunk, (uint32_t)(pages->number + i), plain);
        pthread_mutex_unlock(lock_of(ram, chunk));
    }
    dwcp_guestram_finish(ram, pages);
}

unsigned dwcp_guestram_land(DwcpGuestRam *ram, const DwcpChunk *chunk,
                            uint32_t number, size_t done, uint8_t *scratch,
                            struct iovec *parts)
{
    const DwcpRamBlock *block = &ram->blocks[chunk->block];
    const uint32_t size = ram->page_size;
    uint64_t left = chunk->present & ~chunk->zero, page;
    unsigned count = 0;
    uint8_t *at;

    pthread_mutex_lock(lock_of(ram, chunk));
    for (; done >= size; done -= size) {
        left &= left - 1;
    }
    for (; left; left &= left - 1, done = 0) {
        page = (uint64_t)chunk->chunk * DWCP_CHUNK_PAGES +
               (unsigned)__builtin_ctzll(left);
        at = scratch;
        if (takes(ram, block, page, number)) {
            block->applied[page] = number;
            at = block->host + page * size;
        }
        if (count && (uint8_t *)parts[count - 1].iov_base +
                             parts[count - 1].iov_len == at) {
            parts[count - 1].iov_len += size;
        } else {
            parts[count++] = (struct iovec){ at + done, size - done };
        }
    }
    return count;
}

/* A later number stays: workers may hand their frames on in any order. */
static void chunk_written(DwcpGuestRam *ram, const DwcpChunk *chunk,
                          uint32_t number)
{
    const DwcpRamBlock *block = &ram->blocks[chunk->block];
    uint64_t left, page;

    pthread_mutex_lock(lock_of(ram, chunk));
    for (left = chunk->present & ~chunk->zero; left; left &= left - 1) {
        page = (uint64_t)chunk->chunk * DWCP_CHUNK_PAGES +
               (unsigned)__builtin_ctzll(left);
        if (block->applied[page] < number) {
            block->applied[page] = number;
        }
    }
    pthread_mutex_unlock(lock_of(ram, chunk));
}

void dwcp_guestram_written(DwcpGuestRam *ram, const DwcpPages *pages)
{
    unsigned i;

    for (i = 0; i < pages->count; i++) {
        chunk_written(ram, &pages->chunks[i], (uint32_t)(pages->number + i));
    }
}

void dwcp_guestram_landed(DwcpGuestRam *ram, const DwcpChunk *chunk)
{
    pthread_mutex_unlock(lock_of(ram, chunk));
}

/*
 * Zeros come last: a look at untouched memory maps the kernel's huge page of
 * zeros, which the first write next to it would have to split, and then fault
 * page by page.
 */
void dwcp_guestram_finish(DwcpGuestRam *ram, const DwcpPages *pages)
{
    unsigned full = dwcp_pages_plain(pages), i;
    const DwcpChunk *chunk;

    for (i = 0; i < pages->count; i++) {
        chunk = &pages->chunks[i];
        pthread_mutex_lock(lock_of(ram, chunk));
        apply_zeros(ram, chunk, (uint32_t)(pages->number + i));
        pthread_mutex_unlock(lock_of(ram, chunk));
    }
    atomic_fetch_add(&ram->zero_pages, dwcp_pages_present(pages) - full);
    atomic_fetch_add(pages->codec == DWCP_CODEC_ZSTD ? &ram->zstd_pages
                                                     : &ram->raw_pages,
                     full);
}
