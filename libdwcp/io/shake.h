/*
 * The handshake of a connection, on sockets
 *
 * Each side's half ends with a stream that has its index, its buffers and, in
 * a keyed session, its ciphers.  What both halves share is here; the source's
 * half stands in source-shake.c, the target's in target-shake.c.
 *
 * Threads: the stream's own.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_SHAKE_H
#define DWCP_IO_SHAKE_H

#include "core/keys.h"
#include "io/stream.h"

/* DwcpShake: one handshake; wiped by dwcp_shake_clear */
typedef struct DwcpShake {
    DwcpStream *stream;
    uint64_t deadline_ns;
    uint8_t hello[DWCP_HELLO_BYTES];
    uint8_t welcome[DWCP_WELCOME_BYTES];
    uint8_t confirm[DWCP_CONFIRM_BYTES];
    DwcpEphemeral ours;
    uint8_t root[DWCP_KEY_BYTES];
} DwcpShake;

/* dwcp_shake_init: a fresh random, to stand in our message */
void dwcp_shake_init(DwcpShake *shake, DwcpStream *stream, uint64_t deadline_ns,
                     uint8_t *random);
void dwcp_shake_clear(DwcpShake *shake);

/* dwcp_shake_features: what a side with the session's security offers */
uint64_t dwcp_shake_features(const DwcpSession *session);

/*
 * dwcp_shake_root: derive the root key, once both messages are known
 *
 * @kind: of the HELLO
 * @root: the key, or NULL if the session is not keyed
 *
 * Returns: 0 or -EPROTO.
 */
int dwcp_shake_root(DwcpShake *shake, DwcpHelloKind kind, const uint8_t **root,
                    DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_shake_open: the stream's buffers and, in a keyed session, its ciphers
 *
 * @features: of the WELCOME
 *
 * Returns: 0 or -ENOMEM.
 */
int dwcp_shake_open(DwcpShake *shake, uint64_t features,
                    DwcpError *err) DWCP_CHECKED;

#endif
