/*
 * The memory of a host's cap (core/hostcap), as the user passed it
 *
 * A file that others can shorten would kill the process that maps it, and with
 * it a healthy guest.  So it must be a memfd that is sealed against that.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_CAPMAP_H
#define DWCP_IO_CAPMAP_H

#include "core/hostcap.h"

/*
 * dwcp_capmap_join: map @fd and take part in it
 *
 * Returns: 0, the descriptor is closed; -EINVAL it is no sealed memfd, or not a
 * cap's; -ENOMEM or what else mmap() said.  Then it is the caller's.
 */
int dwcp_capmap_join(DwcpHostcapMember *member, int fd,
                     DwcpError *err) DWCP_CHECKED;

/* dwcp_capmap_leave: a member that is in none may leave */
void dwcp_capmap_leave(DwcpHostcapMember *member);

#endif
