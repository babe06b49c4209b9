/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/hello.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/bytes.h"
#include "core/fail.h"

/*
 * The line end characters show a connection that mangles text; the high bit
 * in the first byte shows one that is not clean for 8 bits.
 */
static const uint8_t magic[DWCP_MAGIC_BYTES] = { 0xd7, 'D', 'W', 'C', 'P', '\r', '\n', 0x1a };

/* Where things stand in HELLO ... */
enum {
    HELLO_VERSION = 8,
    HELLO_VERSION_MIN = 10,
    HELLO_LENGTH = 12,
    HELLO_FEATURES = 16,
    HELLO_REQUIRED = 24,
    HELLO_SECURITY = 32,
    HELLO_KIND = 33,
    HELLO_STREAM = 34,
    HELLO_STREAMS = 36,
    HELLO_RESERVED = 38,
    HELLO_PAGE_SIZE = 40,
    HELLO_RESERVED2 = 44,
    HELLO_SESSION = 56,
    HELLO_RANDOM = 72,
};
_Static_assert(HELLO_RANDOM + DWCP_RANDOM_BYTES == DWCP_HELLO_BYTES, "HELLO");

/* ... and in WELCOME. */
enum {
    WELCOME_VERSION = 8,
    WELCOME_REFUSAL = 10,
    WELCOME_LENGTH = 12,
    WELCOME_FEATURES = 16,
    WELCOME_SECURITY = 24,
    WELCOME_TEXT_LENGTH = 25,
    WELCOME_RESERVED = 26,
    WELCOME_SESSION = 40,
    WELCOME_RANDOM = 56,
    WELCOME_TEXT = 88,
};
_Static_assert(WELCOME_TEXT + DWCP_WELCOME_TEXT_MAX == DWCP_WELCOME_TAG,
               "text");
_Static_assert(DWCP_WELCOME_TAG + DWCP_HASH_BYTES == DWCP_WELCOME_BYTES, "tag");

int dwcp_magic_check(const uint8_t *in, DwcpError *err)
{
    if (memcmp(in, magic, sizeof(magic)) != 0) {
        return dwcp_fail(err, -EPROTO, "the peer does not speak DWCP");
    }
    return 0;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    return sodium_is_zero(p, n) == 1;
}

void dwcp_hello_encode(uint8_t *out, const DwcpHello *hello)
{
    memset(out, 0, DWCP_HELLO_BYTES);
    memcpy(out, magic, sizeof(magic));
    dwcp_put_le16(out + HELLO_VERSION, hello->version);
    dwcp_put_le16(out + HELLO_VERSION_MIN, hello->version_min);
    dwcp_put_le32(out + HELLO_LENGTH, DWCP_HELLO_BYTES);
    dwcp_put_le64(out + HELLO_FEATURES, hello->features);
    dwcp_put_le64(out + HELLO_REQUIRED, hello->required);
    out[HELLO_SECURITY] = hello->security;
    out[HELLO_KIND] = (uint8_t)hello->kind;
    dwcp_put_le16(out + HELLO_STREAM, hello->stream);
    dwcp_put_le16(out + HELLO_STREAMS, hello->streams);
    dwcp_put_le32(out + HELLO_PAGE_SIZE, hello->page_size);
    memcpy(out + HELLO_SESSION, hello->session, DWCP_SESSION_BYTES);
    memcpy(out + HELLO_RANDOM, hello->random, DWCP_RANDOM_BYTES);
}

