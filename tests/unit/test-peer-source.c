/*
 * A source and targets that are not there, refuse, or break the protocol
 *
 * Proves for each: exactly one error that names the cause, every later call
 * answers with it, GO was not and will never be said, and nothing is left
 * behind.  And for the other side of GO: whatever the target does then, the
 * source stays gone.
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

#define PAGES_OF_BLOCK 70u

static const uint8_t session_id[DWCP_SESSION_BYTES] = "0123456789abcde";

/* A source with a hand-written target, two streams unless said otherwise. */
typedef struct Stage {
    End source;
    int listen_fd;
    char port[8];
    Raw raw[2];
    Usage before;
} Stage;

static void stage_connect(Stage *stage, const DwcpSourceOptions *change)
{
    DwcpSourceOptions options = change ? *change : end_source_options(NULL);

    stage->before = usage_now();
    stage->raw[0].fd = stage->raw[1].fd = -1;
    stage->listen_fd = kit_listen(stage->port);
    options.port = stage->port;
    end_source(&stage->source, &options);
    end_ram(&stage->source, PAGES_OF_BLOCK);
    end_connect(&stage->source);
}

static void stage_up_as(Stage *stage, const DwcpSourceOptions *change)
{
    unsigned i, streams = change ? change->streams : 2;
    Raw raw;

    stage_connect(stage, change);
    for (i = 0; i < streams; i++) {
        raw_serve(&raw, stage->listen_fd, session_id);
        stage->raw[raw.said.stream] = raw;
    }
    end_wait_connected(&stage->source);
}

static void stage_up(Stage *stage)
{
    stage_up_as(stage, NULL);
}

static void say_begin(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_BEGIN, "\1\0\0\0", 4);
}

static void stage_ended(Stage *stage)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);

    stage_up(stage);
    say_begin(stage);
    g_assert_cmpint(dwcp_source_end(stage->source.source), ==, 0);
    raw_expect(stage->raw[0].fd, DWCP_RECORD_END, body);
    g_assert_cmpuint(dwcp_get_le64(body), ==, 0);
    g_free(body);
}

static void stage_free(Stage *stage)
{
    int i;

    for (i = 0; i < 2; i++) {
        if (stage->raw[i].fd >= 0) {
            close(stage->raw[i].fd);
        }
    }
    close(stage->listen_fd);
    end_free(&stage->source);
    usage_same(stage->before);
}

/* The source must have failed so, and be dead for good. */
static void stage_dead(Stage *stage, int code, const char *text)
{
    DwcpSource *source = stage->source.source;
    DwcpError err = { 0 };

    end_failed_with(&stage->source, code, text);
    g_assert_cmpint(dwcp_source_error(source, &err), ==, code);
    g_assert_cmpint(dwcp_source_put(source, 0, 0, 1), ==, code);
    dwcp_source_flush(source);
    dwcp_source_round(source);
    g_assert_cmpint(dwcp_source_wait(source, 1000), ==, code);
    g_assert_cmpint(dwcp_source_end(source), ==, code);
    g_assert_cmpint(dwcp_source_finish(source, &err), ==, code);
    g_assert_nonnull(strstr(err.text, text));
    g_assert_cmpint(dwcp_source_take_channel(source, 0, &err), ==, code);
    g_assert_false(dwcp_source_gone(source));
    dwcp_source_cancel(source); /* too late, and changes nothing */
    g_assert_cmpint(dwcp_source_error(source, &err), ==, code);
    stage_free(stage);
}

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
    o = good, o.page_size = 0, bad_options(o, -EINVAL, "page size");
    o = good, o.page_size = 6000, bad_options(o, -EINVAL, "page size 6000");
    o = good, o.page_size = 131072, bad_options(o, -EINVAL, "page size");
    o = good, o.security = DWCP_SECURITY_UNSET,
    bad_options(o, -ENOTSUP, "security");
    o = good, o.security = (DwcpSecurity)2,
    bad_options(o, -ENOTSUP, "security");
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
    (void)dwcp_hello_judge(&raw->said, DWCP_SECURITY_NONE, PAGE,
                           &raw->answer);
    memcpy(raw->answer.session, session_id, DWCP_SESSION_BYTES);
    if (refusal) {
        dwcp_welcome_refuse(&raw->answer, refusal, "reason %u",
                            (unsigned)refusal);
    }
    dwcp_welcome_encode(raw->welcome, &raw->answer, raw->hello);
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
    raw_serve(&stage.raw[0], stage.listen_fd, session_id);
    serve_changed(&stage, &stage.raw[1], DWCP_REFUSAL_STREAM, 0, 0);
    stage_dead(&stage, -ECONNREFUSED, "stream 1: the target refused: reason");
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

