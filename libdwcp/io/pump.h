/*
 * Channel 0 between its local socket and stream 0's records
 *
 * The local end is one of a socketpair whose other end the hypervisor uses as
 * an ordinary connected socket.  The pump outlives the connections that serve as
 * stream 0, one after the other; between two of them it rests.
 *
 * Threads: stream 0's; dwcp_pump_attach hands it from one to the next.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_PUMP_H
#define DWCP_IO_PUMP_H

#include <poll.h>

#include "io/stream.h"

/*
 * dwcp_pump_new: make the channel and session->pump; the user's end goes to
 * session->channel_fd
 *
 * Returns: NULL out of memory or descriptors.
 */
DwcpPump *dwcp_pump_new(DwcpSession *session);
void dwcp_pump_free(DwcpPump *pump);

/* dwcp_pump_bytes: memory that it holds */
size_t dwcp_pump_bytes(void);

/*
 * dwcp_pump_attach: @stream is stream 0 from here on
 *
 * @resume: it is not the first: nothing is sent until the peer's RESUME; filled
 *          with ours; else NULL
 */
void dwcp_pump_attach(DwcpPump *pump, DwcpStream *stream, DwcpResume *resume);

/* dwcp_pump_resume: the peer's RESUME has come; Returns: 0 or -EPROTO */
int dwcp_pump_resume(DwcpPump *pump, const DwcpResume *resume,
                     DwcpError *err) DWCP_CHECKED;

/* dwcp_pump_poll: what should end the next poll() */
void dwcp_pump_poll(DwcpPump *pump, struct pollfd *fd);

/* dwcp_pump_has_more: does the connection take what is kept, so that nothing
 * that poll() knows will end the wait? */
bool dwcp_pump_has_more(DwcpPump *pump);

/*
 * dwcp_pump_rest: while no connection stands, what should end the wait: the
 * user closed its end, which is a cancel until GO
 */
void dwcp_pump_rest(DwcpPump *pump, struct pollfd *fd);
/* dwcp_pump_rested: if it has, cancel */
void dwcp_pump_rested(DwcpPump *pump, const struct pollfd *fd);

/* dwcp_pump_turn: move what can be moved now; Returns: 0 or an error */
int dwcp_pump_turn(DwcpPump *pump, DwcpError *err) DWCP_CHECKED;

/* dwcp_pump_record: CHANNEL, WINDOW or CHANNEL_EOF has come */
int dwcp_pump_record(DwcpPump *pump, const DwcpRecord *record,
                     const uint8_t *body, DwcpError *err) DWCP_CHECKED;

/* dwcp_pump_tick: tell the peer of what was consumed since the last record */
int dwcp_pump_tick(DwcpPump *pump, DwcpError *err) DWCP_CHECKED;

/* dwcp_pump_shut: is the user kept from writing by what the peer has not
 * consumed? */
bool dwcp_pump_shut(const DwcpPump *pump);

/* dwcp_pump_owes: is there something that the peer has not consumed? */
bool dwcp_pump_owes(const DwcpPump *pump);

/* dwcp_pump_flush: the session ends well: queue and hand on what is left */
void dwcp_pump_flush(DwcpPump *pump);

/* dwcp_pump_close: the user's end sees the end of the stream */
void dwcp_pump_close(DwcpPump *pump);

/* dwcp_pump_hang_up: the same for good, from any thread, by session.lock */
void dwcp_pump_hang_up(DwcpPump *pump);

#endif
