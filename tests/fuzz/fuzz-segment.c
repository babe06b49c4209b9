/*
 * A keyed connection's input, whoever made it up
 *
 * The first byte chooses the cipher, the rest is what came.  Nobody but the
 * peer can make a segment, so nothing may open; the same bytes put into a
 * segment by the peer must open to themselves.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <stdlib.h>
#include <string.h>

#include "core/aead.h"
#include "fuzz.h"

static const uint8_t key[DWCP_KEY_BYTES] = "32 bytes that the input has not";

static void forged(DwcpCipher cipher, const uint8_t *data, size_t size)
{
    DwcpAead *aead = dwcp_aead_new(cipher, key);
    uint8_t *out = malloc(DWCP_SEGMENT_PLAIN_MAX);
    uint32_t length;
    DwcpError err;

    fuzz_require(aead && out);
    if (size >= DWCP_SEGMENT_HEADER &&
        dwcp_segment_length(data, &length, &err) == 0 && length <= size) {
        fuzz_require(dwcp_aead_open(aead, data, length, out, &err) < 0);
    }
    dwcp_aead_free(aead);
    free(out);
}

static void real(DwcpCipher cipher, const uint8_t *data, size_t size)
{
    DwcpAead *seal = dwcp_aead_new(cipher, key);
    DwcpAead *open = dwcp_aead_new(cipher, key);
    uint8_t *sealed = malloc(DWCP_SEGMENT_BYTES_MAX);
    uint8_t *out = malloc(DWCP_SEGMENT_PLAIN_MAX);
    uint32_t length;
    DwcpError err;

    fuzz_require(seal && open && sealed && out);
    fuzz_require(dwcp_aead_seal(seal, data, (uint32_t)size, sealed) == 0);
    fuzz_require(dwcp_segment_length(sealed, &length, &err) == 0);
    fuzz_require(length == size + DWCP_SEGMENT_HEADER + DWCP_SEGMENT_TAG);
    fuzz_require(dwcp_aead_open(open, sealed, length, out, &err) == 0);
    fuzz_require(memcmp(out, data, size) == 0);
    dwcp_aead_free(seal);
    dwcp_aead_free(open);
    free(sealed);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DwcpCipher cipher;

    if (size < 2) {
        return 0;
    }
    cipher = data[0] & 1 ? DWCP_CIPHER_AES_256_GCM
                         : DWCP_CIPHER_CHACHA20_POLY1305;
    forged(cipher, data + 1, size - 1);
    if (size - 1 <= DWCP_SEGMENT_PLAIN_MAX) {
        real(cipher, data + 1, size - 1);
    }
    return 0;
}
