/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/lane.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "core/bytes.h"
#include "core/fail.h"

/* header: type u8, reserved u8 (0), credits u16, reserved u32 (0) */
static void header(uint8_t *out, DwcpLaneType type, unsigned credits)
{
    memset(out, 0, DWCP_LANE_HEADER);
    out[0] = (uint8_t)type;
    dwcp_put_le16(out + 2, (uint16_t)credits);
}

/* REGISTER: block u32, piece u32, bytes u32, reserved u32 (0); REGISTERED: the
 * same with the key in place of reserved, and address u64 */
uint32_t dwcp_lane_encode(uint8_t *out, const DwcpLaneMessage *message)
{
    bool answer = message->type == DWCP_LANE_REGISTERED;

    header(out, message->type, message->credits);
    out += DWCP_LANE_HEADER;
    if (message->type == DWCP_LANE_ACK) {
        dwcp_put_le64(out, message->frames);
        return DWCP_LANE_ACK_BYTES;
    }
    assert(answer || message->type == DWCP_LANE_REGISTER);
    dwcp_put_le32(out, message->block);
    dwcp_put_le32(out + 4, message->piece);
    dwcp_put_le32(out + 8, message->bytes);
    dwcp_put_le32(out + 12, answer ? message->rkey : 0);
    if (answer) {
        dwcp_put_le64(out + 16, message->address);
    }
    return answer ? DWCP_LANE_REGISTERED_BYTES : DWCP_LANE_REGISTER_BYTES;
}

uint32_t dwcp_lane_encode_pages(uint8_t *out, const uint8_t *head,
                                size_t head_bytes)
{
    assert(DWCP_LANE_HEADER + head_bytes <= DWCP_LANE_PAGES_BYTES_MAX);
    header(out, DWCP_LANE_PAGES, 0);
    memcpy(out + DWCP_LANE_HEADER, head, head_bytes);
    return DWCP_LANE_HEADER + (uint32_t)head_bytes;
}

/* Record header and head, as a raw frame has them on TCP; no payload. */
static int pages_decode(const uint8_t *in, uint32_t length, uint32_t page_size,
                        DwcpPages *out, DwcpError *err)
{
    DwcpRecord record;
    int rc;

    if (length < DWCP_RECORD_HEADER + DWCP_PAGES_HEADER + DWCP_PAGES_CHUNK) {
        return dwcp_fail(err, -EPROTO, "RDMA: PAGES of %u bytes", length);
    }
    rc = dwcp_record_decode(in, page_size, &record, err);
    if (rc < 0) {
        return rc;
    }
    in += DWCP_RECORD_HEADER;
    length -= DWCP_RECORD_HEADER;
    if (record.type != DWCP_RECORD_PAGES || record.length < length ||
        length != dwcp_pages_head_bytes(dwcp_get_le16(in + 8)) ||
        dwcp_pages_codec(in) != DWCP_CODEC_RAW) {
        return dwcp_fail(err, -EPROTO, "RDMA: PAGES is not a raw frame's head");
    }
    return dwcp_pages_decode(in, record.length, page_size, out, err);
}

static int piece_decode(const uint8_t *in, uint32_t length, bool answer,
                        DwcpLaneMessage *out, DwcpError *err)
{
    if (length != (answer ? 24u : 16u)) {
        return dwcp_fail(err, -EPROTO, "RDMA: message %u has %u bytes",
                         (unsigned)out->type, length);
    }
    out->block = dwcp_get_le32(in);
    out->piece = dwcp_get_le32(in + 4);
    out->bytes = dwcp_get_le32(in + 8);
    out->rkey = dwcp_get_le32(in + 12);
    out->address = answer ? dwcp_get_le64(in + 16) : 0;
    if (!answer && out->rkey) {
        return dwcp_fail(err, -EPROTO, "RDMA: REGISTER has reserved bytes set");
    }
    return 0;
}

