/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/codec.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "core/fail.h"
#include "core/wipe.h"

/*
 * A page finds what it repeats in all of its frame.  zstd's own choice for
 * level 2 is 1 MiB, which sends 2.5 % more and takes no less time.
 */
#define WINDOW_LOG 21
_Static_assert(DWCP_FRAME_PLAIN_MAX == 1u << WINDOW_LOG, "all of a frame");

struct DwcpEncoder {
    uint32_t page_size;
    ZSTD_CCtx *zstd;
    uint8_t *copy; /* dwcp_plain_bytes_max() */
    size_t copied; /* the most of it that was used: to be wiped */
};

struct DwcpDecoder {
    uint32_t page_size;
    ZSTD_DCtx *zstd;
    uint8_t *plain; /* dwcp_plain_bytes_max() */
    size_t decoded; /* the most of it that was used: to be wiped */
};

/* libc's memcmp is vectorised and leaves at the first difference. */
bool dwcp_page_is_zero(const uint8_t *page, uint32_t size)
{
    static const uint8_t zeros[4096];
    uint32_t at, n;

    for (at = 0; at < size; at += n) {
        n = size - at < sizeof(zeros) ? size - at : (uint32_t)sizeof(zeros);
        if (memcmp(page + at, zeros, n) != 0) {
            return false;
        }
    }
    return true;
}

size_t dwcp_frame_bytes_max(uint32_t page_size)
{
    return dwcp_frame_head_bytes_max() + dwcp_plain_bytes_max(page_size);
}

DwcpEncoder *dwcp_encoder_new(uint32_t page_size)
{
    DwcpEncoder *encoder = calloc(1, sizeof(*encoder));

    if (!encoder) {
        return NULL;
    }
    encoder->page_size = page_size;
    encoder->copy = malloc(dwcp_plain_bytes_max(page_size));
    encoder->zstd = ZSTD_createCCtx();
    if (!encoder->copy || !encoder->zstd ||
        ZSTD_isError(ZSTD_CCtx_setParameter(encoder->zstd,
                                            ZSTD_c_contentSizeFlag, 0)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(encoder->zstd, ZSTD_c_windowLog,
                                            WINDOW_LOG))) {
        dwcp_encoder_free(encoder);
        return NULL;
    }
    return encoder;
}

void dwcp_encoder_free(DwcpEncoder *encoder)
{
    if (encoder) {
        ZSTD_freeCCtx(encoder->zstd);
        dwcp_wipe_free(encoder->copy, encoder->copied);
        free(encoder);
    }
}

size_t dwcp_encoder_bytes(const DwcpEncoder *encoder)
{
    return sizeof(*encoder) + dwcp_plain_bytes_max(encoder->page_size) +
           ZSTD_sizeof_CCtx(encoder->zstd);
}

/* Marks zero pages.  Returns: bit i = page i has to be sent. */
static uint64_t find_zeros(const uint8_t *host, DwcpChunk *chunk,
                           uint32_t page_size)
{
    uint64_t left;

    chunk->zero = 0;
    for (left = chunk->present; left; left &= left - 1) {
        if (dwcp_page_is_zero(host + (size_t)__builtin_ctzll(left) * page_size,
                              page_size)) {
            chunk->zero |= left & -left;
        }
    }
    return chunk->present & ~chunk->zero;
}

/*
 * Copies the pages that are not zero, right after each was looked at and is in
 * the cache.  Returns: bytes copied.
 */
static size_t gather(const uint8_t *host, DwcpChunk *chunk, uint32_t page_size,
                     uint8_t *out)
{
    const uint8_t *page;
    size_t length = 0;
    uint64_t left;

    chunk->zero = 0;
    for (left = chunk->present; left; left &= left - 1) {
        page = host + (size_t)__builtin_ctzll(left) * page_size;
        if (dwcp_page_is_zero(page, page_size)) {
            chunk->zero |= left & -left;
        } else {
            memcpy(out + length, page, page_size);
            length += page_size;
        }
    }
    return length;
}

/* Returns: bytes at @out, or 0 when compression saves nothing. */
static size_t compress(const DwcpEncoder *encoder, unsigned level,
                       uint8_t *out, size_t length)
{
    size_t n;

    if (ZSTD_isError(ZSTD_CCtx_setParameter(
            encoder->zstd, ZSTD_c_compressionLevel, (int)level))) {
        return 0;
    }
    /* A destination one byte short makes zstd refuse what saves nothing. */
    n = ZSTD_compress2(encoder->zstd, out, length - 1, encoder->copy, length);
    return ZSTD_isError(n) ? 0 : n;
}

