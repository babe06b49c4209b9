/*
 * io/landing: a raw frame's pages are received where they belong
 *
 * Proves that memory is the same as when the whole frame is applied at once,
 * wherever the bytes are cut, whether they were read before or are received
 * now; that what a newer number has described stays, however much of the older
 * frame has landed; and that bytes behind the frame are handed on.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/landing.h"

#define PAGE 1024u
#define PAGES 256u
#define AHEAD 64u

/* Chunks with a gap, one of zeros alone, a page named twice, a short end. */
static const DwcpPages frame = {
    .number = 10,
    .count = 4,
    .chunks = { { .chunk = 1, .present = 0x3f, .zero = 0x08 },
                { .chunk = 0, .present = 0x03, .zero = 0x03 },
                { .chunk = 1, .present = 0x30 },
                { .chunk = 3, .present = 1ull << 63 | 1 } },
};
#define PLAIN 9u /* pages of its payload */

typedef struct Stage {
    DwcpGuestRam ram;
    DwcpLanding *landing;
    uint8_t *host;
    uint8_t payload[PLAIN * PAGE + AHEAD];
    int fd; /* what is sent here */
    DwcpTcp tcp; /* is received there */
} Stage;

static void ram_up(DwcpGuestRam *ram, uint8_t *host)
{
    uint64_t bytes;

    memset(host, 0xee, PAGES * PAGE);
    dwcp_guestram_init(ram, PAGE);
    g_assert_cmpint(dwcp_guestram_add(ram, host, PAGES * PAGE, &bytes, NULL),
                    ==, 0);
}

static void stage_up(Stage *stage)
{
    unsigned i;
    int fds[2];

    stage->host = g_malloc(PAGES * PAGE);
    ram_up(&stage->ram, stage->host);
    for (i = 0; i < sizeof(stage->payload); i++) {
        stage->payload[i] = (uint8_t)(i / PAGE * 16 + i % 13 + 1);
    }
    stage->landing = dwcp_landing_new(&stage->ram);
    g_assert_nonnull(stage->landing);
    g_assert_cmpuint(dwcp_landing_bytes(stage->landing), >=, PAGE);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    stage->fd = fds[0];
    (void)dwcp_tcp_init(&stage->tcp);
    stage->tcp.fd = fds[1];
    dwcp_landing_start(stage->landing, &frame);
    g_assert_cmpuint(stage->landing->left, ==, PLAIN * PAGE);
}

static void stage_free(Stage *stage)
{
    close(stage->fd);
    stage->tcp.base.ops->close(&stage->tcp.base);
    dwcp_landing_free(stage->landing);
    dwcp_guestram_clear(&stage->ram);
    g_free(stage->host);
}

/* Applies @count frames at once; the stage must look the same. */
static void same_as(Stage *stage, const DwcpPages *const *frames,
                    const uint8_t *const *payloads, unsigned count)
{
    uint8_t *host = g_malloc(PAGES * PAGE);
    DwcpGuestRam ram;
    unsigned i;

    ram_up(&ram, host);
    for (i = 0; i < count; i++) {
        dwcp_guestram_apply(&ram, frames[i], payloads[i]);
    }
    g_assert_cmpmem(stage->host, PAGES * PAGE, host, PAGES * PAGE);
    g_assert_cmpmem(stage->ram.blocks[0].applied, PAGES * sizeof(uint32_t),
                    ram.blocks[0].applied, PAGES * sizeof(uint32_t));
    g_assert_cmpuint(stage->ram.raw_pages, ==, ram.raw_pages);
    g_assert_cmpuint(stage->ram.zero_pages, ==, ram.zero_pages);
    dwcp_guestram_clear(&ram);
    g_free(host);
}

/* Sends @length bytes from @at on and lets them land. */
static void land(Stage *stage, size_t at, size_t length)
{
    uint8_t ahead[AHEAD];
    size_t got = 0, here;
    ssize_t n;

    g_assert_cmpint(send(stage->fd, stage->payload + at, length, 0), ==,
                    (ssize_t)length);
    while (got < length) {
        n = dwcp_landing_receive(stage->landing, &stage->tcp.base, ahead,
                                 sizeof(ahead), &here);
        g_assert_cmpint(n, >, 0);
        g_assert_cmpuint(here, ==, 0);
        got += (size_t)n;
    }
    g_assert_cmpuint(stage->landing->left, ==, PLAIN * PAGE - at - length);
}

