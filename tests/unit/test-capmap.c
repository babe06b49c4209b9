/*
 * io/capmap: sessions take part in a host's cap
 *
 * Proves that only a sealed memfd with a cap in it is taken, that one which is
 * refused stays the caller's, and that a cap which is destroyed while it is in
 * use hurts nobody; that sessions with a cap in common do not exceed it, that
 * none of them starves, and that max-bandwidth is not exceeded over all
 * streams.  It says what the rates were; with DWCP_SOAK=1 they are measured for
 * 10 s each.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/hostcap.h"
#include "io/source.h"
#include "kit.h"

#define MIB (1ull << 20)
#define PAGES 4096u
#define ENDS 2

static int cap_new(uint64_t rate, size_t size, int seals)
{
    DwcpHostcap cap = {
        .magic = DWCP_HOSTCAP_MAGIC,
        .version = DWCP_HOSTCAP_VERSION,
        .size = DWCP_HOSTCAP_BYTES,
        .rate = rate,
    };
    int fd = memfd_create("cap", MFD_ALLOW_SEALING | MFD_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    g_assert_cmpint(pwrite(fd, &cap, MIN(size, sizeof(cap)), 0), >, 0);
    g_assert_cmpint(fcntl(fd, F_ADD_SEALS, seals), ==, 0);
    return fd;
}

/* --------------------------------------------------------- what is one -- */

static void refused(int fd, const char *text)
{
    DwcpSourceOptions options = end_source_options("1");
    Usage before = usage_now();
    DwcpError err = {0};
    End end;

    options.host_cap = &fd;
    g_assert_cmpint(end_try_source(&end, &options, &err), ==, -EINVAL);
    g_test_message("%s", err.text);
    g_assert_nonnull(strstr(err.text, text));
    end_free(&end);
    usage_same(before); /* the descriptor with them */
    close(fd);
}

static void test_refused(void)
{
    char path[] = "/tmp/dwcp-cap-XXXXXX";
    DwcpHostcap cap = {.magic = DWCP_HOSTCAP_MAGIC};
    int fd = mkstemp(path);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, DWCP_HOSTCAP_BYTES), ==, 0);
    unlink(path);
    refused(fd, "no memfd");
    refused(cap_new(1, DWCP_HOSTCAP_BYTES, 0), "no memfd that is sealed");
    refused(cap_new(1, DWCP_HOSTCAP_BYTES, F_SEAL_GROW), "sealed");
    refused(cap_new(1, DWCP_HOSTCAP_BYTES - 1, F_SEAL_SHRINK), "fewer");
    fd = cap_new(1, DWCP_HOSTCAP_BYTES, F_SEAL_SHRINK);
    g_assert_cmpint(pwrite(fd, &cap, 16, 0), ==, 16);
    refused(fd, "version 0");
}

static void test_taken(void)
{
    DwcpSourceOptions options = end_source_options("1");
    DwcpStats stats = {.size = sizeof(stats)};
    int fd = cap_new(MIB, DWCP_HOSTCAP_BYTES, F_SEAL_SHRINK);
    Usage before;
    DwcpError err;
    End end;

    options.host_cap = &fd;
    g_assert_cmpint(end_try_source(&end, &options, &err), ==, 0);
    g_assert_cmpint(fcntl(fd, F_GETFD), ==, -1);
    dwcp_source_stats(end.source, &stats);
    g_assert_cmpuint(stats.host_cap_bytes_per_s, ==, MIB);
    end_free(&end);
    /* One that is not taken for another reason stays the caller's. */
    fd = cap_new(MIB, DWCP_HOSTCAP_BYTES, F_SEAL_SHRINK);
    before = usage_now();
    options.level = 99;
    g_assert_cmpint(end_try_source(&end, &options, &err), ==, -EINVAL);
    end_free(&end);
    usage_same(before);
    close(fd);
}

/* ------------------------------------------------------------- traffic -- */

typedef struct Pair {
    End source, target;
    uint64_t before;
} Pair;

static void pair_new(Pair *pair, unsigned streams, int level, int cap_fd)
{
    DwcpTargetOptions for_target = end_target_options();
    DwcpSourceOptions for_source;
    GRand *rnd = g_rand_new_with_seed(5);
    char port[8];
    unsigned i;

    end_target(&pair->target, &for_target, port);
    for_source = end_source_options(port);
    for_source.streams = streams;
    for_source.level = level;
    if (cap_fd >= 0) {
        cap_fd = dup(cap_fd);
        for_source.host_cap = &cap_fd;
    }
    end_source(&pair->source, &for_source);
    end_ram(&pair->source, PAGES);
    end_ram(&pair->target, PAGES);
    for (i = 0; i < PAGES * PAGE; i += 4) {
        guint32 word = g_rand_int(rnd);

        memcpy(pair->source.ram + i, &word, 4);
    }
    g_rand_free(rnd);
    end_connect(&pair->source);
    end_wait_connected(&pair->source);
    end_wait_connected(&pair->target);
    end_take(&pair->source);
    end_take(&pair->target);
    g_assert_cmpint(dwcp_target_begin(pair->target.target), ==, 0);
}

