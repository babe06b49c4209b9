/*
 * The target's half of the handshake: who may come in
 *
 * A NEW is offered a session of its own; the first whose CONFIRM is right
 * claims the target.  So a stranger who only says HELLO is in nobody's way.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "core/fail.h"
#include "io/landing.h"
#include "io/rdma.h"
#include "io/shake.h"
#include "io/socket.h"
#include "io/target.h"

static void judge_new_locked(DwcpTarget *target, DwcpStream *stream,
                             DwcpWelcome *welcome)
{
    if (target->claimed) {
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_SESSION,
                            "another migration is coming in here");
        return;
    }
    randombytes_buf(stream->offer, sizeof(stream->offer));
    stream->offering = true;
    memcpy(welcome->session, stream->offer, DWCP_SESSION_BYTES);
}

static bool same_id(const uint8_t *a, const uint8_t *b)
{
    return sodium_memcmp(a, b, DWCP_SESSION_BYTES) == 0;
}

/* Is the handshake that this session came from still under way? */
static bool offered_locked(const DwcpSession *session, const uint8_t *id)
{
    const DwcpStream *stream;

    for (stream = session->all; stream; stream = stream->next) {
        if (stream->offering && same_id(stream->offer, id)) {
            return true;
        }
    }
    return false;
}

/* A source that lost stream 0 after GO wants to hear that it came. */
static bool may_ask_again(const DwcpSession *session, const DwcpHello *hello)
{
    return hello->stream == 0 && atomic_load(&session->resume);
}

bool dwcp_target_owes_reason_locked(const DwcpTarget *target)
{
    const DwcpSession *session = &target->session;

    return session->phase == DWCP_PHASE_FAILED && session->tell_peer &&
           target->claimed && atomic_load(&session->resume);
}

/* JOIN: may overtake the CONFIRM of stream 0, so wait for it. */
static void judge_join_locked(DwcpTarget *target, const DwcpShake *shake,
                              const DwcpHello *hello, DwcpWelcome *welcome)
{
    DwcpSession *session = &target->session;
    struct timespec until = dwcp_timespec(shake->deadline_ns);

    while (session->phase == DWCP_PHASE_CONNECTING &&
           (target->claimed || offered_locked(session, hello->session)) &&
           !atomic_load(&shake->stream->cut) &&
           !atomic_load(&session->closing)) {
        if (pthread_cond_timedwait(&session->changed, &session->lock, &until) ==
            ETIMEDOUT) {
            break;
        }
    }
    if (!target->claimed || !same_id(hello->session, session->id)) {
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_SESSION,
                            "there is no such session here");
    } else if (session->phase == DWCP_PHASE_CONNECTING ||
               (session->phase == DWCP_PHASE_FAILED &&
                !dwcp_target_owes_reason_locked(target)) ||
               (session->phase == DWCP_PHASE_SEALED &&
                !may_ask_again(session, hello))) {
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_SESSION,
                            "the session takes no more streams");
    } else if (hello->stream >= target->streams ||
               (!atomic_load(&session->resume) &&
                (session->streams[hello->stream] || hello->stream == 0))) {
        dwcp_welcome_refuse(welcome, DWCP_REFUSAL_STREAM,
                            "stream %u of %u is not expected", hello->stream,
                            target->streams);
    } else {
        memcpy(welcome->session, session->id, DWCP_SESSION_BYTES);
    }
}

/* What we can, at the address that this connection came to. */
static uint64_t features_for(DwcpTarget *target, const DwcpShake *shake,
                             const DwcpHello *hello)
{
    DwcpSession *session = &target->session;
    bool usable = session->rdma_wish != DWCP_RDMA_OFF &&
                  hello->kind == DWCP_HELLO_NEW &&
                  (hello->features & DWCP_FEATURE_RDMA) &&
                  dwcp_rdma_address_check(shake->stream->tcp.fd, NULL) == 0;

    return dwcp_shake_features(session) | (usable ? DWCP_FEATURE_RDMA : 0);
}

/* The session is this source's: will there be RDMA? */
static void tell_rdma(DwcpSession *session, const DwcpHello *hello)
{
    if (session->rdma_wish != DWCP_RDMA_OFF &&
        !atomic_load(&session->rdma_agreed)) {
        dwcp_rdma_set(session, DWCP_RDMA_UNUSED, "%s",
                      hello->features & DWCP_FEATURE_RDMA
                          ? "the connection's address belongs to no RDMA device"
                          : "the source does not offer RDMA");
    }
}

