/*
 * The seal: once go() is 1, no library thread writes guest RAM
 *
 * A source that lies gives one hand-over number to two frames: a small one
 * that completes memory, and a large one that another stream is still decoding,
 * or of which half has landed.  Memory is complete without the rest of it, as
 * it is where a connection hangs that is replaced, and the rest must not be
 * written.  After READY and GO the guest writes all its memory;
 * what it wrote must still stand there when every stream has ended.  Where a
 * compressed frame comes too late, or too early, the attempt proves nothing
 * and the next one begins.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "core/codec.h"
#include "kit.h"

#define CHUNKS 8u /* 2 MiB, the most that a frame may hold */
#define PAGES (CHUNKS * DWCP_CHUNK_PAGES)

/* Pages that compress well, and do not decode at once. */
static size_t large_frame(uint8_t *out)
{
    DwcpPages pages = { .number = 2, .count = CHUNKS };
    uint8_t *ram = g_malloc(PAGES * PAGE);
    const uint8_t *hosts[CHUNKS];
    DwcpEncoder *encoder = dwcp_encoder_new(PAGE);
    GRand *rnd = g_rand_new_with_seed(5);
    size_t length;
    unsigned i;

    for (i = 0; i < PAGES * PAGE; i += 8) {
        memset(ram + i, (int)g_rand_int_range(rnd, 1, 40), 8);
    }
    for (i = 0; i < CHUNKS; i++) {
        hosts[i] = ram + i * DWCP_CHUNK_PAGES * (size_t)PAGE;
        pages.chunks[i] = (DwcpChunk){ 0, i, 0, UINT64_MAX, 0 };
    }
    length = dwcp_encode_frame(encoder, hosts, &pages, 1, out);
    dwcp_encoder_free(encoder);
    g_rand_free(rnd);
    g_free(ram);
    return length;
}

/* A target that has begun, with a session of two streams. */
static void begun(End *end, Raw raw[2])
{
    DwcpTargetOptions options = end_target_options();
    char port[8];

    end_target(end, &options, port);
    end_ram(end, PAGES);
    raw_join(&raw[0], port, 0, 2, NULL);
    end_wait_connected(end);
    raw_join(&raw[1], port, 1, 2, raw[0].answer.session);
    g_assert_cmpint(dwcp_target_begin(end->target), ==, 0);
}

/* Returns: whether the target was sealed, so that there was something to
 * see. */
static bool attempt(const uint8_t *large, size_t length)
{
    DwcpPages small = { .number = 1, .count = 2,
                        .chunks = { { .present = 1, .zero = 1 },
                                    { .present = 2, .zero = 2 } } };
    bool sealed;
    Raw raw[2];
    End end;
    size_t i;

    begun(&end, raw);
    raw_send(raw[1].fd, large, length);
    raw_pages(raw[0].fd, &small, NULL, 0);
    raw_record_u64(raw[0].fd, DWCP_RECORD_END, 2);
    raw_record(raw[0].fd, DWCP_RECORD_PING, "12345678", 8);
    sealed = end_wait_complete(&end) == 1 && dwcp_target_ready(end.target) == 0;
    if (sealed) {
        raw_record(raw[0].fd, DWCP_RECORD_GO, NULL, 0);
        sealed = end_wait_go(&end) == 1;
    }
    if (sealed) {
        memset(end.ram, 0xaa, PAGES * PAGE); /* the guest runs */
        raw_until_closed(raw[1].fd);
        for (i = 0; i < PAGES * PAGE; i += PAGE / 2) {
            g_assert_cmpuint(end.ram[i], ==, 0xaa);
        }
    }
    close(raw[0].fd);
    close(raw[1].fd);
    end_free(&end);
    return sealed;
}

static void test_seal(void)
{
    uint8_t *large = g_malloc(dwcp_frame_bytes_max(PAGE));
    size_t length = large_frame(large);
    Usage before = usage_now();
    unsigned i, sealed = 0;

    for (i = 0; i < kit_soak(60, 3000); i++) {
        sealed += attempt(large, length);
    }
    g_test_message("%u of %u attempts were sealed", sealed, i);
    usage_same(before);
    g_free(large);
    if (!sealed) {
        g_test_skip("no attempt was sealed, so there was nothing to see");
    }
}

/* The kernel looks for us: to the thread sanitizer it is no race. */
static void wait_for_byte(const uint8_t *at, uint8_t value)
{
    int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    uint8_t seen;

    g_assert_cmpint(fd, >=, 0);
    do {
        g_thread_yield();
        g_assert_cmpint(pread(fd, &seen, 1, (off_t)(uintptr_t)at), ==, 1);
    } while (seen != value);
    close(fd);
}

/* Half of a frame lies in memory when all numbers up to the last are applied:
 * nobody waits for the rest, which may come when the guest runs. */
static void test_half_landed(void)
{
    DwcpPages whole = { .number = 1, .count = 1,
                        .chunks = { { .present = 3 } } };
    DwcpPages again = { .number = 1, .count = 1,
                        .chunks = { { .present = 3, .zero = 3 } } };
    uint32_t head = dwcp_pages_head_bytes(1);
    uint8_t record[DWCP_RECORD_HEADER + DWCP_PAGES_HEADER + DWCP_PAGES_CHUNK];
    uint8_t *body = g_malloc(RAW_BODY_MAX), page[PAGE];
    Raw raw[2];
    End end;

    memset(page, 0x55, sizeof(page));
    begun(&end, raw);

    dwcp_record_encode(record, DWCP_RECORD_PAGES, head + 2 * PAGE);
    dwcp_pages_encode(record + DWCP_RECORD_HEADER, &whole);
    raw_send(raw[1].fd, record, sizeof(record));
    raw_send(raw[1].fd, page, PAGE);
    wait_for_byte(end.ram + PAGE - 1, 0x55);
    raw_pages(raw[0].fd, &again, NULL, 0);
    raw_expect(raw[0].fd, DWCP_RECORD_ACK, body);
    raw_record_u64(raw[0].fd, DWCP_RECORD_END, 1);
    g_assert_cmpint(end_wait_complete(&end), ==, 1);
    /* The same number again was written over what had landed before it. */
    g_assert_true(dwcp_page_is_zero(end.ram, 2 * PAGE));
    raw_send(raw[1].fd, page, PAGE);
    raw_expect(raw[1].fd, DWCP_RECORD_ACK, body);
    g_assert_true(dwcp_page_is_zero(end.ram, 2 * PAGE));
    close(raw[0].fd);
    close(raw[1].fd);
    end_free(&end);
    g_free(body);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/seal/half-landed", test_half_landed);
    g_test_add_func("/seal/late-frame", test_seal);
    return g_test_run();
}
