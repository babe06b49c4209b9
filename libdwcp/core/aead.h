/*
 * Encrypted segments: one direction of one connection
 *
 * After the handshake of a keyed session all bytes travel in segments: the
 * length of the plain text (u32), its cipher text, a tag of 16 bytes.  The
 * length is authenticated, the nonce is the segment's number from zero, so
 * nothing can be changed, repeated, left out in the middle or put in another
 * order; what is cut off at the end is the session's to notice.  After
 * DWCP_REKEY_SEGMENTS the key is replaced by its hash and numbers begin again:
 * a key is used for 64 GiB at most, where AES-GCM's bounds are far away.
 *
 * AES-256-GCM is GnuTLS's (3.5 times as fast as libsodium's), and only used
 * where both processors have instructions for it; else ChaCha20-Poly1305 from
 * libsodium (4 times as fast as GnuTLS's).
 *
 * Pure; an object belongs to one thread at a time.
 *
 * Source: docs/security.md, "Segments"; docs/wire.md.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_AEAD_H
#define DWCP_CORE_AEAD_H

#include "core/bounds.h"

#define DWCP_SEGMENT_HEADER 4u
#define DWCP_SEGMENT_TAG 16u
#define DWCP_SEGMENT_BYTES_MAX                                                 \
    (DWCP_SEGMENT_HEADER + DWCP_SEGMENT_PLAIN_MAX + DWCP_SEGMENT_TAG)

typedef struct DwcpAead DwcpAead;

/* dwcp_aead_has_aes: has this processor instructions for AES-256-GCM? */
bool dwcp_aead_has_aes(void);

/* dwcp_aead_new: Returns: NULL out of memory, or the library has not @cipher;
 * @key, DWCP_KEY_BYTES, is copied */
DwcpAead *dwcp_aead_new(DwcpCipher cipher, const uint8_t *key);

/* dwcp_aead_free: wipes; NULL is allowed */
void dwcp_aead_free(DwcpAead *aead);

/*
 * dwcp_aead_seal: write one segment
 *
 * @out: @length + DWCP_SEGMENT_HEADER + DWCP_SEGMENT_TAG bytes, apart from
 *       @plain
 * @length: 1 to DWCP_SEGMENT_PLAIN_MAX
 *
 * Returns: 0; -EIO the cipher library failed: nothing may be sent any more.
 */
int dwcp_aead_seal(DwcpAead *aead, const uint8_t *plain, uint32_t length,
                   uint8_t *out) DWCP_CHECKED;

/*
 * dwcp_segment_length: bytes of the segment that begins with these
 *
 * @in: DWCP_SEGMENT_HEADER bytes
 *
 * Returns: 0; -EBADMSG no segment has such a length.
 */
int dwcp_segment_length(const uint8_t *in, uint32_t *length,
                        DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_aead_open: check and decrypt one whole segment
 *
 * @length: as dwcp_segment_length said
 * @out: the plain text, @length - DWCP_SEGMENT_HEADER - DWCP_SEGMENT_TAG
 *       bytes, apart from @in; of no use after an error
 *
 * Returns: 0; -EBADMSG it is not the peer's next segment.
 */
int dwcp_aead_open(DwcpAead *aead, const uint8_t *in, uint32_t length,
                   uint8_t *out, DwcpError *err) DWCP_CHECKED;

#endif