/* Fills in the answer to a HELLO; welcome->refusal says whether it is good. */
static void judge(DwcpTarget *target, DwcpShake *shake, const DwcpHello *hello,
                  DwcpWelcome *welcome)
{
    DwcpSession *session = &target->session;

    if (dwcp_hello_judge(hello, session->security,
                         features_for(target, shake, hello), session->page_size,
                         welcome) != DWCP_REFUSAL_NONE) {
        return;
    }
    pthread_mutex_lock(&session->lock);
    if (hello->kind == DWCP_HELLO_NEW) {
        judge_new_locked(target, shake->stream, welcome);
    } else {
        judge_join_locked(target, shake, hello, welcome);
    }
    pthread_mutex_unlock(&session->lock);
}

/* Something else than DWCP may be shorter than a HELLO, and then wait. */
static int read_hello(DwcpShake *shake, DwcpHello *hello, DwcpError *err)
{
    int rc = dwcp_read_exact(shake->stream, shake->hello, DWCP_MAGIC_BYTES,
                             shake->deadline_ns, err);

    if (rc == 0) {
        rc = dwcp_magic_check(shake->hello, err);
    }
    if (rc == 0) {
        rc = dwcp_read_exact(shake->stream, shake->hello + DWCP_MAGIC_BYTES,
                             DWCP_HELLO_BYTES - DWCP_MAGIC_BYTES,
                             shake->deadline_ns, err);
    }
    return rc < 0 ? rc : dwcp_hello_decode(shake->hello, hello, err);
}

/* Decides, answers, and reads the source's CONFIRM. */
static int answer(DwcpTarget *target, DwcpShake *shake, const DwcpHello *hello,
                  DwcpWelcome *welcome, DwcpError *err)
{
    uint8_t random[DWCP_RANDOM_BYTES];
    const uint8_t *root = NULL;
    int rc = 0;

    memcpy(random, welcome->random, sizeof(random));
    judge(target, shake, hello, welcome);
    memcpy(welcome->random, random, sizeof(random));
    dwcp_welcome_encode(shake->welcome, welcome);
    if (welcome->refusal == DWCP_REFUSAL_NONE) {
        rc = dwcp_shake_root(shake, hello->kind, &root, err);
    }
    if (rc < 0) {
        return rc;
    }
    dwcp_welcome_tag(shake->welcome, shake->hello, root);
    rc = dwcp_write_exact(shake->stream, shake->welcome, DWCP_WELCOME_BYTES,
                          shake->deadline_ns, err);
    if (welcome->refusal != DWCP_REFUSAL_NONE) {
        return dwcp_fail(err, -ECONNREFUSED, "a stream was refused: %s",
                         welcome->text);
    }
    if (rc == 0) {
        rc = dwcp_read_exact(shake->stream, shake->confirm,
                             DWCP_CONFIRM_BYTES, shake->deadline_ns, err);
    }
    return rc < 0 ? rc
                  : dwcp_confirm_check(shake->confirm, shake->hello,
                                       shake->welcome, root, err);
}

/* From here on it is no stranger, who would have to make room for others. */
static int known(DwcpTarget *target, DwcpStream *stream, DwcpError *err)
{
    int rc = 0;

    pthread_mutex_lock(&target->session.lock);
    if (atomic_load(&stream->cut)) {
        rc = dwcp_fail(err, -ECANCELED, "made room for another connection");
    }
    stream->shaking = false;
    pthread_mutex_unlock(&target->session.lock);
    return rc;
}

/* The NEW that was confirmed first has the target. */
static int claim(DwcpTarget *target, DwcpShake *shake, const DwcpHello *hello,
                 uint64_t features, DwcpError *err)
{
    DwcpSession *session = &target->session;
    bool first;

    pthread_mutex_lock(&session->lock);
    first = !target->claimed;
    if (first) {
        target->claimed = true;
        target->streams = hello->streams;
        atomic_store(&session->resume,
                     (hello->features & features & DWCP_FEATURE_RESUME) != 0);
        atomic_store(&session->rdma_agreed,
                     (hello->features & features & DWCP_FEATURE_RDMA) != 0);
        memcpy(session->id, shake->stream->offer, DWCP_SESSION_BYTES);
        dwcp_keys_derive(session->session_key, shake->root, DWCP_KEY_SESSION);
    }
    pthread_mutex_unlock(&session->lock);
    if (first) {
        tell_rdma(session, hello);
    }
    return first ? 0
                 : dwcp_fail(err, -ECONNREFUSED,
                             "a stream was refused: another migration was "
                             "faster");
}

