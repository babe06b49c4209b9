/*
 * io/fault*: what each kind of fault does to a connection, and when
 *
 * Proves it of each kind, that poll() is told when to come back, and that before
 * its beginning and behind its end a connection is as without it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "wirekit.h"

static void test_stall_send(void)
{
    uint64_t wait_ns;
    Wire wire;

    wire_up(&wire, "stall:after=10,for=1s");
    (void)wire_add(&wire, 0, false);
    g_assert_cmpint(wire_asked(&wire, 0, POLLOUT | POLLIN, &wait_ns), ==,
                    POLLOUT | POLLIN);
    g_assert_cmpuint(wait_ns, ==, UINT64_MAX);
    g_assert_cmpint(wire_put(&wire, 0, 0, 30), ==, 10);
    wire_again(wire_put(&wire, 0, 10, 30));
    g_assert_cmpint(wire_asked(&wire, 0, POLLOUT | POLLIN, &wait_ns), ==,
                    POLLIN);
    g_assert_cmpuint(wait_ns, ==, SECOND);
    g_assert_cmpint(wire_asked(&wire, 0, POLLIN, &wait_ns), ==, POLLIN);
    g_assert_cmpuint(wait_ns, ==, UINT64_MAX); /* it does not want to send */
    wire_now_ns += SECOND - 1;
    wire_again(wire_put(&wire, 0, 10, 30));
    wire_now_ns += 1;
    g_assert_cmpint(wire_put(&wire, 0, 10, 30), ==, 30);
    wire_arrived(&wire, 0, 0, 40);
    /* The other way nothing was in the way. */
    raw_send(wire.far[0], wire.data, 5);
    g_assert_cmpint(wire_get(&wire, 0, wire.data, 9), ==, 5);
    wire_down(&wire);
}

static void test_stall_receive(void)
{
    uint64_t wait_ns;
    uint8_t got[64];
    Wire wire;

    wire_up(&wire, "stall:way=receive,after=10");
    (void)wire_add(&wire, 0, false);
    raw_send(wire.far[0], wire.data, 40);
    g_assert_cmpint(wire_get(&wire, 0, got, 64), ==, 10);
    wire_again(wire_get(&wire, 0, got, 64));
    g_assert_cmpint(wire_asked(&wire, 0, POLLIN | POLLOUT, &wait_ns), ==,
                    POLLOUT);
    wire_now_ns += 1000 * SECOND; /* for ever */
    wire_again(wire_get(&wire, 0, got, 64));
    g_assert_cmpint(wire_put(&wire, 0, 0, 30), ==, 30);
    wire_down(&wire);
}

static void test_rate(void)
{
    size_t moved = 0;
    uint64_t wait_ns, begin_ns = wire_now_ns;
    Wire wire;
    ssize_t n;

    wire_up(&wire, "rate:limit=1M");
    (void)wire_add(&wire, 0, false);
    while (wire_now_ns < begin_ns + SECOND) {
        n = wire_put(&wire, 0, 0, 60000);
        if (n > 0) {
            g_assert_cmpint(n, <, 60000);
            wire_arrived(&wire, 0, 0, (size_t)n);
            moved += (size_t)n;
        } else {
            wire_again(n);
            g_assert_cmpint(wire_asked(&wire, 0, POLLOUT, &wait_ns), ==, 0);
            g_assert_cmpuint(wait_ns, >, 0);
            wire_now_ns += wait_ns;
        }
    }
    g_assert_cmpuint(moved, >, 1000000);
    g_assert_cmpuint(moved, <, 1100000);
    wire_down(&wire);
    wire_up(&wire, "rate:limit=1M,for=1s");
    (void)wire_add(&wire, 0, false);
    g_assert_cmpint(wire_put(&wire, 0, 0, 60000), <, 60000);
    wire_now_ns += SECOND;
    g_assert_cmpint(wire_put(&wire, 0, 0, 60000), ==, 60000);
    wire_down(&wire);
}

