/*
 * The messages of the RDMA lane
 *
 * Pages are written into guest RAM by RDMA; what goes with them are small
 * messages by send and receive on the same queue pair:
 *
 *   source to target          target answers
 *   REGISTER a piece          REGISTERED: its key and address
 *   PAGES a frame's head      ACK: frames applied so far
 *
 * A head is sent behind the writes of its pages, so these have landed when it
 * comes.  Each message of the source is answered; an answer says how many
 * messages were taken in since the last one, and gives back as many credits.
 * So neither side ever sends what the other has no buffer for.
 *
 * Source: docs/wire.md, "RDMA".
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_LANE_H
#define DWCP_CORE_LANE_H

#include "core/hello.h"
#include "core/wire.h"

typedef enum DwcpLaneType {
    DWCP_LANE_REGISTER = 1,
    DWCP_LANE_REGISTERED = 2,
    DWCP_LANE_PAGES = 3,
    DWCP_LANE_ACK = 4,
} DwcpLaneType;

#define DWCP_LANE_HEADER 8u
#define DWCP_LANE_REGISTER_BYTES (DWCP_LANE_HEADER + 16u)
#define DWCP_LANE_REGISTERED_BYTES (DWCP_LANE_HEADER + 24u)
#define DWCP_LANE_ACK_BYTES (DWCP_LANE_HEADER + 8u)
#define DWCP_LANE_PAGES_BYTES_MAX                                              \
    (DWCP_LANE_HEADER + DWCP_RECORD_HEADER + DWCP_PAGES_HEADER +               \
     DWCP_PAGES_CHUNK * DWCP_FRAME_CHUNKS_MAX)

/*
 * DwcpLaneMessage: one of them
 *
 * @credits: from the target: messages taken in since the last answer, at least
 *           1; from the source 0
 * @block, @piece, @bytes: REGISTER and REGISTERED: which piece of which block,
 *                         and its length
 * @rkey, @address: REGISTERED
 * @frames: ACK: applied so far on this lane
 * @pages: PAGES: the head; its pages that are not zero have been written
 */
typedef struct DwcpLaneMessage {
    DwcpLaneType type;
    unsigned credits;
    uint32_t block, piece, bytes, rkey;
    uint64_t address, frames;
    DwcpPages pages;
} DwcpLaneMessage;

/* dwcp_lane_encode: all but PAGES; Returns: bytes at @out, which has
 * DWCP_LANE_REGISTERED_BYTES */
uint32_t dwcp_lane_encode(uint8_t *out, const DwcpLaneMessage *message);

/*
 * dwcp_lane_encode_pages: PAGES, from a raw frame's record header and head
 *
 * @out: DWCP_LANE_PAGES_BYTES_MAX
 *
 * Returns: bytes at @out.
 */
uint32_t dwcp_lane_encode_pages(uint8_t *out, const uint8_t *head,
                                size_t head_bytes);

/*
 * dwcp_lane_decode: a message that has come
 *
 * Everything is judged that can be without the RAM blocks.
 *
 * @from_source: the peer is the source
 *
 * Returns: 0; -EPROTO.
 */
int dwcp_lane_decode(const uint8_t *in, uint32_t length, bool from_source,
                     uint32_t page_size, DwcpLaneMessage *out,
                     DwcpError *err) DWCP_CHECKED;

/* ------------------------------------------------- around the lane -- */

#define DWCP_LANE_VERSION 1u
#define DWCP_LANE_TOKEN_BYTES 16u

/* DwcpLaneOffer: body of RDMA_OFFER: where the target waits for the lane */
typedef struct DwcpLaneOffer {
    uint16_t port;
    uint8_t token[DWCP_LANE_TOKEN_BYTES];
} DwcpLaneOffer;

#define DWCP_LANE_OFFER_BODY (8u + DWCP_LANE_TOKEN_BYTES)

void dwcp_lane_offer_encode(uint8_t *out, const DwcpLaneOffer *offer);
/* dwcp_lane_offer_decode: DWCP_LANE_OFFER_BODY bytes; Returns: 0; -EPROTO */
int dwcp_lane_offer_decode(const uint8_t *in, DwcpLaneOffer *out,
                           DwcpError *err) DWCP_CHECKED;

/* What the source says as it connects: rdma_cm's private data, at most 56. */
#define DWCP_LANE_HELLO_BYTES (8u + DWCP_SESSION_BYTES + DWCP_LANE_TOKEN_BYTES)

void dwcp_lane_hello_encode(uint8_t *out, const uint8_t *session,
                            const uint8_t *token);
/* dwcp_lane_hello_check: may be followed by anything; in constant time;
 * Returns: 0; -EACCES it is not for this offer */
int dwcp_lane_hello_check(const uint8_t *in, size_t length,
                          const uint8_t *session, const uint8_t *token,
                          DwcpError *err) DWCP_CHECKED;

/* DwcpLaneDown: body of RDMA_DOWN: the sender's queue pair is destroyed */
typedef struct DwcpLaneDown {
    uint64_t frames; /* from the target: that it has applied */
    char text[DWCP_ABORT_TEXT_MAX + 1]; /* why; printable */
} DwcpLaneDown;

#define DWCP_LANE_DOWN_BODY_MAX (8u + DWCP_ABORT_TEXT_MAX)

/* dwcp_lane_down_encode: Returns: bytes at @out */
uint32_t dwcp_lane_down_encode(uint8_t *out, const DwcpLaneDown *down);
/* dwcp_lane_down_decode: of 8 to DWCP_LANE_DOWN_BODY_MAX bytes; what is not
 * printable becomes a question mark */
void dwcp_lane_down_decode(const uint8_t *in, uint32_t length,
                           DwcpLaneDown *out);

#endif