int dwcp_hello_decode(const uint8_t *in, DwcpHello *out, DwcpError *err)
{
    DwcpHello hello = {
        .version = dwcp_get_le16(in + HELLO_VERSION),
        .version_min = dwcp_get_le16(in + HELLO_VERSION_MIN),
        .features = dwcp_get_le64(in + HELLO_FEATURES),
        .required = dwcp_get_le64(in + HELLO_REQUIRED),
        .security = in[HELLO_SECURITY],
        .kind = (DwcpHelloKind)in[HELLO_KIND],
        .stream = dwcp_get_le16(in + HELLO_STREAM),
        .streams = dwcp_get_le16(in + HELLO_STREAMS),
        .page_size = dwcp_get_le32(in + HELLO_PAGE_SIZE),
    };

    memcpy(hello.session, in + HELLO_SESSION, DWCP_SESSION_BYTES);
    memcpy(hello.random, in + HELLO_RANDOM, DWCP_RANDOM_BYTES);
    if (dwcp_magic_check(in, err) < 0) {
        return -EPROTO;
    }
    if (dwcp_get_le32(in + HELLO_LENGTH) != DWCP_HELLO_BYTES) {
        return dwcp_fail(err, -EPROTO, "HELLO: length %u is not %u",
                         dwcp_get_le32(in + HELLO_LENGTH), DWCP_HELLO_BYTES);
    }
    if (hello.version_min > hello.version || hello.version_min == 0) {
        return dwcp_fail(err, -EPROTO, "HELLO: versions %u to %u",
                         hello.version_min, hello.version);
    }
    if (hello.required & ~hello.features) {
        return dwcp_fail(err, -EPROTO, "HELLO: requires what it lacks");
    }
    if (hello.kind != DWCP_HELLO_NEW && hello.kind != DWCP_HELLO_JOIN) {
        return dwcp_fail(err, -EPROTO, "HELLO: kind %u is unknown",
                         (unsigned)hello.kind);
    }
    if (hello.streams == 0 || hello.streams > DWCP_STREAMS_MAX ||
        hello.stream >= hello.streams ||
        (hello.stream != 0 && hello.kind == DWCP_HELLO_NEW)) {
        return dwcp_fail(err, -EPROTO, "HELLO: stream %u of %u, kind %u",
                         hello.stream, hello.streams, (unsigned)hello.kind);
    }
    if (!is_zero(in + HELLO_RESERVED, 2) || !is_zero(in + HELLO_RESERVED2, 12)) {
        return dwcp_fail(err, -EPROTO, "HELLO: reserved bytes are set");
    }
    *out = hello;
    return 0;
}

void dwcp_welcome_refuse(DwcpWelcome *welcome, DwcpRefusal refusal,
                         const char *format, ...)
{
    va_list ap;

    welcome->refusal = refusal;
    va_start(ap, format);
    vsnprintf(welcome->text, sizeof(welcome->text), format, ap);
    va_end(ap);
}

const uint8_t *dwcp_hello_random(const uint8_t *hello)
{
    return hello + HELLO_RANDOM;
}

const uint8_t *dwcp_welcome_random(const uint8_t *welcome)
{
    return welcome + WELCOME_RANDOM;
}

const char *dwcp_security_name(unsigned security)
{
    static const char *const names[] = {
        [DWCP_SECURITY_UNSET] = "unset",
        [DWCP_SECURITY_NONE] = "none",
        [DWCP_SECURITY_PSK] = "psk",
        [DWCP_SECURITY_KEYS] = "keys",
    };

    return security < sizeof(names) / sizeof(*names) ? names[security]
                                                     : "unknown";
}

DwcpRefusal dwcp_hello_judge(const DwcpHello *hello, DwcpSecurity security,
                             uint64_t features, uint32_t page_size,
                             DwcpWelcome *welcome)
{
    *welcome = (DwcpWelcome){
        .version = hello->version < DWCP_VERSION ? hello->version
                                                 : DWCP_VERSION,
        .features = hello->features & features,
        .security = (uint8_t)security,
    };
    if (hello->version_min > DWCP_VERSION ||
        hello->version < DWCP_VERSION_MIN) {
        welcome->version = DWCP_VERSION;
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_VERSION,
                            "the source speaks versions %u to %u, "
                            "the target %u to %u",
                            hello->version_min, hello->version,
                            DWCP_VERSION_MIN, DWCP_VERSION);
    } else if (hello->required & ~welcome->features) {
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_FEATURES,
                            "the source requires features %llx, "
                            "the target has %llx",
                            (unsigned long long)hello->required,
                            (unsigned long long)features);
    } else if (hello->security != (uint8_t)security) {
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_SECURITY,
                            "the source wants security=%s, "
                            "the target security=%s",
                            dwcp_security_name(hello->security),
                            dwcp_security_name(security));
    } else if (hello->page_size != page_size) {
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_PAGE_SIZE,
                            "the source has pages of %u bytes, "
                            "the target of %u",
                            hello->page_size, page_size);
    }
    return welcome->refusal;
}

