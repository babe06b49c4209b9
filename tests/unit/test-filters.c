/*
 * io/fault*: where and when faults happen, and how they stack
 *
 * Proves that other streams, and connections beyond a rule's `times`, are as
 * without it; that each way to say when a fault begins is kept to the byte; that
 * filters stack; and who may set what.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "wirekit.h"

/* ------------------------------------------------------ where and when -- */

/* Rules for other streams leave no trace: not even a call in between. */
static void test_absent(void)
{
    Wire wire;
    unsigned n;

    wire_up(&wire, "stall:stream=1;drop:stream=2;corrupt:stream=3");
    n = wire_add(&wire, 0, false);
    g_assert_true(wire.near[n] == &wire.tcp[n].base);
    n = wire_add(&wire, 1, false);
    g_assert_true(wire.near[n] != &wire.tcp[n].base);
    wire_down(&wire);
    wire_up(&wire, "stall:stream=0");
    n = wire_add(&wire, 1, false);
    g_assert_true(wire.near[n] == &wire.tcp[n].base);
    n = wire_add(&wire, 0, false);
    g_assert_true(wire.near[n] != &wire.tcp[n].base);
    wire_down(&wire);
}

static void test_times(void)
{
    Wire wire;
    unsigned i;

    wire_up(&wire, "stall:times=2");
    for (i = 0; i < 4; i++) {
        (void)wire_add(&wire, i, false);
    }
    wire_again(wire_put(&wire, 2, 0, 9));
    wire_again(wire_put(&wire, 0, 0, 9));
    wire_again(wire_put(&wire, 2, 0, 9)); /* the same again is no other */
    g_assert_cmpint(wire_put(&wire, 1, 0, 9), ==, 9);
    g_assert_cmpint(wire_put(&wire, 3, 0, 9), ==, 9);
    g_assert_cmpuint(dwcp_faults_hits(&wire.session, 0), ==, 2);
    wire_down(&wire);
}

/* `at` counts from the session's first connection, not from each. */
static void test_at(void)
{
    uint64_t wait_ns;
    Wire wire;

    wire_up(&wire, "stall:at=2s,times=9");
    (void)wire_add(&wire, 0, false);
    wire_now_ns += SECOND;
    (void)wire_add(&wire, 1, false);
    g_assert_cmpint(wire_put(&wire, 1, 0, 9), ==, 9);
    g_assert_cmpint(wire_asked(&wire, 1, POLLOUT, &wait_ns), ==, POLLOUT);
    g_assert_cmpuint(wait_ns, ==, SECOND);
    wire_now_ns += SECOND;
    wire_again(wire_put(&wire, 0, 0, 9));
    wire_again(wire_put(&wire, 1, 0, 9));
    g_assert_cmpuint(dwcp_faults_hits(&wire.session, 0), ==, 2);
    wire_down(&wire);
}

/* Random, but the same again for the same seed, stream and connection of it. */
static void test_range(void)
{
    bool seen[11] = { false };
    unsigned seed, i, different = 0, alike = 0;
    char spec[64];
    ssize_t n[3];
    Wire wire;

    for (seed = 1; seed <= 64; seed++) {
        g_snprintf(spec, sizeof(spec), "stall:after=10-20,times=9;seed=%u",
                   seed);
        wire_up(&wire, spec);
        for (i = 0; i < 3; i++) {
            (void)wire_add(&wire, i / 2, false);
            n[i] = wire_put(&wire, i, 0, 100);
            g_assert_cmpint(n[i], >=, 10);
            g_assert_cmpint(n[i], <=, 20);
        }
        different += !seen[n[0] - 10];
        seen[n[0] - 10] = true;
        alike += n[0] == n[1];
        alike += n[0] == n[2];
        wire_down(&wire);
        wire_up(&wire, spec);
        (void)wire_add(&wire, 0, false);
        g_assert_cmpint(wire_put(&wire, 0, 0, 100), ==, n[0]);
        wire_down(&wire);
    }
    g_assert_cmpuint(different, >, 6);
    g_assert_cmpuint(alike, <, 40); /* of 128, by chance 12 */
}

/* Before any byte of a record of that type, however the bytes are cut. */
static void test_record(void)
{
    uint8_t records[100];
    size_t at = 0, piece, sent;
    struct iovec part;
    Wire wire;
    ssize_t n;

    /* A body that looks like what is waited for. */
    memset(records, DWCP_RECORD_GO, sizeof(records));
    dwcp_record_encode(records, DWCP_RECORD_PING, 8);
    dwcp_record_encode(records + 16, DWCP_RECORD_CHANNEL, 40);
    dwcp_record_encode(records + 64, DWCP_RECORD_GO, 0);
    at = 64;
    for (piece = 1; piece <= sizeof(records); piece++) {
        wire_up(&wire, "stall:record=GO");
        (void)wire_add(&wire, 0, false);
        for (sent = 0, n = 1; n > 0; sent += n > 0 ? (size_t)n : 0) {
            part = (struct iovec){ records + sent,
                                   MIN(piece, sizeof(records) - sent) };
            n = wire.near[0]->ops->send(wire.near[0], &part, 1);
        }
        wire_again(n);
        g_assert_cmpuint(sent, ==, at);
        wire_down(&wire);
    }
}

