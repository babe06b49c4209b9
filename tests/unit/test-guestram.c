/*
 * io/guestram: the newest description of each page wins
 *
 * Proves it for every order of arrival of overlapping frames, that untouched
 * pages stay untouched, that nothing outside a block can be named, and that
 * zeros do not allocate memory that was never written.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/codec.h"
#include "io/guestram.h"

#define PAGE 4096u

static uint8_t *map_pages(uint64_t pages)
{
    uint8_t *ram = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert(ram != MAP_FAILED);
    return ram;
}

static void test_add(void)
{
    uint8_t *host = map_pages(4);
    DwcpGuestRam ram;
    uint64_t bytes = 0;
    DwcpError err = { 0 };

    dwcp_guestram_init(&ram, PAGE);
    g_assert_cmpint(dwcp_guestram_add(&ram, NULL, PAGE, &bytes, &err), ==,
                    -EINVAL);
    g_assert_cmpint(dwcp_guestram_add(&ram, host, 0, &bytes, &err), ==,
                    -EINVAL);
    g_assert_cmpint(dwcp_guestram_add(&ram, host, PAGE + 1, &bytes, &err), ==,
                    -EINVAL);
    g_assert_cmpint(dwcp_guestram_add(&ram, host, UINT64_MAX & -(uint64_t)PAGE,
                                      &bytes, &err),
                    ==, -EINVAL);
    g_assert_cmpint(dwcp_guestram_add(&ram, host, PAGE, &bytes, &err), ==, 0);
    g_assert_cmpuint(bytes, ==, 4);
    g_assert_cmpint(dwcp_guestram_add(&ram, host + PAGE, 3 * PAGE, &bytes,
                                      &err),
                    ==, 1);
    dwcp_guestram_clear(&ram);
    munmap(host, 4 * PAGE);
}

static void test_check(void)
{
    uint8_t *host = map_pages(65);
    DwcpPages pages = { .number = 1, .count = 1,
                        .chunks = { { .present = UINT64_MAX } } };
    DwcpGuestRam ram;
    uint64_t bytes;
    DwcpError err = { 0 };

    dwcp_guestram_init(&ram, PAGE);
    g_assert_cmpint(dwcp_guestram_check(&ram, &pages, &err), ==, -EPROTO);
    g_assert_cmpint(dwcp_guestram_add(&ram, host, 65 * PAGE, &bytes, &err),
                    ==, 0);
    g_assert_cmpint(dwcp_guestram_check(&ram, &pages, &err), ==, 0);
    pages.chunks[0].block = 1;
    g_assert_cmpint(dwcp_guestram_check(&ram, &pages, &err), ==, -EPROTO);
    pages.chunks[0].block = UINT32_MAX;
    g_assert_cmpint(dwcp_guestram_check(&ram, &pages, &err), ==, -EPROTO);
    pages.chunks[0].block = 0;
    pages.chunks[0].chunk = 1; /* pages 64 to 127, of which one exists */
    g_assert_cmpint(dwcp_guestram_check(&ram, &pages, &err), ==, -EPROTO);
    pages.chunks[0].present = 1;
    g_assert_cmpint(dwcp_guestram_check(&ram, &pages, &err), ==, 0);
    pages.chunks[0].present = 2;
    g_assert_cmpint(dwcp_guestram_check(&ram, &pages, &err), ==, -EPROTO);
    pages.chunks[0].present = 1;
    pages.chunks[0].chunk = 2;
    g_assert_cmpint(dwcp_guestram_check(&ram, &pages, &err), ==, -EPROTO);
    pages.chunks[0].chunk = UINT32_MAX;
    g_assert_cmpint(dwcp_guestram_check(&ram, &pages, &err), ==, -EPROTO);
    dwcp_guestram_clear(&ram);
    munmap(host, 65 * PAGE);
}

static void apply(DwcpGuestRam *ram, const DwcpPages *pages, uint8_t value)
{
    uint8_t *plain = g_malloc((dwcp_pages_plain(pages) + 1) * (size_t)PAGE);

    memset(plain, value, dwcp_pages_plain(pages) * (size_t)PAGE);
    dwcp_guestram_apply(ram, pages, plain);
    g_free(plain);
}

