/*
 * In place of the verbs, where libdwcp is built without them: clear refusals
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>

#include "core/fail.h"
#include "io/lane-end.h"
#include "io/rdma.h"

int dwcp_rdma_check(DwcpError *err)
{
    return dwcp_fail(err, -ENOTSUP,
                     "this libdwcp was built without RDMA: it needs "
                     "libibverbs and librdmacm");
}

int dwcp_rdma_address_check(int fd, DwcpError *err)
{
    (void)fd;
    return dwcp_rdma_check(err);
}

int dwcp_lane_source_start(DwcpSource *source, int fd,
                           const DwcpLaneOffer *offer, DwcpError *err)
{
    (void)source;
    (void)fd;
    (void)offer;
    return dwcp_rdma_check(err);
}

int dwcp_lane_target_start(DwcpTarget *target, int fd, DwcpError *err)
{
    (void)target;
    (void)fd;
    return dwcp_rdma_check(err);
}
