/*
 * A target's listener and connections that are not the rightful source's
 *
 * Other protocols, other versions, every byte of HELLO and CONFIRM changed,
 * both cut at every byte, strangers who JOIN: each is refused with a warning,
 * none with more, the session is not touched, and afterwards the rightful
 * source moves its guest.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "kit.h"

typedef struct Stage {
    End target;
    char port[8];
    unsigned warned; /* as expected so far */
    Usage before;
} Stage;

static void stage_up(Stage *stage)
{
    DwcpTargetOptions options = end_target_options();

    stage->before = usage_now();
    stage->warned = 0;
    end_target(&stage->target, &options, stage->port);
    end_ram(&stage->target, 64);
}

/* One more warning than before; Returns: it. */
static DwcpError stage_warned(Stage *stage)
{
    DwcpError warning;

    end_wait_warned(&stage->target, ++stage->warned);
    pthread_mutex_lock(&stage->target.lock);
    g_assert_cmpuint(stage->target.warned, ==, stage->warned);
    g_assert_cmpuint(stage->target.failed, ==, 0);
    warning = stage->target.warning;
    pthread_mutex_unlock(&stage->target.lock);
    g_assert_cmpint(warning.code, <, 0);
    g_assert_cmpstr(warning.text, !=, "");
    return warning;
}

static void stage_warned_of(Stage *stage, const char *text)
{
    DwcpError warning = stage_warned(stage);

    if (!strstr(warning.text, text)) {
        g_error("warned of \"%s\", not of \"%s\"", warning.text, text);
    }
}

/* The rightful source comes, and moves one chunk. */
static void stage_move(Stage *stage)
{
    DwcpPages pages = { .number = 1, .count = 1,
                        .chunks = { { .present = 1 } } };
    uint8_t page[PAGE], *body = g_malloc(RAW_BODY_MAX);
    Raw raw;

    raw_join(&raw, stage->port, 0, 1, NULL);
    end_wait_connected(&stage->target);
    g_assert_cmpint(dwcp_target_begin(stage->target.target), ==, 0);
    raw_expect(raw.fd, DWCP_RECORD_BEGIN, body);
    memset(page, 0x42, sizeof(page));
    raw_pages(raw.fd, &pages, page, sizeof(page));
    raw_record_u64(raw.fd, DWCP_RECORD_END, 1);
    g_assert_cmpint(end_wait_complete(&stage->target), ==, 1);
    g_assert_cmpint(dwcp_target_ready(stage->target.target), ==, 0);
    raw_expect(raw.fd, DWCP_RECORD_READY, body);
    raw_record(raw.fd, DWCP_RECORD_GO, NULL, 0);
    raw_expect(raw.fd, DWCP_RECORD_SEALED, body);
    g_assert_cmpint(end_wait_go(&stage->target), ==, 1);
    g_assert_cmpuint(stage->target.ram[PAGE - 1], ==, 0x42);
    close(raw.fd);
    g_free(body);
}

static void stage_free(Stage *stage)
{
    g_assert_cmpuint(stage->target.warned, ==, stage->warned);
    g_assert_cmpuint(stage->target.failed, ==, 0);
    end_free(&stage->target);
    usage_same(stage->before);
}

/* Sends what is no handshake, or a part of one, and closes. */
static void knock(Stage *stage, const void *data, size_t length,
                  const char *text)
{
    int fd = raw_connect(stage->port);

    raw_send(fd, data, length);
    (void)shutdown(fd, SHUT_WR); /* it may have been reset already */
    raw_until_closed(fd);
    close(fd);
    stage_warned_of(stage, text);
}

static void test_other_protocols(void)
{
    static const char http[] =
        "GET / HTTP/1.1\r\nHost: host-b.example\r\nUser-Agent: curl/7.88.1\r\n"
        "Accept: */*\r\nAccept-Language: en\r\nConnection: keep-alive\r\n\r\n";
    static const uint8_t tls[200] = { 0x16, 3, 1, 0, 195, 1, 0, 0, 191, 3, 3 };
    static const uint8_t qemu[120] = { 'Q', 'E', 'V', 'M', 0, 0, 0, 3, 7 };
    uint8_t zeros[DWCP_HELLO_BYTES] = { 0 };
    Stage stage;

    stage_up(&stage);
    knock(&stage, "", 0, "closed the connection");
    knock(&stage, http, sizeof(http) - 1, "does not speak DWCP");
    knock(&stage, http, 20, "does not speak DWCP");
    knock(&stage, tls, sizeof(tls), "does not speak DWCP");
    knock(&stage, qemu, sizeof(qemu), "does not speak DWCP");
    knock(&stage, zeros, sizeof(zeros), "does not speak DWCP");
    stage_move(&stage);
    stage_free(&stage);
}

