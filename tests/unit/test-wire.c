/*
 * core/wire: record headers and PAGES heads
 *
 * Proves that each record's bytes are those of tests/golden, that every
 * length at the edge of what a type allows is judged right on both sides, and
 * that no single flipped byte of a header turns it into something that a
 * decoder would misread.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/wire.h"
#include "golden.h"

#define PAGE 4096u

/* One chunk of zeros; 64 chunks and the most that may stand behind them. */
#define PAGES_MIN 64u
#define PAGES_MAX(page_size)                                                   \
    (32u + 64u * 32u + MAX(2u << 20, 64u * (page_size)))

static const struct {
    const char *name;
    uint32_t length_min, length_max;
} shapes[] = {
    [DWCP_RECORD_PAGES] = { "pages", PAGES_MIN, PAGES_MAX(PAGE) },
    [DWCP_RECORD_ACK] = { "ack", 8, 8 },
    [DWCP_RECORD_CHANNEL] = { "channel", 3, 2 + 65536 },
    [DWCP_RECORD_WINDOW] = { "window", 10, 10 },
    [DWCP_RECORD_CHANNEL_EOF] = { "channel-eof", 2, 2 },
    [DWCP_RECORD_BEGIN] = { "begin", 4, 4 },
    [DWCP_RECORD_END] = { "end", 8, 8 },
    [DWCP_RECORD_READY] = { "ready", 0, 0 },
    [DWCP_RECORD_GO] = { "go", 0, 0 },
    [DWCP_RECORD_SEALED] = { "sealed", 0, 0 },
    [DWCP_RECORD_PING] = { "ping", 8, 8 },
    [DWCP_RECORD_PONG] = { "pong", 8, 8 },
    [DWCP_RECORD_ABORT] = { "abort", 4, 204 },
    [DWCP_RECORD_RESUME] = { "resume", 18, 18 },
    [DWCP_RECORD_RDMA_ASK] = { "rdma-ask", 0, 0 },
    [DWCP_RECORD_RDMA_OFFER] = { "rdma-offer", 24, 24 },
    [DWCP_RECORD_RDMA_DOWN] = { "rdma-down", 8, 208 },
};

static void header(uint8_t *out, uint8_t type, uint32_t length)
{
    memset(out, 0, DWCP_RECORD_HEADER);
    out[0] = type;
    dwcp_put_le32(out + 4, length);
}

static int decode(const uint8_t *in, DwcpRecord *out)
{
    DwcpError err = { 0 };
    int rc = dwcp_record_decode(in, PAGE, out, &err);

    g_assert_cmpint(err.code, ==, rc);
    return rc;
}

static void test_golden(void)
{
    uint8_t bytes[16];
    char name[32];
    unsigned type;

    for (type = 1; type < G_N_ELEMENTS(shapes); type++) {
        dwcp_record_encode(bytes, (DwcpRecordType)type,
                           shapes[type].length_max);
        g_snprintf(name, sizeof(name), "record-%s", shapes[type].name);
        golden_check(name, bytes, DWCP_RECORD_HEADER);
    }
}

static void test_lengths(void)
{
    DwcpRecord record;
    uint8_t bytes[DWCP_RECORD_HEADER];
    unsigned type;

    for (type = 1; type < G_N_ELEMENTS(shapes); type++) {
        uint32_t least = shapes[type].length_min;
        uint32_t most = shapes[type].length_max;

        header(bytes, (uint8_t)type, least);
        g_assert_cmpint(decode(bytes, &record), ==, 0);
        g_assert_cmpuint(record.type, ==, type);
        g_assert_cmpuint(record.length, ==, least);
        header(bytes, (uint8_t)type, most);
        g_assert_cmpint(decode(bytes, &record), ==, 0);
        g_assert_cmpuint(record.length, ==, most);
        if (least) {
            header(bytes, (uint8_t)type, least - 1);
            g_assert_cmpint(decode(bytes, &record), ==, -EPROTO);
        }
        header(bytes, (uint8_t)type, most + 1);
        g_assert_cmpint(decode(bytes, &record), ==, -EPROTO);
        header(bytes, (uint8_t)type, UINT32_MAX);
        g_assert_cmpint(decode(bytes, &record), ==, -EPROTO);
    }
}

