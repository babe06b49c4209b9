/*
 * core/lane: the messages of the RDMA lane
 *
 * Proves that each message's bytes are those of tests/golden and come back as
 * they were, that a message is refused from the wrong side, with a length that
 * is not its own, with a bit set that means nothing, or with credits that it
 * cannot give; and that a connection with anything but this session's token is
 * turned away.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/codec.h"
#include "core/lane.h"
#include "golden.h"

#define PAGE 4096u

static uint8_t bytes[DWCP_LANE_PAGES_BYTES_MAX + 64];

static int decode(uint32_t length, bool from_source, DwcpLaneMessage *out)
{
    DwcpError err = { 0 };
    /* of just this size, so that a sanitizer sees what is read beyond */
    uint8_t *copy = g_memdup2(bytes, length ? length : 1);
    int rc = dwcp_lane_decode(copy, length, from_source, PAGE, out, &err);

    g_free(copy);
    g_assert_cmpint(err.code, ==, rc);
    return rc;
}

static const struct {
    const char *name;
    bool from_source;
    DwcpLaneMessage message;
} samples[] = {
    { "lane-register", true,
      { .type = DWCP_LANE_REGISTER, .block = 0x01020304, .piece = 0x11121314,
        .bytes = 0x21222324 } },
    { "lane-registered", false,
      { .type = DWCP_LANE_REGISTERED, .credits = 3, .block = 1, .piece = 2,
        .bytes = 4096, .rkey = 0x31323334, .address = 0x4142434445464748 } },
    { "lane-ack", false,
      { .type = DWCP_LANE_ACK, .credits = 64, .frames = 0x5152535455565758 } },
};

static void test_golden(void)
{
    DwcpLaneMessage got;
    uint32_t length;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(samples); i++) {
        length = dwcp_lane_encode(bytes, &samples[i].message);
        golden_check(samples[i].name, bytes, length);
        memset(&got, 0, sizeof(got));
        g_assert_cmpint(decode(length, samples[i].from_source, &got), ==, 0);
        g_assert_cmpmem(&got, sizeof(got), &samples[i].message, sizeof(got));
    }
}

/* What is right is refused from the other side, shorter, longer, and with any
 * bit of the header's reserved bytes. */
static void test_refused(void)
{
    DwcpLaneMessage got;
    uint32_t length, n;
    unsigned i, at;

    for (i = 0; i < G_N_ELEMENTS(samples); i++) {
        length = dwcp_lane_encode(bytes, &samples[i].message);
        g_assert_cmpint(decode(length, !samples[i].from_source, &got), ==,
                        -EPROTO);
        for (n = 0; n < length + 9; n++) {
            g_assert_cmpint(decode(n, samples[i].from_source, &got), ==,
                            n == length ? 0 : -EPROTO);
        }
        for (at = 0; at < 64; at++) {
            if (at / 8 == 1 || at / 8 >= 4) {
                bytes[at / 8] ^= (uint8_t)(1u << (at % 8));
                g_assert_cmpint(decode(length, samples[i].from_source, &got),
                                ==, -EPROTO);
                bytes[at / 8] ^= (uint8_t)(1u << (at % 8));
            }
        }
    }
    (void)dwcp_lane_encode(bytes, &samples[0].message);
    bytes[DWCP_LANE_HEADER + 12] = 1; /* where an answer has its key */
    g_assert_cmpint(decode(DWCP_LANE_REGISTER_BYTES, true, &got), ==, -EPROTO);
}

/* Each answer gives credits back, and not more than there are. */
static void test_credits(void)
{
    DwcpLaneMessage message = { .type = DWCP_LANE_ACK }, got;
    uint32_t length;
    unsigned n;

    for (n = 0; n < 70; n++) {
        message.credits = n;
        length = dwcp_lane_encode(bytes, &message);
        g_assert_cmpint(decode(length, false, &got), ==,
                        n >= 1 && n <= DWCP_LANE_CREDITS ? 0 : -EPROTO);
    }
    message = (DwcpLaneMessage){ .type = DWCP_LANE_REGISTER, .credits = 1 };
    length = dwcp_lane_encode(bytes, &message);
    g_assert_cmpint(decode(length, true, &got), ==, -EPROTO);
}

static uint32_t pages_of(unsigned count)
{
    static uint8_t ram[PAGE * DWCP_CHUNK_PAGES];
    const uint8_t *hosts[DWCP_FRAME_CHUNKS_MAX];
    struct iovec guest[512];
    uint8_t head[DWCP_RECORD_HEADER + DWCP_PAGES_HEADER +
                 DWCP_PAGES_CHUNK * DWCP_FRAME_CHUNKS_MAX];
    DwcpPages pages = { .number = 5, .count = count };
    unsigned i, parts;
    size_t n;

    memset(ram + PAGE, 1, PAGE);
    for (i = 0; i < count; i++) {
        hosts[i] = ram;
        pages.chunks[i] = (DwcpChunk){ .chunk = i, .present = 7 };
    }
    n = dwcp_encode_raw(hosts, &pages, PAGE, head, guest, &parts);
    return dwcp_lane_encode_pages(bytes, head, n);
}

