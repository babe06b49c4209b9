/*
 * Channel 0 between its local socket and stream 0's records
 *
 * The local end is one of a socketpair whose other end the hypervisor uses as
 * an ordinary connected socket.
 *
 * Threads: stream 0's, but for dwcp_pump_new.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_PUMP_H
#define DWCP_IO_PUMP_H

#include <poll.h>

#include "io/stream.h"

/*
 * dwcp_pump_new: make the channel; the user's end goes to session->channel_fd
 *
 * Returns: NULL out of memory or descriptors.
 */
DwcpPump *dwcp_pump_new(DwcpStream *stream);
void dwcp_pump_free(DwcpPump *pump);

/* dwcp_pump_poll: what should end the next poll() */
void dwcp_pump_poll(DwcpPump *pump, struct pollfd *fd);

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

/* dwcp_pump_flush: the session ends well: queue and hand on what is left */
void dwcp_pump_flush(DwcpPump *pump);

/* dwcp_pump_close: the user's end sees the end of the stream */
void dwcp_pump_close(DwcpPump *pump);

#endif
