/*
 * The handshake of each connection: HELLO, WELCOME, CONFIRM
 *
 * The source says who it is and what it can, the target decides and answers
 * with its choice and a tag over both messages, the source confirms with a tag
 * of its own: nothing of the negotiation can be changed on the way without
 * both sides noticing.  In a keyed session the tags prove who knows the key
 * (core/keys.h), without one they are plain hashes.  Two round trips, TCP's
 * included.  Pure: randoms come from the caller.
 *
 * Source: docs/wire.md, "Handshake".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_HELLO_H
#define DWCP_CORE_HELLO_H

#include "core/bounds.h"

#define DWCP_VERSION 1u
#define DWCP_VERSION_MIN 1u

/* Feature bits; profile v1 is all of these. */
#define DWCP_FEATURE_PAGES (1ull << 0)      /* chunk frames: zero, raw */
#define DWCP_FEATURE_ZSTD (1ull << 1)       /* DWCP_CODEC_ZSTD */
#define DWCP_FEATURE_CHANNELS (1ull << 2)   /* byte channels with windows */
#define DWCP_FEATURE_SWITCHOVER (1ull << 3) /* END, READY, GO, SEALED */
/* not part of a profile: the processor has it, and the session is keyed */
#define DWCP_FEATURE_AES_GCM (1ull << 4)
/* Lost connections are replaced; else the first ends the session. */
#define DWCP_FEATURE_RESUME (1ull << 5)
/* An RDMA lane may carry the pages (core/lane.h); never in a keyed session. */
#define DWCP_FEATURE_RDMA (1ull << 6)
#define DWCP_PROFILE_V1                                                        \
    (DWCP_FEATURE_PAGES | DWCP_FEATURE_ZSTD | DWCP_FEATURE_CHANNELS |          \
     DWCP_FEATURE_SWITCHOVER)

#define DWCP_MAGIC_BYTES 8u
#define DWCP_HELLO_BYTES 104u
#define DWCP_WELCOME_BYTES 312u
#define DWCP_WELCOME_TAG 280u /* where the tag stands in it */
#define DWCP_CONFIRM_BYTES 32u
#define DWCP_SESSION_BYTES 16u
#define DWCP_RANDOM_BYTES 32u
#define DWCP_HASH_BYTES 32u
#define DWCP_WELCOME_TEXT_MAX 192u

typedef enum DwcpHelloKind {
    DWCP_HELLO_NEW = 1,  /* stream 0 of a new session; session id is zero */
    DWCP_HELLO_JOIN = 2, /* one more stream of the session named, or one of it
                          * again */
} DwcpHelloKind;

/* Why a target refuses; the text says more. */
typedef enum DwcpRefusal {
    DWCP_REFUSAL_NONE = 0,
    DWCP_REFUSAL_VERSION = 1,
    DWCP_REFUSAL_FEATURES = 2,
    DWCP_REFUSAL_SECURITY = 3,
    DWCP_REFUSAL_SESSION = 4, /* no such session, or another one stands */
    DWCP_REFUSAL_STREAM = 5,  /* stream index out of range or taken */
    DWCP_REFUSAL_PAGE_SIZE = 6,
} DwcpRefusal;

typedef struct DwcpHello {
    uint16_t version, version_min;
    uint64_t features, required; /* required is a subset of features */
    uint8_t security;            /* DwcpSecurity */
    DwcpHelloKind kind;
    uint16_t stream, streams; /* index of this one, how many there will be */
    uint32_t page_size;
    uint8_t session[DWCP_SESSION_BYTES];
    uint8_t random[DWCP_RANDOM_BYTES];
} DwcpHello;

typedef struct DwcpWelcome {
    uint16_t version; /* chosen; with a refusal the target's highest */
    DwcpRefusal refusal;
    uint64_t features; /* what both allow */
    uint8_t security;
    uint8_t session[DWCP_SESSION_BYTES];
    uint8_t random[DWCP_RANDOM_BYTES];
    char text[DWCP_WELCOME_TEXT_MAX + 1]; /* of a refusal */
} DwcpWelcome;

