/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/keys.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "core/fail.h"
#include "core/hello.h"

_Static_assert(DWCP_KEY_BYTES == crypto_scalarmult_BYTES &&
                   DWCP_KEY_BYTES == crypto_scalarmult_SCALARBYTES,
               "X25519");
_Static_assert(DWCP_KEY_BYTES >= crypto_generichash_KEYBYTES_MIN &&
                   DWCP_KEY_BYTES <= crypto_generichash_KEYBYTES_MAX,
               "keys BLAKE2b");

static void hash_begin(crypto_generichash_state *state, const uint8_t *key,
                       const char *label)
{
    crypto_generichash_init(state, key, key ? DWCP_KEY_BYTES : 0,
                            DWCP_KEY_BYTES);
    crypto_generichash_update(state, (const uint8_t *)label, strlen(label));
}

static void hash_end(crypto_generichash_state *state, uint8_t *out)
{
    crypto_generichash_final(state, out, DWCP_KEY_BYTES);
    sodium_memzero(state, sizeof(*state));
}

static int base_psk(uint8_t *out, const DwcpKeys *keys, DwcpError *err)
{
    crypto_generichash_state state;

    if (!keys->psk || keys->psk_bytes < DWCP_PSK_BYTES_MIN ||
        keys->psk_bytes > DWCP_PSK_BYTES_MAX) {
        return dwcp_fail(err, -EINVAL,
                         "the pre-shared key has %zu bytes, not %u to %u",
                         keys->psk ? keys->psk_bytes : 0, DWCP_PSK_BYTES_MIN,
                         DWCP_PSK_BYTES_MAX);
    }
    hash_begin(&state, NULL, "DWCP v1 psk");
    crypto_generichash_update(&state, keys->psk, keys->psk_bytes);
    hash_end(&state, out);
    return 0;
}

static int base_keys(uint8_t *out, DwcpRole role, const DwcpKeys *keys,
                     DwcpError *err)
{
    bool source = role == DWCP_ROLE_SOURCE;
    crypto_generichash_state state;
    uint8_t shared[DWCP_KEY_BYTES], own[DWCP_KEY_BYTES];

    if (!keys->own_key || !keys->peer_key) {
        return dwcp_fail(err, -EINVAL, "%s key is missing",
                         keys->own_key ? "the peer's public" : "our private");
    }
    (void)crypto_scalarmult_base(own, keys->own_key);
    if (memcmp(own, keys->peer_key, DWCP_KEY_BYTES) == 0) {
        return dwcp_fail(err, -EINVAL, "the peer's public key is our own");
    }
    if (crypto_scalarmult(shared, keys->own_key, keys->peer_key) != 0) {
        return dwcp_fail(err, -EINVAL, "the peer's public key is not one");
    }
    hash_begin(&state, NULL, "DWCP v1 keys");
    crypto_generichash_update(&state, shared, sizeof(shared));
    crypto_generichash_update(&state, source ? own : keys->peer_key,
                              DWCP_KEY_BYTES);
    crypto_generichash_update(&state, source ? keys->peer_key : own,
                              DWCP_KEY_BYTES);
    hash_end(&state, out);
    sodium_memzero(shared, sizeof(shared));
    return 0;
}

int dwcp_keys_base(uint8_t *out, DwcpSecurity security, DwcpRole role,
                   const DwcpKeys *keys, DwcpError *err)
{
    bool has_psk = keys->psk || keys->psk_bytes;
    bool has_keys = keys->own_key || keys->peer_key;

    if ((has_psk && security != DWCP_SECURITY_PSK) ||
        (has_keys && security != DWCP_SECURITY_KEYS)) {
        /* Who gave a key meant to be protected by it. */
        return dwcp_fail(err, -EINVAL,
                         "security=%s does not use the key it was given",
                         dwcp_security_name(security));
    }
    switch (security) {
    case DWCP_SECURITY_PSK:
        return base_psk(out, keys, err);
    case DWCP_SECURITY_KEYS:
        return base_keys(out, role, keys, err);
    default:
        memset(out, 0, DWCP_KEY_BYTES);
        return 0;
    }
}

void dwcp_ephemeral_new(DwcpEphemeral *ephemeral)
{
    randombytes_buf(ephemeral->secret, sizeof(ephemeral->secret));
    (void)crypto_scalarmult_base(ephemeral->public, ephemeral->secret);
}

int dwcp_keys_root(uint8_t *out, const uint8_t *base,
                   const DwcpEphemeral *ours, DwcpRole role,
                   const uint8_t *hello, const uint8_t *welcome,
                   DwcpError *err)
{
    uint8_t shared[DWCP_KEY_BYTES], transcript[DWCP_HASH_BYTES];
    crypto_generichash_state state;
    const uint8_t *theirs = role == DWCP_ROLE_SOURCE
                                ? dwcp_welcome_random(welcome)
                                : dwcp_hello_random(hello);

    if (crypto_scalarmult(shared, ours->secret, theirs) != 0) {
        return dwcp_fail(err, -EPROTO, "the peer's half of the key is zero");
    }
    hash_begin(&state, NULL, "");
    crypto_generichash_update(&state, hello, DWCP_HELLO_BYTES);
    crypto_generichash_update(&state, welcome, DWCP_WELCOME_TAG);
    hash_end(&state, transcript);
    hash_begin(&state, base, "DWCP v1 connection");
    crypto_generichash_update(&state, shared, sizeof(shared));
    crypto_generichash_update(&state, transcript, sizeof(transcript));
    hash_end(&state, out);
    sodium_memzero(shared, sizeof(shared));
    return 0;
}

void dwcp_keys_derive(uint8_t *out, const uint8_t *root, DwcpKeyUse use)
{
    static const char *const labels[] = {
        [DWCP_KEY_SESSION] = "session",
        [DWCP_KEY_FROM_SOURCE] = "from source",
        [DWCP_KEY_FROM_TARGET] = "from target",
    };
    crypto_generichash_state state;

    hash_begin(&state, root, labels[use]);
    hash_end(&state, out);
}
