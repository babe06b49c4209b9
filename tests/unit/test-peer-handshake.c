/*
 * A target's listener and connections that are not the rightful source's
 *
 * Other protocols, other versions, strangers who JOIN: each is refused with a
 * warning, none with more, the session is not touched, and afterwards the
 * rightful source moves its guest.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "door.h"

static void test_other_protocols(void)
{
    static const char http[] =
        "GET / HTTP/1.1\r\nHost: host-b.example\r\nUser-Agent: curl/7.88.1\r\n"
        "Accept: */*\r\nAccept-Language: en\r\nConnection: keep-alive\r\n\r\n";
    static const uint8_t tls[200] = { 0x16, 3, 1, 0, 195, 1, 0, 0, 191, 3, 3 };
    static const uint8_t qemu[120] = { 'Q', 'E', 'V', 'M', 0, 0, 0, 3, 7 };
    uint8_t zeros[DWCP_HELLO_BYTES] = { 0 };
    Door door;

    door_up(&door);
    door_knock(&door, "", 0, "closed the connection");
    door_knock(&door, http, sizeof(http) - 1, "does not speak DWCP");
    door_knock(&door, http, 20, "does not speak DWCP");
    door_knock(&door, tls, sizeof(tls), "does not speak DWCP");
    door_knock(&door, qemu, sizeof(qemu), "does not speak DWCP");
    door_knock(&door, zeros, sizeof(zeros), "does not speak DWCP");
    door_move(&door);
    door_free(&door);
}

static void refused(Door *door, const DwcpHello *hello,
                    DwcpRefusal refusal, const char *text)
{
    DwcpWelcome answer;
    DwcpError err = { 0 };
    uint8_t rest;
    Raw raw;

    g_assert_true(raw_welcomed(&raw, door->port, hello));
    g_assert_cmpint(dwcp_welcome_decode(raw.welcome, hello, raw.hello, &answer,
                                        &err),
                    <, 0);
    g_assert_cmpuint(dwcp_get_le16(raw.welcome + 10), ==, refusal);
    if (!strstr(err.text, text)) {
        g_error("refused: \"%s\", not \"%s\"", err.text, text);
    }
    g_assert_false(raw_read(raw.fd, &rest, 1)); /* and closes */
    close(raw.fd);
    door_warned_of(door, text);
}

static void test_refused(void)
{
    uint8_t session[DWCP_SESSION_BYTES] = { 7 };
    DwcpHello hello = raw_hello(0, 1, NULL);
    Door door;

    door_up(&door);
    hello.version = hello.version_min = 2;
    refused(&door, &hello, DWCP_REFUSAL_VERSION, "versions 2 to 2");
    hello = raw_hello(0, 1, NULL);
    hello.features |= 1ull << 33;
    hello.required |= 1ull << 33;
    refused(&door, &hello, DWCP_REFUSAL_FEATURES, "requires features");
    hello = raw_hello(0, 1, NULL);
    hello.security = 3;
    refused(&door, &hello, DWCP_REFUSAL_SECURITY, "security=keys, the target security=none");
    hello = raw_hello(0, 1, NULL);
    hello.page_size = 16384;
    refused(&door, &hello, DWCP_REFUSAL_PAGE_SIZE, "pages of 16384");
    hello = raw_hello(1, 2, session);
    refused(&door, &hello, DWCP_REFUSAL_SESSION, "no such session");
    door_move(&door);
    door_free(&door);
}

static void test_newer(void)
{
    DwcpHello hello = raw_hello(0, 1, NULL);
    Door door;
    Raw raw;

    /* Speaks a version more and can more, but needs neither. */
    door_up(&door);
    hello.version = 2;
    hello.features |= 1ull << 20;
    g_assert_true(raw_welcomed(&raw, door.port, &hello));
    g_assert_cmpint(dwcp_welcome_decode(raw.welcome, &hello, raw.hello,
                                        &raw.answer, NULL),
                    ==, 0);
    g_assert_cmpuint(raw.answer.version, ==, 1);
    g_assert_cmpuint(raw.answer.features, ==, DWCP_PROFILE_V1);
    raw_confirm(&raw);
    end_wait_connected(&door.target);
    close(raw.fd);
    end_failed_with(&door.target, -ECONNRESET, "stream 0");
    end_free(&door.target);
    usage_same(door.before);
}

