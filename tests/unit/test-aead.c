/*
 * core/aead: segments
 *
 * Proves for both ciphers that what was sealed opens to the same bytes in the
 * same order, and nothing else does: no changed byte, no segment twice, left
 * out, out of order, of the other direction or under another key; that keys
 * change when they should on both sides; and that the bytes are those of
 * tests/golden.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <sodium.h>
#include <string.h>

#include "core/aead.h"
#include "golden.h"

static const DwcpCipher ciphers[] = { DWCP_CIPHER_AES_256_GCM,
                                      DWCP_CIPHER_CHACHA20_POLY1305 };

typedef struct Pair {
    DwcpAead *seal, *open;
} Pair;

static Pair pair_new(DwcpCipher cipher)
{
    uint8_t key[DWCP_KEY_BYTES];
    Pair pair;

    memset(key, 0x42, sizeof(key));
    pair.seal = dwcp_aead_new(cipher, key);
    pair.open = dwcp_aead_new(cipher, key);
    g_assert_nonnull(pair.seal);
    g_assert_nonnull(pair.open);
    return pair;
}

static void pair_free(Pair pair)
{
    dwcp_aead_free(pair.seal);
    dwcp_aead_free(pair.open);
}

static uint32_t seal(Pair pair, const void *plain, uint32_t length,
                     uint8_t *out)
{
    g_assert_cmpint(dwcp_aead_seal(pair.seal, plain, length, out), ==, 0);
    return DWCP_SEGMENT_HEADER + length + DWCP_SEGMENT_TAG;
}

/* As a stream does it: the length first. */
static int open_segment(Pair pair, const uint8_t *in, uint32_t have,
                        uint8_t *out)
{
    DwcpError err = { 0 };
    uint32_t length = 0;
    int rc = dwcp_segment_length(in, &length, &err);

    if (rc == 0 && length != have) {
        rc = -EBADMSG; /* a stream would wait for more, or find the next */
    }
    if (rc == 0) {
        rc = dwcp_aead_open(pair.open, in, length, out, &err);
        g_assert_true(rc == 0 || err.text[0]);
    }
    return rc;
}

static void test_round_trip(void)
{
    static const uint32_t lengths[] = { 1, 2, 15, 16, 17, 4096, 65535, 65536 };
    uint8_t *plain = g_malloc(DWCP_SEGMENT_PLAIN_MAX);
    uint8_t *sealed = g_malloc(DWCP_SEGMENT_BYTES_MAX);
    uint8_t *got = g_malloc(DWCP_SEGMENT_PLAIN_MAX);
    unsigned c, i, length;
    Pair pair;

    for (c = 0; c < G_N_ELEMENTS(ciphers); c++) {
        pair = pair_new(ciphers[c]);
        for (i = 0; i < 100; i++) {
            length = lengths[i % G_N_ELEMENTS(lengths)];
            randombytes_buf(plain, length);
            memset(got, 0, length);
            (void)seal(pair, plain, length, sealed);
            g_assert_cmpint(open_segment(pair, sealed,
                                         length + DWCP_SEGMENT_HEADER +
                                             DWCP_SEGMENT_TAG,
                                         got),
                            ==, 0);
            g_assert_cmpint(memcmp(plain, got, length), ==, 0);
        }
        pair_free(pair);
    }
    g_free(plain);
    g_free(sealed);
    g_free(got);
}

static void test_golden(void)
{
    static const char *const names[] = { "segment-aes-256-gcm",
                                         "segment-chacha20-poly1305" };
    uint8_t out[64];
    unsigned c;
    Pair pair;

    for (c = 0; c < G_N_ELEMENTS(ciphers); c++) {
        pair = pair_new(ciphers[c]);
        (void)seal(pair, "first", 5, out); /* number 0 */
        golden_check(names[c], out, seal(pair, "second", 6, out));
        pair_free(pair);
    }
}

