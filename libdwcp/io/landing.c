/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/landing.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/wipe.h"

DwcpLanding *dwcp_landing_new(DwcpGuestRam *ram)
{
    DwcpLanding *landing = malloc(sizeof(*landing) + ram->page_size);

    if (landing) {
        landing->ram = ram;
        landing->left = 0;
    }
    return landing;
}

void dwcp_landing_free(DwcpLanding *landing)
{
    if (landing) { /* the scratch page has seen what came too late */
        dwcp_wipe_free(landing, dwcp_landing_bytes(landing));
    }
}

size_t dwcp_landing_bytes(const DwcpLanding *landing)
{
    return sizeof(*landing) + landing->ram->page_size;
}

/* Bytes that the chunk under way has in the payload. */
static size_t chunk_bytes(const DwcpLanding *landing)
{
    const DwcpChunk *chunk = &landing->pages.chunks[landing->chunk];

    return (size_t)__builtin_popcountll(chunk->present & ~chunk->zero) *
           landing->ram->page_size;
}

static void skip_empty(DwcpLanding *landing)
{
    while (landing->left && !chunk_bytes(landing)) {
        landing->chunk++;
    }
}

void dwcp_landing_start(DwcpLanding *landing, const DwcpPages *pages)
{
    assert(!landing->left);
    landing->pages = *pages;
    landing->left =
        (size_t)dwcp_pages_plain(pages) * landing->ram->page_size;
    landing->chunk = 0;
    landing->done = 0;
    assert(landing->left);
    skip_empty(landing);
}

/* The next @n bytes of this chunk have come. */
static void advance(DwcpLanding *landing, size_t n)
{
    landing->left -= n;
    landing->done += n;
    if (landing->done == chunk_bytes(landing)) {
        landing->chunk++;
        landing->done = 0;
        skip_empty(landing);
    }
}

/* Locks this chunk.  Returns: parts at @parts, for the rest of its bytes. */
static unsigned enter(DwcpLanding *landing, struct iovec *parts)
{
    return dwcp_guestram_land(landing->ram,
                              &landing->pages.chunks[landing->chunk],
                              (uint32_t)(landing->pages.number +
                                         landing->chunk),
                              landing->done, landing->scratch, parts);
}

static void leave(DwcpLanding *landing)
{
    dwcp_guestram_landed(landing->ram, &landing->pages.chunks[landing->chunk]);
}

size_t dwcp_landing_copy(DwcpLanding *landing, const uint8_t *bytes,
                         size_t length)
{
    struct iovec parts[DWCP_CHUNK_PAGES];
    size_t taken = 0, n, in_chunk;
    unsigned count, i;

    while (landing->left && taken < length) {
        count = enter(landing, parts);
        in_chunk = 0;
        for (i = 0; i < count && taken < length; i++) {
            n = length - taken;
            n = n < parts[i].iov_len ? n : parts[i].iov_len;
            memcpy(parts[i].iov_base, bytes + taken, n);
            taken += n;
            in_chunk += n;
        }
        leave(landing);
        advance(landing, in_chunk);
    }
    return taken;
}

ssize_t dwcp_landing_receive(DwcpLanding *landing, DwcpTransport *transport,
                             uint8_t *ahead, size_t ahead_bytes,
                             size_t *ahead_got)
{
    struct iovec parts[DWCP_CHUNK_PAGES + 1];
    size_t rest, count;
    ssize_t n;

    assert(landing->left);
    rest = chunk_bytes(landing) - landing->done;
    *ahead_got = 0;
    count = enter(landing, parts);
    if (rest == landing->left) {
        parts[count++] = (struct iovec){ ahead, ahead_bytes };
    }
    n = transport->ops->receive(transport, parts, count);
    leave(landing);
    if (n > 0 && (size_t)n > rest) {
        *ahead_got = (size_t)n - rest;
    }
    if (n > 0) {
        advance(landing, (size_t)n - *ahead_got);
    }
    return n;
}
