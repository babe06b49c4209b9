/*
 * Handshakes that were changed, cut, or left unfinished
 *
 * Every byte of HELLO and CONFIRM changed, both cut at every byte, connections
 * that wait for one that never confirms, and more than a target serves at once:
 * each is refused with a warning, and afterwards the rightful source moves its
 * guest.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "door.h"

/* CONFIRM answers what the source meant to send: a changed HELLO that is
 * welcomed all the same is found out then at the latest. */
static void test_hello_bytes(void)
{
    DwcpHello hello = raw_hello(0, 2, NULL);
    uint8_t sent[DWCP_HELLO_BYTES], came[DWCP_HELLO_BYTES];
    unsigned at;
    Door door;
    Raw raw;

    door_up(&door);
    dwcp_hello_encode(sent, &hello);
    for (at = 0; at < DWCP_HELLO_BYTES; at++) {
        memcpy(came, sent, sizeof(came));
        came[at] ^= 0x15;
        raw.fd = raw_connect(door.port);
        raw_send(raw.fd, came, sizeof(came));
        if (raw_read(raw.fd, raw.welcome, sizeof(raw.welcome))) {
            g_assert_cmpint(dwcp_welcome_decode(raw.welcome, &hello, sent,
                                                &raw.answer, NULL),
                            ==, -EPROTO);
            memcpy(raw.hello, sent, sizeof(sent));
            raw_confirm(&raw);
        }
        raw_until_closed(raw.fd);
        close(raw.fd);
        (void)door_warned(&door);
        g_assert_cmpuint(door.target.connected, ==, 0);
    }
    door_move(&door);
    door_free(&door);
}

static void test_hello_cut(void)
{
    DwcpHello hello = raw_hello(0, 2, NULL);
    uint8_t sent[DWCP_HELLO_BYTES];
    unsigned length;
    Door door;
    int fd;

    door_up(&door);
    dwcp_hello_encode(sent, &hello);
    for (length = 0; length < DWCP_HELLO_BYTES; length += 3) {
        door_knock(&door, sent, length, "closed the connection");
    }
    fd = raw_connect(door.port);
    raw_send(fd, sent, 50);
    raw_reset(fd);
    (void)door_warned(&door);
    door_move(&door);
    door_free(&door);
}

static void test_confirm_bytes(void)
{
    DwcpHello hello = raw_hello(0, 1, NULL);
    uint8_t confirm[DWCP_CONFIRM_BYTES];
    unsigned at;
    Door door;
    Raw raw;

    door_up(&door);
    for (at = 0; at < DWCP_CONFIRM_BYTES; at++) {
        g_assert_true(raw_welcomed(&raw, door.port, &hello));
        dwcp_confirm_encode(confirm, raw.hello, raw.welcome, NULL);
        confirm[at] ^= 0x80;
        raw_send(raw.fd, confirm, sizeof(confirm));
        raw_until_closed(raw.fd);
        close(raw.fd);
        door_warned_of(&door, "CONFIRM");

        g_assert_true(raw_welcomed(&raw, door.port, &hello));
        dwcp_confirm_encode(confirm, raw.hello, raw.welcome, NULL);
        raw_send(raw.fd, confirm, at);
        close(raw.fd);
        (void)door_warned(&door);
    }
    g_assert_cmpuint(door.target.connected, ==, 0);
    door_move(&door);
    door_free(&door);
}

/* Whose NEW came to nothing takes nothing with him: a JOIN that waits for him
 * must not end up in the next one's session. */
static void test_orphans(void)
{
    enum { ORPHANS = 32 };
    DwcpHello hello = raw_hello(0, 64, NULL);
    Raw orphan[ORPHANS], liar;
    unsigned i;
    Door door;

    door_up(&door);
    g_assert_true(raw_welcomed(&liar, door.port, &hello));
    g_assert_cmpint(dwcp_welcome_decode(liar.welcome, &hello, liar.hello,
                                        &liar.answer, NULL),
                    ==, 0);
    for (i = 0; i < ORPHANS; i++) {
        hello = raw_hello(i + 1, 64, liar.answer.session);
        orphan[i].fd = raw_connect(door.port);
        orphan[i].said = hello;
        dwcp_hello_encode(orphan[i].hello, &hello);
        raw_send(orphan[i].fd, orphan[i].hello, DWCP_HELLO_BYTES);
    }
    close(liar.fd);
    for (i = 0; i < ORPHANS; i++) {
        g_assert_true(raw_read(orphan[i].fd, orphan[i].welcome,
                               DWCP_WELCOME_BYTES));
        g_assert_cmpuint(dwcp_get_le16(orphan[i].welcome + 10), ==,
                         DWCP_REFUSAL_SESSION);
        close(orphan[i].fd);
    }
    door.warned = ORPHANS;
    (void)door_warned(&door);
    door_move(&door);
    door_free(&door);
}

/* More half-open connections than the target serves at once, then gone. */
static void test_crowd(void)
{
    enum { CROWD = DWCP_HANDSHAKES_MAX + 30 };
    int fd[CROWD];
    unsigned i;
    Door door;

    door_up(&door);
    for (i = 0; i < CROWD; i++) {
        fd[i] = raw_connect(door.port);
        raw_send(fd[i], "\xd7" "DWCP", 5);
    }
    for (i = 0; i < CROWD; i++) {
        close(fd[i]);
    }
    door.warned = CROWD - 1;
    (void)door_warned(&door);
    door_move(&door);
    door_free(&door);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/handshake/hello/bytes", test_hello_bytes);
    g_test_add_func("/handshake/hello/cut", test_hello_cut);
    g_test_add_func("/handshake/confirm/bytes", test_confirm_bytes);
    g_test_add_func("/handshake/orphans", test_orphans);
    g_test_add_func("/handshake/crowd", test_crowd);
    return g_test_run();
}
