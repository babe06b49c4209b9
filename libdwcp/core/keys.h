/*
 * The key schedule: from what both sides know to the keys of a connection
 *
 *   base     = H("DWCP v1 psk" psk)                               security PSK
 *            = H("DWCP v1 keys" X25519(own, peer) source target)  KEYS
 *            = the session key                       of connections that JOIN
 *   root     = H[base]("DWCP v1 connection" X25519(ephemerals) H(HELLO WELCOME))
 *   tag, key = H[root](label)
 *
 * H is BLAKE2b-256, H[k] keyed.  Source and target stand for the public keys in
 * this order, so that a side cannot be answered with its own messages.  The
 * randoms of HELLO and WELCOME are the connection's ephemeral public keys: who
 * learns a base later cannot read what was recorded.  A session's first
 * connection also gives the session key, with which the others prove that they
 * belong to it.  Pure; every secret is wiped by whoever holds it.
 *
 * Source: docs/security.md, "Keys"; docs/wire.md, "Handshake".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_KEYS_H
#define DWCP_CORE_KEYS_H

#include "core/hello.h"
#include "core/phase.h"

/* DwcpEphemeral: of one connection and side; @public goes out as random */
typedef struct DwcpEphemeral {
    uint8_t secret[DWCP_KEY_BYTES];
    uint8_t public[DWCP_KEY_BYTES];
} DwcpEphemeral;

_Static_assert(DWCP_KEY_BYTES == DWCP_RANDOM_BYTES, "a random is a key");

/*
 * dwcp_keys_base: check @keys and derive the base key of a session
 *
 * @out: DWCP_KEY_BYTES; zeros for DWCP_SECURITY_NONE
 *
 * Returns: 0; -EINVAL a key is missing, has a wrong size, is not for
 * @security, or is no point of the curve.
 */
int dwcp_keys_base(uint8_t *out, DwcpSecurity security, DwcpRole role,
                   const DwcpKeys *keys, DwcpError *err) DWCP_CHECKED;

/* dwcp_ephemeral_new: fresh; the caller wipes it */
void dwcp_ephemeral_new(DwcpEphemeral *ephemeral);

/*
 * dwcp_keys_root: the connection's root key
 *
 * @ours: our half; the other side's stands in its message
 * @role: ours
 * @hello, @welcome: the messages' bytes; of WELCOME without its tag
 *
 * Returns: 0; -EPROTO the peer's half is no good.
 */
int dwcp_keys_root(uint8_t *out, const uint8_t *base,
                   const DwcpEphemeral *ours, DwcpRole role,
                   const uint8_t *hello, const uint8_t *welcome,
                   DwcpError *err) DWCP_CHECKED;

typedef enum DwcpKeyUse {
    DWCP_KEY_SESSION,      /* base of the connections that join */
    DWCP_KEY_FROM_SOURCE,  /* encrypts what the source sends */
    DWCP_KEY_FROM_TARGET,
} DwcpKeyUse;

/* dwcp_keys_derive: DWCP_KEY_BYTES for @use */
void dwcp_keys_derive(uint8_t *out, const uint8_t *root, DwcpKeyUse use);

#endif
