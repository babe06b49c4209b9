/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h> /* libc's tcp_info ends before bytes_acked */
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fail.h"

/* A question to the name service, shared by asker and helper thread. */
typedef struct Lookup {
    char *host, *port;
    int family;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned users; /* guarded by lock, as are the next three */
    bool answered;
    int rc;
    DwcpAddresses found;
} Lookup;

static void lookup_unref(Lookup *lookup)
{
    bool last;

    pthread_mutex_lock(&lookup->lock);
    last = --lookup->users == 0;
    pthread_mutex_unlock(&lookup->lock);
    if (last) {
        pthread_cond_destroy(&lookup->changed);
        pthread_mutex_destroy(&lookup->lock);
        free(lookup->host);
        free(lookup->port);
        free(lookup);
    }
}

static void *lookup_run(void *opaque)
{
    Lookup *lookup = opaque;
    struct addrinfo hints = {
        .ai_family = lookup->family,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *list = NULL, *ai;
    DwcpAddresses found = { 0 };
    int rc;

    rc = getaddrinfo(lookup->host, lookup->port, &hints, &list);
    for (ai = rc ? NULL : list; ai && found.count < DWCP_ADDRESSES_MAX;
         ai = ai->ai_next) {
        memcpy(&found.list[found.count].addr, ai->ai_addr, ai->ai_addrlen);
        found.list[found.count++].length = ai->ai_addrlen;
    }
    if (!rc) {
        freeaddrinfo(list);
    }
    pthread_mutex_lock(&lookup->lock);
    lookup->found = found;
    lookup->rc = rc;
    lookup->answered = true;
    pthread_cond_signal(&lookup->changed);
    pthread_mutex_unlock(&lookup->lock);
    lookup_unref(lookup);
    return NULL;
}

static Lookup *lookup_new(const char *host, const char *port, int family)
{
    Lookup *lookup = calloc(1, sizeof(*lookup));

    if (!lookup) {
        return NULL;
    }
    pthread_mutex_init(&lookup->lock, NULL);
    dwcp_cond_init_monotonic(&lookup->changed);
    lookup->users = 1;
    lookup->family = family;
    lookup->host = strdup(host);
    lookup->port = strdup(port);
    if (!lookup->host || !lookup->port) {
        lookup_unref(lookup);
        return NULL;
    }
    return lookup;
}

/* Who comes to a target that has failed is told so. */
static bool given_up(const DwcpStream *stream)
{
    const DwcpSession *session = stream->session;

    return atomic_load(&stream->cut) || atomic_load(&session->closing) ||
           (session->role == DWCP_ROLE_SOURCE && atomic_load(&session->dead));
}

/* The condition is the helper's, so a cancel is noticed by looking. */
#define LOOKUP_GLANCE_NS 50000000ull

static void lookup_wait(DwcpStream *stream, Lookup *lookup,
                        uint64_t deadline_ns)
{
    struct timespec until;
    uint64_t until_ns;

    pthread_mutex_lock(&lookup->lock);
    while (!lookup->answered && !given_up(stream) &&
           dwcp_now_ns() < deadline_ns) {
        until_ns = dwcp_now_ns() + LOOKUP_GLANCE_NS;
        until = dwcp_timespec(until_ns);
        (void)pthread_cond_timedwait(&lookup->changed, &lookup->lock, &until);
    }
    pthread_mutex_unlock(&lookup->lock);
}

int dwcp_resolve(DwcpStream *stream, const char *host, const char *port,
                 int family, uint64_t deadline_ns, DwcpAddresses *out,
                 DwcpError *err)
{
    Lookup *lookup = lookup_new(host, port, family);
    pthread_t thread;
    int rc;

    if (!lookup) {
        return dwcp_fail(err, -ENOMEM, "cannot resolve %s: out of memory",
                         host);
    }
    lookup->users++;
    rc = dwcp_thread_start(&thread, "dwcp-resolve", lookup_run, lookup, err);
    if (rc < 0) {
        lookup->users--;
        lookup_unref(lookup);
        return rc;
    }
    pthread_detach(thread);
    lookup_wait(stream, lookup, deadline_ns);
    pthread_mutex_lock(&lookup->lock);
    if (!lookup->answered) {
        rc = given_up(stream)
                 ? dwcp_fail(err, -ECANCELED, "cancelled")
                 : dwcp_fail(err, -ETIMEDOUT, "resolving %s took too long",
                             host);
    } else if (lookup->rc) {
        rc = dwcp_fail(err, -ENOENT, "cannot resolve %s port %s: %s", host,
                       port, gai_strerror(lookup->rc));
    } else {
        *out = lookup->found;
        rc = 0;
    }
    pthread_mutex_unlock(&lookup->lock);
    lookup_unref(lookup);
    return rc;
}

/* Returns: 0 the descriptor is ready; -ETIMEDOUT, -ECANCELED. */
static int wait_ready(DwcpStream *stream, short events, uint64_t deadline_ns,
                      const char *what, DwcpError *err)
{
    struct pollfd fds[2] = {
        { .events = events },
        { .fd = stream->wake_fd, .events = POLLIN },
    };
    uint64_t now_ns, count, wait_ns;

    for (;;) {
        if (given_up(stream)) {
            return dwcp_fail(err, -ECANCELED, "cancelled");
        }
        now_ns = dwcp_now_ns();
        if (now_ns >= deadline_ns) {
            return dwcp_fail(err, -ETIMEDOUT, "%s: no answer in time", what);
        }
        wait_ns = deadline_ns - now_ns;
        stream->transport->ops->poll(stream->transport, &fds[0], &wait_ns);
        (void)poll(fds, 2, (int)(wait_ns / 1000000u) + 1);
        if (fds[1].revents) {
            (void)!read(stream->wake_fd, &count, sizeof(count));
        }
        if (fds[0].revents || wait_ns < deadline_ns - now_ns) {
            return 0;
        }
    }
}

static void address_text(const struct sockaddr *addr, socklen_t length,
                         char *out, size_t size)
{
    char host[64], port[8];

    if (getnameinfo(addr, length, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV)) {
        snprintf(out, size, "connect");
    } else {
        snprintf(out, size, "connect to %s port %s", host, port);
    }
}

static int connect_one(DwcpStream *stream, const struct sockaddr *addr,
                       socklen_t length, uint64_t deadline_ns, DwcpError *err)
{
    char what[96];
    int rc, code = 0;
    socklen_t code_length = sizeof(code);

    address_text(addr, length, what, sizeof(what));
    stream->tcp.fd = dwcp_session_spare_take(stream->session, addr->sa_family);
    stream->spare = stream->tcp.fd >= 0;
    if (stream->tcp.fd < 0) {
        stream->tcp.fd = socket(addr->sa_family,
                            SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    if (stream->tcp.fd < 0) {
        return dwcp_fail(err, -errno, "%s: %s", what, strerror(errno));
    }
    if (connect(stream->tcp.fd, addr, length) < 0) {
        code = errno;
    }
    if (code == EINPROGRESS) {
        code = 0;
        rc = wait_ready(stream, POLLOUT, deadline_ns, what, err);
        if (rc == 0 && getsockopt(stream->tcp.fd, SOL_SOCKET, SO_ERROR, &code,
                                  &code_length) < 0) {
            code = errno;
        }
    } else {
        rc = 0;
    }
    if (code) {
        rc = dwcp_fail(err, -code, "%s: %s", what, strerror(code));
    }
    if (rc < 0) {
        dwcp_stream_close(stream, true);
    }
    return rc;
}

int dwcp_connect(DwcpStream *stream, DwcpAddresses *addresses,
                 uint64_t deadline_ns, DwcpError *err)
{
    int rc = dwcp_fail(err, -EADDRNOTAVAIL, "the host has no address");
    uint64_t now_ns, share_ns;
    unsigned i;

    for (i = 0; i < addresses->count; i++) {
        /* One that does not answer leaves time for the others. */
        now_ns = dwcp_now_ns();
        share_ns = deadline_ns > now_ns
                       ? (deadline_ns - now_ns) / (addresses->count - i)
                       : 0;
        rc = connect_one(stream,
                         (const struct sockaddr *)&addresses->list[i].addr,
                         addresses->list[i].length, now_ns + share_ns, err);
        if (rc == 0) {
            addresses->list[0] = addresses->list[i];
            addresses->count = 1;
            dwcp_socket_prepare(stream->tcp.fd);
            return 0;
        }
        if (given_up(stream)) {
            break;
        }
    }
    return rc;
}

void dwcp_socket_set_unsent(int fd, uint32_t bytes)
{
    const int lowat = (int)bytes;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat,
                     sizeof(lowat));
}

void dwcp_socket_set_pace(int fd, uint64_t bytes_per_s)
{
    /* Kernels before 4.20 take no more than 32 bits of it. */
    const uint32_t less = bytes_per_s < UINT32_MAX ? (uint32_t)bytes_per_s
                                                   : UINT32_MAX;

    if (setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &bytes_per_s,
                   sizeof(bytes_per_s)) < 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &less,
                         sizeof(less));
    }
}