/* Sends 1000 bytes in short calls; Returns: a hash of their lengths. */
static unsigned shorts(const char *spec, bool receive, unsigned most)
{
    unsigned hash = 0, longest = 0;
    size_t at = 0;
    uint8_t got[1000];
    Wire wire;
    ssize_t n;

    wire_up(&wire, spec);
    (void)wire_add(&wire, 0, false);
    if (receive) {
        raw_send(wire.far[0], wire.data, 1000);
    }
    while (at < 1000) {
        n = receive ? wire_get(&wire, 0, got + at, 1000 - at)
                    : wire_put(&wire, 0, at, 1000 - at);
        g_assert_cmpint(n, >, 0);
        g_assert_cmpint(n, <=, most);
        longest = MAX(longest, (unsigned)n);
        hash = hash * 31 + (unsigned)n;
        if (!receive) {
            wire_arrived(&wire, 0, at, (size_t)n);
        }
        at += (size_t)n;
    }
    g_assert_cmpuint(longest, ==, most);
    if (receive) {
        g_assert_cmpmem(got, 1000, wire.data, 1000);
    }
    wire_down(&wire);
    return hash;
}

static void test_short(void)
{
    unsigned first = shorts("short:most=7", false, 7);

    (void)shorts("short", false, 1);
    (void)shorts("short:way=receive,most=3", true, 3);
    g_assert_cmpuint(shorts("short:most=7", false, 7), ==, first);
    g_assert_cmpuint(shorts("seed=2;short:most=7", false, 7), !=, first);
}

static void test_corrupt(void)
{
    uint8_t got[300], before[300];
    size_t at;
    unsigned bit;
    ssize_t n;
    Wire wire;

    wire_up(&wire, "corrupt:after=123");
    (void)wire_add(&wire, 0, false);
    memcpy(before, wire.data, 300);
    for (at = 0; at < 300; at += (size_t)n) {
        n = wire_put(&wire, 0, at, 300 - at);
        g_assert_cmpint(n, >, 0);
    }
    /* The sender's memory is the guest's: it stays as it is. */
    g_assert_cmpmem(before, 300, wire.data, 300);
    g_assert_true(raw_read(wire.far[0], got, 300));
    bit = wire_corrupted(got, wire.data, 300, 123);
    g_assert_true(bit && !(bit & (bit - 1)));
    wire_down(&wire);

    wire_up(&wire, "corrupt:after=299,way=receive");
    (void)wire_add(&wire, 0, false);
    raw_send(wire.far[0], wire.data, 300);
    for (at = 0; at < 300; at += (size_t)n) {
        n = wire_get(&wire, 0, got + at, 300 - at);
        g_assert_cmpint(n, >, 0);
    }
    bit = wire_corrupted(got, wire.data, 300, 299);
    g_assert_true(bit && !(bit & (bit - 1)));
    wire_down(&wire);
}

static void test_drop(void)
{
    uint8_t got[300];
    Wire wire;

    wire_up(&wire, "drop:after=100");
    (void)wire_add(&wire, 0, true);
    g_assert_cmpint(wire_put(&wire, 0, 0, 300), ==, 100);
    wire_arrived(&wire, 0, 0, 100);
    g_assert_cmpint(wire_put(&wire, 0, 100, 200), ==, -1);
    g_assert_cmpint(errno, ==, ECONNRESET);
    g_assert_cmpint(wire_get(&wire, 0, got, 300), ==, -1);
    g_assert_cmpint(errno, ==, ECONNRESET);
    g_assert_cmpint(recv(wire.far[0], got, 1, 0), ==, -1);
    g_assert_cmpint(errno, ==, ECONNRESET);
    wire_down(&wire);

    wire_up(&wire, "drop:after=100,how=close,way=receive");
    (void)wire_add(&wire, 0, true);
    raw_send(wire.far[0], wire.data, 300);
    g_assert_cmpint(wire_get(&wire, 0, got, 300), ==, 100);
    g_assert_cmpint(wire_get(&wire, 0, got, 300), ==, 0);
    g_assert_cmpint(wire_put(&wire, 0, 0, 300), ==, -1);
    g_assert_cmpint(recv(wire.far[0], got, 1, 0), ==, 0);
    wire_down(&wire);
}

