/*
 * A whole session over loopback TCP, both ends in this process
 *
 * Proves that the target's memory equals the source's at the end, for every
 * level and number of streams, while a writer keeps changing pages; that
 * channel 0 carries bytes both ways, also after the switchover; and that
 * nothing says GO unless everything has arrived.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dwcp/dwcp.h"

/*
 * Workers read guest RAM while the guest writes it: a data race by design,
 * made harmless by the dirty log (core/codec.h).  All others are reported.
 */
__attribute__((visibility("default"))) const char *
__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:gather\nrace:find_zeros\nrace:output_once\n";
}

#define PAGE 4096u
#define BLOCKS 3

static const uint64_t block_pages[BLOCKS] = { 2048, 1, 131 };

/* Both ends of one session; events wake whoever waits on cond. */
typedef struct Pair {
    DwcpSource *source;
    DwcpTarget *target;
    uint8_t *source_ram[BLOCKS], *target_ram[BLOCKS];
    int source_fd, target_fd; /* channel 0 */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool source_connected, target_connected;
    DwcpError source_error, target_error;
    unsigned changes;
} Pair;

typedef struct End {
    Pair *pair;
    bool *connected;
    DwcpError *error;
} End;

static void on_connected(void *opaque)
{
    End *end = opaque;

    pthread_mutex_lock(&end->pair->lock);
    *end->connected = true;
    pthread_cond_broadcast(&end->pair->cond);
    pthread_mutex_unlock(&end->pair->lock);
}

static void on_changed(void *opaque)
{
    End *end = opaque;

    pthread_mutex_lock(&end->pair->lock);
    end->pair->changes++;
    pthread_cond_broadcast(&end->pair->cond);
    pthread_mutex_unlock(&end->pair->lock);
}

static void on_failed(void *opaque, const DwcpError *err)
{
    End *end = opaque;

    pthread_mutex_lock(&end->pair->lock);
    *end->error = *err;
    pthread_cond_broadcast(&end->pair->cond);
    pthread_mutex_unlock(&end->pair->lock);
}

static uint8_t *ram_new(uint64_t pages)
{
    uint8_t *ram = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert(ram != MAP_FAILED);
    return ram;
}

/* A third zero, a third text, a third random: like a guest. */
static void ram_fill(GRand *rnd, uint8_t *ram, uint64_t pages)
{
    uint64_t page;
    unsigned i, kind;

    for (page = 0; page < pages; page++) {
        kind = (unsigned)g_rand_int_range(rnd, 0, 3);
        for (i = 0; kind && i < PAGE; i++) {
            ram[page * PAGE + i] = kind == 1 ? (uint8_t)('a' + i * page % 26)
                                             : (uint8_t)g_rand_int(rnd);
        }
    }
}

static int listen_loopback(char *port, size_t size)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t length = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, length), ==, 0);
    g_assert_cmpint(listen(fd, 64), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&addr, &length), ==, 0);
    g_snprintf(port, size, "%u", ntohs(addr.sin_port));
    return fd;
}

static void pair_wait(Pair *pair, const bool *what)
{
    pthread_mutex_lock(&pair->lock);
    while (!*what && !pair->source_error.code && !pair->target_error.code) {
        pthread_cond_wait(&pair->cond, &pair->lock);
    }
    g_assert_cmpstr(pair->source_error.text, ==, "");
    g_assert_cmpstr(pair->target_error.text, ==, "");
    pthread_mutex_unlock(&pair->lock);
}

typedef struct Case {
    unsigned streams;
    int level;
    DwcpSecurity security;
} Case;

/* What both ends prove themselves with. */
static void pair_keys(DwcpSecurity security, DwcpKeys *source, DwcpKeys *target)
{
    static uint8_t secrets[2][DWCP_KEY_BYTES], publics[2][DWCP_KEY_BYTES];
    static const uint8_t psk[] = "sixteen bytes at least";
    int i;

    if (security == DWCP_SECURITY_PSK) {
        *source = *target = (DwcpKeys){ .psk = psk, .psk_bytes = sizeof(psk) };
    } else if (security == DWCP_SECURITY_KEYS) {
        for (i = 0; i < 2; i++) {
            randombytes_buf(secrets[i], DWCP_KEY_BYTES);
            (void)crypto_scalarmult_base(publics[i], secrets[i]);
        }
        *source = (DwcpKeys){ .own_key = secrets[0], .peer_key = publics[1] };
        *target = (DwcpKeys){ .own_key = secrets[1], .peer_key = publics[0] };
    }
}