/* The largest page makes the largest record, still without overflow. */
static void test_page_sizes(void)
{
    static const uint32_t sizes[] = { 1024, 4096, 65536 };
    uint8_t bytes[DWCP_RECORD_HEADER];
    DwcpRecord record;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        header(bytes, DWCP_RECORD_PAGES, PAGES_MAX(sizes[i]));
        g_assert_cmpint(dwcp_record_decode(bytes, sizes[i], &record, NULL), ==,
                        0);
        header(bytes, DWCP_RECORD_PAGES, PAGES_MAX(sizes[i]) + 1);
        g_assert_cmpint(dwcp_record_decode(bytes, sizes[i], &record, NULL), ==,
                        -EPROTO);
    }
}

static void test_types(void)
{
    uint8_t bytes[DWCP_RECORD_HEADER];
    DwcpRecord record;
    unsigned type, at, bit;

    for (type = 0; type < 256; type++) {
        header(bytes, (uint8_t)type, 8);
        if (type == 0 || type >= G_N_ELEMENTS(shapes)) {
            g_assert_cmpint(decode(bytes, &record), ==, -EPROTO);
        }
    }
    /* Flags and reserved bytes are for later versions: each is refused. */
    for (at = 1; at < 4; at++) {
        for (bit = 0; bit < 8; bit++) {
            header(bytes, DWCP_RECORD_ACK, 8);
            bytes[at] = (uint8_t)(1u << bit);
            g_assert_cmpint(decode(bytes, &record), ==, -EPROTO);
        }
    }
}

/* Every byte of every header, every value: refused, or a lawful record. */
static void test_flipped(void)
{
    uint8_t bytes[DWCP_RECORD_HEADER];
    DwcpRecord record;
    unsigned type, at, value;

    for (type = 1; type < G_N_ELEMENTS(shapes); type++) {
        for (at = 0; at < DWCP_RECORD_HEADER; at++) {
            for (value = 0; value < 256; value++) {
                header(bytes, (uint8_t)type, shapes[type].length_min);
                bytes[at] = (uint8_t)value;
                if (decode(bytes, &record) == 0) {
                    g_assert_cmpuint(record.type, ==, bytes[0]);
                    g_assert_cmpuint(record.length, >=,
                                     shapes[record.type].length_min);
                    g_assert_cmpuint(record.length, <=,
                                     shapes[record.type].length_max);
                }
            }
        }
    }
}

/* ------------------------------------------------------------- PAGES -- */

#define HEAD_BYTES 96u /* of two chunks */
#define PAYLOAD (3u * PAGE)

static const DwcpPages sample = {
    .number = 0x01020304,
    .codec = DWCP_CODEC_RAW,
    .count = 2,
    .chunks = { { .block = 0x21222324,
                  .chunk = 0x31323334,
                  .round = 0x11121314,
                  .present = 0x8000000000000003,
                  .zero = 0x0000000000000002 },
                { .block = 7, .chunk = 8, .round = 9, .present = 1 } },
};

static int pages_decode(const uint8_t *in, uint32_t length, DwcpPages *out)
{
    DwcpError err = { 0 };
    int rc = dwcp_pages_decode(in, length, PAGE, out, &err);

    g_assert_cmpint(err.code, ==, rc);
    return rc;
}

static void test_pages_golden(void)
{
    uint8_t bytes[HEAD_BYTES + PAYLOAD] = { 0 };
    DwcpPages got;
    unsigned i;

    dwcp_pages_encode(bytes, &sample);
    golden_check("pages-head", bytes, HEAD_BYTES);
    g_assert_cmpuint(dwcp_pages_head_bytes(2), ==, HEAD_BYTES);
    g_assert_cmpuint(dwcp_pages_plain(&sample), ==, 3);
    g_assert_cmpuint(dwcp_pages_present(&sample), ==, 4);
    g_assert_cmpint(pages_decode(bytes, HEAD_BYTES + PAYLOAD, &got), ==, 0);
    g_assert_cmpuint(got.number, ==, sample.number);
    g_assert_cmpuint(got.codec, ==, sample.codec);
    g_assert_cmpuint(got.count, ==, sample.count);
    for (i = 0; i < 2; i++) {
        g_assert_cmpuint(got.chunks[i].block, ==, sample.chunks[i].block);
        g_assert_cmpuint(got.chunks[i].chunk, ==, sample.chunks[i].chunk);
        g_assert_cmpuint(got.chunks[i].round, ==, sample.chunks[i].round);
        g_assert_cmpuint(got.chunks[i].present, ==, sample.chunks[i].present);
        g_assert_cmpuint(got.chunks[i].zero, ==, sample.chunks[i].zero);
    }
}

/* A frame of one chunk, written by hand: the encoder asserts that its user is
 * sane. */