/* ---------------------------------------------------- breaking a rule -- */

static void unknown_type(Stage *stage)
{
    raw_send(stage->raw[1].fd, "\x40\0\0\0\0\0\0\0", 8);
}

static void say_pages(Stage *stage)
{
    DwcpPages pages = { .number = 1, .count = 1,
                        .chunks = { { .present = 1, .zero = 1 } } };

    raw_pages(stage->raw[1].fd, &pages, NULL, 0);
}

static void huge_pages(Stage *stage)
{
    /* A length that PAGES may have, but which no source has room for. */
    raw_send(stage->raw[1].fd, "\1\0\0\0\0\0\x20\0", 8);
}

static void say_end(Stage *stage)
{
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_END, 0);
}

static void say_go(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_GO, NULL, 0);
}

static void say_ready(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_READY, NULL, 0);
}

static void say_ready_aside(Stage *stage)
{
    raw_record(stage->raw[1].fd, DWCP_RECORD_READY, NULL, 0);
}

static void say_ready_twice(Stage *stage)
{
    say_ready(stage);
    say_ready(stage);
}

static void say_sealed(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_SEALED, NULL, 0);
}

static void begin_twice(Stage *stage)
{
    say_begin(stage);
    say_begin(stage);
}

static void begin_other(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_BEGIN, "\2\0\0\0", 4);
}

static void ack_unsent(Stage *stage)
{
    raw_record_u64(stage->raw[1].fd, DWCP_RECORD_ACK, 1);
}

static void ack_absurd(Stage *stage)
{
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_ACK, UINT64_MAX);
}

static void ack_back(Stage *stage)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);

    g_assert_cmpint(dwcp_source_put(stage->source.source, 0, 0, 1), ==, 0);
    dwcp_source_flush(stage->source.source);
    raw_expect(stage->raw[1].fd, DWCP_RECORD_PAGES, body);
    raw_record_u64(stage->raw[1].fd, DWCP_RECORD_ACK, 1);
    raw_record_u64(stage->raw[1].fd, DWCP_RECORD_ACK, 0);
    g_free(body);
}

static void window_beyond(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_WINDOW, "\0\0\1\0\0\0\0\0\0\0",
               10);
}

static void say_abort(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_ABORT, "\14\0\0\0no memory", 13);
}

static void vanish(Stage *stage)
{
    close(stage->raw[0].fd);
    stage->raw[0].fd = -1;
}

static void vanish_aside(Stage *stage)
{
    raw_reset(stage->raw[1].fd);
    stage->raw[1].fd = -1;
}

static void reset(Stage *stage)
{
    raw_reset(stage->raw[0].fd);
    raw_reset(stage->raw[1].fd);
    stage->raw[0].fd = stage->raw[1].fd = -1;
}

typedef struct Row {
    const char *name;
    void (*stage)(Stage *stage);
    void (*step)(Stage *stage);
    int code;
    const char *text;
} Row;