/* A NEW that came to nothing leaves the target free for the next. */
static void unclaim(DwcpTarget *target)
{
    DwcpSession *session = &target->session;

    pthread_mutex_lock(&session->lock);
    target->claimed = false;
    pthread_mutex_unlock(&session->lock);
}

/* The buffers of a stream that has shaken hands. */
static int open_stream(DwcpTarget *target, DwcpShake *shake, uint64_t features,
                       DwcpError *err)
{
    DwcpStream *stream = shake->stream;
    int rc = dwcp_shake_open(shake, features, err);
    size_t bytes;

    if (rc < 0) {
        return rc;
    }
    stream->landing = dwcp_landing_new(&target->ram);
    if (!stream->landing) {
        return dwcp_fail(err, -ENOMEM, "no memory for stream %u",
                         stream->index);
    }
    bytes = dwcp_landing_bytes(stream->landing);
    stream->memory_bytes += bytes;
    atomic_fetch_add(&target->session.memory_bytes, bytes);
    return 0;
}

/* The stream has its buffers and takes its place among the others. */
static int take_place(DwcpTarget *target, DwcpStream *stream, DwcpError *err)
{
    int rc = stream->index == 0 ? dwcp_stream_take_pump(stream, err) : 0;

    if (rc == 0) {
        rc = dwcp_session_adopt(&target->session, stream);
        if (rc < 0) {
            (void)dwcp_fail(err, rc, "stream %u came too late", stream->index);
        }
    }
    return rc;
}

/* Whoever stands there gives way, and the stream has its place. */
static int replace(DwcpTarget *target, DwcpShake *shake, DwcpError *err)
{
    DwcpSession *session = &target->session;
    DwcpStream *stream = shake->stream;
    int rc = dwcp_session_vacate(session, stream, shake->deadline_ns);

    if (rc < 0) {
        return dwcp_fail(err, rc, rc == -ESTALE
                                      ? "stream %u: a later connection stands"
                                      : "stream %u does not give way",
                         stream->index);
    }
    rc = take_place(target, stream, err);
    dwcp_session_occupied(session, stream->index);
    return rc;
}

static int adopt(DwcpTarget *target, DwcpShake *shake, const DwcpHello *hello,
                 uint64_t features, DwcpError *err)
{
    DwcpStream *stream = shake->stream;
    bool new = hello->kind == DWCP_HELLO_NEW;
    int rc = new ? claim(target, shake, hello, features, err) : 0;

    if (rc < 0) {
        return rc;
    }
    stream->again = !new && stream->index == 0;
    rc = open_stream(target, shake, features, err);
    if (rc == 0 && atomic_load(&target->session.dead)) {
        dwcp_stream_farewell(stream); /* it comes to hear why */
        rc = dwcp_fail(err, -ECANCELED, "the session has failed");
    } else if (rc == 0) {
        rc = replace(target, shake, err);
    }
    if (rc < 0 && new) {
        unclaim(target);
    }
    return rc;
}

static int run(DwcpTarget *target, DwcpShake *shake, DwcpWelcome *welcome,
               DwcpError *err)
{
    DwcpHello hello;
    int rc = read_hello(shake, &hello, err);

    if (rc == 0) {
        shake->stream->index = hello.stream;
        rc = answer(target, shake, &hello, welcome, err);
    }
    if (rc == 0) {
        rc = known(target, shake->stream, err);
    }
    if (rc == 0) {
        rc = adopt(target, shake, &hello, welcome->features, err);
    }
    return rc;
}

int dwcp_target_shake(DwcpTarget *target, DwcpStream *stream, DwcpError *err)
{
    DwcpSession *session = &target->session;
    uint64_t deadline_ns = dwcp_now_ns() + DWCP_HANDSHAKE_MS * 1000000ull;
    DwcpWelcome welcome = { 0 };
    DwcpShake shake;
    int rc;

    dwcp_shake_init(&shake, stream, deadline_ns, welcome.random);
    rc = run(target, &shake, &welcome, err);
    dwcp_shake_clear(&shake);
    pthread_mutex_lock(&session->lock);
    if (stream->offering) { /* a JOIN may wait for the outcome */
        stream->offering = false;
        pthread_cond_broadcast(&session->changed);
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}
