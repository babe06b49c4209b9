/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/aead.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/fail.h"

#define NONCE_BYTES 12u

struct DwcpAead {
    DwcpCipher cipher;
    gnutls_aead_cipher_hd_t gcm; /* AES-256-GCM */
    uint8_t key[DWCP_KEY_BYTES];
    uint64_t segments; /* under this key */
    bool broken; /* the cipher library failed: no key may serve any more */
};

_Static_assert(DWCP_KEY_BYTES == crypto_aead_chacha20poly1305_ietf_KEYBYTES &&
                   NONCE_BYTES == crypto_aead_chacha20poly1305_ietf_NPUBBYTES &&
                   DWCP_SEGMENT_TAG == crypto_aead_chacha20poly1305_ietf_ABYTES,
               "ChaCha20-Poly1305");

bool dwcp_aead_has_aes(void)
{
    return sodium_init() >= 0 && crypto_aead_aes256gcm_is_available();
}

static int set_key(DwcpAead *aead)
{
    gnutls_datum_t key = { aead->key, sizeof(aead->key) };

    if (aead->cipher != DWCP_CIPHER_AES_256_GCM) {
        return 0;
    }
    if (aead->gcm) {
        gnutls_aead_cipher_deinit(aead->gcm); /* wipes */
        aead->gcm = NULL;
    }
    return gnutls_aead_cipher_init(&aead->gcm, GNUTLS_CIPHER_AES_256_GCM,
                                   &key) < 0
               ? -EIO
               : 0;
}

DwcpAead *dwcp_aead_new(DwcpCipher cipher, const uint8_t *key)
{
    DwcpAead *aead = calloc(1, sizeof(*aead));

    assert(cipher != DWCP_CIPHER_NONE);
    if (!aead) {
        return NULL;
    }
    aead->cipher = cipher;
    memcpy(aead->key, key, sizeof(aead->key));
    if (set_key(aead) < 0) {
        dwcp_aead_free(aead);
        return NULL;
    }
    return aead;
}

void dwcp_aead_free(DwcpAead *aead)
{
    if (!aead) {
        return;
    }
    if (aead->gcm) {
        gnutls_aead_cipher_deinit(aead->gcm);
    }
    sodium_memzero(aead, sizeof(*aead));
    free(aead);
}

/* The next segment's nonce; a key that has served is replaced by its hash. */
static int next_nonce(DwcpAead *aead, uint8_t *nonce)
{
    static const uint8_t label[] = "DWCP v1 rekey"; /* its end goes in, too */
    uint8_t key[DWCP_KEY_BYTES];
    int rc = aead->broken ? -EIO : 0;

    if (rc == 0 && aead->segments == DWCP_REKEY_SEGMENTS) {
        crypto_generichash(key, sizeof(key), label, sizeof(label), aead->key,
                           sizeof(aead->key));
        memcpy(aead->key, key, sizeof(key));
        sodium_memzero(key, sizeof(key));
        aead->segments = 0;
        rc = set_key(aead);
        aead->broken = rc < 0;
    }
    memset(nonce, 0, NONCE_BYTES);
    dwcp_put_le64(nonce + NONCE_BYTES - 8, aead->segments++);
    return rc;
}

int dwcp_aead_seal(DwcpAead *aead, const uint8_t *plain, uint32_t length,
                   uint8_t *out)
{
    uint8_t nonce[NONCE_BYTES], *sealed = out + DWCP_SEGMENT_HEADER;
    size_t got = length + DWCP_SEGMENT_TAG;

    assert(length && length <= DWCP_SEGMENT_PLAIN_MAX);
    if (next_nonce(aead, nonce) < 0) {
        return -EIO;
    }
    dwcp_put_le32(out, length);
    if (aead->cipher == DWCP_CIPHER_AES_256_GCM) {
        return gnutls_aead_cipher_encrypt(aead->gcm, nonce, sizeof(nonce), out,
                                          DWCP_SEGMENT_HEADER,
                                          DWCP_SEGMENT_TAG, plain, length,
                                          sealed, &got) < 0
                   ? -EIO
                   : 0;
    }
    (void)crypto_aead_chacha20poly1305_ietf_encrypt(
        sealed, NULL, plain, length, out, DWCP_SEGMENT_HEADER, NULL, nonce,
        aead->key);
    return 0;
}

int dwcp_segment_length(const uint8_t *in, uint32_t *length, DwcpError *err)
{
    uint32_t plain = dwcp_get_le32(in);

    if (!plain || plain > DWCP_SEGMENT_PLAIN_MAX) {
        return dwcp_fail(err, -EBADMSG, "a segment of %u bytes, not 1 to %u",
                         plain, DWCP_SEGMENT_PLAIN_MAX);
    }
    *length = DWCP_SEGMENT_HEADER + plain + DWCP_SEGMENT_TAG;
    return 0;
}

int dwcp_aead_open(DwcpAead *aead, const uint8_t *in, uint32_t length,
                   uint8_t *out, DwcpError *err)
{
    const uint8_t *sealed = in + DWCP_SEGMENT_HEADER;
    uint32_t sealed_length = length - DWCP_SEGMENT_HEADER;
    size_t got = sealed_length - DWCP_SEGMENT_TAG;
    uint8_t nonce[NONCE_BYTES];
    int rc = next_nonce(aead, nonce);

    if (rc == 0 && aead->cipher == DWCP_CIPHER_AES_256_GCM) {
        rc = gnutls_aead_cipher_decrypt(aead->gcm, nonce, sizeof(nonce), in,
                                        DWCP_SEGMENT_HEADER, DWCP_SEGMENT_TAG,
                                        sealed, sealed_length, out, &got);
    } else if (rc == 0) {
        rc = crypto_aead_chacha20poly1305_ietf_decrypt(
            out, NULL, NULL, sealed, sealed_length, in, DWCP_SEGMENT_HEADER,
            nonce, aead->key);
    }
    return rc < 0 ? dwcp_fail(err, -EBADMSG,
                              "what came was changed on the way, or is not "
                              "the peer's")
                  : 0;
}
