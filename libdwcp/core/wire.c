/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "core/fail.h"
#include "core/lane.h"

/* Who sends a type. */
#define SOURCE 1u
#define TARGET 2u
#define BOTH (SOURCE | TARGET)

/*
 * Body lengths that each type can have; PAGES' maximum is the session's.  And
 * who may send it, and whether on any stream or only on stream 0.
 */
static const struct {
    const char *name;
    uint32_t length_min, length_max;
    unsigned from;
    bool any_stream;
} record_shapes[] = {
    [DWCP_RECORD_PAGES] = { "PAGES", DWCP_PAGES_HEADER + DWCP_PAGES_CHUNK,
                            UINT32_MAX, SOURCE, true },
    [DWCP_RECORD_ACK] = { "ACK", 8, 8, TARGET, true },
    [DWCP_RECORD_CHANNEL] = { "CHANNEL", 3, 2 + DWCP_CHANNEL_DATA_MAX, BOTH,
                              false },
    [DWCP_RECORD_WINDOW] = { "WINDOW", 10, 10, BOTH, false },
    [DWCP_RECORD_CHANNEL_EOF] = { "CHANNEL_EOF", 2, 2, BOTH, false },
    [DWCP_RECORD_BEGIN] = { "BEGIN", 4, 4, TARGET, false },
    [DWCP_RECORD_END] = { "END", 8, 8, SOURCE, false },
    [DWCP_RECORD_READY] = { "READY", 0, 0, TARGET, false },
    [DWCP_RECORD_GO] = { "GO", 0, 0, SOURCE, false },
    [DWCP_RECORD_SEALED] = { "SEALED", 0, 0, TARGET, false },
    [DWCP_RECORD_PING] = { "PING", 8, 8, SOURCE, false },
    [DWCP_RECORD_PONG] = { "PONG", 8, 8, TARGET, false },
    [DWCP_RECORD_ABORT] = { "ABORT", 4, 4 + DWCP_ABORT_TEXT_MAX, BOTH, true },
    [DWCP_RECORD_RESUME] = { "RESUME", DWCP_RESUME_BODY, DWCP_RESUME_BODY, BOTH,
                             false },
    [DWCP_RECORD_RDMA_ASK] = { "RDMA_ASK", 0, 0, SOURCE, false },
    [DWCP_RECORD_RDMA_OFFER] = { "RDMA_OFFER", DWCP_LANE_OFFER_BODY,
                                 DWCP_LANE_OFFER_BODY, TARGET, false },
    [DWCP_RECORD_RDMA_DOWN] = { "RDMA_DOWN", 8, DWCP_LANE_DOWN_BODY_MAX, BOTH,
                                false },
};

#define RECORD_TYPES (sizeof(record_shapes) / sizeof(record_shapes[0]))

_Static_assert(2 + DWCP_CHANNEL_DATA_MAX <= DWCP_CONTROL_BODY_MAX,
               "the largest control record fits its buffer");

const char *dwcp_record_name(DwcpRecordType type)
{
    assert(type > 0 && type < RECORD_TYPES);
    return record_shapes[type].name;
}

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
        length_max = dwcp_pages_head_bytes(DWCP_FRAME_CHUNKS_MAX) +
                     dwcp_plain_bytes_max(page_size);
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

int dwcp_record_check(DwcpRecordType type, bool from_source, unsigned stream,
                      DwcpError *err)
{
    assert(type > 0 && type < RECORD_TYPES);
    if (!(record_shapes[type].from & (from_source ? SOURCE : TARGET))) {
        return dwcp_fail(err, -EPROTO, "%s record is not for a %s",
                         record_shapes[type].name,
                         from_source ? "target" : "source");
    }
    if (stream != 0 && !record_shapes[type].any_stream) {
        return dwcp_fail(err, -EPROTO, "%s record on stream %u",
                         record_shapes[type].name, stream);
    }
    return 0;
}

void dwcp_resume_encode(uint8_t *out, const DwcpResume *resume)
{
    dwcp_put_le16(out, resume->channel);
    dwcp_put_le64(out + 2, resume->received);
    dwcp_put_le64(out + 10, resume->consumed);
}

int dwcp_resume_decode(const uint8_t *in, DwcpResume *out, DwcpError *err)
{
    DwcpResume resume = {
        .channel = dwcp_get_le16(in),
        .received = dwcp_get_le64(in + 2),
        .consumed = dwcp_get_le64(in + 10),
    };

    if (resume.channel >= DWCP_CHANNELS_MAX ||
        resume.consumed > resume.received) {
        return dwcp_fail(err, -EPROTO,
                         "RESUME: channel %u, %llu bytes received, %llu "
                         "consumed",
                         resume.channel, (unsigned long long)resume.received,
                         (unsigned long long)resume.consumed);
    }
    *out = resume;
    return 0;
}

unsigned dwcp_pages_plain(const DwcpPages *pages)
{
    unsigned i, n = 0;

    for (i = 0; i < pages->count; i++) {
        n += (unsigned)__builtin_popcountll(pages->chunks[i].present &
                                            ~pages->chunks[i].zero);
    }
    return n;
}

unsigned dwcp_pages_present(const DwcpPages *pages)
{
    unsigned i, n = 0;

    for (i = 0; i < pages->count; i++) {
        n += (unsigned)__builtin_popcountll(pages->chunks[i].present);
    }
    return n;
}

