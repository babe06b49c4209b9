/*
 * io/stream-end: how a failed session's stream waits for its peer
 *
 * Proves that a stream which has said ABORT to a peer that neither reads on nor
 * closes sleeps until its limit, then closes: it asks the connection a few times
 * and not in a loop, which would take a processor from the guest.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "io/target.h"
#include "io/transport.h"
#include "kit.h"

/* Counts what a connection is asked. */
typedef struct Counter {
    DwcpTransport base;
    DwcpTransport *below;
} Counter;

static atomic_uint asked;
static DwcpTransportOps counting;

static ssize_t count_receive(DwcpTransport *transport, const struct iovec *parts,
                             size_t count)
{
    DwcpTransport *below = ((Counter *)transport)->below;

    atomic_fetch_add(&asked, 1);
    return below->ops->receive(below, parts, count);
}

static ssize_t count_send(DwcpTransport *transport, const struct iovec *parts,
                          size_t count)
{
    DwcpTransport *below = ((Counter *)transport)->below;

    return below->ops->send(below, parts, count);
}

static void count_poll(DwcpTransport *transport, struct pollfd *fd,
                       uint64_t *wait_ns)
{
    DwcpTransport *below = ((Counter *)transport)->below;

    below->ops->poll(below, fd, wait_ns);
}

static void count_shutdown(DwcpTransport *transport, bool reset)
{
    DwcpTransport *below = ((Counter *)transport)->below;

    below->ops->shutdown(below, reset);
}

static void count_close(DwcpTransport *transport)
{
    DwcpTransport *below = ((Counter *)transport)->below;

    below->ops->close(below);
    g_free(transport);
}

static DwcpTransport *count_put(DwcpTransportWrap *wrap, DwcpTransport *below,
                                unsigned index)
{
    Counter *counter = g_new0(Counter, 1);

    (void)wrap;
    (void)index;
    counter->base.ops = &counting;
    counter->below = below;
    return &counter->base;
}

static void count_free(DwcpTransportWrap *wrap)
{
    (void)wrap;
}

static void test_sleeps(void)
{
    static DwcpTransportWrap wrap = { count_put, count_free };
    DwcpTargetOptions options = end_target_options();
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    Usage before = usage_now();
    char port[8];
    End target;
    Raw raw;

    /* A target neither measures nor paces. */
    counting = (DwcpTransportOps){ .send = count_send,
                                   .receive = count_receive,
                                   .poll = count_poll,
                                   .shutdown = count_shutdown,
                                   .close = count_close };
    end_target(&target, &options, port);
    target.target->session.wrap = &wrap;
    raw_join(&raw, port, 0, 1, NULL);
    end_wait_connected(&target);
    raw_record(raw.fd, DWCP_RECORD_READY, NULL, 0); /* a target's to say */
    raw_expect(raw.fd, DWCP_RECORD_ABORT, body);
    raw_until_closed(raw.fd);
    end_failed_with(&target, -EPROTO, "");
    end_free(&target);
    g_assert_cmpuint(atomic_load(&asked), <, 50);
    close(raw.fd);
    usage_same(before);
    g_free(body);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/farewell/sleeps", test_sleeps);
    return g_test_run();
}