static int one(uint64_t number, unsigned count, unsigned codec,
               uint64_t present, uint64_t zero, uint32_t payload)
{
    uint8_t bytes[64] = { 0 };
    DwcpPages got;

    dwcp_put_le64(bytes, number);
    dwcp_put_le16(bytes + 8, (uint16_t)count);
    bytes[10] = (uint8_t)codec;
    dwcp_put_le64(bytes + 48, present);
    dwcp_put_le64(bytes + 56, zero);
    return pages_decode(bytes, 64 + payload, &got);
}

static void test_pages_limits(void)
{
    const uint64_t all = UINT64_MAX;

    g_assert_cmpint(one(1, 1, 0, 1, 0, PAGE), ==, 0);
    g_assert_cmpint(one(1, 1, 0, 1, 0, PAGE - 1), ==, -EPROTO);
    g_assert_cmpint(one(1, 1, 0, 1, 0, PAGE + 1), ==, -EPROTO);
    g_assert_cmpint(one(0, 1, 0, 1, 0, PAGE), ==, -EPROTO);
    g_assert_cmpint(one(DWCP_NUMBERS_MAX, 1, 0, 1, 0, PAGE), ==, 0);
    g_assert_cmpint(one(DWCP_NUMBERS_MAX + 1ull, 1, 0, 1, 0, PAGE), ==,
                    -EPROTO);
    g_assert_cmpint(one(UINT64_MAX, 1, 0, 1, 0, PAGE), ==, -EPROTO);
    g_assert_cmpint(one(1, 0, 0, 1, 0, PAGE), ==, -EPROTO);
    g_assert_cmpint(one(1, 0, 0, 0, 0, 0), ==, -EPROTO);

    g_assert_cmpint(one(1, 1, 0, 0, 0, 0), ==, -EPROTO);
    g_assert_cmpint(one(1, 1, 0, all, all, 0), ==, 0);
    g_assert_cmpint(one(1, 1, 0, all, all, 1), ==, -EPROTO);
    g_assert_cmpint(one(1, 1, 0, all, 0, 64 * PAGE), ==, 0);
    g_assert_cmpint(one(1, 1, 0, 1, 2, PAGE), ==, -EPROTO);
    g_assert_cmpint(one(1, 1, 0, 3, 4, 2 * PAGE), ==, -EPROTO);

    g_assert_cmpint(one(1, 1, 1, 1, 0, 0), ==, -EPROTO);
    g_assert_cmpint(one(1, 1, 1, 1, 0, 1), ==, 0);
    g_assert_cmpint(one(1, 1, 1, 1, 0, PAGE - 1), ==, 0);
    g_assert_cmpint(one(1, 1, 1, 1, 0, PAGE), ==, -EPROTO);
    g_assert_cmpint(one(1, 1, 1, all, all, 0), ==, -EPROTO);
    g_assert_cmpint(one(1, 1, 2, 1, 0, PAGE), ==, -EPROTO);
    g_assert_cmpint(one(1, 1, 255, 1, 0, PAGE), ==, -EPROTO);
}

/* Frames of @count chunks, each with these masks. */
static int many(uint64_t number, unsigned count, uint64_t present,
                uint64_t zero, uint32_t length)
{
    uint8_t *bytes = g_malloc0(length);
    DwcpPages got;
    unsigned i;
    int rc;

    dwcp_put_le64(bytes, number);
    dwcp_put_le16(bytes + 8, (uint16_t)count);
    for (i = 0; 64 + 32 * i <= length && i < count; i++) {
        dwcp_put_le64(bytes + 48 + 32 * (size_t)i, present);
        dwcp_put_le64(bytes + 56 + 32 * (size_t)i, zero);
    }
    rc = pages_decode(bytes, length, &got);
    g_free(bytes);
    return rc;
}

