/*
 * Records: what flows on a connection once its handshake is done
 *
 * A record is a header of 8 bytes and a body.  Encoding writes into caller's
 * memory; decoding checks type, flags and length before anything is used and
 * never reads beyond what it was given.  Pure: no state, no system calls.
 *
 * Source: docs/wire.md, "Records".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_WIRE_H
#define DWCP_CORE_WIRE_H

#include "core/bounds.h"

typedef enum DwcpRecordType {
    DWCP_RECORD_PAGES = 1,       /* source to target, any stream */
    DWCP_RECORD_ACK = 2,         /* target to source, any stream */
    DWCP_RECORD_CHANNEL = 3,     /* both ways, stream 0, as the next two */
    DWCP_RECORD_WINDOW = 4,
    DWCP_RECORD_CHANNEL_EOF = 5,
    DWCP_RECORD_BEGIN = 6,       /* target to source, stream 0 */
    DWCP_RECORD_END = 7,         /* source to target, stream 0 */
    DWCP_RECORD_READY = 8,       /* target to source, stream 0 */
    DWCP_RECORD_GO = 9,          /* source to target, stream 0 */
    DWCP_RECORD_SEALED = 10,     /* target to source, stream 0 */
    DWCP_RECORD_PING = 11,       /* source to target, stream 0 */
    DWCP_RECORD_PONG = 12,       /* target to source, stream 0 */
    DWCP_RECORD_ABORT = 13,      /* both ways, any stream */
    DWCP_RECORD_RESUME = 14,     /* both ways, a stream 0 that came again */
    DWCP_RECORD_RDMA_ASK = 15,   /* source to target, stream 0 */
    DWCP_RECORD_RDMA_OFFER = 16, /* target to source, stream 0 */
    DWCP_RECORD_RDMA_DOWN = 17,  /* both ways, stream 0 */
} DwcpRecordType;

#define DWCP_RECORD_HEADER 8u

typedef struct DwcpRecord {
    DwcpRecordType type;
    uint32_t length; /* bytes of the body */
} DwcpRecord;

/* dwcp_record_encode: write the header's 8 bytes to @out */
void dwcp_record_encode(uint8_t *out, DwcpRecordType type, uint32_t length);

/*
 * dwcp_record_decode: read a header of 8 bytes
 *
 * @page_size: of the session; bounds the body of PAGES
 *
 * Returns: 0; -EPROTO unknown type, flags set, or a length that this type
 * cannot have.
 */
int dwcp_record_decode(const uint8_t *in, uint32_t page_size, DwcpRecord *out,
                       DwcpError *err) DWCP_CHECKED;

/* dwcp_record_name: as docs/wire.md calls the type */
const char *dwcp_record_name(DwcpRecordType type);

/*
 * dwcp_record_check: may this type come here?
 *
 * @from_source: the peer is the source
 * @stream: that it came on
 *
 * Returns: 0; -EPROTO.
 */
int dwcp_record_check(DwcpRecordType type, bool from_source, unsigned stream,
                      DwcpError *err) DWCP_CHECKED;

/*
 * DwcpResume: where a byte channel stands at the sender of a RESUME record
 *
 * @received: bytes of the peer's that have come, in all: it sends the next
 * @consumed: of them, as WINDOW would say
 */
typedef struct DwcpResume {
    uint16_t channel;
    uint64_t received, consumed;
} DwcpResume;

#define DWCP_RESUME_BODY 18u

void dwcp_resume_encode(uint8_t *out, const DwcpResume *resume);
/* dwcp_resume_decode: a body of DWCP_RESUME_BODY bytes; Returns: 0; -EPROTO */
int dwcp_resume_decode(const uint8_t *in, DwcpResume *out,
                       DwcpError *err) DWCP_CHECKED;

typedef enum DwcpCodec {
    DWCP_CODEC_RAW = 0,  /* the pages, one after the other */
    DWCP_CODEC_ZSTD = 1, /* the same as one zstd frame, always smaller */
} DwcpCodec;

/*
 * DwcpChunk: some pages of one chunk, as described by a frame
 *
 * @block: index of the RAM block
 * @chunk: index of the 64-page chunk in the block
 * @round: dirty log readings before the hand-over, for statistics
 * @present: bit i = page i of the chunk is described here
 * @zero: subset of @present, pages of zeros; the others stand in the payload
 */
typedef struct DwcpChunk {
    uint32_t block;
    uint32_t chunk;
    uint32_t round;
    uint64_t present;
    uint64_t zero;
} DwcpChunk;

/*
 * DwcpPages: the head of a PAGES body
 *
 * @number: hand-over number of the first chunk, from 1; the others follow, so
 *          that numbers are dense over the session
 * @count: of chunks; 1 to DWCP_FRAME_CHUNKS_MAX
 */
typedef struct DwcpPages {
    uint64_t number;
    DwcpCodec codec;
    unsigned count;
    DwcpChunk chunks[DWCP_FRAME_CHUNKS_MAX];
} DwcpPages;

#define DWCP_PAGES_HEADER 32u
#define DWCP_PAGES_CHUNK 32u

/* dwcp_pages_head_bytes: header and descriptors of @count chunks */
static inline uint32_t dwcp_pages_head_bytes(unsigned count)
{
    return DWCP_PAGES_HEADER + DWCP_PAGES_CHUNK * count;
}

/* dwcp_plain_bytes_max: pages that are not zero, in one frame */
static inline uint32_t dwcp_plain_bytes_max(uint32_t page_size)
{
    uint32_t chunk = DWCP_CHUNK_PAGES * page_size;

    return chunk > DWCP_FRAME_PLAIN_MAX ? chunk : DWCP_FRAME_PLAIN_MAX;
}

/* dwcp_pages_encode: write the dwcp_pages_head_bytes() before the payload */
void dwcp_pages_encode(uint8_t *out, const DwcpPages *pages);

/*
 * dwcp_pages_head_known: do these bytes of a body suffice to decode its head?
 *
 * @have: bytes at @in, of @length
 */
bool dwcp_pages_head_known(const uint8_t *in, size_t have, uint32_t length);

/* dwcp_pages_codec: of a head that is known and may be wrong */
static inline unsigned dwcp_pages_codec(const uint8_t *in)
{
    return in[10];
}

/*
 * dwcp_pages_decode: read and check the head of a PAGES body
 *
 * @in: the head, or all bytes of a body that is shorter; see
 *      dwcp_pages_head_known
 * @length: of the whole body
 *
 * Everything that can be judged without the RAM blocks is: whether block and
 * chunk exist is the caller's to check.
 *
 * Returns: 0; -EPROTO.
 */
int dwcp_pages_decode(const uint8_t *in, uint32_t length, uint32_t page_size,
                      DwcpPages *out, DwcpError *err) DWCP_CHECKED;

/* dwcp_pages_plain: pages that the payload holds */
unsigned dwcp_pages_plain(const DwcpPages *pages);

/* dwcp_pages_present: pages that the frame describes, zero ones included */
unsigned dwcp_pages_present(const DwcpPages *pages);

#endif