static const Row rows[] = {
    { "type", stage_up, unknown_type, -EPROTO, "type 64" },
    { "pages", stage_up, say_pages, -EPROTO, "not for a source" },
    { "huge", stage_up, huge_pages, -EPROTO, "not for us" },
    { "end", stage_up, say_end, -EPROTO, "not for a source" },
    { "go", stage_up, say_go, -EPROTO, "not for a source" },
    { "ready-up", stage_up, say_ready, -EPROTO, "READY while" },
    { "ready-aside", stage_ended, say_ready_aside, -EPROTO, "on stream 1" },
    { "ready-twice", stage_ended, say_ready_twice, -EPROTO, "READY while" },
    { "sealed-up", stage_up, say_sealed, -EPROTO, "SEALED while" },
    { "sealed-ended", stage_ended, say_sealed, -EPROTO, "SEALED while" },
    { "begin-twice", stage_up, begin_twice, -EPROTO, "second time" },
    { "begin-other", stage_up, begin_other, -EPROTO, "2 RAM blocks" },
    { "ack-unsent", stage_up, ack_unsent, -EPROTO, "ACK of 1" },
    { "ack-absurd", stage_up, ack_absurd, -EPROTO, "ACK of 1844674407" },
    { "ack-back", stage_up, ack_back, -EPROTO, "ACK of 0" },
    { "window", stage_up, window_beyond, -EPROTO, "WINDOW" },
    { "abort", stage_up, say_abort, -ECONNABORTED, "gave up: no memory" },
    { "abort-ended", stage_ended, say_abort, -ECONNABORTED, "no memory" },
    { "vanish-up", stage_up, vanish, -ECONNRESET, "stream 0" },
    { "vanish-ended", stage_ended, vanish, -ECONNRESET, "stream 0" },
    { "vanish-aside", stage_up, vanish_aside, -ECONNRESET, "stream 1" },
    { "reset-up", stage_up, reset, -ECONNRESET, "stream" },
    { "reset-ended", stage_ended, reset, -ECONNRESET, "stream" },
};

static void test_row(gconstpointer opaque)
{
    const Row *row = opaque;
    Stage stage;

    row->stage(&stage);
    row->step(&stage);
    stage_dead(&stage, row->code, row->text);
}

/* ------------------------------------------------------- before BEGIN -- */

/* Sends PING; Returns: whether PAGES came before its answer. */
static bool pages_before_pong(int fd, uint8_t *body)
{
    uint8_t header[DWCP_RECORD_HEADER];
    DwcpRecord record;
    bool came = false;

    raw_record_u64(fd, DWCP_RECORD_PING, 5);
    do {
        g_assert_true(raw_read(fd, header, sizeof(header)));
        g_assert_cmpint(dwcp_record_decode(header, PAGE, &record, NULL), ==,
                        0);
        g_assert_true(raw_read(fd, body, record.length));
        came |= record.type == DWCP_RECORD_PAGES;
    } while (record.type != DWCP_RECORD_PONG);
    return came;
}

/* Stream 0 carries no page until the target can take it, or what comes behind
 * would have to wait as well: the stream that names the RAM blocks. */
static void test_before_begin(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    DwcpStats stats = { .size = sizeof(stats) };
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    Stage stage;

    options.streams = 1;
    stage_up_as(&stage, &options);
    g_assert_cmpint(dwcp_source_put(stage.source.source, 0, 0, 70), ==, 0);
    dwcp_source_flush(stage.source.source);
    do { /* until all is encoded */
        g_assert_cmpint(dwcp_source_wait(stage.source.source, 1), ==, 1);
        dwcp_source_stats(stage.source.source, &stats);
    } while (stats.zero_pages < 70);
    g_assert_false(pages_before_pong(stage.raw[0].fd, body));
    g_assert_false(pages_before_pong(stage.raw[0].fd, body));
    say_begin(&stage);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_PAGES, body);
    stage_free(&stage);
    g_free(body);
}

/* ------------------------------------------------------------ silence -- */

