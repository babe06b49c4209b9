/*
 * A move over RDMA: a guest that writes meanwhile, and what must hold in the end
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_RDMAMOVE_H
#define DWCP_TESTS_RDMAMOVE_H

#include "rdmakit.h"

#define MIB_PAGES 256u
#define PAGES (20u * MIB_PAGES) /* two pieces, one of them short */

/* ------------------------------------------------------------- guest -- */

/* A thread that writes to the source's memory, and the log of what it wrote. */
typedef struct Guest Guest;

Guest *guest_start(End *source, uint32_t seed);
/* guest_round: hand over what was written since, as a round of its own */
int guest_round(Guest *guest);
/* guest_stop: it writes no more; what is left is handed over; freed */
int guest_stop(Guest *guest);

/* guest_fill: pages of random bytes and of zeros */
void guest_fill(End *source, uint32_t seed);

/* -------------------------------------------------------------- move -- */

void rdma_move_some(RdmaPair *pair, Guest *guest, unsigned rounds);
/* rdma_finish: from end() on, and what must hold of the lane meanwhile */
void rdma_finish(RdmaPair *pair);
/* rdma_check_used: the lane did all of it */
void rdma_check_used(RdmaPair *pair);
/* rdma_check_unused: the pages took TCP, and the statistics say why */
void rdma_check_unused(RdmaPair *pair, const char *why);

#endif