size_t dwcp_encode_frame(DwcpEncoder *encoder, const uint8_t *const *hosts,
                         DwcpPages *pages, unsigned level, uint8_t *out)
{
    uint32_t head = dwcp_pages_head_bytes(pages->count);
    uint8_t *payload = out + DWCP_RECORD_HEADER + head;
    size_t length = 0, compressed = 0;
    unsigned i;

    assert(pages->count && pages->count <= DWCP_FRAME_CHUNKS_MAX);
    assert(level);
    for (i = 0; i < pages->count; i++) {
        assert(length + (size_t)__builtin_popcountll(
                            pages->chunks[i].present) *
                            encoder->page_size <=
               dwcp_plain_bytes_max(encoder->page_size));
        length += gather(hosts[i], &pages->chunks[i], encoder->page_size,
                         encoder->copy + length);
    }
    encoder->copied = length > encoder->copied ? length : encoder->copied;
    if (length) {
        compressed = compress(encoder, level, payload, length);
    }
    if (!compressed) {
        memcpy(payload, encoder->copy, length);
    }
    pages->codec = compressed ? DWCP_CODEC_ZSTD : DWCP_CODEC_RAW;
    length = head + (compressed ? compressed : length);
    dwcp_record_encode(out, DWCP_RECORD_PAGES, (uint32_t)length);
    dwcp_pages_encode(out + DWCP_RECORD_HEADER, pages);
    return DWCP_RECORD_HEADER + length;
}

/* Adds neighbouring pages as one part. */
static size_t list_parts(const uint8_t *host, uint64_t left,
                         uint32_t page_size, struct iovec *guest,
                         unsigned *count)
{
    size_t length = 0;
    uint8_t *page;

    for (; left; left &= left - 1) {
        page = (uint8_t *)host + (size_t)__builtin_ctzll(left) * page_size;
        if (*count && (uint8_t *)guest[*count - 1].iov_base +
                              guest[*count - 1].iov_len == page) {
            guest[*count - 1].iov_len += page_size;
        } else {
            guest[(*count)++] = (struct iovec){ page, page_size };
        }
        length += page_size;
    }
    return length;
}

size_t dwcp_encode_raw(const uint8_t *const *hosts, DwcpPages *pages,
                       uint32_t page_size, uint8_t *out, struct iovec *guest,
                       unsigned *guest_count)
{
    uint32_t head = dwcp_pages_head_bytes(pages->count);
    size_t length = 0;
    unsigned i;

    assert(pages->count && pages->count <= DWCP_FRAME_CHUNKS_MAX);
    *guest_count = 0;
    for (i = 0; i < pages->count; i++) {
        length += list_parts(hosts[i],
                             find_zeros(hosts[i], &pages->chunks[i],
                                        page_size),
                             page_size, guest, guest_count);
    }
    assert(length <= dwcp_plain_bytes_max(page_size));
    pages->codec = DWCP_CODEC_RAW;
    dwcp_record_encode(out, DWCP_RECORD_PAGES, head + (uint32_t)length);
    dwcp_pages_encode(out + DWCP_RECORD_HEADER, pages);
    return DWCP_RECORD_HEADER + head;
}

DwcpDecoder *dwcp_decoder_new(uint32_t page_size)
{
    DwcpDecoder *decoder = calloc(1, sizeof(*decoder));

    if (!decoder) {
        return NULL;
    }
    decoder->page_size = page_size;
    decoder->plain = malloc(dwcp_plain_bytes_max(page_size));
    decoder->zstd = ZSTD_createDCtx();
    if (!decoder->plain || !decoder->zstd) {
        dwcp_decoder_free(decoder);
        return NULL;
    }
    return decoder;
}

void dwcp_decoder_free(DwcpDecoder *decoder)
{
    if (decoder) {
        ZSTD_freeDCtx(decoder->zstd);
        dwcp_wipe_free(decoder->plain, decoder->decoded);
        free(decoder);
    }
}

size_t dwcp_decoder_bytes(const DwcpDecoder *decoder)
{
    return sizeof(*decoder) + dwcp_plain_bytes_max(decoder->page_size) +
           ZSTD_sizeof_DCtx(decoder->zstd);
}

int dwcp_decode_payload(DwcpDecoder *decoder, const DwcpPages *pages,
                        const uint8_t *payload, uint32_t length,
                        const uint8_t **out, DwcpError *err)
{
    size_t want = (size_t)dwcp_pages_plain(pages) * decoder->page_size;
    size_t got;

    if (pages->codec == DWCP_CODEC_RAW) {
        assert(length == want);
        *out = payload;
        return 0;
    }
    decoder->decoded = want > decoder->decoded ? want : decoder->decoded;
    got = ZSTD_decompressDCtx(decoder->zstd, decoder->plain, want, payload,
                              length);
    if (ZSTD_isError(got)) {
        return dwcp_fail(err, -EPROTO, "frame %llu: zstd: %s",
                         (unsigned long long)pages->number,
                         ZSTD_getErrorName(got));
    }
    if (got != want) {
        return dwcp_fail(err, -EPROTO, "frame %llu: %zu bytes, %zu announced",
                         (unsigned long long)pages->number, got, want);
    }
    *out = decoder->plain;
    return 0;
}
