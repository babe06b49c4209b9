/*
 * TUN devices in other network namespaces.
 *
 * Threads: wan_tun_open() enters the namespace with the calling thread and
 * comes back; call it before other threads exist.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_TUN_H
#define WAN_TUN_H

#include <stddef.h>

/*
 * Creates a TUN device, up, with checksum and segmentation offload: its frames
 * start with a virtio_net_hdr and may be TCP super-packets.
 *
 * @netns: a process id, or the path of a namespace file
 * @name: of the device, under 16 characters
 * @mtu: of the device
 * @error, @error_bytes: receives what failed, without a newline
 *
 * The device goes when the descriptor is closed, or with its namespace.
 *
 * Returns: a nonblocking descriptor that the caller closes, or negative errno.
 */
int wan_tun_open(const char *netns, const char *name, int mtu, char *error,
                 size_t error_bytes) __attribute__((warn_unused_result));

#endif