static void pair_free(Pair *pair)
{
    end_free(&pair->source);
    end_free(&pair->target);
}

static uint64_t sent(Pair *pair)
{
    DwcpStats stats = {.size = sizeof(stats)};

    dwcp_source_stats(pair->source.source, &stats);
    return stats.wire_bytes - pair->before;
}

/* Keeps something to send before each, until they have sent @bytes together. */
static uint64_t busy(Pair *pairs, unsigned count, uint64_t bytes)
{
    uint64_t start_ns = 0, sum = 0;
    unsigned i, warm;

    /* First the buffers fill, then it is measured. */
    for (warm = 2; warm--;) {
        for (i = 0; i < count; i++) {
            pairs[i].before += sent(&pairs[i]);
        }
        start_ns = dwcp_now_ns();
        do {
            sum = 0;
            for (i = 0; i < count; i++) {
                DwcpSource *source = pairs[i].source.source;

                if (!dwcp_source_full(source)) {
                    dwcp_source_round(source);
                    g_assert_cmpint(dwcp_source_put(source, 0, 0, PAGES), ==,
                                    0);
                    dwcp_source_flush(source);
                }
                sum += sent(&pairs[i]);
            }
            (void)poll(NULL, 0, 2);
        } while (sum < (warm ? bytes / 8 : bytes));
    }
    return dwcp_now_ns() - start_ns;
}

/* What is counted may have been taken before: a frame of each stream, and what
 * time it took to look. */
static void not_exceeded(Pair *pairs, unsigned count, uint64_t rate,
                         uint64_t time_ns)
{
    double sum = 0, due = (double)rate * (double)time_ns / 1e9;
    unsigned i;

    for (i = 0; i < count; i++) {
        g_test_message("%u: %.3f of the limit", i,
                       (double)sent(&pairs[i]) / due);
        sum += (double)sent(&pairs[i]);
    }
    g_test_message("all: %.4f of %.1f MiB/s for %.1f s", sum / due,
                   (double)rate / (double)MIB, (double)time_ns / 1e9);
    g_assert_cmpfloat(sum, <=, due * 1.03 + 4.0 * (double)MIB * count);
}

static void test_cap(void)
{
    const uint64_t rate = 100 * MIB;
    int fd = cap_new(rate, DWCP_HOSTCAP_BYTES, F_SEAL_SHRINK | F_SEAL_GROW);
    static const uint64_t nonsense[512] = {1, 2, 3};
    uint64_t time_ns, changed = 3 * rate;
    Pair pairs[ENDS] = {0};

    /* As unlike each other as can be. */
    pair_new(&pairs[0], 16, 0, fd);
    pair_new(&pairs[1], 1, 1, fd);
    time_ns = busy(pairs, ENDS, kit_soak(1, 10) * rate);
    not_exceeded(pairs, ENDS, rate, time_ns);
    g_assert_cmpuint(sent(&pairs[0]), >, kit_soak(1, 10) * rate / 4);
    g_assert_cmpuint(sent(&pairs[1]), >, kit_soak(1, 10) * rate / 4);
    /* Another rate, while it is in use; then no sense at all. */
    g_assert_cmpint(pwrite(fd, &changed, 8, 16), ==, 8);
    time_ns = busy(pairs, ENDS, changed);
    not_exceeded(pairs, ENDS, changed, time_ns);
    g_assert_cmpint(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                              DWCP_HOSTCAP_BYTES),
                    ==, 0);
    (void)busy(pairs, ENDS, rate);
    g_assert_cmpint(pwrite(fd, nonsense, sizeof(nonsense), 0), ==, 4096);
    g_assert_cmpint(pwrite(fd, &changed, 8, 16), ==, 8);
    (void)busy(pairs, ENDS, rate);
    g_assert_cmpint(ftruncate(fd, 0), ==, -1);
    pair_free(&pairs[0]);
    pair_free(&pairs[1]);
    close(fd);
}

static void test_rate(void)
{
    static const unsigned streams[] = {1, 8, 64};
    static const uint64_t rates[] = {10 * MIB, 200 * MIB};
    uint64_t time_ns;
    unsigned i, j;

    for (i = 0; i < G_N_ELEMENTS(streams); i++) {
        for (j = 0; j < G_N_ELEMENTS(rates); j++) {
            Pair pair = {0};

            pair_new(&pair, streams[i], j ? 0 : 1, -1);
            dwcp_source_set_rate(pair.source.source, rates[j]);
            time_ns = busy(&pair, 1, rates[j] / 2 * kit_soak(1, 20));
            g_test_message("%u streams:", streams[i]);
            not_exceeded(&pair, 1, rates[j], time_ns);
            pair_free(&pair);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/capmap/refused", test_refused);
    g_test_add_func("/capmap/taken", test_taken);
    g_test_add_func("/capmap/cap", test_cap);
    g_test_add_func("/capmap/rate", test_rate);
    return g_test_run();
}
