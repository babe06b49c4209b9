/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/wire.h"

#include <assert.h>
#include <errno.h>

#include "core/bytes.h"
#include "core/fail.h"

/* Body lengths that each type can have; PAGES' maximum is the session's. */
static const struct {
    const char *name;
    uint32_t length_min, length_max;
} record_shapes[] = {
    [DWCP_RECORD_PAGES] = { "PAGES", DWCP_PAGES_HEADER, UINT32_MAX },
    [DWCP_RECORD_ACK] = { "ACK", 8, 8 },
    [DWCP_RECORD_CHANNEL] = { "CHANNEL", 3, 2 + DWCP_CHANNEL_DATA_MAX },
    [DWCP_RECORD_WINDOW] = { "WINDOW", 10, 10 },
    [DWCP_RECORD_CHANNEL_EOF] = { "CHANNEL_EOF", 2, 2 },
    [DWCP_RECORD_BEGIN] = { "BEGIN", 4, 4 },
    [DWCP_RECORD_END] = { "END", 8, 8 },
    [DWCP_RECORD_READY] = { "READY", 0, 0 },
    [DWCP_RECORD_GO] = { "GO", 0, 0 },
    [DWCP_RECORD_SEALED] = { "SEALED", 0, 0 },
    [DWCP_RECORD_PING] = { "PING", 8, 8 },
    [DWCP_RECORD_PONG] = { "PONG", 8, 8 },
    [DWCP_RECORD_ABORT] = { "ABORT", 4, 4 + DWCP_ABORT_TEXT_MAX },
};

#define RECORD_TYPES (sizeof(record_shapes) / sizeof(record_shapes[0]))

_Static_assert(2 + DWCP_CHANNEL_DATA_MAX <= DWCP_CONTROL_BODY_MAX,
               "the largest control record fits its buffer");

/* header: type u8, flags u8 (0), reserved u16 (0), body length u32 */
void dwcp_record_encode(uint8_t *out, DwcpRecordType type, uint32_t length)
{
    assert(type > 0 && type < RECORD_TYPES);
    out[0] = (uint8_t)type;
    out[1] = 0;
    dwcp_put_le16(out + 2, 0);
    dwcp_put_le32(out + 4, length);
}

int dwcp_record_decode(const uint8_t *in, uint32_t page_size, DwcpRecord *out,
                       DwcpError *err)
{
    uint32_t length_max, length;
    uint8_t type;

    type = in[0];
    length = dwcp_get_le32(in + 4);
    if (type == 0 || type >= RECORD_TYPES) {
        return dwcp_fail(err, -EPROTO, "record type %u is unknown", type);
    }
    if (in[1] != 0 || dwcp_get_le16(in + 2) != 0) {
        return dwcp_fail(err, -EPROTO, "%s record: unknown flags %02x %04x",
                         record_shapes[type].name, in[1],
                         dwcp_get_le16(in + 2));
    }
    length_max = record_shapes[type].length_max;
    if (type == DWCP_RECORD_PAGES) {
        length_max = DWCP_PAGES_HEADER + DWCP_CHUNK_PAGES * page_size;
    }
    if (length < record_shapes[type].length_min || length > length_max) {
        return dwcp_fail(err, -EPROTO, "%s record: length %u is not %u to %u",
                         record_shapes[type].name, length,
                         record_shapes[type].length_min, length_max);
    }
    out->type = (DwcpRecordType)type;
    out->length = length;
    return 0;
}

/*
 * 0 number u64, 8 round u32, 12 block u32, 16 chunk u32, 20 codec u8,
 * 21 reserved (0) 11 bytes, 32 present u64, 40 zero u64, 48 payload
 */
void dwcp_pages_encode(uint8_t *out, const DwcpPages *pages)
{
    unsigned i;

    assert(pages->present && !(pages->zero & ~pages->present));
    dwcp_put_le64(out, pages->number);
    dwcp_put_le32(out + 8, pages->round);
    dwcp_put_le32(out + 12, pages->block);
    dwcp_put_le32(out + 16, pages->chunk);
    out[20] = (uint8_t)pages->codec;
    for (i = 21; i < 32; i++) {
        out[i] = 0;
    }
    dwcp_put_le64(out + 32, pages->present);
    dwcp_put_le64(out + 40, pages->zero);
}

/* The payload's length must be what codec and masks allow. */
static int payload_check(const DwcpPages *pages, uint32_t payload,
                         uint32_t page_size, DwcpError *err)
{
    uint32_t plain = dwcp_pages_count(pages) * page_size;

    switch (pages->codec) {
    case DWCP_CODEC_RAW:
        if (payload == plain) {
            return 0;
        }
        break;
    case DWCP_CODEC_ZSTD:
        if (payload > 0 && payload < plain) {
            return 0;
        }
        break;
    default:
        return dwcp_fail(err, -EPROTO, "frame %llu: codec %u is unknown",
                         (unsigned long long)pages->number,
                         (unsigned)pages->codec);
    }
    return dwcp_fail(err, -EPROTO,
                     "frame %llu: payload of %u bytes for %u pages, codec %u",
                     (unsigned long long)pages->number, payload,
                     dwcp_pages_count(pages), (unsigned)pages->codec);
}

int dwcp_pages_decode(const uint8_t *in, uint32_t length, uint32_t page_size,
                      DwcpPages *out, DwcpError *err)
{
    DwcpPages pages = {
        .number = dwcp_get_le64(in),
        .round = dwcp_get_le32(in + 8),
        .block = dwcp_get_le32(in + 12),
        .chunk = dwcp_get_le32(in + 16),
        .codec = (DwcpCodec)in[20],
        .present = dwcp_get_le64(in + 32),
        .zero = dwcp_get_le64(in + 40),
    };
    unsigned i;

    assert(length >= DWCP_PAGES_HEADER);
    if (pages.number == 0 || pages.number > DWCP_FRAMES_MAX) {
        return dwcp_fail(err, -EPROTO, "frame number %llu is not 1 to %u",
                         (unsigned long long)pages.number, DWCP_FRAMES_MAX);
    }
    for (i = 21; i < 32; i++) {
        if (in[i]) {
            return dwcp_fail(err, -EPROTO, "frame %llu: reserved byte %u set",
                             (unsigned long long)pages.number, i);
        }
    }
    if (!pages.present || (pages.zero & ~pages.present)) {
        return dwcp_fail(err, -EPROTO,
                         "frame %llu: page masks %016llx %016llx",
                         (unsigned long long)pages.number,
                         (unsigned long long)pages.present,
                         (unsigned long long)pages.zero);
    }
    if (payload_check(&pages, length - DWCP_PAGES_HEADER, page_size, err)) {
        return -EPROTO;
    }
    *out = pages;
    return 0;
}