/* Strangers at the stage of a session that stands. */
static void test_strangers(void)
{
    DwcpStats stats = { .size = sizeof(stats) };
    DwcpHello hello;
    Raw first, second;
    Door door;

    door_up(&door);
    raw_join(&first, door.port, 0, 3, NULL);
    end_wait_connected(&door.target);
    hello = raw_hello(0, 3, NULL);
    refused(&door, &hello, DWCP_REFUSAL_SESSION, "another migration");
    hello = raw_hello(1, 3, first.answer.session);
    hello.session[0] ^= 1;
    refused(&door, &hello, DWCP_REFUSAL_SESSION, "no such session");
    hello = raw_hello(3, 4, first.answer.session);
    refused(&door, &hello, DWCP_REFUSAL_STREAM, "stream 3 of 3");
    raw_join(&second, door.port, 1, 3, first.answer.session);
    do { /* it is the session's once it is counted */
        g_thread_yield();
        dwcp_target_stats(door.target.target, &stats);
    } while (stats.streams != 2);
    hello = raw_hello(1, 3, first.answer.session);
    refused(&door, &hello, DWCP_REFUSAL_STREAM, "stream 1 of 3");
    g_assert_cmpint(dwcp_target_error(door.target.target, NULL), ==, 0);
    close(first.fd);
    close(second.fd);
    end_wait_failed(&door.target);
    end_free(&door.target);
    usage_same(door.before);
}

static void test_listen(void)
{
    DwcpTargetOptions options = end_target_options();
    Usage before = usage_now();
    DwcpError err = { 0 };
    char port[8];
    End end;
    int fd;

    end_target(&end, &options, port);
    fd = kit_listen(port);
    g_assert_cmpint(dwcp_target_listen(end.target, fd, &err), ==, -EBUSY);
    close(fd); /* still ours */
    g_assert_cmpint(dwcp_target_take_channel(end.target, 0, &err), ==,
                    -ENOTCONN);
    g_assert_cmpint(dwcp_target_take_channel(end.target, 1, &err), ==,
                    -EINVAL);
    g_assert_cmpint(dwcp_target_begin(end.target), <, 0);
    g_assert_cmpint(dwcp_target_ready(end.target), <, 0);
    g_assert_cmpint(dwcp_target_go(end.target), ==, 0);
    end_free(&end);
    g_assert_cmpint(dwcp_target_new(&options, &end.target, &err), ==, 0);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(dwcp_target_listen(end.target, fd, &err), ==, -EINVAL);
    g_assert_cmpint(dwcp_target_listen(end.target, -1, &err), ==, -EINVAL);
    close(fd);
    dwcp_target_free(end.target);
    options.security = DWCP_SECURITY_UNSET;
    g_assert_cmpint(dwcp_target_new(&options, &end.target, &err), ==,
                    -ENOTSUP);
    g_assert_nonnull(strstr(err.text, "security"));
    options = end_target_options();
    options.page_size = 512;
    g_assert_cmpint(dwcp_target_new(&options, &end.target, &err), ==, -EINVAL);
    options.page_size = 4097;
    g_assert_cmpint(dwcp_target_new(&options, &end.target, &err), ==, -EINVAL);
    options.page_size = 131072;
    g_assert_cmpint(dwcp_target_new(&options, &end.target, &err), ==, -EINVAL);
    dwcp_target_free(NULL);
    usage_same(before);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/handshake/listen", test_listen);
    g_test_add_func("/handshake/other-protocols", test_other_protocols);
    g_test_add_func("/handshake/refused", test_refused);
    g_test_add_func("/handshake/newer", test_newer);
    g_test_add_func("/handshake/strangers", test_strangers);
    return g_test_run();
}
