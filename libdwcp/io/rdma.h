/*
 * RDMA beside a session: whether it may be, and what became of it
 *
 * What a host without rdma-core has as well.  The lane itself, and everything
 * else that knows verbs, stands in the other rdma-*.c; rdma-none.c stands for
 * them where they are not built.
 *
 * Threads: any, unless it says otherwise.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_RDMA_H
#define DWCP_IO_RDMA_H

#include "io/session.h"

/*
 * dwcp_rdma_init: what the session's user wants; after dwcp_session_init
 *
 * Returns: 0; -EINVAL not a DwcpRdma; if it is on -ENOTSUP not built in, or the
 * session is keyed, -ENODEV.
 */
int dwcp_rdma_init(DwcpSession *session, DwcpRdma wish,
                   DwcpError *err) DWCP_CHECKED;

/* dwcp_rdma_set: how far it has come; @why: printf-like, or NULL: keep it */
void dwcp_rdma_set(DwcpSession *session, DwcpRdmaState state, const char *why,
                   ...) __attribute__((format(printf, 3, 4)));

void dwcp_rdma_stats(DwcpSession *session, DwcpStats *stats);

/*
 * dwcp_rdma_address_check: does the local address of a TCP connection belong to
 * an RDMA device?  Waits for nothing.
 *
 * Returns: 0; -ENOTSUP not built in; -ENODEV or what the system says.
 */
int dwcp_rdma_address_check(int fd, DwcpError *err) DWCP_CHECKED;

#endif
