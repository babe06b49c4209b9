/*
 * A source and targets that are not there, refuse, or shake hands wrongly
 *
 * Proves for each: exactly one error that names the cause, every later call
 * answers with it, GO was not and will never be said, and nothing is left
 * behind.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stage.h"

/* -------------------------------------------------------- connecting -- */

static void cannot_connect(const DwcpSourceOptions *options, int code,
                           const char *text)
{
    Usage before = usage_now();
    End end;

    end_source(&end, options);
    end_connect(&end);
    end_failed_with(&end, code, text);
    g_assert_cmpuint(end.connected, ==, 0);
    g_assert_false(dwcp_source_gone(end.source));
    end_free(&end);
    usage_same(before);
}

static void test_nobody(void)
{
    DwcpSourceOptions options;
    char port[8];

    close(kit_listen(port)); /* a port that nobody has */
    options = end_source_options(port);
    cannot_connect(&options, -ECONNREFUSED, "connect to 127.0.0.1 port ");
    options.host = "::1";
    cannot_connect(&options, -ECONNREFUSED, "connect to ::1 port ");
}

static void test_resolve(void)
{
    DwcpSourceOptions options = end_source_options("1");
    char label[80];

    /* Names that no name service needs to be asked for. */
    memset(label, 'a', 70);
    label[70] = '\0';
    options.host = label;
    cannot_connect(&options, -ENOENT, "cannot resolve aaaa");
    options.host = "::1";
    options.family = AF_INET;
    cannot_connect(&options, -ENOENT, "cannot resolve ::1");
    options.host = "127.0.0.1";
    options.family = AF_INET6;
    cannot_connect(&options, -ENOENT, "cannot resolve 127.0.0.1");
    options.family = AF_UNSPEC;
    options.port = "no-such-service";
    cannot_connect(&options, -ENOENT, "port no-such-service");
}

static void bad_options(DwcpSourceOptions options, int code, const char *text)
{
    DwcpSource *source = NULL;
    DwcpError err = { 0 };

    g_assert_cmpint(dwcp_source_new(&options, &source, &err), ==, code);
    g_assert_null(source);
    if (!strstr(err.text, text)) {
        g_error("\"%s\" does not name %s", err.text, text);
    }
}

static void test_options(void)
{
    const DwcpSourceOptions good = end_source_options("1");
    DwcpSourceOptions o;

    o = good, o.host = NULL, bad_options(o, -EINVAL, "host");
    o = good, o.host = "", bad_options(o, -EINVAL, "host");
    o = good, o.port = NULL, bad_options(o, -EINVAL, "port");
    o = good, o.port = "", bad_options(o, -EINVAL, "port");
    o = good, o.port = "0", bad_options(o, -EINVAL, "port 0");
    o = good, o.port = "65536", bad_options(o, -EINVAL, "port 65536");
    o = good, o.port = "99999999999999999999",
    bad_options(o, -EINVAL, "port 999999");
    o = good, o.port = "-1", bad_options(o, -EINVAL, "port -1");
    o = good, o.streams = 65, bad_options(o, -EINVAL, "streams 65");
    o = good, o.streams = UINT32_MAX, bad_options(o, -EINVAL, "streams");
    o = good, o.workers = 65, bad_options(o, -EINVAL, "workers 65");
    o = good, o.level = 20, bad_options(o, -EINVAL, "level 20");
    o = good, o.level = -2, bad_options(o, -EINVAL, "level -2");
    o = good, o.mode = (DwcpMode)4, bad_options(o, -EINVAL, "mode 4");
    o = good, o.page_size = 0, bad_options(o, -EINVAL, "page size");
    o = good, o.page_size = 6000, bad_options(o, -EINVAL, "page size 6000");
    o = good, o.page_size = 131072, bad_options(o, -EINVAL, "page size");
    o = good, o.security = DWCP_SECURITY_UNSET,
    bad_options(o, -ENOTSUP, "security");
    o = good, o.security = (DwcpSecurity)4,
    bad_options(o, -ENOTSUP, "security");
    o = good, o.security = DWCP_SECURITY_PSK,
    bad_options(o, -EINVAL, "pre-shared key");
    o = good, o.security = DWCP_SECURITY_KEYS,
    bad_options(o, -EINVAL, "private key is missing");
}

