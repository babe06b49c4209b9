/*
 * Handshake messages: whatever comes, what is accepted can be written again
 *
 * The first bytes are a HELLO as the target reads it; what follows is a
 * WELCOME as the source reads it, with its hash made right, for otherwise
 * nothing behind the hash would ever be reached.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "core/hello.h"
#include "fuzz.h"

static void one_hello(const uint8_t *data)
{
    uint8_t again[DWCP_HELLO_BYTES], welcome_bytes[DWCP_WELCOME_BYTES];
    DwcpWelcome welcome, got;
    DwcpHello hello;
    DwcpError err;

    if (dwcp_hello_decode(data, &hello, &err) < 0) {
        fuzz_require(err.code == -EPROTO);
        return;
    }
    dwcp_hello_encode(again, &hello);
    fuzz_require(memcmp(again, data, sizeof(again)) == 0);
    (void)dwcp_hello_judge(&hello, DWCP_SECURITY_NONE, DWCP_PROFILE_V1, 4096, &welcome);
    memcpy(welcome.session, hello.session, sizeof(welcome.session));
    memset(welcome.random, 0, sizeof(welcome.random));
    dwcp_welcome_encode(welcome_bytes, &welcome);
    dwcp_welcome_tag(welcome_bytes, data, NULL);
    fuzz_require((dwcp_welcome_decode(welcome_bytes, &hello, data, &got,
                                      &err) == 0) ==
                 (welcome.refusal == DWCP_REFUSAL_NONE));
}

static void one_welcome(const uint8_t *data, const uint8_t *hello_bytes,
                        const DwcpHello *hello)
{
    static const char label[] = "DWCP v1 target";
    uint8_t bytes[DWCP_WELCOME_BYTES];
    crypto_generichash_state state;
    DwcpWelcome welcome;
    DwcpError err;
    int rc;

    memcpy(bytes, data, sizeof(bytes));
    crypto_generichash_init(&state, NULL, 0, DWCP_HASH_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)label, strlen(label));
    crypto_generichash_update(&state, hello_bytes, DWCP_HELLO_BYTES);
    crypto_generichash_update(&state, bytes, sizeof(bytes) - DWCP_HASH_BYTES);
    crypto_generichash_final(&state, bytes + sizeof(bytes) - DWCP_HASH_BYTES,
                             DWCP_HASH_BYTES);
    rc = dwcp_welcome_decode(bytes, hello, hello_bytes, &welcome, &err);
    fuzz_require(rc == 0 || err.code == rc);
    if (rc == 0) {
        fuzz_require(!(welcome.features & ~hello->features));
        fuzz_require(!(hello->required & ~welcome.features));
        fuzz_require(welcome.security == hello->security);
        fuzz_require(strlen(welcome.text) <= DWCP_WELCOME_TEXT_MAX);
    } else {
        fuzz_require(memchr(err.text, '\n', strlen(err.text)) == NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const DwcpHello hello = {
        .version = 1, .version_min = 1,
        .features = DWCP_PROFILE_V1, .required = DWCP_FEATURE_PAGES,
        .security = DWCP_SECURITY_NONE, .kind = DWCP_HELLO_NEW,
        .streams = 8, .page_size = 4096,
    };
    uint8_t hello_bytes[DWCP_HELLO_BYTES];

    if (sodium_init() < 0) {
        return 0;
    }
    if (size >= DWCP_HELLO_BYTES) {
        one_hello(data);
    }
    if (size >= DWCP_HELLO_BYTES + DWCP_WELCOME_BYTES) {
        dwcp_hello_encode(hello_bytes, &hello);
        one_welcome(data + DWCP_HELLO_BYTES, hello_bytes, &hello);
    }
    return 0;
}
