/*
 * core/keys: what comes out of which secrets, and for whom
 *
 * Proves that both sides derive the same keys, that every input changes all of
 * them, that keys for different uses differ, that the schedule's bytes are those
 * of tests/golden, and that keys which cannot protect anything are refused.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <sodium.h>
#include <string.h>

#include "core/keys.h"
#include "golden.h"

static const uint8_t psk[] = "a secret of both sides";

/* One connection, as each side sees it. */
typedef struct Shake {
    uint8_t base[2][DWCP_KEY_BYTES]; /* by DwcpRole */
    DwcpEphemeral ours[2];
    uint8_t hello[DWCP_HELLO_BYTES], welcome[DWCP_WELCOME_BYTES];
    uint8_t root[2][DWCP_KEY_BYTES];
} Shake;

static void fill(uint8_t *out, size_t length, uint8_t from)
{
    size_t i;

    for (i = 0; i < length; i++) {
        out[i] = (uint8_t)(from + i);
    }
}

static void shake_init(Shake *shake)
{
    unsigned i;

    memset(shake, 0, sizeof(*shake));
    fill(shake->base[0], DWCP_KEY_BYTES, 1);
    memcpy(shake->base[1], shake->base[0], DWCP_KEY_BYTES);
    fill(shake->hello, DWCP_HELLO_BYTES, 2);
    fill(shake->welcome, DWCP_WELCOME_BYTES, 3);
    for (i = 0; i < 2; i++) {
        fill(shake->ours[i].secret, DWCP_KEY_BYTES, (uint8_t)(100 + i));
        (void)crypto_scalarmult_base(shake->ours[i].public,
                                     shake->ours[i].secret);
    }
    memcpy((uint8_t *)dwcp_hello_random(shake->hello),
           shake->ours[DWCP_ROLE_SOURCE].public, DWCP_RANDOM_BYTES);
    memcpy((uint8_t *)dwcp_welcome_random(shake->welcome),
           shake->ours[DWCP_ROLE_TARGET].public, DWCP_RANDOM_BYTES);
}

static bool shake_agrees(Shake *shake)
{
    DwcpError err = { 0 };
    unsigned i;

    for (i = 0; i < 2; i++) {
        g_assert_cmpint(dwcp_keys_root(shake->root[i], shake->base[i],
                                       &shake->ours[i], (DwcpRole)i,
                                       shake->hello, shake->welcome, &err),
                        ==, 0);
    }
    return memcmp(shake->root[0], shake->root[1], DWCP_KEY_BYTES) == 0;
}

static void test_root(void)
{
    uint8_t keys[3][DWCP_KEY_BYTES];
    Shake shake;
    unsigned i;

    shake_init(&shake);
    g_assert_true(shake_agrees(&shake));
    golden_check("keys-root", shake.root[0], DWCP_KEY_BYTES);
    for (i = 0; i < 3; i++) {
        dwcp_keys_derive(keys[i], shake.root[0], (DwcpKeyUse)i);
    }
    golden_check("keys-derived", keys[0], sizeof(keys));
    g_assert_cmpint(memcmp(keys[0], keys[1], DWCP_KEY_BYTES), !=, 0);
    g_assert_cmpint(memcmp(keys[0], keys[2], DWCP_KEY_BYTES), !=, 0);
    g_assert_cmpint(memcmp(keys[1], keys[2], DWCP_KEY_BYTES), !=, 0);
}

/* Whatever one side knows or sees otherwise, it gets another key. */
static void test_inputs(void)
{
    uint8_t *byte;
    Shake shake;
    unsigned at;
    DwcpError err;

    shake_init(&shake);
    shake.base[1][31] ^= 1;
    g_assert_false(shake_agrees(&shake));
    shake_init(&shake);
    randombytes_buf(shake.ours[0].secret, DWCP_KEY_BYTES);
    g_assert_false(shake_agrees(&shake));
    for (at = 0; at < DWCP_HELLO_BYTES + DWCP_WELCOME_TAG; at++) {
        shake_init(&shake);
        g_assert_true(shake_agrees(&shake));
        byte = at < DWCP_HELLO_BYTES ? &shake.hello[at]
                                     : &shake.welcome[at - DWCP_HELLO_BYTES];
        *byte ^= 1;
        /* The target's view alone is changed. */
        g_assert_cmpint(dwcp_keys_root(shake.root[1], shake.base[1],
                                       &shake.ours[1], DWCP_ROLE_TARGET,
                                       shake.hello, shake.welcome, &err),
                        ==, 0);
        g_assert_cmpint(memcmp(shake.root[0], shake.root[1], DWCP_KEY_BYTES),
                        !=, 0);
    }
}

