/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/rdma-memory.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "core/fail.h"

struct ibv_mr *dwcp_rdma_register(struct ibv_pd *pd, void *host, uint32_t bytes,
                                  int access, DwcpError *err)
{
    struct ibv_mr *mr = ibv_reg_mr(pd, host, bytes, access);
    struct rlimit limit = { 0 };
    int code = errno;

    if (!mr) {
        (void)getrlimit(RLIMIT_MEMLOCK, &limit);
        (void)dwcp_fail(err, code ? -code : -EIO,
                        "RDMA: cannot register %u KiB of memory: %s (limit of "
                        "locked memory: %llu KiB)",
                        bytes >> 10, strerror(code),
                        (unsigned long long)limit.rlim_cur >> 10);
    }
    return mr;
}

void dwcp_rdma_deregister(DwcpSession *session, DwcpPieces *pieces)
{
    DwcpPieceBlock *block;
    unsigned i;
    uint32_t j;

    for (i = 0; i < pieces->blocks_count; i++) {
        block = &pieces->blocks[i];
        for (j = 0; j < block->count; j++) {
            if (block->pieces[j].handle) {
                (void)ibv_dereg_mr(block->pieces[j].handle);
            }
        }
    }
    dwcp_pieces_clear(pieces);
    atomic_store(&session->rdma_registered_bytes, 0);
}
