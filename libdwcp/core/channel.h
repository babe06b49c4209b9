/*
 * A reliable byte channel's two directions: a ring buffer each
 *
 * The receiver owns a buffer of DWCP_CHANNEL_WINDOW bytes and tells the
 * sender how much it has consumed; the sender never has more on the way than
 * fits.  So a reader that pauses (a hypervisor that waits for memory) never
 * blocks the records behind its bytes.  The sender keeps what the receiver has
 * not consumed, and goes on from what was received when a connection is
 * replaced.
 *
 * Threads: none of its own; stream 0's thread owns it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_CHANNEL_H
#define DWCP_CORE_CHANNEL_H

#include "core/bounds.h"

typedef struct DwcpChannel {
    /* out: bytes since the start; kept holds [peer_consumed, sent) */
    uint64_t sent;   /* taken from the user */
    uint64_t queued; /* of them, given to the connection that stands now */
    uint64_t peer_consumed;
    bool sent_eof;
    uint8_t *kept; /* DWCP_CHANNEL_WINDOW bytes */
    /* in: bytes since the start; ring holds [consumed, received) */
    uint64_t received;
    uint64_t consumed;
    uint64_t reported; /* what the peer knows of consumed */
    bool received_eof;
    uint8_t *ring; /* DWCP_CHANNEL_WINDOW bytes */
} DwcpChannel;

/* dwcp_channel_init: Returns: 0 or -ENOMEM */
int dwcp_channel_init(DwcpChannel *channel) DWCP_CHECKED;
void dwcp_channel_clear(DwcpChannel *channel);

/* dwcp_channel_room: bytes that may be taken from the user now */
uint32_t dwcp_channel_room(const DwcpChannel *channel);

/* dwcp_channel_space: where the next of them belong; Returns: how many at *@at
 * stand in one piece, at most dwcp_channel_room() */
uint32_t dwcp_channel_space(const DwcpChannel *channel, uint8_t **at);

/* dwcp_channel_took: @length bytes stand there now */
void dwcp_channel_took(DwcpChannel *channel, uint32_t length);

/* dwcp_channel_next: the next bytes for the connection; Returns: how many at
 * *@data, at most DWCP_CHANNEL_DATA_MAX */
uint32_t dwcp_channel_next(const DwcpChannel *channel, const uint8_t **data);

/* dwcp_channel_gave: the connection has @length more */
void dwcp_channel_gave(DwcpChannel *channel, uint32_t length);

/* dwcp_channel_credit: the peer has consumed @consumed bytes in all
 * Returns: 0; -EPROTO more than it was given, or less than before. */
int dwcp_channel_credit(DwcpChannel *channel, uint64_t consumed,
                        DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_channel_resume: on a new connection the peer says where it stands
 *
 * Returns: 0; -EPROTO it cannot stand there.
 */
int dwcp_channel_resume(DwcpChannel *channel, uint64_t received,
                        uint64_t consumed, DwcpError *err) DWCP_CHECKED;

/* dwcp_channel_push: the peer's next @length bytes
 * Returns: 0; -EPROTO beyond the window or after EOF. */
int dwcp_channel_push(DwcpChannel *channel, const uint8_t *data,
                      uint32_t length, DwcpError *err) DWCP_CHECKED;

/* dwcp_channel_peek: the next bytes to hand on; Returns: how many at *@data */
uint32_t dwcp_channel_peek(const DwcpChannel *channel, const uint8_t **data);

/* dwcp_channel_consume: @length bytes were handed on */
void dwcp_channel_consume(DwcpChannel *channel, uint32_t length);

/* dwcp_channel_report: should the peer be told of consumed now?
 * True once @bytes (DWCP_CHANNEL_REPORT, or less) have been consumed since the
 * last time, which this call then is. */
bool dwcp_channel_report(DwcpChannel *channel, uint32_t bytes);

#endif
