/*
 * core/codec: chunks of pages to PAGES records and back
 *
 * Proves that whatever mix of zero, text and random pages goes in comes out,
 * at each level and page size, within the record's limit; that what saves
 * nothing is sent raw; that yesterday's zstd bytes (tests/golden) decode; and
 * that a payload that was cut, changed, or decodes to another size is
 * refused, with the decoder good for the next.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "core/codec.h"
#include "golden.h"

/* of a frame with one chunk */
#define HEAD (DWCP_RECORD_HEADER + 64)

/* kind 0 zero, 1 text, 2 random */
static void fill_page(GRand *rnd, uint8_t *page, uint32_t size, unsigned kind)
{
    uint32_t i;

    for (i = 0; i < size; i++) {
        page[i] = kind == 0   ? 0
                  : kind == 1 ? (uint8_t)"the quick brown fox "[i % 20]
                              : (uint8_t)g_rand_int(rnd);
    }
}

/* Decodes a record as a target does; Returns: the plain pages or NULL. */
static const uint8_t *decoded(DwcpDecoder *decoder, const uint8_t *record,
                              size_t length, uint32_t page_size,
                              DwcpPages *pages)
{
    DwcpRecord head;
    const uint8_t *plain;
    DwcpError err = { 0 };
    size_t at;

    g_assert_cmpint(dwcp_record_decode(record, page_size, &head, &err), ==, 0);
    g_assert_cmpuint(head.length + DWCP_RECORD_HEADER, ==, length);
    g_assert_cmpint(dwcp_pages_decode(record + DWCP_RECORD_HEADER, head.length,
                                      page_size, pages, &err),
                    ==, 0);
    at = DWCP_RECORD_HEADER + dwcp_pages_head_bytes(pages->count);
    if (dwcp_decode_payload(decoder, pages, record + at,
                            (uint32_t)(length - at), &plain, &err) < 0) {
        g_assert_cmpint(err.code, ==, -EPROTO);
        return NULL;
    }
    return plain;
}

/* A frame at any level, as the socket would get it. */
static size_t encode(DwcpEncoder *encoder, const uint8_t *const *hosts,
                     DwcpPages *pages, uint32_t size, unsigned level,
                     uint8_t *out)
{
    g_autofree struct iovec *guest =
        g_new0(struct iovec, dwcp_raw_parts_max(size));
    unsigned count, i;
    size_t length;

    if (level) {
        return dwcp_encode_frame(encoder, hosts, pages, level, out);
    }
    length = dwcp_encode_raw(hosts, pages, size, out, guest, &count);
    g_assert_cmpuint(length, <=, dwcp_frame_head_bytes_max());
    g_assert_cmpuint(count, <=, dwcp_raw_parts_max(size));
    for (i = 0; i < count; i++) {
        memcpy(out + length, guest[i].iov_base, guest[i].iov_len);
        length += guest[i].iov_len;
    }
    return length;
}

static void round_trip(GRand *rnd, uint32_t size, unsigned level,
                       uint64_t present, const uint8_t *kinds)
{
    uint8_t *chunk = g_malloc(64 * (size_t)size);
    uint8_t *out = g_malloc(dwcp_frame_bytes_max(size));
    DwcpEncoder *encoder = dwcp_encoder_new(size);
    DwcpDecoder *decoder = dwcp_decoder_new(size);
    const uint8_t *hosts[1] = { chunk };
    DwcpPages pages = { .number = 5, .count = 1,
                        .chunks = { { 1, 2, 3, present, 0 } } };
    DwcpPages got;
    const uint8_t *plain;
    size_t length;
    unsigned i;

    for (i = 0; i < 64; i++) {
        fill_page(rnd, chunk + i * (size_t)size, size, kinds[i]);
    }
    g_assert_nonnull(encoder);
    g_assert_nonnull(decoder);
    length = encode(encoder, hosts, &pages, size, level, out);
    g_assert_cmpuint(length, <=, dwcp_frame_bytes_max(size));
    plain = decoded(decoder, out, length, size, &got);
    g_assert_nonnull(plain);
    g_assert_cmpuint(got.chunks[0].present, ==, present);
    for (i = 0; i < 64; i++) {
        if (!(present >> i & 1)) {
            continue;
        }
        g_assert_cmpint(got.chunks[0].zero >> i & 1, ==, kinds[i] == 0);
        if (kinds[i]) {
            g_assert_cmpmem(plain, size, chunk + i * (size_t)size, size);
            plain += size;
        }
    }
    dwcp_encoder_free(encoder);
    dwcp_decoder_free(decoder);
    g_free(out);
    g_free(chunk);
}