/* A raw frame's head as TCP has it, without the pages. */
static void test_pages(void)
{
    DwcpLaneMessage got;
    uint32_t length, n;
    unsigned count;

    for (count = 1; count <= DWCP_FRAME_CHUNKS_MAX; count += 21) {
        length = pages_of(count);
        g_assert_cmpint(decode(length, true, &got), ==, 0);
        g_assert_cmpuint(got.type, ==, DWCP_LANE_PAGES);
        g_assert_cmpuint(got.pages.number, ==, 5);
        g_assert_cmpuint(got.pages.count, ==, count);
        g_assert_cmpuint(dwcp_pages_plain(&got.pages), ==, count);
        g_assert_cmpint(decode(length, false, &got), ==, -EPROTO);
        for (n = 0; n < length + 40; n += 4) {
            g_assert_cmpint(decode(n, true, &got), ==,
                            n == length ? 0 : -EPROTO);
        }
    }
    length = pages_of(64);
    g_assert_cmpuint(length, ==, DWCP_LANE_PAGES_BYTES_MAX);

    length = pages_of(2);
    bytes[DWCP_LANE_HEADER] = DWCP_RECORD_ACK;
    g_assert_cmpint(decode(length, true, &got), ==, -EPROTO);
    length = pages_of(2);
    bytes[DWCP_LANE_HEADER + DWCP_RECORD_HEADER + 10] = DWCP_CODEC_ZSTD;
    dwcp_put_le32(bytes + DWCP_LANE_HEADER + 4, 96 + 100); /* as zstd might */
    g_assert_cmpint(decode(length, true, &got), ==, -EPROTO);
    length = pages_of(2); /* a page more than the record says */
    bytes[DWCP_LANE_HEADER + DWCP_RECORD_HEADER + 32 + 24] = 0;
    g_assert_cmpint(decode(length, true, &got), ==, -EPROTO);
}

static void test_offer(void)
{
    DwcpLaneOffer offer = { .port = 0x0102, .token = "0123456789abcde" }, got;
    uint8_t body[DWCP_LANE_OFFER_BODY];
    unsigned at;

    dwcp_lane_offer_encode(body, &offer);
    golden_check("rdma-offer", body, sizeof(body));
    g_assert_cmpint(dwcp_lane_offer_decode(body, &got, NULL), ==, 0);
    g_assert_cmpuint(got.port, ==, offer.port);
    g_assert_cmpmem(got.token, 16, offer.token, 16);
    for (at = 0; at < 8; at++) {
        if (at == 2 || at == 3) {
            continue;
        }
        body[at] ^= 0x40;
        g_assert_cmpint(dwcp_lane_offer_decode(body, &got, NULL), ==, -EPROTO);
        body[at] ^= 0x40;
    }
    body[2] = body[3] = 0;
    g_assert_cmpint(dwcp_lane_offer_decode(body, &got, NULL), ==, -EPROTO);
}

static void test_hello(void)
{
    static const uint8_t session[DWCP_SESSION_BYTES] = { 1, 2, 3 };
    static const uint8_t token[DWCP_LANE_TOKEN_BYTES] = { 9, 8, 7 };
    uint8_t hello[56] = { 0 };
    unsigned at;

    dwcp_lane_hello_encode(hello, session, token);
    golden_check("rdma-hello", hello, DWCP_LANE_HELLO_BYTES);
    /* InfiniBand delivers the whole field, zeros behind. */
    g_assert_cmpint(dwcp_lane_hello_check(hello, sizeof(hello), session, token,
                                          NULL),
                    ==, 0);
    g_assert_cmpint(dwcp_lane_hello_check(hello, DWCP_LANE_HELLO_BYTES, session,
                                          token, NULL),
                    ==, 0);
    g_assert_cmpint(dwcp_lane_hello_check(hello, DWCP_LANE_HELLO_BYTES - 1,
                                          session, token, NULL),
                    ==, -EACCES);
    g_assert_cmpint(dwcp_lane_hello_check(NULL, 0, session, token, NULL), ==,
                    -EACCES);
    for (at = 0; at < DWCP_LANE_HELLO_BYTES; at++) {
        hello[at] ^= 1;
        g_assert_cmpint(dwcp_lane_hello_check(hello, sizeof(hello), session,
                                              token, NULL),
                        ==, -EACCES);
        hello[at] ^= 1;
    }
}

static void test_down(void)
{
    DwcpLaneDown down = { .frames = 0x0102030405060708, .text = "cable cut" };
    uint8_t body[DWCP_LANE_DOWN_BODY_MAX];
    DwcpLaneDown got;
    uint32_t length = dwcp_lane_down_encode(body, &down);

    golden_check("rdma-down", body, length);
    dwcp_lane_down_decode(body, length, &got);
    g_assert_cmpuint(got.frames, ==, down.frames);
    g_assert_cmpstr(got.text, ==, "cable cut");
    body[9] = '\n';
    dwcp_lane_down_decode(body, length, &got);
    g_assert_cmpstr(got.text, ==, "c?ble cut");
    dwcp_lane_down_decode(body, 8, &got);
    g_assert_cmpstr(got.text, ==, "");
    memset(down.text, 'x', sizeof(down.text) - 1);
    length = dwcp_lane_down_encode(body, &down);
    g_assert_cmpuint(length, ==, sizeof(body));
    dwcp_lane_down_decode(body, length, &got);
    g_assert_cmpstr(got.text, ==, down.text);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lane/golden", test_golden);
    g_test_add_func("/lane/refused", test_refused);
    g_test_add_func("/lane/credits", test_credits);
    g_test_add_func("/lane/pages", test_pages);
    g_test_add_func("/lane/offer", test_offer);
    g_test_add_func("/lane/hello", test_hello);
    g_test_add_func("/lane/down", test_down);
    return g_test_run();
}
