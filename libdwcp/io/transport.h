/*
 * What carries a stream's bytes: a table of calls, and TCP as its first user
 *
 * A connection past its connect() or accept() is a DwcpTransport.  All that a
 * stream does with its connection goes through the table, so something can be
 * put on top of a transport that is a transport itself and holds the one below
 * (io/fault.h).  Nothing is copied on the way, and TCP makes one system call of
 * each send and receive.
 *
 * No call waits.  Whoever would have to makes its users come back with `poll`.
 *
 * Threads: the stream's own.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_TRANSPORT_H
#define DWCP_IO_TRANSPORT_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef struct DwcpSocketState DwcpSocketState;
typedef struct DwcpTransport DwcpTransport;

typedef struct DwcpTransportOps {
    /* @count: of @parts, 1 to DWCP_TRANSPORT_PARTS_MAX.  Returns: bytes taken
     * off their front; -1 and errno, EAGAIN: not now. */
    ssize_t (*send)(DwcpTransport *transport, const struct iovec *parts,
                    size_t count);
    /* The same.  Returns: bytes that stand at @parts now; 0 the peer closed; -1
     * and errno, EAGAIN: not now. */
    ssize_t (*receive)(DwcpTransport *transport, const struct iovec *parts,
                       size_t count);
    /* Before a poll(): @fd->events says what for; @fd->fd is filled, -1 if no
     * event would help; *@wait_ns is lowered to when to come back anyway. */
    void (*poll)(DwcpTransport *transport, struct pollfd *fd,
                 uint64_t *wait_ns);
    void (*measure)(DwcpTransport *transport, DwcpSocketState *state);
    /* Bytes that may be held beyond what is in flight. */
    void (*set_unsent)(DwcpTransport *transport, uint32_t bytes);
    /* Of what is sent from now on, queued or not; UINT64_MAX = no limit. */
    void (*set_pace)(DwcpTransport *transport, uint64_t bytes_per_s);
    /* Until this is called again a poll() for input need not tell of less, unless
     * it is the end; so many are still to come.  1: of anything. */
    void (*set_enough)(DwcpTransport *transport, uint32_t bytes);
    /* The peer sees the end of what was sent; @reset: of all, at once. */
    void (*shutdown)(DwcpTransport *transport, bool reset);
    /* Closes what is below, then frees itself if it was allocated. */
    void (*close)(DwcpTransport *transport);
} DwcpTransportOps;

#define DWCP_TRANSPORT_PARTS_MAX 66u

struct DwcpTransport {
    const DwcpTransportOps *ops;
};

/* DwcpTcp: the caller's memory */
typedef struct DwcpTcp {
    DwcpTransport base;
    int fd; /* not blocking; -1 = none */
} DwcpTcp;

/* dwcp_tcp_init: without a descriptor yet; Returns: &tcp->base */
DwcpTransport *dwcp_tcp_init(DwcpTcp *tcp);

/*
 * DwcpTransportWrap: what puts something on each connection of a session, once
 * its handshake is done
 */
typedef struct DwcpTransportWrap {
    /* @below: the connection of stream @index.  Returns: what is used instead,
     * and owns @below: its close closes that; @below itself; or NULL: no
     * memory.  Threads: any, several at once. */
    DwcpTransport *(*put)(struct DwcpTransportWrap *wrap, DwcpTransport *below,
                          unsigned index);
    /* With the session, after all its connections. */
    void (*free)(struct DwcpTransportWrap *wrap);
} DwcpTransportWrap;

#endif