/* -------------------------------------------------------------- stack -- */

static void test_stack(void)
{
    uint8_t got[1000];
    unsigned calls = 0;
    uint64_t wait_ns;
    size_t at = 0;
    Wire wire;
    ssize_t n;

    wire_up(&wire, "corrupt:after=500;stall:after=700,for=10ms;short:most=9;"
                   "drop:after=900,how=close");
    (void)wire_add(&wire, 0, true);
    while ((n = wire_put(&wire, 0, at, 1000 - at)) > 0 || errno == EAGAIN) {
        if (n < 0) {
            g_assert_cmpuint(at, ==, 700);
            g_assert_cmpint(wire_asked(&wire, 0, POLLOUT, &wait_ns), ==, 0);
            wire_now_ns += wait_ns;
        }
        at += n > 0 ? (size_t)n : 0;
        calls++;
    }
    g_assert_cmpuint(at, ==, 900);
    g_assert_cmpuint(calls, >, 100);
    g_assert_true(raw_read(wire.far[0], got, 900));
    g_assert_cmpuint(wire_corrupted(got, wire.data, 900, 500), !=, 0);
    g_assert_cmpint(recv(wire.far[0], got, 1, 0), ==, 0);
    wire_down(&wire);
}

/* What has no meaning for a fault reaches the socket through all of them. */
static void test_through(void)
{
    DwcpSocketState state = { .flow.silent_ms = 77 };
    int unsent = 0;
    socklen_t length = sizeof(unsent);
    uint64_t pace = 0;
    Wire wire;

    wire_up(&wire, "short:most=9;stall:after=1M;delay:by=1s");
    (void)wire_add(&wire, 0, true);
    wire.near[0]->ops->measure(wire.near[0], &state);
    g_assert_cmpuint(state.flow.min_rtt_us, <, UINT32_MAX);
    wire.near[0]->ops->set_unsent(wire.near[0], 12345);
    g_assert_cmpint(getsockopt(wire.tcp[0].fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT,
                               &unsent, &length),
                    ==, 0);
    g_assert_cmpint(unsent, ==, 12345);
    wire.near[0]->ops->set_pace(wire.near[0], 1000000);
    length = sizeof(pace);
    g_assert_cmpint(getsockopt(wire.tcp[0].fd, SOL_SOCKET, SO_MAX_PACING_RATE,
                               &pace, &length),
                    ==, 0);
    g_assert_cmpuint(pace, ==, 1000000);
    wire.near[0]->ops->set_enough(wire.near[0], 1);
    g_assert_cmpint(wire_put(&wire, 0, 0, 3), ==, 3);
    wire.near[0]->ops->shutdown(wire.near[0], false);
    wire_arrived(&wire, 0, 0, 3);
    g_assert_cmpint(recv(wire.far[0], wire.data, 1, 0), ==, 0);
    wire_down(&wire);
}

/* ---------------------------------------------------------------- set -- */

static void test_set(void)
{
    DwcpSession session = { .security = DWCP_SECURITY_PSK };
    DwcpError err;

    g_assert_cmpint(dwcp_faults_set(&session, "stall:record=GO", &err), ==,
                    -EINVAL);
    g_assert_nonnull(strstr(err.text, "rule 1: record: the session is enc"));
    g_assert_cmpint(dwcp_faults_set(&session, "x", &err), ==, -EINVAL);
    g_unsetenv("DWCP_FAULTS");
    g_assert_cmpint(dwcp_faults_set_from_environment(&session, &err), ==, 0);
    g_assert_null(session.wrap);
    g_setenv("DWCP_FAULTS", "stall:for=7", true);
    g_assert_cmpint(dwcp_faults_set_from_environment(&session, &err), ==,
                    -EINVAL);
    g_assert_null(session.wrap);
    g_setenv("DWCP_FAULTS", "stall:for=7s", true);
    g_assert_cmpint(dwcp_faults_set_from_environment(&session, &err), ==, 0);
    g_assert_nonnull(session.wrap);
    session.wrap->free(session.wrap);
    g_unsetenv("DWCP_FAULTS");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/filters/absent", test_absent);
    g_test_add_func("/filters/times", test_times);
    g_test_add_func("/filters/at", test_at);
    g_test_add_func("/filters/range", test_range);
    g_test_add_func("/filters/record", test_record);
    g_test_add_func("/filters/stack", test_stack);
    g_test_add_func("/filters/through", test_through);
    g_test_add_func("/filters/set", test_set);
    return g_test_run();
}
