/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/shake.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "core/aead.h"
#include "core/fail.h"

void dwcp_shake_init(DwcpShake *shake, DwcpStream *stream, uint64_t deadline_ns,
                     uint8_t *random)
{
    memset(shake, 0, sizeof(*shake));
    shake->stream = stream;
    shake->deadline_ns = deadline_ns;
    dwcp_ephemeral_new(&shake->ours);
    memcpy(random, shake->ours.public, DWCP_RANDOM_BYTES);
}

void dwcp_shake_clear(DwcpShake *shake)
{
    sodium_memzero(shake, sizeof(*shake));
}

static bool keyed(const DwcpSession *session)
{
    return session->security != DWCP_SECURITY_NONE;
}

uint64_t dwcp_shake_features(const DwcpSession *session)
{
    return DWCP_PROFILE_V1 |
           (session->resume_ms_max != DWCP_RESUME_NEVER ? DWCP_FEATURE_RESUME
                                                        : 0) |
           (atomic_load(&session->rdma_offered) ? DWCP_FEATURE_RDMA : 0) |
           (keyed(session) && dwcp_aead_has_aes() ? DWCP_FEATURE_AES_GCM : 0);
}

int dwcp_shake_root(DwcpShake *shake, DwcpHelloKind kind, const uint8_t **root,
                    DwcpError *err)
{
    DwcpSession *session = shake->stream->session;
    uint8_t base[DWCP_KEY_BYTES];
    int rc;

    *root = NULL;
    if (!keyed(session)) {
        return 0;
    }
    pthread_mutex_lock(&session->lock);
    memcpy(base,
           kind == DWCP_HELLO_NEW ? session->base_key : session->session_key,
           sizeof(base));
    pthread_mutex_unlock(&session->lock);
    rc = dwcp_keys_root(shake->root, base, &shake->ours, session->role,
                        shake->hello, shake->welcome, err);
    sodium_memzero(base, sizeof(base));
    if (rc == 0) {
        *root = shake->root;
    }
    return rc;
}

static DwcpAead *cipher_new(const DwcpShake *shake, DwcpCipher cipher,
                            DwcpKeyUse use)
{
    uint8_t key[DWCP_KEY_BYTES];
    DwcpAead *aead;

    dwcp_keys_derive(key, shake->root, use);
    aead = dwcp_aead_new(cipher, key);
    sodium_memzero(key, sizeof(key));
    return aead;
}

int dwcp_shake_open(DwcpShake *shake, uint64_t features, DwcpError *err)
{
    DwcpStream *stream = shake->stream;
    DwcpSession *session = stream->session;
    bool source = session->role == DWCP_ROLE_SOURCE;
    DwcpCipher cipher = features & DWCP_FEATURE_AES_GCM
                            ? DWCP_CIPHER_AES_256_GCM
                            : DWCP_CIPHER_CHACHA20_POLY1305;

    if (keyed(session)) {
        stream->seal = cipher_new(shake, cipher,
                                  source ? DWCP_KEY_FROM_SOURCE
                                         : DWCP_KEY_FROM_TARGET);
        stream->open = cipher_new(shake, cipher,
                                  source ? DWCP_KEY_FROM_TARGET
                                         : DWCP_KEY_FROM_SOURCE);
        if (!stream->seal || !stream->open) {
            return dwcp_fail(err, -ENOMEM, "no memory for a cipher");
        }
        atomic_store(&session->cipher, cipher);
    }
    return dwcp_stream_open(stream, err);
}