static void test_limits(void)
{
    DwcpSourceOptions options = end_source_options("65535");
    DwcpStats stats = { .size = sizeof(stats) };
    uint8_t page[PAGE];
    DwcpError err = { 0 };
    End end;

    options.streams = 64;
    options.workers = 64;
    options.level = 19;
    end_source(&end, &options);
    g_assert_cmpint(dwcp_source_add_block(end.source, NULL, PAGE, &err), ==,
                    -EINVAL);
    g_assert_cmpint(dwcp_source_add_block(end.source, page, PAGE - 1, &err),
                    ==, -EINVAL);
    g_assert_cmpint(dwcp_source_add_block(end.source, page, 0, &err), ==,
                    -EINVAL);
    g_assert_cmpint(dwcp_source_add_block(end.source, page, PAGE, &err), ==,
                    0);
    g_assert_cmpint(dwcp_source_put(end.source, 1, 0, 1), ==, -EINVAL);
    g_assert_cmpint(dwcp_source_put(end.source, 0, 1, 1), ==, -EINVAL);
    g_assert_cmpint(dwcp_source_put(end.source, 0, 0, 2), ==, -EINVAL);
    g_assert_cmpint(dwcp_source_put(end.source, 0, 1, UINT64_MAX), ==,
                    -EINVAL);
    g_assert_cmpint(dwcp_source_put(end.source, 0, UINT64_MAX, 2), ==,
                    -EINVAL);
    g_assert_cmpint(dwcp_source_put(end.source, 0, 0, 1), ==, 0);
    g_assert_cmpint(dwcp_source_add_block(end.source, page, PAGE, &err), ==,
                    -EINVAL);
    g_assert_nonnull(strstr(err.text, "RAM block 1 comes after"));
    g_assert_cmpint(dwcp_source_take_channel(end.source, 0, &err), ==,
                    -ENOTCONN);
    g_assert_cmpint(dwcp_source_end(end.source), <, 0);
    g_assert_cmpint(dwcp_source_finish(end.source, &err), <, 0);
    dwcp_source_stats(end.source, &stats);
    g_assert_cmpuint(stats.pending_bytes, ==, PAGE);
    g_assert_cmpuint(stats.workers, ==, 64);
    end_free(&end);
    dwcp_source_free(NULL);
}

/* --------------------------------------------------------- handshake -- */

static void answer_with(const void *answer, size_t length, int code,
                        const char *text)
{
    uint8_t hello[DWCP_HELLO_BYTES];
    Stage stage;
    int fd;

    stage_connect(&stage, NULL);
    fd = raw_accept(stage.listen_fd);
    g_assert_true(raw_read(fd, hello, sizeof(hello)));
    raw_send(fd, answer, length);
    close(fd);
    stage_dead(&stage, code, text);
}

