/*
 * In place of the verbs, where libdwcp is built without them: clear refusals
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/rdma.h"

#include <errno.h>

#include "core/fail.h"

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