static int header_decode(const uint8_t *in, uint32_t length, bool from_source,
                         DwcpLaneMessage *out, DwcpError *err)
{
    bool known;

    if (length < DWCP_LANE_HEADER || in[1] || dwcp_get_le32(in + 4)) {
        return dwcp_fail(err, -EPROTO, "RDMA: a message of %u bytes", length);
    }
    out->type = (DwcpLaneType)in[0];
    out->credits = dwcp_get_le16(in + 2);
    known = from_source ? out->type == DWCP_LANE_REGISTER ||
                              out->type == DWCP_LANE_PAGES
                        : out->type == DWCP_LANE_REGISTERED ||
                              out->type == DWCP_LANE_ACK;
    if (!known || (from_source ? out->credits != 0
                               : out->credits == 0 ||
                                     out->credits > DWCP_LANE_CREDITS)) {
        return dwcp_fail(err, -EPROTO, "RDMA: message %u with %u credits",
                         (unsigned)out->type, out->credits);
    }
    return 0;
}

int dwcp_lane_decode(const uint8_t *in, uint32_t length, bool from_source,
                     uint32_t page_size, DwcpLaneMessage *out, DwcpError *err)
{
    int rc = header_decode(in, length, from_source, out, err);

    if (rc < 0) {
        return rc;
    }
    in += DWCP_LANE_HEADER;
    length -= DWCP_LANE_HEADER;
    if (out->type == DWCP_LANE_PAGES) {
        return pages_decode(in, length, page_size, &out->pages, err);
    }
    if (out->type != DWCP_LANE_ACK) {
        return piece_decode(in, length, out->type == DWCP_LANE_REGISTERED, out,
                            err);
    }
    if (length != 8) {
        return dwcp_fail(err, -EPROTO, "RDMA: ACK of %u bytes", length);
    }
    out->frames = dwcp_get_le64(in);
    return 0;
}

/* version u16, port u16, reserved u32 (0), token */
void dwcp_lane_offer_encode(uint8_t *out, const DwcpLaneOffer *offer)
{
    dwcp_put_le16(out, DWCP_LANE_VERSION);
    dwcp_put_le16(out + 2, offer->port);
    dwcp_put_le32(out + 4, 0);
    memcpy(out + 8, offer->token, DWCP_LANE_TOKEN_BYTES);
}

int dwcp_lane_offer_decode(const uint8_t *in, DwcpLaneOffer *out,
                           DwcpError *err)
{
    if (dwcp_get_le16(in) != DWCP_LANE_VERSION || !dwcp_get_le16(in + 2) ||
        dwcp_get_le32(in + 4)) {
        return dwcp_fail(err, -EPROTO, "RDMA_OFFER: version %u, port %u",
                         dwcp_get_le16(in), dwcp_get_le16(in + 2));
    }
    out->port = dwcp_get_le16(in + 2);
    memcpy(out->token, in + 8, DWCP_LANE_TOKEN_BYTES);
    return 0;
}

/* version u32, reserved u32 (0), session, token */
void dwcp_lane_hello_encode(uint8_t *out, const uint8_t *session,
                            const uint8_t *token)
{
    dwcp_put_le32(out, DWCP_LANE_VERSION);
    dwcp_put_le32(out + 4, 0);
    memcpy(out + 8, session, DWCP_SESSION_BYTES);
    memcpy(out + 8 + DWCP_SESSION_BYTES, token, DWCP_LANE_TOKEN_BYTES);
}

int dwcp_lane_hello_check(const uint8_t *in, size_t length,
                          const uint8_t *session, const uint8_t *token,
                          DwcpError *err)
{
    uint8_t want[DWCP_LANE_HELLO_BYTES];

    dwcp_lane_hello_encode(want, session, token);
    return length >= sizeof(want) && sodium_memcmp(in, want, sizeof(want)) == 0
               ? 0
               : dwcp_fail(err, -EACCES,
                           "an RDMA connection was not for this session");
}

uint32_t dwcp_lane_down_encode(uint8_t *out, const DwcpLaneDown *down)
{
    size_t length = strnlen(down->text, DWCP_ABORT_TEXT_MAX);

    dwcp_put_le64(out, down->frames);
    memcpy(out + 8, down->text, length);
    return 8 + (uint32_t)length;
}

void dwcp_lane_down_decode(const uint8_t *in, uint32_t length,
                           DwcpLaneDown *out)
{
    uint32_t i;

    assert(length >= 8 && length <= DWCP_LANE_DOWN_BODY_MAX);
    out->frames = dwcp_get_le64(in);
    for (i = 0; i < length - 8; i++) {
        out->text[i] = in[8 + i] >= ' ' && in[8 + i] <= '~' ? (char)in[8 + i]
                                                            : '?';
    }
    out->text[i] = '\0';
}