/*
 * A tag of @root, if there is one: it has gone over the transcript.  Else
 * BLAKE2b-256 over the label, HELLO, and the first @length bytes of WELCOME.
 */
static void tag(uint8_t *out, const char *label, const uint8_t *hello,
                const uint8_t *welcome, size_t length, const uint8_t *root)
{
    crypto_generichash_state state;

    crypto_generichash_init(&state, root, root ? DWCP_KEY_BYTES : 0,
                            DWCP_HASH_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)label, strlen(label));
    if (!root) {
        crypto_generichash_update(&state, hello, DWCP_HELLO_BYTES);
        crypto_generichash_update(&state, welcome, length);
    }
    crypto_generichash_final(&state, out, DWCP_HASH_BYTES);
    sodium_memzero(&state, sizeof(state));
}

static void target_tag(uint8_t *out, const uint8_t *hello,
                       const uint8_t *welcome, const uint8_t *root)
{
    tag(out, "DWCP v1 target", hello, welcome, DWCP_WELCOME_TAG, root);
}

void dwcp_welcome_tag(uint8_t *welcome, const uint8_t *hello,
                      const uint8_t *root)
{
    target_tag(welcome + DWCP_WELCOME_TAG, hello, welcome, root);
}

void dwcp_welcome_encode(uint8_t *out, const DwcpWelcome *welcome)
{
    size_t text_length = strnlen(welcome->text, DWCP_WELCOME_TEXT_MAX);

    memset(out, 0, DWCP_WELCOME_TAG);
    memcpy(out, magic, sizeof(magic));
    dwcp_put_le16(out + WELCOME_VERSION, welcome->version);
    dwcp_put_le16(out + WELCOME_REFUSAL, (uint16_t)welcome->refusal);
    dwcp_put_le32(out + WELCOME_LENGTH, DWCP_WELCOME_BYTES);
    dwcp_put_le64(out + WELCOME_FEATURES, welcome->features);
    out[WELCOME_SECURITY] = welcome->security;
    out[WELCOME_TEXT_LENGTH] = (uint8_t)text_length;
    memcpy(out + WELCOME_SESSION, welcome->session, DWCP_SESSION_BYTES);
    memcpy(out + WELCOME_RANDOM, welcome->random, DWCP_RANDOM_BYTES);
    memcpy(out + WELCOME_TEXT, welcome->text, text_length);
}

/* A peer's text is shown to people: only printable ASCII gets through. */
static void copy_text(char *out, const uint8_t *in, size_t length)
{
    size_t i;

    for (i = 0; i < length; i++) {
        out[i] = in[i] >= ' ' && in[i] <= '~' ? (char)in[i] : '?';
    }
    out[length] = '\0';
}

/* What the target chose must lie within what we offered. */
static int choice_check(const DwcpWelcome *welcome, const DwcpHello *hello,
                        DwcpError *err)
{
    if (welcome->version < hello->version_min ||
        welcome->version > hello->version) {
        return dwcp_fail(err, -EPROTO, "WELCOME: version %u was not offered",
                         welcome->version);
    }
    if ((welcome->features & ~hello->features) ||
        (hello->required & ~welcome->features)) {
        return dwcp_fail(err, -EPROTO, "WELCOME: features %llx of %llx",
                         (unsigned long long)welcome->features,
                         (unsigned long long)hello->features);
    }
    if (welcome->security != hello->security) {
        return dwcp_fail(err, -EPROTO, "WELCOME: security=%s, not %s",
                         dwcp_security_name(welcome->security),
                         dwcp_security_name(hello->security));
    }
    if (hello->kind == DWCP_HELLO_JOIN &&
        memcmp(welcome->session, hello->session, DWCP_SESSION_BYTES) != 0) {
        return dwcp_fail(err, -EPROTO, "WELCOME: another session");
    }
    return 0;
}

