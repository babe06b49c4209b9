/*
 * core/hello: HELLO, WELCOME, CONFIRM
 *
 * Proves that the handshake's bytes are those of tests/golden, that each
 * field's limits hold on both sides, and that the two agree only on what both
 * have.  What was changed on the way is test-hello-flipped.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <sodium.h>
#include <string.h>

#include "core/hello.h"
#include "golden.h"
#include "hellokit.h"

static void test_golden(void)
{
    uint8_t hello_bytes[DWCP_HELLO_BYTES], bytes[DWCP_WELCOME_BYTES];
    DwcpHello hello = good_hello();
    DwcpWelcome welcome = good_welcome(&hello);

    dwcp_hello_encode(hello_bytes, &hello);
    golden_check("hello", hello_bytes, sizeof(hello_bytes));
    dwcp_welcome_encode(bytes, &welcome);
    dwcp_welcome_tag(bytes, hello_bytes, NULL);
    golden_check("welcome", bytes, sizeof(bytes));
    dwcp_confirm_encode(bytes, hello_bytes, bytes, NULL);
    golden_check("confirm", bytes, DWCP_CONFIRM_BYTES);
    dwcp_welcome_refuse(&welcome, DWCP_REFUSAL_SESSION, "not here");
    dwcp_welcome_encode(bytes, &welcome);
    dwcp_welcome_tag(bytes, hello_bytes, NULL);
    golden_check("welcome-refusal", bytes, sizeof(bytes));
}

static void test_round_trip(void)
{
    uint8_t hello_bytes[DWCP_HELLO_BYTES], bytes[DWCP_WELCOME_BYTES];
    uint8_t confirm[DWCP_CONFIRM_BYTES];
    DwcpHello hello = good_hello(), got;
    DwcpWelcome welcome = good_welcome(&hello), answer;
    DwcpError err = { 0 };

    dwcp_hello_encode(hello_bytes, &hello);
    g_assert_cmpint(dwcp_hello_decode(hello_bytes, &got, &err), ==, 0);
    g_assert_cmpuint(got.version, ==, 1);
    g_assert_cmpuint(got.version_min, ==, 1);
    g_assert_cmpuint(got.features, ==, hello.features);
    g_assert_cmpuint(got.required, ==, hello.required);
    g_assert_cmpuint(got.security, ==, hello.security);
    g_assert_cmpuint(got.kind, ==, hello.kind);
    g_assert_cmpuint(got.stream, ==, 3);
    g_assert_cmpuint(got.streams, ==, 8);
    g_assert_cmpuint(got.page_size, ==, HELLO_PAGE);
    g_assert_cmpmem(got.session, 16, hello.session, 16);
    g_assert_cmpmem(got.random, 32, hello.random, 32);
    dwcp_welcome_encode(bytes, &welcome);
    dwcp_welcome_tag(bytes, hello_bytes, NULL);
    g_assert_cmpint(dwcp_welcome_decode(bytes, &hello, hello_bytes, &answer,
                                        &err),
                    ==, 0);
    g_assert_cmpuint(answer.version, ==, 1);
    g_assert_cmpuint(answer.features, ==, DWCP_PROFILE_V1);
    g_assert_cmpuint(answer.security, ==, DWCP_SECURITY_NONE);
    g_assert_cmpmem(answer.session, 16, welcome.session, 16);
    g_assert_cmpmem(answer.random, 32, welcome.random, 32);
    dwcp_confirm_encode(confirm, hello_bytes, bytes, NULL);
    g_assert_cmpint(dwcp_confirm_check(confirm, hello_bytes, bytes, NULL, &err), ==,
                    0);
}

static int decode_hello(const DwcpHello *hello)
{
    uint8_t bytes[DWCP_HELLO_BYTES];
    DwcpError err = { 0 };
    DwcpHello got;
    int rc;

    dwcp_hello_encode(bytes, hello);
    rc = dwcp_hello_decode(bytes, &got, &err);
    g_assert_cmpint(err.code, ==, rc);
    return rc;
}

static void test_hello_limits(void)
{
    DwcpHello hello = good_hello();

    g_assert_cmpint(decode_hello(&hello), ==, 0);
    hello.version_min = 0;
    g_assert_cmpint(decode_hello(&hello), ==, -EPROTO);
    hello.version_min = 2; /* beyond version */
    g_assert_cmpint(decode_hello(&hello), ==, -EPROTO);
    hello.version = UINT16_MAX;
    g_assert_cmpint(decode_hello(&hello), ==, 0);

    hello = good_hello();
    hello.required = 1ull << 63;
    g_assert_cmpint(decode_hello(&hello), ==, -EPROTO);
    hello.features |= 1ull << 63;
    g_assert_cmpint(decode_hello(&hello), ==, 0);

    hello = good_hello();
    hello.stream = 7;
    g_assert_cmpint(decode_hello(&hello), ==, 0);
    hello.stream = 8;
    g_assert_cmpint(decode_hello(&hello), ==, -EPROTO);
    hello.streams = 64;
    hello.stream = 63;
    g_assert_cmpint(decode_hello(&hello), ==, 0);
    hello.streams = 65;
    g_assert_cmpint(decode_hello(&hello), ==, -EPROTO);
    hello.streams = 0;
    hello.stream = 0;
    g_assert_cmpint(decode_hello(&hello), ==, -EPROTO);

    hello = good_hello();
    hello.kind = DWCP_HELLO_NEW; /* but stream 3 */
    g_assert_cmpint(decode_hello(&hello), ==, -EPROTO);
    hello.stream = 0;
    g_assert_cmpint(decode_hello(&hello), ==, 0);
    hello.kind = DWCP_HELLO_JOIN; /* stream 0 again */
    g_assert_cmpint(decode_hello(&hello), ==, 0);
    hello.kind = (DwcpHelloKind)0;
    g_assert_cmpint(decode_hello(&hello), ==, -EPROTO);
    hello.kind = (DwcpHelloKind)3;
    g_assert_cmpint(decode_hello(&hello), ==, -EPROTO);
}