/*
 * header: 0 number u64, 8 count u16, 10 codec u8, 11 reserved (0) to 32
 * each chunk: 0 block u32, 4 chunk u32, 8 round u32, 12 reserved u32 (0),
 * 16 present u64, 24 zero u64
 */
void dwcp_pages_encode(uint8_t *out, const DwcpPages *pages)
{
    const DwcpChunk *chunk;
    unsigned i;

    assert(pages->count && pages->count <= DWCP_FRAME_CHUNKS_MAX);
    memset(out, 0, DWCP_PAGES_HEADER);
    dwcp_put_le64(out, pages->number);
    dwcp_put_le16(out + 8, (uint16_t)pages->count);
    out[10] = (uint8_t)pages->codec;
    out += DWCP_PAGES_HEADER;
    for (i = 0; i < pages->count; i++, out += DWCP_PAGES_CHUNK) {
        chunk = &pages->chunks[i];
        assert(chunk->present && !(chunk->zero & ~chunk->present));
        dwcp_put_le32(out, chunk->block);
        dwcp_put_le32(out + 4, chunk->chunk);
        dwcp_put_le32(out + 8, chunk->round);
        dwcp_put_le32(out + 12, 0);
        dwcp_put_le64(out + 16, chunk->present);
        dwcp_put_le64(out + 24, chunk->zero);
    }
}

/* The payload's length must be what codec and masks allow. */
static int payload_check(const DwcpPages *pages, uint32_t payload,
                         uint32_t page_size, DwcpError *err)
{
    uint64_t plain = (uint64_t)dwcp_pages_plain(pages) * page_size;

    if (plain > dwcp_plain_bytes_max(page_size)) {
        return dwcp_fail(err, -EPROTO, "frame %llu: %llu bytes of pages > %u",
                         (unsigned long long)pages->number,
                         (unsigned long long)plain,
                         dwcp_plain_bytes_max(page_size));
    }
    if (pages->codec != DWCP_CODEC_RAW && pages->codec != DWCP_CODEC_ZSTD) {
        return dwcp_fail(err, -EPROTO, "frame %llu: codec %u is unknown",
                         (unsigned long long)pages->number,
                         (unsigned)pages->codec);
    }
    if (pages->codec == DWCP_CODEC_RAW ? payload != plain
                                       : payload == 0 || payload >= plain) {
        return dwcp_fail(err, -EPROTO,
                         "frame %llu: payload of %u bytes for %llu, codec %u",
                         (unsigned long long)pages->number, payload,
                         (unsigned long long)plain, (unsigned)pages->codec);
    }
    return 0;
}

static int chunk_decode(const uint8_t *in, uint64_t number, DwcpChunk *out,
                        DwcpError *err)
{
    out->block = dwcp_get_le32(in);
    out->chunk = dwcp_get_le32(in + 4);
    out->round = dwcp_get_le32(in + 8);
    out->present = dwcp_get_le64(in + 16);
    out->zero = dwcp_get_le64(in + 24);
    if (dwcp_get_le32(in + 12) != 0) {
        return dwcp_fail(err, -EPROTO, "chunk %llu: reserved bytes are set",
                         (unsigned long long)number);
    }
    if (!out->present || (out->zero & ~out->present)) {
        return dwcp_fail(err, -EPROTO, "chunk %llu: page masks %016llx %016llx",
                         (unsigned long long)number,
                         (unsigned long long)out->present,
                         (unsigned long long)out->zero);
    }
    return 0;
}

bool dwcp_pages_head_known(const uint8_t *in, size_t have, uint32_t length)
{
    unsigned count;

    if (have >= length) {
        return true;
    }
    if (have < DWCP_PAGES_HEADER) {
        return false;
    }
    count = dwcp_get_le16(in + 8);
    return count > DWCP_FRAME_CHUNKS_MAX ||
           have >= dwcp_pages_head_bytes(count);
}

int dwcp_pages_decode(const uint8_t *in, uint32_t length, uint32_t page_size,
                      DwcpPages *out, DwcpError *err)
{
    uint32_t head;
    unsigned i;

    assert(length >= DWCP_PAGES_HEADER);
    out->number = dwcp_get_le64(in);
    out->count = dwcp_get_le16(in + 8);
    out->codec = (DwcpCodec)in[10];
    for (i = 11; i < DWCP_PAGES_HEADER; i++) {
        if (in[i]) {
            return dwcp_fail(err, -EPROTO, "frame %llu: reserved byte %u set",
                             (unsigned long long)out->number, i);
        }
    }
    if (out->number == 0 || out->count == 0 ||
        out->count > DWCP_FRAME_CHUNKS_MAX ||
        out->number > DWCP_NUMBERS_MAX - (out->count - 1)) {
        return dwcp_fail(err, -EPROTO, "frame %llu: %u chunks",
                         (unsigned long long)out->number, out->count);
    }
    head = dwcp_pages_head_bytes(out->count);
    if (length < head) {
        return dwcp_fail(err, -EPROTO, "frame %llu: %u bytes for %u chunks",
                         (unsigned long long)out->number, length, out->count);
    }
    for (i = 0; i < out->count; i++) {
        if (chunk_decode(in + dwcp_pages_head_bytes(i), out->number + i,
                         &out->chunks[i], err) < 0) {
            return -EPROTO;
        }
    }
    return payload_check(out, length - head, page_size, err);
}
