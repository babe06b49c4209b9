/*
 * What the RDMA tests share: two ends on a device's address, and verbs in the
 * test's hands
 *
 * Linked with --wrap of the calls below, so that a test can make each fail, see
 * which queue pairs stand, and break one of them.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_RDMAKIT_H
#define DWCP_TESTS_RDMAKIT_H

#include "kit.h"

/* ------------------------------------------------------------- verbs -- */

typedef enum RdmaSide { RDMA_SOURCE, RDMA_TARGET, RDMA_SIDES } RdmaSide;

/* What the wrapped calls are to do; all zero: nothing special. */
typedef struct RdmaFaults {
    bool no_qp[RDMA_SIDES];     /* -ENODEV, as if the device had gone */
    unsigned pieces_max;        /* registrations of guest RAM that work, of
                                 * both sides together; 0 = all */
    bool wrong_token;           /* the source says another one */
} RdmaFaults;

void rdma_faults(const RdmaFaults *faults); /* NULL: none */

/* rdma_break: move the side's queue pair into the error state; false: there is
 * none */
bool rdma_break(RdmaSide side);
/* rdma_standing: queue pairs of the side */
unsigned rdma_standing(RdmaSide side);
/* rdma_registered: memory regions that stand */
unsigned rdma_registered(void);

/* -------------------------------------------------------------- ends -- */

/* rdma_address: of the device that the tests use; NULL: there is none, and
 * *why */
const char *rdma_address(const char **why);

typedef struct RdmaPair {
    End source, target;
    char port[8];
    Usage before;
} RdmaPair;

DwcpSourceOptions rdma_source_options(void);
DwcpTargetOptions rdma_target_options(void);

/* rdma_pair: connected, with so many pages, the target has begun */
void rdma_pair(RdmaPair *pair, const DwcpSourceOptions *source_options,
               const DwcpTargetOptions *target_options, uint64_t pages);
void rdma_pair_free(RdmaPair *pair); /* and look for what was left behind */

DwcpStats rdma_target_stats(RdmaPair *pair);
/* rdma_wait_state: of the source, until it has come this far or further */
void rdma_wait_state(RdmaPair *pair, DwcpRdmaState state);

#endif
