/*
 * The source's half of the handshake: HELLO, then CONFIRM
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <sodium.h>
#include <string.h>

#include "core/fail.h"
#include "io/rdma.h"
#include "io/shake.h"
#include "io/source.h"

static void hello_fill(DwcpSource *source, const DwcpStream *stream,
                       DwcpHello *hello)
{
    DwcpSession *session = &source->session;
    bool new = dwcp_session_phase(session) == DWCP_PHASE_CONNECTING;

    *hello = (DwcpHello){
        .version = DWCP_VERSION,
        .version_min = DWCP_VERSION_MIN,
        .features = dwcp_shake_features(session),
        .required = DWCP_PROFILE_V1 & ~DWCP_FEATURE_ZSTD,
        .security = (uint8_t)session->security,
        .kind = new ? DWCP_HELLO_NEW : DWCP_HELLO_JOIN,
        .stream = (uint16_t)stream->index,
        .streams = (uint16_t)source->streams_max,
        .page_size = session->page_size,
    };
    memcpy(hello->session, session->id, DWCP_SESSION_BYTES);
}

/* The magic first: something else than DWCP may say less, and then wait. */
static int read_welcome(DwcpShake *shake, DwcpError *err)
{
    int rc = dwcp_read_exact(shake->stream, shake->welcome, DWCP_MAGIC_BYTES,
                             shake->deadline_ns, err);

    if (rc == 0) {
        rc = dwcp_magic_check(shake->welcome, err);
    }
    if (rc == 0) {
        rc = dwcp_read_exact(shake->stream, shake->welcome + DWCP_MAGIC_BYTES,
                             DWCP_WELCOME_BYTES - DWCP_MAGIC_BYTES,
                             shake->deadline_ns, err);
    }
    return rc;
}

/* Stream 0's handshake makes the session. */
static void session_made(DwcpSource *source, const DwcpWelcome *welcome,
                         const uint8_t *root)
{
    DwcpSession *session = &source->session;

    pthread_mutex_lock(&session->lock);
    memcpy(session->id, welcome->session, DWCP_SESSION_BYTES);
    if (root) {
        dwcp_keys_derive(session->session_key, root, DWCP_KEY_SESSION);
    }
    pthread_mutex_unlock(&session->lock);
    atomic_store(&session->resume, (welcome->features & DWCP_FEATURE_RESUME) !=
                                       0);
    if (!(welcome->features & DWCP_FEATURE_ZSTD)) {
        source->feed.level = 0;
    }
    if (welcome->features & DWCP_FEATURE_RDMA) {
        atomic_store(&session->rdma_agreed, true);
        source->feed.raw_too = true;
    } else if (atomic_load(&session->rdma_offered)) {
        dwcp_rdma_set(session, DWCP_RDMA_UNUSED,
                      "the target does not offer RDMA");
    }
}

/* Offered if our end of the connection belongs to a device. */
static int offer_rdma(DwcpSource *source, const DwcpStream *stream,
                      DwcpError *err)
{
    DwcpSession *session = &source->session;
    DwcpError why;
    int rc;

    if (session->rdma_wish == DWCP_RDMA_OFF ||
        dwcp_session_phase(session) != DWCP_PHASE_CONNECTING) {
        return 0;
    }
    rc = dwcp_rdma_address_check(stream->tcp.fd, &why);
    atomic_store(&session->rdma_offered, rc == 0);
    if (rc == 0) {
        return 0;
    }
    dwcp_rdma_set(session, DWCP_RDMA_UNUSED, "%s", why.text);
    return session->rdma_wish == DWCP_RDMA_ON
               ? dwcp_fail(err, rc, "rdma=on: %.200s", why.text)
               : 0;
}

static int run(DwcpSource *source, DwcpShake *shake, DwcpHello *hello,
               DwcpError *err)
{
    const uint8_t *root = NULL;
    DwcpWelcome welcome;
    int rc;

    dwcp_hello_encode(shake->hello, hello);
    rc = dwcp_write_exact(shake->stream, shake->hello, DWCP_HELLO_BYTES,
                          shake->deadline_ns, err);
    if (rc == 0) {
        rc = read_welcome(shake, err);
    }
    if (rc == 0) {
        rc = dwcp_welcome_decode(shake->welcome, hello, shake->hello, &welcome,
                                 err);
    }
    if (rc == 0) {
        rc = dwcp_shake_root(shake, hello->kind, &root, err);
    }
    if (rc == 0 && root) {
        rc = dwcp_welcome_check(shake->welcome, shake->hello, root, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (hello->kind == DWCP_HELLO_NEW) {
        session_made(source, &welcome, root);
    }
    dwcp_confirm_encode(shake->confirm, shake->hello, shake->welcome, root);
    rc = dwcp_write_exact(shake->stream, shake->confirm, DWCP_CONFIRM_BYTES,
                          shake->deadline_ns, err);
    return rc < 0 ? rc : dwcp_shake_open(shake, welcome.features, err);
}

int dwcp_source_shake(DwcpSource *source, DwcpStream *stream,
                      uint64_t deadline_ns, DwcpError *err)
{
    DwcpShake shake;
    DwcpHello hello;
    int rc = offer_rdma(source, stream, err);

    if (rc < 0) {
        return rc;
    }
    hello_fill(source, stream, &hello);
    stream->again = hello.kind == DWCP_HELLO_JOIN && stream->index == 0;
    stream->answered = false;
    dwcp_shake_init(&shake, stream, deadline_ns, hello.random);
    rc = run(source, &shake, &hello, err);
    dwcp_shake_clear(&shake);
    return rc;
}
