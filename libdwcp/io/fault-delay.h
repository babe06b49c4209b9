/*
 * A delay line: what comes from a transport is handed on later, as it came
 *
 * Bytes are read as soon as they come, so that their sender sees no slow reader,
 * and kept with the time when they came, the end of the connection as well.
 *
 * Threads: the stream's own.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_FAULT_DELAY_H
#define DWCP_IO_FAULT_DELAY_H

#include "io/transport.h"

/* What may be under way: further bytes stay with TCP. */
#define DWCP_DELAY_BYTES_MAX (8u << 20)

typedef struct DwcpDelay DwcpDelay;

/* dwcp_delay_new: Returns: NULL when out of memory */
DwcpDelay *dwcp_delay_new(void);
void dwcp_delay_free(DwcpDelay *delay); /* NULL is allowed */

/* dwcp_delay_empty: has all that came been handed on? */
bool dwcp_delay_empty(const DwcpDelay *delay);

/*
 * dwcp_delay_receive: what @below has now is due @by_ns later
 *
 * Returns: as DwcpTransportOps.receive, of what is due.
 */
ssize_t dwcp_delay_receive(DwcpDelay *delay, DwcpTransport *below,
                           const struct iovec *parts, size_t count,
                           uint64_t by_ns, uint64_t now_ns);

/* dwcp_delay_poll: as DwcpTransportOps.poll, before @below is asked */
void dwcp_delay_poll(const DwcpDelay *delay, struct pollfd *fd,
                     uint64_t *wait_ns, uint64_t now_ns);

#endif
