/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/transport.h"

#include <sys/socket.h>
#include <unistd.h>

#include "io/socket.h"

static int fd_of(const DwcpTransport *transport)
{
    return ((const DwcpTcp *)transport)->fd;
}

static ssize_t tcp_send(DwcpTransport *transport, const struct iovec *parts,
                        size_t count)
{
    struct msghdr msg = { .msg_iov = (struct iovec *)parts,
                          .msg_iovlen = count };

    return sendmsg(fd_of(transport), &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t tcp_receive(DwcpTransport *transport, const struct iovec *parts,
                           size_t count)
{
    struct msghdr msg = { .msg_iov = (struct iovec *)parts,
                          .msg_iovlen = count };

    return recvmsg(fd_of(transport), &msg, MSG_DONTWAIT);
}

static void tcp_poll(DwcpTransport *transport, struct pollfd *fd,
                     uint64_t *wait_ns)
{
    (void)wait_ns;
    /* With no events POLLHUP would make the caller spin. */
    fd->fd = fd->events ? fd_of(transport) : -1;
}

static void tcp_measure(DwcpTransport *transport, DwcpSocketState *state)
{
    dwcp_socket_measure(fd_of(transport), state);
}

static void tcp_set_pace(DwcpTransport *transport, uint64_t bytes_per_s)
{
    dwcp_socket_set_pace(fd_of(transport), bytes_per_s);
}

static void tcp_set_unsent(DwcpTransport *transport, uint32_t bytes)
{
    dwcp_socket_set_unsent(fd_of(transport), bytes);
}

static void tcp_set_enough(DwcpTransport *transport, uint32_t bytes)
{
    dwcp_socket_set_enough(fd_of(transport), bytes);
}

static void tcp_shutdown(DwcpTransport *transport, bool reset)
{
    const struct sockaddr nobody = { .sa_family = AF_UNSPEC };

    if (reset) { /* the descriptor stays, for whoever may poll it */
        (void)connect(fd_of(transport), &nobody, sizeof(nobody));
    } else {
        (void)shutdown(fd_of(transport), SHUT_WR);
    }
}

static void tcp_close(DwcpTransport *transport)
{
    DwcpTcp *tcp = (DwcpTcp *)transport;

    if (tcp->fd >= 0) {
        close(tcp->fd);
        tcp->fd = -1;
    }
}

DwcpTransport *dwcp_tcp_init(DwcpTcp *tcp)
{
    static const DwcpTransportOps ops = {
        .send = tcp_send,
        .receive = tcp_receive,
        .poll = tcp_poll,
        .measure = tcp_measure,
        .set_unsent = tcp_set_unsent,
        .set_pace = tcp_set_pace,
        .set_enough = tcp_set_enough,
        .shutdown = tcp_shutdown,
        .close = tcp_close,
    };

    *tcp = (DwcpTcp){ .base.ops = &ops, .fd = -1 };
    return &tcp->base;
}