static void test_other_protocols(void)
{
    uint8_t *http = g_malloc0(DWCP_WELCOME_BYTES);

    memcpy(http, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    answer_with("", 0, -ECONNRESET, "handshake");
    answer_with("220 mail.example ESMTP\r\n", 24, -EPROTO, "speak DWCP");
    answer_with(http, DWCP_WELCOME_BYTES, -EPROTO, "does not speak DWCP");
    g_free(http);
}

/* Accepts one connection and answers HELLO with a WELCOME that is changed. */
static void serve_changed(Stage *stage, Raw *raw, DwcpRefusal refusal,
                          unsigned at, uint8_t change)
{
    raw->fd = raw_accept(stage->listen_fd);
    g_assert_true(raw_read(raw->fd, raw->hello, sizeof(raw->hello)));
    g_assert_cmpint(dwcp_hello_decode(raw->hello, &raw->said, NULL), ==, 0);
    (void)dwcp_hello_judge(&raw->said, DWCP_SECURITY_NONE, DWCP_PROFILE_V1, PAGE,
                           &raw->answer);
    memcpy(raw->answer.session, stage_session, DWCP_SESSION_BYTES);
    if (refusal) {
        dwcp_welcome_refuse(&raw->answer, refusal, "reason %u",
                            (unsigned)refusal);
    }
    dwcp_welcome_encode(raw->welcome, &raw->answer);
    dwcp_welcome_tag(raw->welcome, raw->hello, NULL);
    raw->welcome[at] ^= change;
    raw_send(raw->fd, raw->welcome, sizeof(raw->welcome));
}

static void test_refused(void)
{
    static const struct {
        DwcpRefusal refusal;
        int code;
    } rows[] = {
        { DWCP_REFUSAL_VERSION, -ENOTSUP },
        { DWCP_REFUSAL_FEATURES, -ENOTSUP },
        { DWCP_REFUSAL_SECURITY, -ENOTSUP },
        { DWCP_REFUSAL_SESSION, -ECONNREFUSED },
        { DWCP_REFUSAL_PAGE_SIZE, -ENOTSUP },
    };
    char text[64];
    Stage stage;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        stage_connect(&stage, NULL);
        serve_changed(&stage, &stage.raw[0], rows[i].refusal, 0, 0);
        g_snprintf(text, sizeof(text), "the target refused: reason %u",
                   (unsigned)rows[i].refusal);
        stage_dead(&stage, rows[i].code, text);
    }
}

static void test_second_refused(void)
{
    Stage stage;

    stage_connect(&stage, NULL);
    raw_serve(&stage.raw[0], stage.listen_fd, stage_session);
    serve_changed(&stage, &stage.raw[1], DWCP_REFUSAL_STREAM, 0, 0);
    stage_dead(&stage, -ECONNREFUSED, "stream 1: the target refused: reason");
}

/* A target that gives up refuses what still joins; why, stream 0 says. */
static void test_given_up(void)
{
    Stage stage;

    stage_connect(&stage, NULL);
    raw_serve(&stage.raw[0], stage.listen_fd, stage_session);
    serve_changed(&stage, &stage.raw[1], DWCP_REFUSAL_SESSION, 0, 0);
    say_abort(&stage);
    stage_dead(&stage, -ECONNABORTED, "no memory");
}

static void test_welcome_bytes(void)
{
    unsigned at;
    Stage stage;

    for (at = 0; at < DWCP_WELCOME_BYTES; at++) {
        stage_connect(&stage, NULL);
        serve_changed(&stage, &stage.raw[0], DWCP_REFUSAL_NONE, at, 0x41);
        stage_dead(&stage, -EPROTO, "");
    }
}

static void test_welcome_cut(void)
{
    static const uint8_t welcome[DWCP_WELCOME_BYTES] = {
        0xd7, 'D', 'W', 'C', 'P', '\r', '\n', 0x1a
    };
    uint8_t hello[DWCP_HELLO_BYTES];
    unsigned length;
    Stage stage;
    int fd;

    for (length = 0; length < DWCP_WELCOME_BYTES; length += 13) {
        answer_with(welcome, length, -ECONNRESET, "handshake");
    }
    stage_connect(&stage, NULL);
    fd = raw_accept(stage.listen_fd);
    g_assert_true(raw_read(fd, hello, sizeof(hello)));
    raw_reset(fd);
    stage_dead(&stage, -ECONNRESET, "handshake");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-source/nobody", test_nobody);
    g_test_add_func("/peer-source/resolve", test_resolve);
    g_test_add_func("/peer-source/options", test_options);
    g_test_add_func("/peer-source/limits", test_limits);
    g_test_add_func("/peer-source/other-protocols", test_other_protocols);
    g_test_add_func("/peer-source/refused", test_refused);
    g_test_add_func("/peer-source/second-refused", test_second_refused);
    g_test_add_func("/peer-source/given-up", test_given_up);
    g_test_add_func("/peer-source/welcome/bytes", test_welcome_bytes);
    g_test_add_func("/peer-source/welcome/cut", test_welcome_cut);
    return g_test_run();
}