/*
 * The kernel makes a buffer that is too small for it larger, and may clamp the
 * window to that, for ever on some releases.  So it is left alone until it has
 * grown by itself, as it does on a fast path.
 */
void dwcp_socket_set_enough(int fd, uint32_t bytes)
{
    int buffer = 0, lowat = (int)bytes;
    socklen_t length = sizeof(buffer);

    if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, &length) < 0 ||
        (uint32_t)buffer / 4 < bytes) {
        lowat = 1;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof(lowat));
}

/* Options are an improvement, never a condition: failures are ignored. */
void dwcp_socket_prepare(int fd)
{
    const int one = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    dwcp_socket_set_unsent(fd, DWCP_UNSENT_BYTES_MIN);
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int dwcp_read_exact(DwcpStream *stream, void *data, size_t length,
                    uint64_t deadline_ns, DwcpError *err)
{
    uint8_t *at = data;
    struct iovec part;
    ssize_t n;
    int rc;

    while (length) {
        part = (struct iovec){ at, length };
        n = stream->transport->ops->receive(stream->transport, &part, 1);
        if (n == 0) {
            return dwcp_fail(err, -ECONNRESET,
                             "handshake: the peer closed the connection");
        }
        if (n > 0) {
            at += n;
            length -= (size_t)n;
        } else if (errno == EAGAIN || errno == EINTR) {
            rc = wait_ready(stream, POLLIN, deadline_ns, "handshake", err);
            if (rc < 0) {
                return rc;
            }
        } else {
            return dwcp_fail(err, -errno, "handshake: %s", strerror(errno));
        }
    }
    return 0;
}

int dwcp_write_exact(DwcpStream *stream, const void *data, size_t length,
                     uint64_t deadline_ns, DwcpError *err)
{
    const uint8_t *at = data;
    struct iovec part;
    ssize_t n;
    int rc;

    while (length) {
        part = (struct iovec){ (uint8_t *)at, length };
        n = stream->transport->ops->send(stream->transport, &part, 1);
        if (n >= 0) {
            at += n;
            length -= (size_t)n;
        } else if (errno == EAGAIN || errno == EINTR) {
            rc = wait_ready(stream, POLLOUT, deadline_ns, "handshake", err);
            if (rc < 0) {
                return rc;
            }
        } else {
            return dwcp_fail(err, -errno, "handshake: %s", strerror(errno));
        }
    }
    return 0;
}

/* Congestion controls that take a rate for what it is, not losses. */
static bool loss_blind(int fd)
{
    char name[16] = "";
    socklen_t length = sizeof(name) - 1;

    return getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) == 0 &&
           strncmp(name, "bbr", 3) == 0;
}

void dwcp_socket_measure(int fd, DwcpSocketState *state)
{
    struct tcp_info info = { 0 };
    socklen_t length = sizeof(info);

    *state = (DwcpSocketState){ .flow.min_rtt_us = UINT32_MAX };
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0) {
        state->flow = (DwcpFlowInfo){
            .acked_bytes = info.tcpi_bytes_acked,
            .busy_us = info.tcpi_busy_time,
            .rwnd_limited_us = info.tcpi_rwnd_limited,
            .sndbuf_limited_us = info.tcpi_sndbuf_limited,
            .retrans_segs = info.tcpi_total_retrans,
            .acks = info.tcpi_segs_in,
            .srtt_us = info.tcpi_rtt,
            .min_rtt_us = info.tcpi_min_rtt,
            .peer_window_bytes = info.tcpi_snd_wnd,
            .unsent_bytes = info.tcpi_notsent_bytes,
            .silent_ms = info.tcpi_last_ack_recv,
            .loss_blind = loss_blind(fd),
        };
        /* Probes of a window that is closed do not count as such. */
        state->in_flight = info.tcpi_unacked > 0;
    }
}