/* Three frames, all six orders; each page must end with its newest. */
static void test_order(void)
{
    static const unsigned orders[6][3] = { { 0, 1, 2 }, { 0, 2, 1 },
                                           { 1, 0, 2 }, { 1, 2, 0 },
                                           { 2, 0, 1 }, { 2, 1, 0 } };
    static const DwcpPages frames[3] = {
        /* a a a a;   0 b  ;     c 0 */
        { .number = 1, .count = 1, .chunks = { { .present = 0x0f } } },
        { .number = 2, .count = 1,
          .chunks = { { .present = 0x06, .zero = 0x02 } } },
        { .number = 3, .count = 1,
          .chunks = { { .present = 0x0c, .zero = 0x08 } } },
    };
    static const uint8_t want[5] = { 0x11, 0, 0x33, 0, 0xee };
    DwcpGuestRam ram;
    uint64_t bytes;
    unsigned i, j;
    uint8_t *host;

    for (i = 0; i < 6; i++) {
        host = map_pages(5);
        memset(host, 0xee, 5 * PAGE);
        dwcp_guestram_init(&ram, PAGE);
        g_assert_cmpint(dwcp_guestram_add(&ram, host, 5 * PAGE, &bytes, NULL),
                        ==, 0);
        for (j = 0; j < 3; j++) {
            apply(&ram, &frames[orders[i][j]],
                  (uint8_t)(0x11 * (orders[i][j] + 1)));
        }
        for (j = 0; j < 5; j++) {
            g_assert_cmpuint(host[j * PAGE], ==, want[j]);
            g_assert_cmpuint(host[j * PAGE + PAGE - 1], ==, want[j]);
        }
        g_assert_cmpuint(ram.zero_pages, ==, 2);
        g_assert_cmpuint(ram.raw_pages, ==, 6);
        dwcp_guestram_clear(&ram);
        munmap(host, 5 * PAGE);
    }
}

/* Within a frame the chunks' numbers rise: the last of two wins, and the pages
 * of one that comes late are skipped in the payload, not taken for others. */
static void test_within_frame(void)
{
    uint8_t *host = map_pages(128), plain[3 * PAGE];
    DwcpPages pages = { .number = 10, .count = 3,
                        .chunks = { { .chunk = 1, .present = 1 },
                                    { .chunk = 0, .present = 2 },
                                    { .chunk = 1, .present = 1 } } };
    DwcpGuestRam ram;
    uint64_t bytes;

    dwcp_guestram_init(&ram, PAGE);
    g_assert_cmpint(dwcp_guestram_add(&ram, host, 128 * PAGE, &bytes, NULL),
                    ==, 0);
    memset(plain, 1, PAGE);
    memset(plain + PAGE, 2, PAGE);
    memset(plain + 2 * PAGE, 3, PAGE);
    dwcp_guestram_apply(&ram, &pages, plain);
    g_assert_cmpuint(host[64 * PAGE], ==, 3);
    g_assert_cmpuint(host[PAGE], ==, 2);
    pages.number = 9; /* now numbers 9, 10, 11 */
    memset(plain, 4, 3 * PAGE);
    dwcp_guestram_apply(&ram, &pages, plain);
    g_assert_cmpuint(host[64 * PAGE], ==, 3);
    g_assert_cmpuint(host[PAGE], ==, 2);
    pages.number = 11; /* 11, 12, 13 */
    dwcp_guestram_apply(&ram, &pages, plain);
    g_assert_cmpuint(host[64 * PAGE], ==, 4);
    g_assert_cmpuint(host[PAGE], ==, 4);
    pages.chunks[2].chunk = 2; /* the last of three does not exist */
    g_assert_cmpint(dwcp_guestram_check(&ram, &pages, NULL), ==, -EPROTO);
    dwcp_guestram_clear(&ram);
    munmap(host, 128 * PAGE);
}

