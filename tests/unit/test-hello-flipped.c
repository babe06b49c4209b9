/*
 * core/hello: messages that were changed on the way
 *
 * Proves that no byte of HELLO, WELCOME or CONFIRM can be changed on the way
 * without one side refusing, and that a text's length is not believed.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <sodium.h>
#include <string.h>

#include "core/hello.h"
#include "hellokit.h"

/* A flipped HELLO either is refused at once, or judged, or breaks the hash of
 * the WELCOME that answers it. */
static void test_hello_flipped(void)
{
    uint8_t sent[DWCP_HELLO_BYTES], came[DWCP_HELLO_BYTES];
    uint8_t bytes[DWCP_WELCOME_BYTES];
    DwcpHello hello = good_hello(), got;
    DwcpWelcome welcome, answer;
    unsigned at, value;

    dwcp_hello_encode(sent, &hello);
    for (at = 0; at < DWCP_HELLO_BYTES; at++) {
        for (value = 1; value < 256; value++) {
            memcpy(came, sent, sizeof(came));
            came[at] ^= (uint8_t)value;
            if (dwcp_hello_decode(came, &got, NULL) < 0) {
                continue;
            }
            (void)dwcp_hello_judge(&got, DWCP_SECURITY_NONE, DWCP_PROFILE_V1, HELLO_PAGE, &welcome);
            memcpy(welcome.session, got.session, DWCP_SESSION_BYTES);
            dwcp_welcome_encode(bytes, &welcome);
            dwcp_welcome_tag(bytes, came, NULL);
            g_assert_cmpint(dwcp_welcome_decode(bytes, &hello, sent, &answer,
                                                NULL),
                            ==, -EPROTO);
        }
    }
}

/* Magic, length and reserved bytes must be right on the HELLO's own. */
static void test_hello_fixed(void)
{
    static const unsigned fixed[][2] = { { 0, 8 }, { 12, 16 }, { 38, 40 },
                                         { 44, 56 } };
    uint8_t bytes[DWCP_HELLO_BYTES];
    DwcpHello hello = good_hello(), got;
    unsigned i, at;

    for (i = 0; i < G_N_ELEMENTS(fixed); i++) {
        for (at = fixed[i][0]; at < fixed[i][1]; at++) {
            dwcp_hello_encode(bytes, &hello);
            bytes[at] ^= 0x20;
            g_assert_cmpint(dwcp_hello_decode(bytes, &got, NULL), ==,
                            -EPROTO);
        }
    }
}

static void test_welcome_flipped(void)
{
    uint8_t sent[DWCP_HELLO_BYTES], bytes[DWCP_WELCOME_BYTES];
    DwcpHello hello = good_hello();
    DwcpWelcome welcome = good_welcome(&hello), got;
    DwcpError err = { 0 };
    unsigned at, bit;

    dwcp_hello_encode(sent, &hello);
    dwcp_welcome_encode(bytes, &welcome);
    dwcp_welcome_tag(bytes, sent, NULL);
    for (at = 0; at < DWCP_WELCOME_BYTES; at++) {
        for (bit = 0; bit < 8; bit++) {
            bytes[at] ^= (uint8_t)(1u << bit);
            g_assert_cmpint(dwcp_welcome_decode(bytes, &hello, sent, &got,
                                                &err),
                            ==, -EPROTO);
            bytes[at] ^= (uint8_t)(1u << bit);
        }
    }
}

/* A text length beyond its field, with a hash that is right. */
static void test_welcome_text(void)
{
    uint8_t sent[DWCP_HELLO_BYTES], bytes[DWCP_WELCOME_BYTES];
    crypto_generichash_state state;
    DwcpHello hello = good_hello();
    DwcpWelcome welcome = good_welcome(&hello), got;
    static const char label[] = "DWCP v1 target";

    dwcp_hello_encode(sent, &hello);
    dwcp_welcome_encode(bytes, &welcome);
    dwcp_welcome_tag(bytes, sent, NULL);
    bytes[25] = DWCP_WELCOME_TEXT_MAX + 1;
    crypto_generichash_init(&state, NULL, 0, DWCP_HASH_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)label,
                              strlen(label));
    crypto_generichash_update(&state, sent, sizeof(sent));
    crypto_generichash_update(&state, bytes, 280);
    crypto_generichash_final(&state, bytes + 280, DWCP_HASH_BYTES);
    g_assert_cmpint(dwcp_welcome_decode(bytes, &hello, sent, &got, NULL), ==,
                    -EPROTO);
}

static void test_confirm_flipped(void)
{
    uint8_t sent[DWCP_HELLO_BYTES], bytes[DWCP_WELCOME_BYTES];
    uint8_t confirm[DWCP_CONFIRM_BYTES];
    DwcpHello hello = good_hello();
    DwcpWelcome welcome = good_welcome(&hello);
    unsigned at;

    dwcp_hello_encode(sent, &hello);
    dwcp_welcome_encode(bytes, &welcome);
    dwcp_welcome_tag(bytes, sent, NULL);
    dwcp_confirm_encode(confirm, sent, bytes, NULL);
    /* The target's own hash, sent back, is no proof of the source. */
    g_assert_cmpint(dwcp_confirm_check(bytes + 280, sent, bytes, NULL, NULL), ==,
                    -EBADMSG);
    for (at = 0; at < DWCP_CONFIRM_BYTES; at++) {
        confirm[at] ^= 1;
        g_assert_cmpint(dwcp_confirm_check(confirm, sent, bytes, NULL, NULL), ==,
                        -EBADMSG);
        confirm[at] ^= 1;
    }
    for (at = 0; at < DWCP_WELCOME_BYTES; at++) {
        bytes[at] ^= 1;
        g_assert_cmpint(dwcp_confirm_check(confirm, sent, bytes, NULL, NULL), ==,
                        -EBADMSG);
        bytes[at] ^= 1;
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/hello/flipped", test_hello_flipped);
    g_test_add_func("/hello/fixed", test_hello_fixed);
    g_test_add_func("/hello/welcome/flipped", test_welcome_flipped);
    g_test_add_func("/hello/welcome/text", test_welcome_text);
    g_test_add_func("/hello/confirm/flipped", test_confirm_flipped);
    return g_test_run();
}