/* A target that says nothing; and one that is alive lasts longer than that. */
static void test_silent(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    DwcpRecord record;
    unsigned pings = 0;
    uint8_t header[8];
    Stage stage;

    options.silence_ms_max = 2500;
    stage_up_as(&stage, &options);
    while (pings < 6) { /* longer than the limit, in fact */
        g_assert_true(raw_read(stage.raw[0].fd, header, sizeof(header)));
        g_assert_cmpint(dwcp_record_decode(header, PAGE, &record, NULL), ==,
                        0);
        g_assert_true(raw_read(stage.raw[0].fd, body, record.length));
        if (record.type == DWCP_RECORD_PING) {
            raw_record(stage.raw[0].fd, DWCP_RECORD_PONG, body,
                       record.length);
            pings++;
        }
    }
    g_assert_cmpint(dwcp_source_error(stage.source.source, NULL), ==, 0);
    stage_dead(&stage, -ETIMEDOUT, "no sign of life from the target for 2500");
    g_free(body);
}

static void test_silent_end(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    Stage stage;

    options.switchover_ms_max = 300;
    stage_up_as(&stage, &options);
    g_assert_cmpint(dwcp_source_end(stage.source.source), ==, 0);
    stage_dead(&stage, -ETIMEDOUT, "no sign of life from the target for 300");
}

/* A target that answers PING but takes no pages. */
static void test_stuck(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    DwcpRecord record;
    Stage stage;

    options.silence_ms_max = 2000;
    stage_up_as(&stage, &options);
    g_assert_cmpint(dwcp_source_put(stage.source.source, 0, 0, 70), ==, 0);
    dwcp_source_flush(stage.source.source);
    while (raw_next(stage.raw[0].fd, &record, body)) {
    }
    stage_dead(&stage, -ETIMEDOUT, "has taken nothing for 2000");
    g_free(body);
}

/* A target that takes a frame slowly, for longer than the limit, is alive. */
static void test_slow(void)
{
    enum { FRAME_PAGES = 512, STEPS = 8 };
    DwcpSourceOptions options = end_source_options(NULL);
    uint8_t *body = g_malloc(RAW_BODY_MAX), header[DWCP_RECORD_HEADER];
    const int small = 32768;
    DwcpRecord record;
    unsigned step = 0;
    Stage stage;

    options.silence_ms_max = 2500; /* so PING comes four times in it */
    options.level = 0;
    stage.before = usage_now();
    stage.raw[0].fd = stage.raw[1].fd = -1;
    stage.listen_fd = kit_listen(stage.port);
    g_assert_cmpint(setsockopt(stage.listen_fd, SOL_SOCKET, SO_RCVBUF, &small,
                               sizeof(small)),
                    ==, 0);
    options.port = stage.port;
    end_source(&stage.source, &options);
    end_ram(&stage.source, FRAME_PAGES);
    memset(stage.source.ram, 1, FRAME_PAGES * PAGE);
    end_connect(&stage.source);
    raw_serve(&stage.raw[0], stage.listen_fd, session_id);
    raw_serve(&stage.raw[1], stage.listen_fd, session_id);
    end_wait_connected(&stage.source);
    g_assert_cmpint(dwcp_source_put(stage.source.source, 0, 0, FRAME_PAGES),
                    ==, 0);
    dwcp_source_flush(stage.source.source);
    while (step < STEPS) { /* each PING lets a part of the frame pass */
        g_assert_true(raw_read(stage.raw[0].fd, header, sizeof(header)));
        g_assert_cmpint(dwcp_record_decode(header, PAGE, &record, NULL), ==,
                        0);
        g_assert_true(raw_read(stage.raw[0].fd, body, record.length));
        raw_record(stage.raw[0].fd, DWCP_RECORD_PONG, body, 8);
        g_assert_true(raw_read(stage.raw[1].fd, body, 150000));
        step++;
    }
    g_assert_cmpint(dwcp_source_error(stage.source.source, NULL), ==, 0);
    stage_free(&stage);
    g_free(body);
}

/* ------------------------------------------------------- beyond GO -- */

typedef struct Finish {
    DwcpSource *source;
    int rc;
} Finish;