/* dwcp_magic_check: do DWCP_MAGIC_BYTES begin a HELLO or WELCOME?
 * Returns: 0; -EPROTO */
int dwcp_magic_check(const uint8_t *in, DwcpError *err) DWCP_CHECKED;

/* dwcp_hello_encode: write DWCP_HELLO_BYTES */
void dwcp_hello_encode(uint8_t *out, const DwcpHello *hello);

/*
 * dwcp_hello_decode: read DWCP_HELLO_BYTES
 *
 * Returns: 0; -EPROTO not a HELLO, or not one that a version of ours could
 * send.
 */
int dwcp_hello_decode(const uint8_t *in, DwcpHello *out,
                      DwcpError *err) DWCP_CHECKED;

/* dwcp_security_name: as users write it; "unknown" for what a peer made up */
const char *dwcp_security_name(unsigned security);

/*
 * dwcp_hello_judge: what a target that has no session in mind says
 *
 * Fills version, features, security, refusal and text of @welcome; session
 * and stream are the caller's to judge.
 *
 * @features: what the target can
 *
 * Returns: @welcome->refusal.
 */
DwcpRefusal dwcp_hello_judge(const DwcpHello *hello, DwcpSecurity security,
                             uint64_t features, uint32_t page_size,
                             DwcpWelcome *welcome);

/* dwcp_welcome_refuse: turn @welcome into a refusal with a reason */
void dwcp_welcome_refuse(DwcpWelcome *welcome, DwcpRefusal refusal,
                         const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* dwcp_hello_random, dwcp_welcome_random: where it stands in the bytes */
const uint8_t *dwcp_hello_random(const uint8_t *hello);
const uint8_t *dwcp_welcome_random(const uint8_t *welcome);

/* dwcp_welcome_encode: write the DWCP_WELCOME_TAG bytes before the tag */
void dwcp_welcome_encode(uint8_t *out, const DwcpWelcome *welcome);

/*
 * dwcp_welcome_tag: write the target's tag behind them
 *
 * @hello: the HELLO's bytes that it answers
 * @root: the connection's root key; NULL for a plain hash: without security,
 *        and of a refusal
 */
void dwcp_welcome_tag(uint8_t *welcome, const uint8_t *hello,
                      const uint8_t *root);

/*
 * dwcp_welcome_decode: read DWCP_WELCOME_BYTES
 *
 * Checks all but a keyed tag, which the caller does next: the key depends on
 * what stands here.
 *
 * @hello, @hello_bytes: what was sent, decoded and as bytes
 *
 * Returns: 0; -EPROTO it is malformed or answers another HELLO; -ENOTSUP or
 * -ECONNREFUSED the target refused: the text is its own.
 */
int dwcp_welcome_decode(const uint8_t *in, const DwcpHello *hello,
                        const uint8_t *hello_bytes, DwcpWelcome *out,
                        DwcpError *err) DWCP_CHECKED;

/* dwcp_welcome_check: has the target our key?  Returns: 0; -EACCES */
int dwcp_welcome_check(const uint8_t *welcome, const uint8_t *hello,
                       const uint8_t *root, DwcpError *err) DWCP_CHECKED;

/* dwcp_confirm_encode: the source's tag; @root as for dwcp_welcome_tag */
void dwcp_confirm_encode(uint8_t *out, const uint8_t *hello,
                         const uint8_t *welcome, const uint8_t *root);

/* dwcp_confirm_check: Returns: 0; -EBADMSG transcripts or keys differ */
int dwcp_confirm_check(const uint8_t *in, const uint8_t *hello,
                       const uint8_t *welcome, const uint8_t *root,
                       DwcpError *err) DWCP_CHECKED;

#endif
