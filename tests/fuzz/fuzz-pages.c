/*
 * PAGES bodies all the way to guest RAM: nothing outside the blocks is touched
 *
 * The body goes through decode, check, payload, apply as on a target.  The RAM
 * blocks are allocated to the byte, so that a sanitizer sees any step beyond.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/codec.h"
#include "fuzz.h"
#include "io/guestram.h"

#define PAGE 1024u

static const uint64_t block_pages[] = { 1, 65, 130 };
#define BLOCKS 3

static void apply(const DwcpPages *pages, const uint8_t *plain)
{
    uint8_t *host[BLOCKS];
    DwcpGuestRam ram;
    uint64_t bytes;
    DwcpError err;
    unsigned i;

    dwcp_guestram_init(&ram, PAGE);
    for (i = 0; i < BLOCKS; i++) {
        host[i] = calloc(block_pages[i], PAGE);
        fuzz_require(host[i] != NULL);
        fuzz_require(dwcp_guestram_add(&ram, host[i], block_pages[i] * PAGE,
                                       &bytes, &err) == (int)i);
    }
    if (dwcp_guestram_check(&ram, pages, &err) == 0) {
        dwcp_guestram_apply(&ram, pages, plain);
        dwcp_guestram_apply(&ram, pages, plain); /* twice does not matter */
    } else {
        fuzz_require(err.code == -EPROTO);
    }
    dwcp_guestram_clear(&ram);
    for (i = 0; i < BLOCKS; i++) {
        free(host[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DwcpDecoder *decoder;
    const uint8_t *plain;
    DwcpPages pages;
    DwcpError err;
    uint32_t head;
    int rc;

    /* What record_decode lets through. */
    if (size < DWCP_PAGES_HEADER + DWCP_PAGES_CHUNK ||
        size > dwcp_frame_bytes_max(PAGE) - DWCP_RECORD_HEADER) {
        return 0;
    }
    rc = dwcp_pages_decode(data, (uint32_t)size, PAGE, &pages, &err);
    if (rc < 0) {
        fuzz_require(rc == -EPROTO && err.code == rc);
        return 0;
    }
    head = dwcp_pages_head_bytes(pages.count);
    decoder = dwcp_decoder_new(PAGE);
    fuzz_require(decoder != NULL);
    rc = dwcp_decode_payload(decoder, &pages, data + head,
                             (uint32_t)size - head, &plain, &err);
    if (rc == 0) {
        apply(&pages, plain);
    } else {
        fuzz_require(rc == -EPROTO && err.code == rc);
    }
    dwcp_decoder_free(decoder);
    return 0;
}