static void pair_start(Pair *pair, End ends[2], const Case *which)
{
    DwcpEvents events = { on_connected, on_changed, on_failed, NULL, NULL };
    DwcpTargetOptions target_options = { .security = which->security,
                                         .page_size = PAGE };
    DwcpSourceOptions source_options = {
        .host = "127.0.0.1",
        .security = which->security,
        .page_size = PAGE,
        .streams = which->streams,
        .workers = 3,
        .level = which->level,
    };
    char port[8];
    DwcpError err = { 0 };

    pair_keys(which->security, &source_options.keys, &target_options.keys);

    pthread_mutex_init(&pair->lock, NULL);
    pthread_cond_init(&pair->cond, NULL);
    ends[0] = (End){ pair, &pair->source_connected, &pair->source_error };
    ends[1] = (End){ pair, &pair->target_connected, &pair->target_error };
    target_options.events = source_options.events = events;
    source_options.events.opaque = &ends[0];
    target_options.events.opaque = &ends[1];
    g_assert_cmpint(dwcp_target_new(&target_options, &pair->target, &err), ==,
                    0);
    g_assert_cmpint(dwcp_target_listen(pair->target,
                                       listen_loopback(port, sizeof(port)),
                                       &err),
                    ==, 0);
    source_options.port = port;
    g_assert_cmpint(dwcp_source_new(&source_options, &pair->source, &err), ==,
                    0);
    g_assert_cmpint(dwcp_source_connect(pair->source, &err), ==, 0);
    pair_wait(pair, &pair->source_connected);
    pair_wait(pair, &pair->target_connected);
    pair->source_fd = dwcp_source_take_channel(pair->source, 0, &err);
    pair->target_fd = dwcp_target_take_channel(pair->target, 0, &err);
    g_assert_cmpint(pair->source_fd, >=, 0);
    g_assert_cmpint(pair->target_fd, >=, 0);
}

static void pair_blocks(Pair *pair, GRand *rnd)
{
    DwcpError err = { 0 };
    int i;

    for (i = 0; i < BLOCKS; i++) {
        pair->source_ram[i] = ram_new(block_pages[i]);
        pair->target_ram[i] = ram_new(block_pages[i]);
        ram_fill(rnd, pair->source_ram[i], block_pages[i]);
        /* What a page was before must not matter, even where it gets zero. */
        ram_fill(rnd, pair->target_ram[i], block_pages[i]);
        g_assert_cmpint(dwcp_source_add_block(pair->source, pair->source_ram[i],
                                              block_pages[i] * PAGE, &err),
                        ==, i);
        g_assert_cmpint(dwcp_target_add_block(pair->target, pair->target_ram[i],
                                              block_pages[i] * PAGE, &err),
                        ==, i);
    }
}

static void pair_finish(Pair *pair)
{
    DwcpError err = { 0 };
    unsigned seen;
    int rc;

    g_assert_cmpint(dwcp_source_end(pair->source), ==, 0);
    pthread_mutex_lock(&pair->lock);
    for (;;) {
        seen = pair->changes;
        pthread_mutex_unlock(&pair->lock);
        rc = dwcp_target_memory_complete(pair->target);
        g_assert_cmpint(rc, >=, 0);
        pthread_mutex_lock(&pair->lock);
        if (rc) {
            break;
        }
        while (seen == pair->changes) {
            pthread_cond_wait(&pair->cond, &pair->lock);
        }
    }
    pthread_mutex_unlock(&pair->lock);
    g_assert_cmpint(dwcp_target_go(pair->target), ==, 0);
    g_assert_false(dwcp_source_gone(pair->source));
    g_assert_cmpint(dwcp_target_ready(pair->target), ==, 0);
    g_assert_cmpint(dwcp_source_finish(pair->source, &err), ==, 0);
    g_assert_true(dwcp_source_gone(pair->source));
    g_assert_cmpint(dwcp_target_go(pair->target), ==, 1);
}

static void pair_compare(const Pair *pair)
{
    int i;

    for (i = 0; i < BLOCKS; i++) {
        g_assert_cmpint(memcmp(pair->source_ram[i], pair->target_ram[i],
                               block_pages[i] * PAGE),
                        ==, 0);
    }
}

static void pair_free(Pair *pair)
{
    int i;

    close(pair->source_fd);
    close(pair->target_fd);
    dwcp_source_free(pair->source);
    dwcp_target_free(pair->target);
    for (i = 0; i < BLOCKS; i++) {
        if (pair->source_ram[i]) {
            munmap(pair->source_ram[i], block_pages[i] * PAGE);
            munmap(pair->target_ram[i], block_pages[i] * PAGE);
        }
    }
    pthread_cond_destroy(&pair->cond);
    pthread_mutex_destroy(&pair->lock);
}