/* At a time it falls though nobody sends, and poll() has said when. */
static void test_drop_idle(void)
{
    uint64_t wait_ns;
    uint8_t got[1];
    Wire wire;

    wire_up(&wire, "drop:at=30ms");
    (void)wire_add(&wire, 0, true);
    wire_again(wire_get(&wire, 0, got, 1));
    g_assert_cmpint(wire_asked(&wire, 0, POLLIN, &wait_ns), ==, POLLIN);
    g_assert_cmpuint(wait_ns, ==, 30 * MS);
    wire_now_ns += 30 * MS;
    g_assert_cmpint(wire_get(&wire, 0, got, 1), ==, -1);
    g_assert_cmpint(errno, ==, ECONNRESET);
    g_assert_cmpint(recv(wire.far[0], got, 1, 0), ==, -1);
    wire_down(&wire);
}

static void test_delay(void)
{
    uint64_t wait_ns;
    uint8_t got[300];
    Wire wire;

    wire_up(&wire, "delay:by=50ms");
    (void)wire_add(&wire, 0, false);
    wire_again(wire_get(&wire, 0, got, 300));
    g_assert_cmpint(wire_asked(&wire, 0, POLLIN, &wait_ns), ==, POLLIN);
    g_assert_cmpuint(wait_ns, ==, UINT64_MAX);
    raw_send(wire.far[0], wire.data, 100);
    wire_again(wire_get(&wire, 0, got, 300));
    wire_now_ns += 20 * MS;
    raw_send(wire.far[0], wire.data + 100, 100);
    close(wire.far[0]);
    wire.far[0] = -1;
    wire_again(wire_get(&wire, 0, got, 300));
    /* The end of the connection is on its way as well: not to be asked for. */
    g_assert_cmpint(wire_asked(&wire, 0, POLLIN, &wait_ns), ==, 0);
    g_assert_cmpuint(wait_ns, ==, 30 * MS);
    wire_now_ns += 30 * MS - 1;
    wire_again(wire_get(&wire, 0, got, 300));
    wire_now_ns += 1;
    g_assert_cmpint(wire_get(&wire, 0, got, 30), ==, 30);
    (void)wire_asked(&wire, 0, POLLIN, &wait_ns);
    g_assert_cmpuint(wait_ns, ==, 0); /* there is more */
    g_assert_cmpint(wire_get(&wire, 0, got + 30, 200), ==, 70);
    wire_again(wire_get(&wire, 0, got + 100, 200));
    wire_now_ns += 20 * MS;
    g_assert_cmpint(wire_get(&wire, 0, got + 100, 200), ==, 100);
    g_assert_cmpint(wire_get(&wire, 0, got, 300), ==, 0);
    g_assert_cmpmem(got, 200, wire.data, 200);
    wire_down(&wire);
}

/* A delay that ends lets nothing overtake what is under way. */
static void test_delay_ends(void)
{
    uint8_t got[30];
    Wire wire;

    wire_up(&wire, "delay:by=50ms,for=10ms");
    (void)wire_add(&wire, 0, false);
    raw_send(wire.far[0], wire.data, 10);
    wire_again(wire_get(&wire, 0, got, 30));
    wire_now_ns += 10 * MS;
    raw_send(wire.far[0], wire.data + 10, 10);
    wire_again(wire_get(&wire, 0, got, 30));
    wire_now_ns += 40 * MS;
    g_assert_cmpint(wire_get(&wire, 0, got, 30), ==, 20);
    g_assert_cmpmem(got, 20, wire.data, 20);
    raw_send(wire.far[0], wire.data, 10);
    g_assert_cmpint(wire_get(&wire, 0, got, 30), ==, 10);
    wire_down(&wire);
}