static void test_changed(void)
{
    uint8_t sealed[64], changed[64], got[64];
    uint32_t length;
    unsigned c, at, bit;
    Pair pair;

    for (c = 0; c < G_N_ELEMENTS(ciphers); c++) {
        for (at = 0; at < 30; at++) {
            for (bit = 0; bit < 8; bit++) {
                pair = pair_new(ciphers[c]);
                length = seal(pair, "0123456789", 10, sealed);
                g_assert_cmpuint(length, ==, 30);
                memcpy(changed, sealed, length);
                changed[at] ^= (uint8_t)(1u << bit);
                g_assert_cmpint(open_segment(pair, changed, length, got), ==,
                                -EBADMSG);
                pair_free(pair);
            }
        }
    }
}

static void test_order(void)
{
    uint8_t a[64], b[64], got[64];
    uint32_t length = 0;
    unsigned c, i;
    Pair pair;

    for (c = 0; c < G_N_ELEMENTS(ciphers); c++) {
        for (i = 0; i < 3; i++) {
            pair = pair_new(ciphers[c]);
            length = seal(pair, "aaaa", 4, a);
            (void)seal(pair, "bbbb", 4, b);
            if (i == 0) { /* swapped, or the first left out */
                g_assert_cmpint(open_segment(pair, b, length, got), ==,
                                -EBADMSG);
            } else if (i == 1) { /* twice */
                g_assert_cmpint(open_segment(pair, a, length, got), ==, 0);
                g_assert_cmpint(open_segment(pair, a, length, got), ==,
                                -EBADMSG);
            } else { /* back to who sent it: it opens the other direction */
                g_assert_cmpint(dwcp_aead_open(pair.seal, a, length, got,
                                               NULL),
                                ==, -EBADMSG);
            }
            pair_free(pair);
        }
    }
}

static void test_other_key(void)
{
    uint8_t key[DWCP_KEY_BYTES], sealed[64], got[64];
    uint32_t length;
    unsigned c, at;
    Pair pair;

    for (c = 0; c < G_N_ELEMENTS(ciphers); c++) {
        for (at = 0; at < DWCP_KEY_BYTES; at++) {
            pair = pair_new(ciphers[c]);
            memset(key, 0x42, sizeof(key));
            key[at] ^= 0x80;
            dwcp_aead_free(pair.open);
            pair.open = dwcp_aead_new(ciphers[c], key);
            length = seal(pair, "x", 1, sealed);
            g_assert_cmpint(open_segment(pair, sealed, length, got), ==,
                            -EBADMSG);
            pair_free(pair);
        }
    }
}

/* Across the change of the key, and that it is one. */
static void test_rekey(void)
{
    uint8_t before[64], after[64], got[64];
    uint32_t length = 0;
    unsigned c, i;
    Pair pair;

    for (c = 0; c < G_N_ELEMENTS(ciphers); c++) {
        pair = pair_new(ciphers[c]);
        for (i = 0; i < DWCP_REKEY_SEGMENTS; i++) {
            length = seal(pair, "x", 1, i ? after : before);
            g_assert_cmpint(open_segment(pair, i ? after : before, length, got),
                            ==, 0);
        }
        (void)seal(pair, "x", 1, after);
        /* Number 0 again: under the old key this would be the same. */
        g_assert_cmpint(memcmp(before, after, length), !=, 0);
        g_assert_cmpint(open_segment(pair, after, length, got), ==, 0);
        g_assert_cmpuint(got[0], ==, 'x');
        pair_free(pair);
    }
}

static void test_length(void)
{
    static const uint8_t bad[][4] = { { 0, 0, 0, 0 },
                                      { 1, 0, 1, 0 },
                                      { 0xff, 0xff, 0xff, 0xff } };
    static const uint8_t most[4] = { 0, 0, 1, 0 };
    DwcpError err;
    uint32_t length;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(dwcp_segment_length(bad[i], &length, &err), ==,
                        -EBADMSG);
    }
    g_assert_cmpint(dwcp_segment_length(most, &length, &err), ==, 0);
    g_assert_cmpuint(length, ==, DWCP_SEGMENT_BYTES_MAX);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/aead/round-trip", test_round_trip);
    g_test_add_func("/aead/golden", test_golden);
    g_test_add_func("/aead/changed", test_changed);
    g_test_add_func("/aead/order", test_order);
    g_test_add_func("/aead/other-key", test_other_key);
    g_test_add_func("/aead/rekey", test_rekey);
    g_test_add_func("/aead/length", test_length);
    return g_test_run();
}
