/*
 * A whole target whose connections are lost and come again, with and without
 * keys
 *
 * The first byte of the input says whether there are keys (bit 0) and which
 * cipher (bit 1).  What follows is a list of pieces: one byte that says on which
 * of two streams (bit 0), whether it is forged, that is, not put into a segment
 * (bit 1), and whether the connection ends and is made again first (bit 2); two
 * bytes of length; the bytes.  At the end the source comes once more and says
 * ABORT.  Whatever comes: the target ends, either failed or told to go, and tells
 * so once.  Who has no keys can end connections only: if nothing but forged
 * pieces came, it is ABORT that ends the session, and no page was written.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/aead.h"
#include "core/bytes.h"
#include "core/keys.h"
#include "fuzz.h"
#include "kit.h"
#include "pieces.h"

#define PAGES 70u
#define AGAIN_MAX 16u
#define REASON "the source has had enough"

enum { KEYED = 1, AES = 2 };
enum { STREAM = 1, FORGED = 2, AGAIN = 4 };

static const uint8_t psk[] = "sixteen bytes or more";

typedef struct Run {
    DwcpTarget *target;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned connected, failed;
    DwcpError error;
    char port[8];
    unsigned mode;
    uint8_t base[DWCP_KEY_BYTES]; /* then the session key */
    uint8_t session[DWCP_SESSION_BYTES];
    bool stands; /* the first connection has made the session */
    int fd[2];   /* -1: it was refused */
    DwcpAead *seal[2];
    bool real; /* something that is not forged was sent */
} Run;

/* ---------------------------------------------------------- its user -- */

static void on_connected(void *opaque)
{
    Run *run = opaque;

    pthread_mutex_lock(&run->lock);
    run->connected++;
    pthread_cond_broadcast(&run->cond);
    pthread_mutex_unlock(&run->lock);
}

static void on_changed(void *opaque)
{
    Run *run = opaque;

    if (dwcp_target_memory_complete(run->target) == 1) {
        (void)!dwcp_target_ready(run->target); /* the second time refused */
    }
}

static void on_failed(void *opaque, const DwcpError *err)
{
    Run *run = opaque;

    fuzz_require(err->code < 0 && *err->text);
    pthread_mutex_lock(&run->lock);
    run->failed++;
    run->error = *err;
    pthread_mutex_unlock(&run->lock);
}

/* Has it ended, one way or the other? */
static bool over(Run *run)
{
    bool failed;

    pthread_mutex_lock(&run->lock);
    failed = run->failed;
    pthread_mutex_unlock(&run->lock);
    return failed || dwcp_target_go(run->target) == 1;
}

/* ---------------------------------------------------------- its peer -- */

static DwcpHello hello_of(const Run *run, unsigned index,
                          const DwcpEphemeral *ours)
{
    DwcpHello hello =
        raw_hello_resuming(index, run->stands ? run->session : NULL);

    if (run->mode & KEYED) {
        hello.security = DWCP_SECURITY_PSK;
        hello.features |= run->mode & AES ? DWCP_FEATURE_AES_GCM : 0;
    }
    memcpy(hello.random, ours->public, sizeof(hello.random));
    return hello;
}

/* The keys of the connection, and of the session if it is the first. */
static DwcpAead *keys_of(Run *run, Raw *raw, const DwcpEphemeral *ours,
                         uint8_t *root)
{
    uint8_t key[DWCP_KEY_BYTES];
    DwcpAead *aead;

    fuzz_require(dwcp_keys_root(root, run->base, ours, DWCP_ROLE_SOURCE,
                                raw->hello, raw->welcome, NULL) == 0);
    fuzz_require(dwcp_welcome_check(raw->welcome, raw->hello, root, NULL) == 0);
    if (!run->stands) {
        dwcp_keys_derive(run->base, root, DWCP_KEY_SESSION);
    }
    dwcp_keys_derive(key, root, DWCP_KEY_FROM_SOURCE);
    aead = dwcp_aead_new(raw->answer.features & DWCP_FEATURE_AES_GCM
                             ? DWCP_CIPHER_AES_256_GCM
                             : DWCP_CIPHER_CHACHA20_POLY1305,
                         key);
    fuzz_require(aead != NULL);
    return aead;
}