static DwcpRefusal judged(const DwcpHello *hello, const char *text)
{
    DwcpWelcome welcome;
    DwcpRefusal refusal = dwcp_hello_judge(hello, DWCP_SECURITY_NONE, DWCP_PROFILE_V1, HELLO_PAGE,
                                           &welcome);

    g_assert_cmpint(refusal, ==, welcome.refusal);
    if (refusal == DWCP_REFUSAL_NONE) {
        g_assert_cmpuint(welcome.version, >=, DWCP_VERSION_MIN);
        g_assert_cmpuint(welcome.version, <=, DWCP_VERSION);
        g_assert_cmpuint(welcome.features & ~hello->features, ==, 0);
        g_assert_cmpuint(welcome.features & ~DWCP_PROFILE_V1, ==, 0);
    } else {
        g_assert_nonnull(strstr(welcome.text, text));
    }
    return refusal;
}

static void test_judge(void)
{
    DwcpHello hello = good_hello();

    g_assert_cmpint(judged(&hello, ""), ==, DWCP_REFUSAL_NONE);
    hello.version = 9; /* newer, but still speaks ours */
    g_assert_cmpint(judged(&hello, ""), ==, DWCP_REFUSAL_NONE);
    hello.version_min = 2; /* newer, and does not */
    g_assert_cmpint(judged(&hello, "versions 2 to 9"), ==,
                    DWCP_REFUSAL_VERSION);
    hello = good_hello();
    hello.version = hello.version_min = 0; /* older than our oldest */
    g_assert_cmpint(judged(&hello, "versions 0 to 0"), ==,
                    DWCP_REFUSAL_VERSION);

    hello = good_hello();
    hello.features |= 1ull << 40; /* can more than we, does not need it */
    g_assert_cmpint(judged(&hello, ""), ==, DWCP_REFUSAL_NONE);
    hello.required |= 1ull << 40;
    g_assert_cmpint(judged(&hello, "features"), ==, DWCP_REFUSAL_FEATURES);
    hello = good_hello();
    hello.features &= ~DWCP_FEATURE_ZSTD; /* can less */
    g_assert_cmpint(judged(&hello, ""), ==, DWCP_REFUSAL_NONE);

    hello = good_hello();
    hello.security = 0;
    g_assert_cmpint(judged(&hello, "security"), ==, DWCP_REFUSAL_SECURITY);
    hello.security = 2;
    g_assert_cmpint(judged(&hello, "security=psk, the target security=none"),
                    ==, DWCP_REFUSAL_SECURITY);
    hello.security = 255;
    g_assert_cmpint(judged(&hello, "security=unknown"), ==,
                    DWCP_REFUSAL_SECURITY);

    hello = good_hello();
    hello.page_size = 65536;
    g_assert_cmpint(judged(&hello, "pages of 65536"), ==,
                    DWCP_REFUSAL_PAGE_SIZE);
}