static void test_round_trip(void)
{
    static const uint32_t sizes[] = { 1024, 4096, 65536 };
    static const unsigned levels[] = { 0, 1, 3, 19 };
    GRand *rnd = g_rand_new_with_seed(7);
    uint8_t kinds[64];
    unsigned i, j, k, n;
    uint64_t present;

    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        for (j = 0; j < G_N_ELEMENTS(levels); j++) {
            if (sizes[i] == 65536 && levels[j] == 19) {
                continue; /* slow, and says nothing new */
            }
            for (n = 0; n < 4; n++) {
                for (k = 0; k < 64; k++) {
                    kinds[k] = (uint8_t)(n < 3 ? n
                                               : (unsigned)g_rand_int_range(
                                                     rnd, 0, 3));
                }
                present = n == 3 ? (uint64_t)g_rand_int(rnd) << 32 | 1
                                 : UINT64_MAX;
                round_trip(rnd, sizes[i], levels[j], present, kinds);
            }
            round_trip(rnd, sizes[i], levels[j], 1ull << 63, kinds);
        }
    }
    g_rand_free(rnd);
}

/* 64 chunks with a page each, from different places: in order, together. */
static void test_many(void)
{
    uint8_t *ram = g_malloc0(64 * 8192);
    uint8_t *out = g_malloc(dwcp_frame_bytes_max(4096));
    DwcpEncoder *encoder = dwcp_encoder_new(4096);
    DwcpDecoder *decoder = dwcp_decoder_new(4096);
    DwcpPages pages = { .number = 100, .count = 64 }, got;
    const uint8_t *hosts[64], *plain;
    size_t length;
    unsigned i;

    for (i = 0; i < 64; i++) {
        hosts[i] = ram + (63 - i) * 8192;
        memset(ram + (63 - i) * 8192 + 4096, (int)(i % 8), 4096);
        pages.chunks[i] = (DwcpChunk){ i, 1000 + i, 0, 2, 0 };
    }
    length = dwcp_encode_frame(encoder, hosts, &pages, 2, out);
    plain = decoded(decoder, out, length, 4096, &got);
    g_assert_nonnull(plain);
    g_assert_cmpuint(got.count, ==, 64);
    for (i = 0; i < 64; i++) {
        g_assert_cmpuint(got.chunks[i].block, ==, i);
        g_assert_cmpuint(got.chunks[i].chunk, ==, 1000 + i);
        g_assert_cmpuint(got.chunks[i].zero, ==, i % 8 ? 0 : 2);
        if (i % 8) {
            g_assert_cmpuint(plain[0], ==, i % 8);
            g_assert_cmpuint(plain[4095], ==, i % 8);
            plain += 4096;
        }
    }
    dwcp_encoder_free(encoder);
    dwcp_decoder_free(decoder);
    g_free(out);
    g_free(ram);
}

static void test_kinds(void)
{
    DwcpEncoder *encoder = dwcp_encoder_new(4096);
    uint8_t *chunk = g_malloc0(64 * 4096);
    uint8_t *out = g_malloc(dwcp_frame_bytes_max(4096));
    GRand *rnd = g_rand_new_with_seed(1);
    const uint8_t *hosts[1] = { chunk };
    DwcpPages pages = { .number = 1, .count = 1,
                        .chunks = { { .present = UINT64_MAX } } };
    unsigned i;

    /* Zeros need no payload. */
    g_assert_cmpuint(dwcp_encode_frame(encoder, hosts, &pages, 1, out), ==, HEAD);
    g_assert_cmpuint(pages.chunks[0].zero, ==, UINT64_MAX);
    g_assert_cmpint(pages.codec, ==, DWCP_CODEC_RAW);
    /* Random bytes are sent as they are. */
    for (i = 0; i < 64; i++) {
        fill_page(rnd, chunk + i * 4096, 4096, 2);
    }
    g_assert_cmpuint(dwcp_encode_frame(encoder, hosts, &pages, 1, out), ==,
                     HEAD + 64 * 4096);
    g_assert_cmpint(pages.codec, ==, DWCP_CODEC_RAW);
    g_assert_cmpmem(out + HEAD, 64 * 4096, chunk, 64 * 4096);
    /* Without compression neighbours are one part, and nothing is copied. */
    {
        struct iovec guest[512];
        unsigned count;

        g_assert_cmpuint(dwcp_encode_raw(hosts, &pages, 4096, out, guest,
                                         &count),
                         ==, HEAD);
        g_assert_cmpuint(count, ==, 1);
        g_assert_true(guest[0].iov_base == chunk);
        g_assert_cmpuint(guest[0].iov_len, ==, 64 * 4096);
    }
    /* Text is compressed, pages together: the second costs next to nothing. */
    for (i = 0; i < 64; i++) {
        fill_page(rnd, chunk + i * 4096, 4096, 1);
    }
    g_assert_cmpuint(dwcp_encode_frame(encoder, hosts, &pages, 1, out), <, 1024);
    g_assert_cmpint(pages.codec, ==, DWCP_CODEC_ZSTD);
    g_assert_cmpuint(pages.chunks[0].zero, ==, 0);
    g_assert_cmpuint(dwcp_encoder_bytes(encoder), >, 64 * 4096);
    dwcp_encoder_free(encoder);
    dwcp_encoder_free(NULL);
    dwcp_decoder_free(NULL);
    g_rand_free(rnd);
    g_free(out);
    g_free(chunk);
}