static void refused(Stage *stage, const DwcpHello *hello,
                    DwcpRefusal refusal, const char *text)
{
    DwcpWelcome answer;
    DwcpError err = { 0 };
    uint8_t rest;
    Raw raw;

    g_assert_true(raw_welcomed(&raw, stage->port, hello));
    g_assert_cmpint(dwcp_welcome_decode(raw.welcome, hello, raw.hello, &answer,
                                        &err),
                    <, 0);
    g_assert_cmpuint(dwcp_get_le16(raw.welcome + 10), ==, refusal);
    if (!strstr(err.text, text)) {
        g_error("refused: \"%s\", not \"%s\"", err.text, text);
    }
    g_assert_false(raw_read(raw.fd, &rest, 1)); /* and closes */
    close(raw.fd);
    stage_warned_of(stage, text);
}

static void test_refused(void)
{
    uint8_t session[DWCP_SESSION_BYTES] = { 7 };
    DwcpHello hello = raw_hello(0, 1, NULL);
    Stage stage;

    stage_up(&stage);
    hello.version = hello.version_min = 2;
    refused(&stage, &hello, DWCP_REFUSAL_VERSION, "versions 2 to 2");
    hello = raw_hello(0, 1, NULL);
    hello.features |= 1ull << 33;
    hello.required |= 1ull << 33;
    refused(&stage, &hello, DWCP_REFUSAL_FEATURES, "requires features");
    hello = raw_hello(0, 1, NULL);
    hello.security = 3;
    refused(&stage, &hello, DWCP_REFUSAL_SECURITY, "security=keys, the target security=none");
    hello = raw_hello(0, 1, NULL);
    hello.page_size = 16384;
    refused(&stage, &hello, DWCP_REFUSAL_PAGE_SIZE, "pages of 16384");
    hello = raw_hello(1, 2, session);
    refused(&stage, &hello, DWCP_REFUSAL_SESSION, "no such session");
    stage_move(&stage);
    stage_free(&stage);
}

static void test_newer(void)
{
    DwcpHello hello = raw_hello(0, 1, NULL);
    Stage stage;
    Raw raw;

    /* Speaks a version more and can more, but needs neither. */
    stage_up(&stage);
    hello.version = 2;
    hello.features |= 1ull << 20;
    g_assert_true(raw_welcomed(&raw, stage.port, &hello));
    g_assert_cmpint(dwcp_welcome_decode(raw.welcome, &hello, raw.hello,
                                        &raw.answer, NULL),
                    ==, 0);
    g_assert_cmpuint(raw.answer.version, ==, 1);
    g_assert_cmpuint(raw.answer.features, ==, DWCP_PROFILE_V1);
    raw_confirm(&raw);
    end_wait_connected(&stage.target);
    close(raw.fd);
    end_failed_with(&stage.target, -ECONNRESET, "stream 0");
    end_free(&stage.target);
    usage_same(stage.before);
}

/* Strangers at the door of a session that stands. */
static void test_strangers(void)
{
    DwcpStats stats = { .size = sizeof(stats) };
    DwcpHello hello;
    Raw first, second;
    Stage stage;

    stage_up(&stage);
    raw_join(&first, stage.port, 0, 3, NULL);
    end_wait_connected(&stage.target);
    hello = raw_hello(0, 3, NULL);
    refused(&stage, &hello, DWCP_REFUSAL_SESSION, "another migration");
    hello = raw_hello(1, 3, first.answer.session);
    hello.session[0] ^= 1;
    refused(&stage, &hello, DWCP_REFUSAL_SESSION, "no such session");
    hello = raw_hello(3, 4, first.answer.session);
    refused(&stage, &hello, DWCP_REFUSAL_STREAM, "stream 3 of 3");
    raw_join(&second, stage.port, 1, 3, first.answer.session);
    do { /* it is the session's once it is counted */
        g_thread_yield();
        dwcp_target_stats(stage.target.target, &stats);
    } while (stats.streams != 2);
    hello = raw_hello(1, 3, first.answer.session);
    refused(&stage, &hello, DWCP_REFUSAL_STREAM, "stream 1 of 3");
    g_assert_cmpint(dwcp_target_error(stage.target.target, NULL), ==, 0);
    close(first.fd);
    close(second.fd);
    end_wait_failed(&stage.target);
    end_free(&stage.target);
    usage_same(stage.before);
}

/* --------------------------------------------------------- every byte -- */