/* A WELCOME that is whole but wrong: the hash is right, the choice is not. */
static int answered(const DwcpHello *hello, const DwcpWelcome *welcome,
                    DwcpError *err)
{
    uint8_t hello_bytes[DWCP_HELLO_BYTES], bytes[DWCP_WELCOME_BYTES];
    DwcpWelcome got;

    dwcp_hello_encode(hello_bytes, hello);
    dwcp_welcome_encode(bytes, welcome);
    dwcp_welcome_tag(bytes, hello_bytes, NULL);
    return dwcp_welcome_decode(bytes, hello, hello_bytes, &got, err);
}

static void test_choice(void)
{
    DwcpHello hello = good_hello();
    DwcpWelcome welcome = good_welcome(&hello);
    DwcpError err = { 0 };

    g_assert_cmpint(answered(&hello, &welcome, &err), ==, 0);
    welcome.version = 2;
    g_assert_cmpint(answered(&hello, &welcome, &err), ==, -EPROTO);
    welcome.version = 0;
    g_assert_cmpint(answered(&hello, &welcome, &err), ==, -EPROTO);
    welcome = good_welcome(&hello);
    welcome.features |= 1ull << 50; /* never offered */
    g_assert_cmpint(answered(&hello, &welcome, &err), ==, -EPROTO);
    welcome.features = DWCP_FEATURE_PAGES; /* required is missing */
    g_assert_cmpint(answered(&hello, &welcome, &err), ==, -EPROTO);
    welcome.features = hello.required; /* optional is missing */
    g_assert_cmpint(answered(&hello, &welcome, &err), ==, 0);
    welcome.security = 2;
    g_assert_cmpint(answered(&hello, &welcome, &err), ==, -EPROTO);
    g_assert_nonnull(strstr(err.text, "security=psk, not none"));
    welcome = good_welcome(&hello);
    welcome.session[15] ^= 1; /* joined another session */
    g_assert_cmpint(answered(&hello, &welcome, &err), ==, -EPROTO);
    hello.kind = DWCP_HELLO_NEW; /* but a new one gets any id */
    hello.stream = 0;
    g_assert_cmpint(answered(&hello, &welcome, &err), ==, 0);
}

static void test_refusals(void)
{
    static const struct {
        DwcpRefusal refusal;
        int code;
    } rows[] = {
        { DWCP_REFUSAL_VERSION, -ENOTSUP },
        { DWCP_REFUSAL_FEATURES, -ENOTSUP },
        { DWCP_REFUSAL_SECURITY, -ENOTSUP },
        { DWCP_REFUSAL_SESSION, -ECONNREFUSED },
        { DWCP_REFUSAL_STREAM, -ECONNREFUSED },
        { DWCP_REFUSAL_PAGE_SIZE, -ENOTSUP },
        { (DwcpRefusal)999, -ENOTSUP }, /* of a later version */
    };
    DwcpHello hello = good_hello();
    DwcpWelcome welcome;
    char longest[300];
    DwcpError err;
    unsigned i;

    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        welcome = good_welcome(&hello);
        welcome.version = 77; /* does not matter in a refusal */
        dwcp_welcome_refuse(&welcome, rows[i].refusal, "why\n\x1b[2J");
        err = (DwcpError){ 0 };
        g_assert_cmpint(answered(&hello, &welcome, &err), ==, rows[i].code);
        g_assert_cmpint(err.code, ==, rows[i].code);
        g_assert_cmpstr(err.text, ==, "the target refused: why??[2J");
        dwcp_welcome_refuse(&welcome, rows[i].refusal, "%s", longest);
        g_assert_cmpuint(strlen(welcome.text), ==, DWCP_WELCOME_TEXT_MAX);
        g_assert_cmpint(answered(&hello, &welcome, &err), ==, rows[i].code);
        g_assert_cmpuint(strlen(err.text), ==,
                         strlen("the target refused: ") +
                             DWCP_WELCOME_TEXT_MAX);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    g_test_add_func("/hello/golden", test_golden);
    g_test_add_func("/hello/round-trip", test_round_trip);
    g_test_add_func("/hello/limits", test_hello_limits);
    g_test_add_func("/hello/judge", test_judge);
    g_test_add_func("/hello/choice", test_choice);
    g_test_add_func("/hello/refusals", test_refusals);
    return g_test_run();
}