/* Change some pages and hand exactly those over, as a dirty log would say. */
static void dirty_some(Pair *pair, GRand *rnd, unsigned count)
{
    uint64_t page, run;
    unsigned block;

    dwcp_source_round(pair->source);
    while (count--) {
        block = (unsigned)g_rand_int_range(rnd, 0, BLOCKS);
        page = (uint64_t)g_rand_int_range(rnd, 0, (int)block_pages[block]);
        run = (uint64_t)g_rand_int_range(rnd, 1, 9);
        run = MIN(run, block_pages[block] - page);
        ram_fill(rnd, pair->source_ram[block] + page * PAGE, run);
        g_assert_cmpint(dwcp_source_put(pair->source, block, page, run), ==,
                        0);
    }
}

static void say(int from, int to, const char *what)
{
    char got[64] = "";
    size_t length = strlen(what), at = 0;
    ssize_t n;

    g_assert_cmpint(write(from, what, length), ==, (ssize_t)length);
    while (at < length) {
        n = read(to, got + at, length - at);
        g_assert_cmpint(n, >, 0);
        at += (size_t)n;
    }
    g_assert_cmpstr(got, ==, what);
}

static void test_move(gconstpointer opaque)
{
    const Case *which = opaque;
    GRand *rnd = g_rand_new_with_seed(which->streams * 100u +
                                      (unsigned)which->level);
    Pair pair = { 0 };
    End ends[2];
    DwcpStats stats = { .size = sizeof(stats) };
    unsigned i;

    pair_start(&pair, ends, which);
    say(pair.source_fd, pair.target_fd, "before the pages");
    pair_blocks(&pair, rnd);
    g_assert_cmpint(dwcp_target_begin(pair.target), ==, 0);
    for (i = 0; i < BLOCKS; i++) {
        g_assert_cmpint(dwcp_source_put(pair.source, i, 0, block_pages[i]), ==,
                        0);
    }
    for (i = 0; i < 20; i++) {
        dirty_some(&pair, rnd, 40);
        say(pair.target_fd, pair.source_fd, "back");
        g_assert_cmpint(dwcp_source_wait(pair.source, 10), >=, 0);
    }
    pair_finish(&pair);
    pair_compare(&pair);
    dwcp_source_stats(pair.source, &stats);
    g_assert_cmpuint(stats.rounds, ==, 20);
    g_assert_cmpuint(stats.pending_bytes, ==, 0);
    g_assert_cmpuint(stats.acked_bytes, ==, stats.page_bytes);
    g_assert_cmpuint(stats.zero_pages, >, 0);
    g_assert_cmpuint(stats.wire_bytes, >, 0);
    g_assert_cmpuint(stats.streams_lost, ==, 0);
    g_assert_true((stats.cipher == DWCP_CIPHER_NONE) ==
                  (which->security == DWCP_SECURITY_NONE));
    if (which->level) {
        g_assert_cmpuint(stats.wire_bytes, <, stats.page_bytes);
    }
    say(pair.target_fd, pair.source_fd, "after the seal");
    pair_free(&pair);
    g_rand_free(rnd);
}

int main(int argc, char **argv)
{
    static const Case cases[] = {
        { 1, 0, DWCP_SECURITY_NONE },  { 1, 1, DWCP_SECURITY_NONE },
        { 2, 1, DWCP_SECURITY_NONE },  { 8, 0, DWCP_SECURITY_NONE },
        { 8, 1, DWCP_SECURITY_NONE },  { 8, 3, DWCP_SECURITY_NONE },
        { 64, 1, DWCP_SECURITY_NONE }, { 8, DWCP_LEVEL_AUTO, DWCP_SECURITY_NONE },
        { 1, 0, DWCP_SECURITY_PSK },   { 8, 1, DWCP_SECURITY_PSK },
        { 8, 0, DWCP_SECURITY_KEYS },  { 64, 1, DWCP_SECURITY_KEYS },
    };
    char name[64];
    size_t i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_snprintf(name, sizeof(name), "/loopback/streams-%u/level-%d/security-%u",
                   cases[i].streams, cases[i].level,
                   (unsigned)cases[i].security);
        g_test_add_data_func(name, &cases[i], test_move);
    }
    return g_test_run();
}