/* A page is zero only if every byte of it is. */
static void test_zero(void)
{
    uint8_t *page = g_malloc0(65536);
    uint32_t size, at;

    for (size = 1024; size <= 65536; size *= 2) {
        g_assert_true(dwcp_page_is_zero(page, size));
        for (at = 0; at < size; at += at < 64 || at > size - 66 ? 1 : 61) {
            page[at] = 0x80;
            g_assert_false(dwcp_page_is_zero(page, size));
            page[at] = 0;
        }
        page[size - 1] = 1;
        g_assert_false(dwcp_page_is_zero(page, size));
        page[size - 1] = 0;
    }
    g_free(page);
}

/* The record that the golden files hold: pages of text, one of zeros. */
static size_t golden_record(uint8_t *out, unsigned level)
{
    DwcpEncoder *encoder = dwcp_encoder_new(1024);
    uint8_t chunk[4 * 1024] = { 0 };
    const uint8_t *hosts[1] = { chunk };
    DwcpPages pages = { .number = 3, .count = 1,
                        .chunks = { { 2, 9, 1, 0xf, 0 } } };
    size_t length;

    fill_page(NULL, chunk, 1024, 1);
    fill_page(NULL, chunk + 2048, 1024, 1);
    fill_page(NULL, chunk + 3072, 1024, 1);
    length = encode(encoder, hosts, &pages, 1024, level, out);
    dwcp_encoder_free(encoder);
    return length;
}

static void test_golden(void)
{
    DwcpDecoder *decoder = dwcp_decoder_new(1024);
    uint8_t *record, *out = g_malloc(dwcp_frame_bytes_max(1024));
    uint8_t text[1024];
    const uint8_t *plain;
    DwcpPages pages;
    size_t length;

    fill_page(NULL, text, sizeof(text), 1);
    length = golden_record(out, 0);
    golden_check("pages-raw", out, length);
    /* zstd's own bytes may differ from release to release: what must not
     * change is what they decode to. */
    length = golden_record(out, 1);
    if (g_strcmp0(g_getenv("DWCP_REGENERATE"), "1") == 0) {
        golden_check("pages-zstd", out, length);
    }
    record = golden_load("pages-zstd", &length);
    plain = decoded(decoder, record, length, 1024, &pages);
    g_assert_nonnull(plain);
    g_assert_cmpint(pages.codec, ==, DWCP_CODEC_ZSTD);
    g_assert_cmpuint(pages.chunks[0].zero, ==, 2);
    g_assert_cmpmem(plain, 1024, text, 1024);
    g_assert_cmpmem(plain + 2048, 1024, text, 1024);
    g_free(record);
    g_free(out);
    dwcp_decoder_free(decoder);
}

/* Cut and flipped payloads: refused, or decoded to exactly the size. */
static void test_bad_payload(void)
{
    DwcpDecoder *decoder = dwcp_decoder_new(1024);
    uint8_t *good, *bad;
    const uint8_t *plain;
    DwcpPages pages;
    DwcpError err = { 0 };
    size_t length, n;

    good = golden_load("pages-zstd", &length);
    g_assert_nonnull(decoded(decoder, good, length, 1024, &pages));
    for (n = 1; n < length - HEAD; n++) {
        /* A copy of the exact size lets a sanitizer see reads beyond it. */
        bad = g_malloc(n);
        memcpy(bad, good + HEAD, n);
        g_assert_cmpint(dwcp_decode_payload(decoder, &pages, bad, (uint32_t)n,
                                            &plain, &err),
                        ==, -EPROTO);
        g_free(bad);
    }
    for (n = HEAD; n < length; n++) {
        good[n] ^= 0x41;
        (void)decoded(decoder, good, length, 1024, &pages);
        good[n] ^= 0x41;
    }
    pages.chunks[0].present = 0x1f; /* a page more than the payload has */
    g_assert_cmpint(dwcp_decode_payload(decoder, &pages, good + HEAD,
                                        (uint32_t)(length - HEAD), &plain,
                                        &err),
                    ==, -EPROTO);
    pages.chunks[0].present = 0x7; /* a page less */
    g_assert_cmpint(dwcp_decode_payload(decoder, &pages, good + HEAD,
                                        (uint32_t)(length - HEAD), &plain,
                                        &err),
                    ==, -EPROTO);
    g_assert_nonnull(decoded(decoder, good, length, 1024, &pages));
    g_free(good);
    dwcp_decoder_free(decoder);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/codec/round-trip", test_round_trip);
    g_test_add_func("/codec/many-chunks", test_many);
    g_test_add_func("/codec/kinds", test_kinds);
    g_test_add_func("/codec/zero", test_zero);
    g_test_add_func("/codec/golden", test_golden);
    g_test_add_func("/codec/bad-payload", test_bad_payload);
    return g_test_run();
}
