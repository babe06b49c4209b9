/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "wirekit.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

uint64_t wire_now_ns = 5 * SECOND;

uint64_t __wrap_dwcp_now_ns(void);
uint64_t __wrap_dwcp_now_ns(void)
{
    return wire_now_ns;
}

void wire_up(Wire *wire, const char *spec)
{
    DwcpError err = { 0 };
    size_t i;

    memset(wire, 0, sizeof(*wire));
    wire->session.security = DWCP_SECURITY_NONE;
    g_assert_cmpint(dwcp_faults_set(&wire->session, spec, &err), ==, 0);
    for (i = 0; i < sizeof(wire->data); i++) {
        wire->data[i] = (uint8_t)(i * 7 + i / 251);
    }
}

unsigned wire_add(Wire *wire, unsigned index, bool tcp)
{
    unsigned n = wire->count++;
    int fds[2], listen_fd;
    char port[8];

    if (tcp) {
        listen_fd = kit_listen(port);
        fds[0] = raw_connect(port);
        fds[1] = raw_accept(listen_fd);
        close(listen_fd);
    } else {
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    }
    (void)dwcp_tcp_init(&wire->tcp[n]);
    wire->tcp[n].fd = fds[0];
    wire->far[n] = fds[1];
    wire->near[n] = wire->session.wrap->put(wire->session.wrap,
                                            &wire->tcp[n].base, index);
    g_assert_nonnull(wire->near[n]);
    return n;
}

void wire_down(Wire *wire)
{
    unsigned i;

    for (i = 0; i < wire->count; i++) {
        wire->near[i]->ops->close(wire->near[i]);
        g_assert_cmpint(wire->tcp[i].fd, ==, -1);
        close(wire->far[i]);
    }
    wire->session.wrap->free(wire->session.wrap);
}

ssize_t wire_put(Wire *wire, unsigned n, size_t at, size_t length)
{
    size_t third = length / 3;
    struct iovec parts[3] = {
        { wire->data + at, third },
        { wire->data + at + third, third },
        { wire->data + at + 2 * third, length - 2 * third },
    };
    bool whole = third == 0;

    return wire->near[n]->ops->send(wire->near[n], parts + (whole ? 2 : 0),
                                    whole ? 1 : 3);
}

ssize_t wire_get(Wire *wire, unsigned n, uint8_t *out, size_t length)
{
    struct iovec part = { out, length };

    return wire->near[n]->ops->receive(wire->near[n], &part, 1);
}

void wire_again(ssize_t n)
{
    g_assert_cmpint(errno, ==, EAGAIN);
    g_assert_cmpint(n, ==, -1);
}

short wire_asked(Wire *wire, unsigned n, short events, uint64_t *wait_ns)
{
    struct pollfd fd = { .events = events };

    *wait_ns = UINT64_MAX;
    wire->near[n]->ops->poll(wire->near[n], &fd, wait_ns);
    g_assert_cmpint(fd.fd, ==, fd.events ? wire->tcp[n].fd : -1);
    return fd.events;
}

void wire_arrived(Wire *wire, unsigned n, size_t at, size_t length)
{
    uint8_t got[1 << 16];

    g_assert_true(raw_read(wire->far[n], got, length));
    g_assert_cmpmem(got, length, wire->data + at, length);
}

unsigned wire_corrupted(const uint8_t *got, const uint8_t *sent,
                          size_t length, size_t where)
{
    size_t i;

    for (i = 0; i < length; i++) {
        if (i != where) {
            g_assert_cmpuint(got[i], ==, sent[i]);
        }
    }
    return got[where] ^ sent[where];
}