/* The largest number that a session can have still beats the one before. */
static void test_last_number(void)
{
    uint8_t *host = map_pages(1);
    DwcpPages pages = { .number = DWCP_NUMBERS_MAX, .count = 1,
                        .chunks = { { .present = 1 } } };
    DwcpGuestRam ram;
    uint64_t bytes;

    dwcp_guestram_init(&ram, PAGE);
    g_assert_cmpint(dwcp_guestram_add(&ram, host, PAGE, &bytes, NULL), ==, 0);
    apply(&ram, &pages, 0x77);
    pages.number--;
    apply(&ram, &pages, 0x66);
    g_assert_cmpuint(host[0], ==, 0x77);
    dwcp_guestram_clear(&ram);
    munmap(host, PAGE);
}

static void test_zero_is_free(void)
{
    uint8_t *host = map_pages(64);
    DwcpPages pages = { .number = 1, .count = 1,
                        .chunks = { { .present = UINT64_MAX,
                                      .zero = UINT64_MAX } } };
    unsigned char there[64];
    DwcpGuestRam ram;
    uint64_t bytes;
    unsigned i;

    g_assert_cmpint(madvise(host, 64 * PAGE, MADV_NOHUGEPAGE), ==, 0);
    dwcp_guestram_init(&ram, PAGE);
    g_assert_cmpint(dwcp_guestram_add(&ram, host, 64 * PAGE, &bytes, NULL),
                    ==, 0);
    apply(&ram, &pages, 0);
    /* mincore knows no zero page: what stays is that writes do not happen,
     * which a read-only mapping proves. */
    g_assert_cmpint(mprotect(host, 64 * PAGE, PROT_READ), ==, 0);
    pages.number = 2;
    apply(&ram, &pages, 0);
    g_assert_cmpint(mincore(host, 64 * PAGE, there), ==, 0);
    for (i = 0; i < 64; i++) {
        g_assert_cmpuint(host[i * PAGE], ==, 0);
    }
    dwcp_guestram_clear(&ram);
    munmap(host, 64 * PAGE);
}

/* Half a page that a lost connection left is overwritten under its number. */
static void test_half(void)
{
    uint8_t *host = map_pages(64), page[PAGE], scratch[PAGE];
    struct iovec parts[DWCP_CHUNK_PAGES];
    DwcpPages pages = { .number = 5, .count = 1,
                        .chunks = { { .present = 1 } } };
    DwcpGuestRam ram;
    uint64_t bytes;
    DwcpError err = { 0 };

    dwcp_guestram_init(&ram, PAGE);
    g_assert_cmpint(dwcp_guestram_add(&ram, host, 64 * PAGE, &bytes, &err), ==,
                    0);
    memset(page, 7, sizeof(page));
    g_assert_cmpuint(dwcp_guestram_land(&ram, &pages.chunks[0], 5, 0, scratch,
                                        parts),
                     ==, 1);
    memset(parts[0].iov_base, 1, PAGE / 2);
    dwcp_guestram_landed(&ram, &pages.chunks[0]);
    dwcp_guestram_apply(&ram, &pages, page);
    g_assert_cmpmem(host, PAGE, page, PAGE);
    pages.number = 6;
    g_assert_cmpuint(dwcp_guestram_land(&ram, &pages.chunks[0], 6, 0, scratch,
                                        parts),
                     ==, 1);
    memset(parts[0].iov_base, 1, PAGE / 2);
    dwcp_guestram_landed(&ram, &pages.chunks[0]);
    pages.chunks[0].zero = 1;
    dwcp_guestram_apply(&ram, &pages, page);
    g_assert_true(dwcp_page_is_zero(host, PAGE));
    dwcp_guestram_clear(&ram);
    munmap(host, 64 * PAGE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guestram/add", test_add);
    g_test_add_func("/guestram/check", test_check);
    g_test_add_func("/guestram/order", test_order);
    g_test_add_func("/guestram/within-frame", test_within_frame);
    g_test_add_func("/guestram/last-number", test_last_number);
    g_test_add_func("/guestram/zero-is-free", test_zero_is_free);
    g_test_add_func("/guestram/half", test_half);
    return g_test_run();
}