int dwcp_welcome_decode(const uint8_t *in, const DwcpHello *hello,
                        const uint8_t *hello_bytes, DwcpWelcome *out,
                        DwcpError *err)
{
    DwcpWelcome welcome = {
        .version = dwcp_get_le16(in + WELCOME_VERSION),
        .refusal = (DwcpRefusal)dwcp_get_le16(in + WELCOME_REFUSAL),
        .features = dwcp_get_le64(in + WELCOME_FEATURES),
        .security = in[WELCOME_SECURITY],
    };
    uint8_t hash[DWCP_HASH_BYTES];
    int code;

    if (dwcp_magic_check(in, err) < 0) {
        return -EPROTO;
    }
    if (dwcp_get_le32(in + WELCOME_LENGTH) != DWCP_WELCOME_BYTES ||
        in[WELCOME_TEXT_LENGTH] > DWCP_WELCOME_TEXT_MAX ||
        !is_zero(in + WELCOME_RESERVED, WELCOME_SESSION - WELCOME_RESERVED)) {
        return dwcp_fail(err, -EPROTO, "WELCOME is malformed");
    }
    if (welcome.refusal != DWCP_REFUSAL_NONE ||
        hello->security == DWCP_SECURITY_NONE) {
        target_tag(hash, hello_bytes, in, NULL);
        if (sodium_memcmp(hash, in + DWCP_WELCOME_TAG, DWCP_HASH_BYTES) != 0) {
            return dwcp_fail(err, -EPROTO, "WELCOME: transcript hash differs");
        }
    }
    copy_text(welcome.text, in + WELCOME_TEXT, in[WELCOME_TEXT_LENGTH]);
    memcpy(welcome.session, in + WELCOME_SESSION, DWCP_SESSION_BYTES);
    memcpy(welcome.random, in + WELCOME_RANDOM, DWCP_RANDOM_BYTES);
    if (welcome.refusal != DWCP_REFUSAL_NONE) {
        code = welcome.refusal == DWCP_REFUSAL_SESSION ||
                       welcome.refusal == DWCP_REFUSAL_STREAM
                   ? -ECONNREFUSED
                   : -ENOTSUP;
        return dwcp_fail(err, code, "the target refused: %s", welcome.text);
    }
    if (choice_check(&welcome, hello, err) < 0) {
        return -EPROTO;
    }
    *out = welcome;
    return 0;
}

int dwcp_welcome_check(const uint8_t *welcome, const uint8_t *hello,
                       const uint8_t *root, DwcpError *err)
{
    uint8_t expected[DWCP_HASH_BYTES];

    target_tag(expected, hello, welcome, root);
    if (sodium_memcmp(expected, welcome + DWCP_WELCOME_TAG,
                      DWCP_HASH_BYTES) != 0) {
        return dwcp_fail(err, -EACCES,
                         "the target has another key, or somebody changed the "
                         "handshake on its way");
    }
    return 0;
}

void dwcp_confirm_encode(uint8_t *out, const uint8_t *hello,
                         const uint8_t *welcome, const uint8_t *root)
{
    tag(out, "DWCP v1 source", hello, welcome, DWCP_WELCOME_BYTES, root);
}

int dwcp_confirm_check(const uint8_t *in, const uint8_t *hello,
                       const uint8_t *welcome, const uint8_t *root,
                       DwcpError *err)
{
    uint8_t expected[DWCP_HASH_BYTES];

    dwcp_confirm_encode(expected, hello, welcome, root);
    if (sodium_memcmp(expected, in, DWCP_HASH_BYTES) != 0) {
        return dwcp_fail(err, -EBADMSG,
                         root ? "CONFIRM: the source has another key"
                              : "CONFIRM: transcript hash differs");
    }
    return 0;
}
