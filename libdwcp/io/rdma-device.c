/*
 * Is there an RDMA device, and does it have an address?
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <infiniband/verbs.h>
#include <netinet/in.h>
#include <rdma/rdma_cma.h>
#include <string.h>

#include "core/fail.h"
#include "io/rdma.h"

int dwcp_rdma_check(DwcpError *err)
{
    struct ibv_device **devices;
    int count = 0;

    devices = ibv_get_device_list(&count);
    if (devices) {
        ibv_free_device_list(devices);
    }
    return devices && count > 0
               ? 0
               : dwcp_fail(err, -ENODEV,
                           "this host has no RDMA device (ibv_devices shows "
                           "none)");
}

/* Any port: only the device matters. */
static void any_port(struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)address)->sin6_port = 0;
    } else {
        ((struct sockaddr_in *)address)->sin_port = 0;
    }
}

static int bind_check(struct rdma_event_channel *events,
                      struct sockaddr *address, DwcpError *err)
{
    struct rdma_cm_id *id;
    int rc = 0;

    if (rdma_create_id(events, &id, NULL, RDMA_PS_TCP) < 0) {
        return dwcp_fail(err, -errno, "rdma_cm: %s", strerror(errno));
    }
    if (rdma_bind_addr(id, address) < 0) {
        rc = dwcp_fail(err, -errno,
                       "the connection's address belongs to no RDMA device: %s",
                       strerror(errno));
    } else if (!id->verbs) {
        rc = dwcp_fail(err, -ENODEV,
                       "the connection's address belongs to no RDMA device");
    }
    (void)rdma_destroy_id(id);
    return rc;
}

int dwcp_rdma_address_check(int fd, DwcpError *err)
{
    struct rdma_event_channel *events;
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    int rc;

    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
        return dwcp_fail(err, -errno, "getsockname: %s", strerror(errno));
    }
    any_port(&address);
    events = rdma_create_event_channel();
    if (!events) {
        return dwcp_fail(err, -errno, "rdma_cm: %s (is rdma_ucm loaded?)",
                         strerror(errno));
    }
    rc = bind_check(events, (struct sockaddr *)&address, err);
    rdma_destroy_event_channel(events);
    return rc;
}