/* More than the line holds stays with the socket, and none is lost. */
static void test_delay_full(void)
{
    static uint8_t piece[60000], got[60000];
    size_t sent = 0, received = 0, i;
    uint64_t wait_ns;
    ssize_t n;
    Wire wire;

    wire_up(&wire, "delay:by=1s");
    (void)wire_add(&wire, 0, false);
    while (sent < 20000000) {
        for (i = 0; i < sizeof(piece); i++) {
            piece[i] = (uint8_t)((sent + i) * 7 + (sent + i) / 4093);
        }
        n = send(wire.far[0], piece, sizeof(piece), MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        if (wire_get(&wire, 0, got, 1) < 0 && n < 0) {
            break;
        }
    }
    g_assert_cmpuint(sent, >, 8u << 20);
    g_assert_cmpuint(sent, <, 12u << 20);
    g_assert_cmpint(wire_asked(&wire, 0, POLLIN, &wait_ns), ==, 0);
    while (received < sent) {
        wire_now_ns += SECOND;
        while ((n = wire_get(&wire, 0, got, sizeof(got))) > 0) {
            for (i = 0; i < (size_t)n; i++, received++) {
                if (got[i] != (uint8_t)(received * 7 + received / 4093)) {
                    g_error("byte %zu differs", received);
                }
            }
        }
        wire_again(n);
    }
    wire_down(&wire);
}

static void test_hold(void)
{
    uint64_t wait_ns;
    Wire wire;

    wire_up(&wire, "hold:stream=1,after=10,until=1000,for=1s");
    (void)wire_add(&wire, 0, false);
    (void)wire_add(&wire, 1, false);
    (void)wire_add(&wire, 2, false);
    /* What moved before does not count. */
    g_assert_cmpint(wire_put(&wire, 0, 0, 2000), ==, 2000);
    g_assert_cmpint(wire_put(&wire, 1, 0, 30), ==, 10);
    wire_again(wire_put(&wire, 1, 10, 30));
    g_assert_cmpint(wire_asked(&wire, 1, POLLOUT, &wait_ns), ==, 0);
    g_assert_cmpuint(wait_ns, <=, 10 * MS);
    g_assert_cmpint(wire_put(&wire, 0, 2000, 600), ==, 600);
    wire_again(wire_put(&wire, 1, 10, 30));
    g_assert_cmpint(wire_put(&wire, 2, 0, 400), ==, 400);
    g_assert_cmpint(wire_asked(&wire, 1, POLLOUT, &wait_ns), ==, POLLOUT);
    g_assert_cmpint(wire_put(&wire, 1, 10, 30), ==, 30);
    wire_arrived(&wire, 1, 0, 40);
    wire_down(&wire);
    /* Others that do not move hold nobody for ever. */
    wire_up(&wire, "hold:stream=0,until=1000,for=1s");
    (void)wire_add(&wire, 0, false);
    wire_again(wire_put(&wire, 0, 0, 30));
    wire_now_ns += SECOND;
    g_assert_cmpint(wire_put(&wire, 0, 0, 30), ==, 30);
    wire_down(&wire);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/filter-kinds/stall/send", test_stall_send);
    g_test_add_func("/filter-kinds/stall/receive", test_stall_receive);
    g_test_add_func("/filter-kinds/rate", test_rate);
    g_test_add_func("/filter-kinds/short", test_short);
    g_test_add_func("/filter-kinds/corrupt", test_corrupt);
    g_test_add_func("/filter-kinds/drop", test_drop);
    g_test_add_func("/filter-kinds/drop/idle", test_drop_idle);
    g_test_add_func("/filter-kinds/delay", test_delay);
    g_test_add_func("/filter-kinds/delay/ends", test_delay_ends);
    g_test_add_func("/filter-kinds/delay/full", test_delay_full);
    g_test_add_func("/filter-kinds/hold", test_hold);
    return g_test_run();
}