static void test_base(void)
{
    uint8_t secret[2][DWCP_KEY_BYTES], public[2][DWCP_KEY_BYTES];
    uint8_t base[3][DWCP_KEY_BYTES];
    DwcpKeys keys;
    DwcpError err;
    unsigned i;

    for (i = 0; i < 2; i++) {
        fill(secret[i], DWCP_KEY_BYTES, (uint8_t)(7 * i + 1));
        (void)crypto_scalarmult_base(public[i], secret[i]);
    }
    for (i = 0; i < 2; i++) {
        keys = (DwcpKeys){ .own_key = secret[i], .peer_key = public[1 - i] };
        g_assert_cmpint(dwcp_keys_base(base[i], DWCP_SECURITY_KEYS,
                                       (DwcpRole)i, &keys, &err),
                        ==, 0);
    }
    g_assert_cmpint(memcmp(base[0], base[1], DWCP_KEY_BYTES), ==, 0);
    golden_check("keys-base", base[0], DWCP_KEY_BYTES);
    /* Who takes the other role with the same keys is not understood. */
    keys = (DwcpKeys){ .own_key = secret[1], .peer_key = public[0] };
    g_assert_cmpint(dwcp_keys_base(base[2], DWCP_SECURITY_KEYS,
                                   DWCP_ROLE_SOURCE, &keys, &err),
                    ==, 0);
    g_assert_cmpint(memcmp(base[0], base[2], DWCP_KEY_BYTES), !=, 0);
    keys = (DwcpKeys){ .psk = psk, .psk_bytes = sizeof(psk) };
    for (i = 0; i < 2; i++) {
        g_assert_cmpint(dwcp_keys_base(base[i], DWCP_SECURITY_PSK, (DwcpRole)i,
                                       &keys, &err),
                        ==, 0);
    }
    g_assert_cmpint(memcmp(base[0], base[1], DWCP_KEY_BYTES), ==, 0);
    golden_check("keys-psk", base[0], DWCP_KEY_BYTES);
    g_assert_cmpint(dwcp_keys_base(base[0], DWCP_SECURITY_NONE,
                                   DWCP_ROLE_SOURCE, &(DwcpKeys){ 0 }, &err),
                    ==, 0);
    g_assert_true(sodium_is_zero(base[0], DWCP_KEY_BYTES));
}

static void refused(DwcpSecurity security, DwcpKeys keys, const char *text)
{
    uint8_t base[DWCP_KEY_BYTES];
    DwcpError err = { 0 };

    g_assert_cmpint(dwcp_keys_base(base, security, DWCP_ROLE_TARGET, &keys,
                                   &err),
                    ==, -EINVAL);
    if (!strstr(err.text, text)) {
        g_error("\"%s\" does not say %s", err.text, text);
    }
}

static void test_bad(void)
{
    static const uint8_t zero[DWCP_KEY_BYTES];
    uint8_t secret[DWCP_KEY_BYTES], public[DWCP_KEY_BYTES];
    uint8_t root[DWCP_KEY_BYTES];
    DwcpError err;
    Shake shake;

    fill(secret, sizeof(secret), 9);
    (void)crypto_scalarmult_base(public, secret);
    refused(DWCP_SECURITY_PSK, (DwcpKeys){ 0 }, "0 bytes");
    refused(DWCP_SECURITY_PSK, (DwcpKeys){ .psk = psk, .psk_bytes = 15 },
            "15 bytes");
    refused(DWCP_SECURITY_PSK, (DwcpKeys){ .psk = psk, .psk_bytes = 1025 },
            "1025 bytes");
    refused(DWCP_SECURITY_PSK, (DwcpKeys){ .psk_bytes = 20 }, "0 bytes");
    refused(DWCP_SECURITY_KEYS, (DwcpKeys){ .own_key = secret }, "public");
    refused(DWCP_SECURITY_KEYS, (DwcpKeys){ .peer_key = public }, "private");
    refused(DWCP_SECURITY_KEYS,
            (DwcpKeys){ .own_key = secret, .peer_key = public }, "our own");
    refused(DWCP_SECURITY_KEYS,
            (DwcpKeys){ .own_key = secret, .peer_key = zero }, "not one");
    /* A key that would go unused is a mistake that costs the protection. */
    refused(DWCP_SECURITY_NONE, (DwcpKeys){ .psk = psk, .psk_bytes = 20 },
            "security=none does not use");
    refused(DWCP_SECURITY_KEYS, (DwcpKeys){ .psk = psk, .psk_bytes = 20 },
            "does not use");
    refused(DWCP_SECURITY_PSK,
            (DwcpKeys){ .psk = psk, .psk_bytes = 20, .own_key = secret },
            "does not use");
    /* A peer's half that makes the shared secret zero. */
    shake_init(&shake);
    memset((uint8_t *)dwcp_hello_random(shake.hello), 0, DWCP_RANDOM_BYTES);
    g_assert_cmpint(dwcp_keys_root(root, shake.base[1], &shake.ours[1],
                                   DWCP_ROLE_TARGET, shake.hello,
                                   shake.welcome, &err),
                    ==, -EPROTO);
}

static void test_ephemeral(void)
{
    DwcpEphemeral a, b;

    dwcp_ephemeral_new(&a);
    dwcp_ephemeral_new(&b);
    g_assert_cmpint(memcmp(a.public, b.public, DWCP_KEY_BYTES), !=, 0);
    g_assert_cmpint(memcmp(a.secret, b.secret, DWCP_KEY_BYTES), !=, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/keys/root", test_root);
    g_test_add_func("/keys/inputs", test_inputs);
    g_test_add_func("/keys/base", test_base);
    g_test_add_func("/keys/bad", test_bad);
    g_test_add_func("/keys/ephemeral", test_ephemeral);
    return g_test_run();
}