/* CONFIRM answers what the source meant to send: a changed HELLO that is
 * welcomed all the same is found out then at the latest. */
static void test_hello_bytes(void)
{
    DwcpHello hello = raw_hello(0, 2, NULL);
    uint8_t sent[DWCP_HELLO_BYTES], came[DWCP_HELLO_BYTES];
    unsigned at;
    Stage stage;
    Raw raw;

    stage_up(&stage);
    dwcp_hello_encode(sent, &hello);
    for (at = 0; at < DWCP_HELLO_BYTES; at++) {
        memcpy(came, sent, sizeof(came));
        came[at] ^= 0x15;
        raw.fd = raw_connect(stage.port);
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
        (void)stage_warned(&stage);
        g_assert_cmpuint(stage.target.connected, ==, 0);
    }
    stage_move(&stage);
    stage_free(&stage);
}

static void test_hello_cut(void)
{
    DwcpHello hello = raw_hello(0, 2, NULL);
    uint8_t sent[DWCP_HELLO_BYTES];
    unsigned length;
    Stage stage;
    int fd;

    stage_up(&stage);
    dwcp_hello_encode(sent, &hello);
    for (length = 0; length < DWCP_HELLO_BYTES; length += 3) {
        knock(&stage, sent, length, "closed the connection");
    }
    fd = raw_connect(stage.port);
    raw_send(fd, sent, 50);
    raw_reset(fd);
    (void)stage_warned(&stage);
    stage_move(&stage);
    stage_free(&stage);
}

static void test_confirm_bytes(void)
{
    DwcpHello hello = raw_hello(0, 1, NULL);
    uint8_t confirm[DWCP_CONFIRM_BYTES];
    unsigned at;
    Stage stage;
    Raw raw;

    stage_up(&stage);
    for (at = 0; at < DWCP_CONFIRM_BYTES; at++) {
        g_assert_true(raw_welcomed(&raw, stage.port, &hello));
        dwcp_confirm_encode(confirm, raw.hello, raw.welcome, NULL);
        confirm[at] ^= 0x80;
        raw_send(raw.fd, confirm, sizeof(confirm));
        raw_until_closed(raw.fd);
        close(raw.fd);
        stage_warned_of(&stage, "CONFIRM");

        g_assert_true(raw_welcomed(&raw, stage.port, &hello));
        dwcp_confirm_encode(confirm, raw.hello, raw.welcome, NULL);
        raw_send(raw.fd, confirm, at);
        close(raw.fd);
        (void)stage_warned(&stage);
    }
    g_assert_cmpuint(stage.target.connected, ==, 0);
    stage_move(&stage);
    stage_free(&stage);
}

/* Whose NEW came to nothing takes nothing with him: a JOIN that waits for him
 * must not end up in the next one's session. */
static void test_orphans(void)
{
    enum { ORPHANS = 32 };
    DwcpHello hello = raw_hello(0, 64, NULL);
    Raw orphan[ORPHANS], liar;
    unsigned i;
    Stage stage;

    stage_up(&stage);
    g_assert_true(raw_welcomed(&liar, stage.port, &hello));
    g_assert_cmpint(dwcp_welcome_decode(liar.welcome, &hello, liar.hello,
                                        &liar.answer, NULL),
                    ==, 0);
    for (i = 0; i < ORPHANS; i++) {
        hello = raw_hello(i + 1, 64, liar.answer.session);
        orphan[i].fd = raw_connect(stage.port);
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
    stage.warned = ORPHANS;
    (void)stage_warned(&stage);
    stage_move(&stage);
    stage_free(&stage);
}

/* More half-open connections than the target serves at once, then gone. */
static void test_crowd(void)
{
    enum { CROWD = DWCP_HANDSHAKES_MAX + 30 };
    int fd[CROWD];
    unsigned i;
    Stage stage;

    stage_up(&stage);
    for (i = 0; i < CROWD; i++) {
        fd[i] = raw_connect(stage.port);
        raw_send(fd[i], "\xd7" "DWCP", 5);
    }
    for (i = 0; i < CROWD; i++) {
        close(fd[i]);
    }
    stage.warned = CROWD - 1;
    (void)stage_warned(&stage);
    stage_move(&stage);
    stage_free(&stage);
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
    g_test_add_func("/handshake/hello/bytes", test_hello_bytes);
    g_test_add_func("/handshake/hello/cut", test_hello_cut);
    g_test_add_func("/handshake/confirm/bytes", test_confirm_bytes);
    g_test_add_func("/handshake/orphans", test_orphans);
    g_test_add_func("/handshake/crowd", test_crowd);
    return g_test_run();
}