static gpointer finish_run(gpointer opaque)
{
    Finish *finish = opaque;
    DwcpError err = { 0 };

    finish->rc = dwcp_source_finish(finish->source, &err);
    g_assert_cmpint(err.code == 0, ==, finish->rc == 0);
    return NULL;
}

/* READY, GO, then what @after does; the source stays gone, and says so. */
static void beyond(void (*after)(Stage *stage), int rc)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    DwcpError err = { 0 };
    GThread *thread;
    Finish finish;
    Stage stage;

    stage_ended(&stage);
    finish = (Finish){ stage.source.source, -1 };
    thread = g_thread_new("finish", finish_run, &finish);
    g_assert_false(dwcp_source_gone(stage.source.source));
    say_ready(&stage);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_GO, body);
    g_assert_true(dwcp_source_gone(stage.source.source));
    after(&stage);
    g_thread_join(thread);
    g_assert_cmpint(finish.rc, ==, rc);
    g_assert_true(dwcp_source_gone(stage.source.source));
    dwcp_source_cancel(stage.source.source);
    g_assert_true(dwcp_source_gone(stage.source.source));
    /* Asked once more, the answer is the same. */
    g_assert_cmpint(dwcp_source_finish(stage.source.source, &err), ==, rc);
    g_assert_cmpint(dwcp_source_error(stage.source.source, NULL), ==, 0);
    g_assert_cmpuint(stage.source.failed, ==, 0);
    stage_free(&stage);
    g_free(body);
}

static void test_beyond(void)
{
    beyond(say_sealed, 0);
    beyond(say_abort, 1);
    beyond(vanish, 1);
    beyond(reset, 1);
    beyond(say_ready_twice, 1);
    beyond(unknown_type, 1);
}

/* GO, and silence. */
static void test_beyond_silent(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    DwcpError err = { 0 };
    Stage stage;

    options.switchover_ms_max = 400;
    stage_up_as(&stage, &options);
    g_assert_cmpint(dwcp_source_end(stage.source.source), ==, 0);
    say_ready(&stage);
    g_assert_cmpint(dwcp_source_finish(stage.source.source, &err), ==, 1);
    g_assert_true(dwcp_source_gone(stage.source.source));
    stage_free(&stage);
}

/* READY, but then the target gives up before finish is called. */
static void test_ready_abort(void)
{
    Stage stage;

    stage_ended(&stage);
    say_ready(&stage);
    say_abort(&stage);
    stage_dead(&stage, -ECONNABORTED, "no memory");
}

int main(int argc, char **argv)
{
    char name[64];
    size_t i;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-source/nobody", test_nobody);
    g_test_add_func("/peer-source/resolve", test_resolve);
    g_test_add_func("/peer-source/options", test_options);
    g_test_add_func("/peer-source/limits", test_limits);
    g_test_add_func("/peer-source/other-protocols", test_other_protocols);
    g_test_add_func("/peer-source/refused", test_refused);
    g_test_add_func("/peer-source/second-refused", test_second_refused);
    g_test_add_func("/peer-source/welcome/bytes", test_welcome_bytes);
    g_test_add_func("/peer-source/welcome/cut", test_welcome_cut);
    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_snprintf(name, sizeof(name), "/peer-source/breaks/%s", rows[i].name);
        g_test_add_data_func(name, &rows[i], test_row);
    }
    g_test_add_func("/peer-source/before-begin", test_before_begin);
    g_test_add_func("/peer-source/silent", test_silent);
    g_test_add_func("/peer-source/silent-end", test_silent_end);
    g_test_add_func("/peer-source/stuck", test_stuck);
    g_test_add_func("/peer-source/slow", test_slow);
    g_test_add_func("/peer-source/beyond", test_beyond);
    g_test_add_func("/peer-source/beyond-silent", test_beyond_silent);
    g_test_add_func("/peer-source/ready-abort", test_ready_abort);
    return g_test_run();
}
