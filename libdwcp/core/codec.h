/*
 * Chunks of guest pages to PAGES records and back
 *
 * The encoder looks for zero pages, takes one stable copy of the others and
 * compresses the copy: the guest may be writing while it works.  A page that
 * was zero when it was looked at is described as zero; whatever the guest
 * writes later is in the dirty log of the next round.
 *
 * Threads: one thread at a time per context.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_CODEC_H
#define DWCP_CORE_CODEC_H

#include <sys/uio.h>

#include "core/wire.h"

typedef struct DwcpEncoder DwcpEncoder;
typedef struct DwcpDecoder DwcpDecoder;

/* dwcp_encoder_new: Returns: NULL when out of memory */
DwcpEncoder *dwcp_encoder_new(uint32_t page_size);
void dwcp_encoder_free(DwcpEncoder *encoder);

/* dwcp_encoder_bytes: memory that an encoder holds */
size_t dwcp_encoder_bytes(const DwcpEncoder *encoder);

/* dwcp_frame_bytes_max: a PAGES record's largest size, header included */
size_t dwcp_frame_bytes_max(uint32_t page_size);

/*
 * dwcp_encode_frame: describe some chunks as one PAGES record
 *
 * @hosts: for each chunk where its first page is mapped; only the pages in
 *         its present mask are read; together at most dwcp_plain_bytes_max()
 * @pages: number, count and chunks are set; codec and each chunk's zero mask
 *         are filled in
 * @level: zstd's, at least 1
 * @out: dwcp_frame_bytes_max() bytes
 *
 * Returns: the record's bytes, its header included.
 */
size_t dwcp_encode_frame(DwcpEncoder *encoder, const uint8_t *const *hosts,
                         DwcpPages *pages, unsigned level, uint8_t *out);

/*
 * dwcp_encode_raw: the same without compression and without a copy
 *
 * The payload is sent from guest RAM itself.  That the guest may write to it
 * meanwhile does no harm: nothing is derived from the bytes, and what is
 * written after the hand-over is in the dirty log.
 *
 * @out: dwcp_frame_head_bytes_max() bytes; record header and PAGES head
 * @guest: dwcp_raw_parts_max() entries; filled with the payload's places
 * @guest_count: set to how many
 *
 * Returns: bytes at @out.
 */
size_t dwcp_encode_raw(const uint8_t *const *hosts, DwcpPages *pages,
                       uint32_t page_size, uint8_t *out, struct iovec *guest,
                       unsigned *guest_count);

/* dwcp_frame_head_bytes_max: record header and PAGES head */
static inline size_t dwcp_frame_head_bytes_max(void)
{
    return DWCP_RECORD_HEADER +
           (size_t)dwcp_pages_head_bytes(DWCP_FRAME_CHUNKS_MAX);
}

/* dwcp_raw_parts_max: pages that are not zero, none next to another */
static inline unsigned dwcp_raw_parts_max(uint32_t page_size)
{
    return dwcp_plain_bytes_max(page_size) / page_size;
}

/* dwcp_decoder_new: Returns: NULL when out of memory */
DwcpDecoder *dwcp_decoder_new(uint32_t page_size);
void dwcp_decoder_free(DwcpDecoder *decoder);
size_t dwcp_decoder_bytes(const DwcpDecoder *decoder);

/*
 * dwcp_decode_payload: the pages that a PAGES body holds, one after the other
 *
 * @pages: from dwcp_pages_decode, which judged @length
 *
 * Returns: 0 and *@out, valid until the next call and as long as @payload;
 * -EPROTO the payload does not decode to the pages' size.
 */
int dwcp_decode_payload(DwcpDecoder *decoder, const DwcpPages *pages,
                        const uint8_t *payload, uint32_t length,
                        const uint8_t **out, DwcpError *err) DWCP_CHECKED;

/* dwcp_page_is_zero: @size bytes, at most DWCP_PAGE_SIZE_MAX */
bool dwcp_page_is_zero(const uint8_t *page, uint32_t size);

#endif
