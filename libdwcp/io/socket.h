/*
 * TCP connections: resolving, connecting, exact reads with a deadline
 *
 * Everything here ends early when the stream's session dies or is closed.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_SOCKET_H
#define DWCP_IO_SOCKET_H

#include <sys/socket.h>

#include "core/flow.h"
#include "io/stream.h"

#define DWCP_ADDRESSES_MAX 8u

typedef struct DwcpAddresses {
    unsigned count;
    struct {
        struct sockaddr_storage addr;
        socklen_t length;
    } list[DWCP_ADDRESSES_MAX];
} DwcpAddresses;

/*
 * dwcp_resolve: the addresses of a host and port
 *
 * The name service may take its time: a thread of its own asks it, and is
 * left alone when the session ends first.
 *
 * Returns: 0; -ENOENT the name service's answer is in @err; -ECANCELED;
 * -ETIMEDOUT at @deadline_ns.
 */
int dwcp_resolve(DwcpStream *stream, const char *host, const char *port,
                 int family, uint64_t deadline_ns, DwcpAddresses *out,
                 DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_connect: try the addresses in turn; stream->tcp is set
 *
 * On success @addresses holds only the one that worked, for the next streams.
 *
 * Returns: 0 or the last address's error.
 */
int dwcp_connect(DwcpStream *stream, DwcpAddresses *addresses,
                 uint64_t deadline_ns, DwcpError *err) DWCP_CHECKED;

/* dwcp_socket_prepare: options of a connected socket, made non-blocking */
void dwcp_socket_prepare(int fd);

/* dwcp_socket_set_unsent: bytes that the kernel may hold beyond what is in
 * flight: anything queued there is downtime that nothing can overtake */
void dwcp_socket_set_unsent(int fd, uint32_t bytes);

/* dwcp_socket_set_pace: of what is sent from now on, queued or not; UINT64_MAX = no
 * limit */
void dwcp_socket_set_pace(int fd, uint64_t bytes_per_s);

/* dwcp_socket_set_enough: bytes that are worth waking up for, if its buffer is
 * large enough for that */
void dwcp_socket_set_enough(int fd, uint32_t bytes);

/* dwcp_read_exact, dwcp_write_exact: all @length bytes by @deadline_ns
 * Returns: 0; -ETIMEDOUT, -ECANCELED, -ECONNRESET (closed), or errno. */
int dwcp_read_exact(DwcpStream *stream, void *data, size_t length,
                    uint64_t deadline_ns, DwcpError *err) DWCP_CHECKED;
int dwcp_write_exact(DwcpStream *stream, const void *data, size_t length,
                     uint64_t deadline_ns, DwcpError *err) DWCP_CHECKED;

/*
 * DwcpSocketState: what the kernel knows of a connection; zeros = not known
 *
 * @flow: without its id
 * @in_flight: packets are on their way
 */
struct DwcpSocketState {
    DwcpFlowInfo flow;
    bool in_flight;
};

void dwcp_socket_measure(int fd, DwcpSocketState *state);

#endif