static void hang_up(Run *run, unsigned index)
{
    if (run->fd[index] >= 0) {
        close(run->fd[index]);
    }
    run->fd[index] = -1;
    dwcp_aead_free(run->seal[index]);
    run->seal[index] = NULL;
}

/* A whole handshake, unless the target is not there any more. */
static void come(Run *run, unsigned index)
{
    uint8_t root[DWCP_KEY_BYTES], confirm[DWCP_CONFIRM_BYTES];
    bool keyed = run->mode & KEYED;
    const int one = 1;
    DwcpEphemeral ours;
    DwcpHello hello;
    Raw raw;

    dwcp_ephemeral_new(&ours);
    hello = hello_of(run, index, &ours);
    raw.fd = raw_try_connect(run->port);
    if (raw.fd < 0) {
        return;
    }
    dwcp_hello_encode(raw.hello, &hello);
    raw_send(raw.fd, raw.hello, sizeof(raw.hello));
    if (!raw_read(raw.fd, raw.welcome, sizeof(raw.welcome)) ||
        dwcp_welcome_decode(raw.welcome, &hello, raw.hello, &raw.answer,
                            NULL) < 0) {
        close(raw.fd);
        return;
    }
    run->seal[index] = keyed ? keys_of(run, &raw, &ours, root) : NULL;
    memcpy(run->session, raw.answer.session, sizeof(run->session));
    dwcp_confirm_encode(confirm, raw.hello, raw.welcome, keyed ? root : NULL);
    raw_send(raw.fd, confirm, sizeof(confirm));
    (void)setsockopt(raw.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    run->fd[index] = raw.fd;
}

static void say(Run *run, unsigned index, bool forged, const uint8_t *data,
                uint32_t length)
{
    uint8_t *sealed;

    if (run->fd[index] < 0 || !length) {
        return;
    }
    if (!run->seal[index] || forged) {
        run->real |= !run->seal[index];
        raw_send(run->fd[index], data, length);
        return;
    }
    run->real = true;
    sealed = malloc(DWCP_SEGMENT_HEADER + length + DWCP_SEGMENT_TAG);
    fuzz_require(sealed != NULL);
    fuzz_require(dwcp_aead_seal(run->seal[index], data, length, sealed) == 0);
    raw_send(run->fd[index], sealed,
             DWCP_SEGMENT_HEADER + length + DWCP_SEGMENT_TAG);
    free(sealed);
}

static void feed(Run *run, const uint8_t *data, size_t size)
{
    unsigned again = 0, index;
    Piece piece;

    while (pieces_next(&data, &size, &piece)) {
        index = piece.how & STREAM;
        if (piece.how & AGAIN && again++ < AGAIN_MAX) {
            hang_up(run, index);
            come(run, index);
        }
        say(run, index, piece.how & FORGED, piece.bytes, (uint32_t)piece.length);
    }
}

/* What was sent is received first. */
static void drain(Run *run)
{
    unsigned i;

    for (i = 0; i < 2; i++) {
        (void)shutdown(run->fd[i], SHUT_WR);
    }
    for (i = 0; i < 2; i++) {
        raw_until_closed(run->fd[i]);
    }
}

/* As a source that gives up; whatever went before, RESUME says that nothing came
 * on channel 0, and that is so. */
static void give_up(Run *run)
{
    uint8_t records[2 * DWCP_RECORD_HEADER + DWCP_RESUME_BODY + 4 +
                    sizeof(REASON) - 1];
    const DwcpResume none = { 0 };
    uint8_t *at = records;
    bool real = run->real;

    dwcp_record_encode(at, DWCP_RECORD_RESUME, DWCP_RESUME_BODY);
    at += DWCP_RECORD_HEADER;
    dwcp_resume_encode(at, &none);
    at += DWCP_RESUME_BODY;
    dwcp_record_encode(at, DWCP_RECORD_ABORT, 4 + sizeof(REASON) - 1);
    at += DWCP_RECORD_HEADER;
    dwcp_put_le32(at, 5);
    memcpy(at + 4, REASON, sizeof(REASON) - 1);
    drain(run);
    while (!over(run)) {
        hang_up(run, 0);
        come(run, 0);
        say(run, 0, false, records, sizeof(records));
        if (run->fd[0] >= 0) {
            raw_until_closed(run->fd[0]);
        }
    }
    run->real = real;
}

/* ---------------------------------------------------------------- run -- */

/* The same input is the same run, but for the order of threads. */
static uint32_t counted;

static const char *random_name(void)
{
    return "counted";
}

static void random_buf(void *const out, const size_t size)
{
    uint32_t n = __atomic_add_fetch(&counted, 1, __ATOMIC_RELAXED);
    uint8_t seed[randombytes_SEEDBYTES] = { 0 };

    dwcp_put_le32(seed, n);
    randombytes_buf_deterministic(out, size, seed);
}

static uint32_t random_word(void)
{
    uint32_t word;

    random_buf(&word, sizeof(word));
    return word;
}

static void up(Run *run, uint8_t *ram, unsigned mode)
{
    DwcpTargetOptions options = end_target_options();

    run->mode = mode;
    options.resume_ms_max = 0;
    if (mode & KEYED) {
        options.security = DWCP_SECURITY_PSK;
        options.keys = (DwcpKeys){ .psk = psk, .psk_bytes = sizeof(psk) };
        fuzz_require(dwcp_keys_base(run->base, options.security,
                                    DWCP_ROLE_SOURCE, &options.keys,
                                    NULL) == 0);
    }
    options.events =
        (DwcpEvents){ on_connected, on_changed, on_failed, NULL, run };
    fuzz_require(dwcp_target_new(&options, &run->target, NULL) == 0);
    fuzz_require(dwcp_target_listen(run->target, kit_listen(run->port), NULL) ==
                 0);
    fuzz_require(dwcp_target_add_block(run->target, ram, PAGES * PAGE, NULL) ==
                 0);
    come(run, 0);
    fuzz_require(run->fd[0] >= 0);
    run->stands = true;
    pthread_mutex_lock(&run->lock);
    while (!run->connected) {
        pthread_cond_wait(&run->cond, &run->lock);
    }
    pthread_mutex_unlock(&run->lock);
    come(run, 1);
    fuzz_require(run->fd[1] >= 0);
    fuzz_require(dwcp_target_begin(run->target) == 0);
}

static bool untouched(const uint8_t *ram)
{
    return !*ram && memcmp(ram, ram + 1, PAGES * PAGE - 1) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static randombytes_implementation random = {
        .implementation_name = random_name,
        .random = random_word,
        .buf = random_buf,
    };
    Run run = { .lock = PTHREAD_MUTEX_INITIALIZER,
                .cond = PTHREAD_COND_INITIALIZER,
                .fd = { -1, -1 } };
    uint8_t *ram = calloc(PAGES, PAGE);
    bool went;

    fuzz_require(ram != NULL);
    (void)randombytes_set_implementation(&random);
    fuzz_require(sodium_init() >= 0);
    counted = 0;
    if (!size) {
        free(ram);
        return 0;
    }
    up(&run, ram, data[0]);
    feed(&run, data + 1, size - 1);
    give_up(&run);
    went = dwcp_target_go(run.target) == 1;
    hang_up(&run, 0);
    hang_up(&run, 1);
    dwcp_target_free(run.target);
    fuzz_require(run.failed == !went && run.connected == 1);
    if (!run.real) {
        fuzz_require(strstr(run.error.text, REASON) != NULL);
        fuzz_require(untouched(ram));
    }
    free(ram);
    return 0;
}