static void test_pages_count(void)
{
    const uint64_t all = UINT64_MAX;
    const uint32_t most = DWCP_FRAME_PLAIN_MAX;

    g_assert_cmpint(many(1, 64, all, all, 32 + 64 * 32), ==, 0);
    g_assert_cmpint(many(1, 65, all, all, 32 + 65 * 32), ==, -EPROTO);
    g_assert_cmpint(many(1, 0xffff, all, all, 32 + 0xffff * 32), ==, -EPROTO);
    /* Descriptors that are announced but not there. */
    g_assert_cmpint(many(1, 64, all, all, 32 + 63 * 32), ==, -EPROTO);
    g_assert_cmpint(many(1, 2, all, all, 32), ==, -EPROTO);
    g_assert_cmpint(many(1, 1, all, all, 63), ==, -EPROTO);
    /* The last number counts, not the first. */
    g_assert_cmpint(many(DWCP_NUMBERS_MAX - 63, 64, all, all, 32 + 64 * 32),
                    ==, 0);
    g_assert_cmpint(many(DWCP_NUMBERS_MAX - 62, 64, all, all, 32 + 64 * 32),
                    ==, -EPROTO);
    /* 2 MiB of pages are 8 full chunks; one page more is too much. */
    g_assert_cmpint(many(1, 8, all, 0, 32 + 8 * 32 + most), ==, 0);
    g_assert_cmpint(many(1, 9, all, 0, 32 + 9 * 32 + 9 * 64 * PAGE), ==,
                    -EPROTO);
    g_assert_cmpuint(dwcp_plain_bytes_max(1024), ==, most);
    g_assert_cmpuint(dwcp_plain_bytes_max(65536), ==, 64 * 65536);
}

/* Every byte of the head, every value: refused, or a lawful description. */
static void test_pages_flipped(void)
{
    uint8_t *bytes = g_malloc0(HEAD_BYTES + PAYLOAD);
    unsigned at, value, i;
    DwcpPages got;

    for (at = 0; at < HEAD_BYTES; at++) {
        for (value = 1; value < 256; value++) {
            dwcp_pages_encode(bytes, &sample);
            bytes[at] ^= (uint8_t)value;
            if (pages_decode(bytes, HEAD_BYTES + PAYLOAD, &got) < 0) {
                continue;
            }
            g_assert_cmpuint(got.number, >, 0);
            g_assert_cmpuint(got.number, <, DWCP_NUMBERS_MAX);
            for (i = 0; i < got.count; i++) {
                g_assert_cmpuint(got.chunks[i].zero & ~got.chunks[i].present,
                                 ==, 0);
                g_assert_cmpuint(got.chunks[i].present, !=, 0);
            }
            if (got.codec == DWCP_CODEC_RAW) {
                g_assert_cmpuint(dwcp_pages_plain(&got), ==, 3);
            } else {
                g_assert_cmpuint(dwcp_pages_plain(&got), >, 3);
            }
            g_assert_false(at > 10 && at < 32); /* reserved */
            g_assert_false(at >= 44 && at < 48);
        }
    }
    g_free(bytes);
}

/* Every type from either side, on stream 0 and another: docs/wire.md's table. */
static void test_where(void)
{
    static const struct {
        DwcpRecordType type;
        const char *from; /* of source and target */
        bool any_stream;
    } rows[] = {
        { DWCP_RECORD_PAGES, "s", true },
        { DWCP_RECORD_ACK, "t", true },
        { DWCP_RECORD_CHANNEL, "st", false },
        { DWCP_RECORD_WINDOW, "st", false },
        { DWCP_RECORD_CHANNEL_EOF, "st", false },
        { DWCP_RECORD_BEGIN, "t", false },
        { DWCP_RECORD_END, "s", false },
        { DWCP_RECORD_READY, "t", false },
        { DWCP_RECORD_GO, "s", false },
        { DWCP_RECORD_SEALED, "t", false },
        { DWCP_RECORD_PING, "s", false },
        { DWCP_RECORD_PONG, "t", false },
        { DWCP_RECORD_ABORT, "st", true },
    };
    DwcpError err = { 0 };
    unsigned i, stream;
    bool allowed;
    int source;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (source = 0; source < 2; source++) {
            for (stream = 0; stream < 3; stream++) {
                allowed = strchr(rows[i].from, source ? 's' : 't') &&
                          (stream == 0 || rows[i].any_stream);
                g_assert_cmpint(dwcp_record_check(rows[i].type, source, stream,
                                                  &err),
                                ==, allowed ? 0 : -EPROTO);
            }
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/record/golden", test_golden);
    g_test_add_func("/wire/record/lengths", test_lengths);
    g_test_add_func("/wire/record/page-sizes", test_page_sizes);
    g_test_add_func("/wire/record/types", test_types);
    g_test_add_func("/wire/record/flipped", test_flipped);
    g_test_add_func("/wire/pages/golden", test_pages_golden);
    g_test_add_func("/wire/pages/limits", test_pages_limits);
    g_test_add_func("/wire/pages/count", test_pages_count);
    g_test_add_func("/wire/pages/flipped", test_pages_flipped);
    g_test_add_func("/wire/where", test_where);
    return g_test_run();
}