static void test_cut(void)
{
    static const DwcpPages *frames[] = { &frame };
    const uint8_t *payloads[1];
    unsigned copied;
    Stage stage;
    size_t cut;

    for (copied = 0; copied < 2; copied++) {
        for (cut = 1; cut < PLAIN * PAGE;
             cut += cut % PAGE == 1 ? PAGE - 2 : 1) {
            stage_up(&stage);
            if (copied) { /* what the buffer held, the rest from the socket */
                g_assert_cmpuint(dwcp_landing_copy(stage.landing,
                                                   stage.payload, cut),
                                 ==, cut);
            } else {
                land(&stage, 0, cut);
            }
            land(&stage, cut, PLAIN * PAGE - cut);
            dwcp_guestram_finish(&stage.ram, &frame);
            payloads[0] = stage.payload;
            same_as(&stage, frames, payloads, 1);
            stage_free(&stage);
        }
    }
}

/* Every page in turn is described anew when half of the frame has landed, at
 * each page's border and in the middle of each page. */
static void test_newer(void)
{
    DwcpPages newer = { .number = 14, .count = 1, .codec = DWCP_CODEC_ZSTD,
                        .chunks = { { .present = 1 } } };
    const DwcpPages *frames[] = { &frame, &newer };
    const uint8_t *payloads[2];
    uint8_t other[PAGE];
    unsigned page, i;
    Stage stage;
    size_t cut;

    memset(other, 0x99, sizeof(other));
    for (i = 0; i < 8; i++) {
        page = i < 6 ? i : i == 6 ? 128 : 129;
        newer.chunks[0].chunk = i < 6 ? 1 : 3;
        newer.chunks[0].present = i < 6 ? 1ull << page
                                        : i == 6 ? 1 : 1ull << 63;
        for (cut = PAGE / 2; cut < PLAIN * PAGE; cut += PAGE / 2) {
            stage_up(&stage);
            land(&stage, 0, cut);
            dwcp_guestram_apply(&stage.ram, &newer, other);
            land(&stage, cut, PLAIN * PAGE - cut);
            dwcp_guestram_finish(&stage.ram, &frame);
            payloads[0] = stage.payload;
            payloads[1] = other;
            same_as(&stage, frames, payloads, 2);
            stage_free(&stage);
        }
    }
}

/* What is older than a frame that has begun to land comes too late. */
static void test_older(void)
{
    DwcpPages older = { .number = 9, .count = 1, .codec = DWCP_CODEC_ZSTD,
                        .chunks = { { .chunk = 1, .present = 0x47 } } };
    const DwcpPages *frames[] = { &older, &frame };
    const uint8_t *payloads[2];
    uint8_t other[4 * PAGE];
    Stage stage;

    memset(other, 0x99, sizeof(other));
    stage_up(&stage);
    land(&stage, 0, PAGE / 2);
    dwcp_guestram_apply(&stage.ram, &older, other);
    land(&stage, PAGE / 2, PLAIN * PAGE - PAGE / 2);
    dwcp_guestram_finish(&stage.ram, &frame);
    payloads[0] = other;
    payloads[1] = stage.payload;
    same_as(&stage, frames, payloads, 2);
    stage_free(&stage);
}

static void test_ahead(void)
{
    size_t got = 0, here = 0;
    uint8_t ahead[AHEAD];
    ssize_t n = 0;
    Stage stage;

    stage_up(&stage);
    g_assert_cmpint(dwcp_landing_receive(stage.landing, &stage.tcp.base, ahead,
                                         sizeof(ahead), &here),
                    ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
    g_assert_cmpint(send(stage.fd, stage.payload, sizeof(stage.payload), 0),
                    ==, (ssize_t)sizeof(stage.payload));
    while (stage.landing->left) {
        g_assert_cmpuint(here, ==, 0);
        n = dwcp_landing_receive(stage.landing, &stage.tcp.base, ahead, 10,
                                 &here);
        g_assert_cmpint(n, >, 0);
        got += (size_t)n;
    }
    g_assert_cmpuint(here, ==, 10);
    g_assert_cmpuint(got, ==, PLAIN * PAGE + 10);
    g_assert_cmpmem(ahead, 10, stage.payload + PLAIN * PAGE, 10);
    /* From a buffer only the frame's own bytes are taken. */
    dwcp_landing_start(stage.landing, &frame);
    g_assert_cmpuint(dwcp_landing_copy(stage.landing, stage.payload,
                                       sizeof(stage.payload)),
                     ==, PLAIN * PAGE);
    g_assert_cmpuint(stage.landing->left, ==, 0);
    stage_free(&stage);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/landing/cut", test_cut);
    g_test_add_func("/landing/newer", test_newer);
    g_test_add_func("/landing/older", test_older);
    g_test_add_func("/landing/ahead", test_ahead);
    return g_test_run();
}
