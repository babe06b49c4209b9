/*
 * Memory that an RDMA device may use: pinned, and known to it by keys
 *
 * Threads: any; the pieces are their owner's.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_RDMA_MEMORY_H
#define DWCP_IO_RDMA_MEMORY_H

#include <infiniband/verbs.h>

#include "core/rampieces.h"
#include "io/session.h"

/* dwcp_rdma_register: Returns: NULL, and *@err with the limit that is to
 * blame */
struct ibv_mr *dwcp_rdma_register(struct ibv_pd *pd, void *host, uint32_t bytes,
                                  int access, DwcpError *err);

/* dwcp_rdma_deregister: all pieces that have a handle; clears @pieces */
void dwcp_rdma_deregister(DwcpSession *session, DwcpPieces *pieces);

#endif
