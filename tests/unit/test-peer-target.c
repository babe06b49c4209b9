/*
 * A target and sources that break the protocol once the session stands
 *
 * Each row breaks one rule with a hand-written source.  Proves that the target
 * reports exactly one error, which names the rule, that it never says GO, and
 * that nothing of it is left behind; and that what is merely odd (frames
 * twice, floods of PING) does no harm.
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

/* A target with a session of two streams. */
typedef struct Stage {
    End target;
    char port[8];
    Raw raw[2];
} Stage;

static DwcpPages zero_chunk(uint64_t number)
{
    return (DwcpPages){
        .number = number,
        .count = 1,
        .chunks = { { .present = UINT64_MAX, .zero = UINT64_MAX } },
    };
}

static void send_zero(int fd, uint64_t number)
{
    DwcpPages pages = zero_chunk(number);

    raw_pages(fd, &pages, NULL, 0);
}

static void stage_up(Stage *stage, uint32_t silence_ms_max)
{
    DwcpTargetOptions options = end_target_options();

    options.silence_ms_max = silence_ms_max;
    end_target(&stage->target, &options, stage->port);
    end_ram(&stage->target, PAGES_OF_BLOCK);
    raw_join(&stage->raw[0], stage->port, 0, 2, NULL);
    end_wait_connected(&stage->target);
    raw_join(&stage->raw[1], stage->port, 1, 2,
             stage->raw[0].answer.session);
}

static void stage_begun(Stage *stage)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);

    stage_up(stage, 0);
    g_assert_cmpint(dwcp_target_begin(stage->target.target), ==, 0);
    raw_expect(stage->raw[0].fd, DWCP_RECORD_BEGIN, body);
    g_assert_cmpuint(dwcp_get_le32(body), ==, 1);
    g_free(body);
}

static void stage_complete(Stage *stage)
{
    stage_begun(stage);
    send_zero(stage->raw[1].fd, 1);
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_END, 1);
    g_assert_cmpint(end_wait_complete(&stage->target), ==, 1);
}

static void stage_ready(Stage *stage)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);

    stage_complete(stage);
    g_assert_cmpint(dwcp_target_ready(stage->target.target), ==, 0);
    raw_expect(stage->raw[0].fd, DWCP_RECORD_READY, body);
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
    end_free(&stage->target);
}

/* The target must have failed so, and be dead for good. */
static void stage_dead(Stage *stage, int code, const char *text)
{
    DwcpTarget *target = stage->target.target;
    DwcpError err = { 0 };

    end_failed_with(&stage->target, code, text);
    g_assert_cmpint(dwcp_target_go(target), ==, code);
    g_assert_cmpint(dwcp_target_memory_complete(target), ==, code);
    g_assert_cmpint(dwcp_target_begin(target), <, 0);
    g_assert_cmpint(dwcp_target_ready(target), <, 0);
    g_assert_cmpint(dwcp_target_take_channel(target, 0, &err), <, 0);
    g_assert_cmpint(dwcp_target_error(target, &err), ==, code);
    dwcp_target_cancel(target); /* too late, and changes nothing */
    g_assert_cmpint(dwcp_target_error(target, &err), ==, code);
}

/* ---------------------------------------------------- breaking a rule -- */

static void break_block(Stage *stage)
{
    DwcpPages pages = zero_chunk(1);

    pages.chunks[0].block = 1;
    raw_pages(stage->raw[0].fd, &pages, NULL, 0);
}

static void break_page(Stage *stage)
{
    DwcpPages pages = zero_chunk(1);

    pages.chunks[0].chunk = 1; /* pages 64 to 127 of 70 */
    raw_pages(stage->raw[1].fd, &pages, NULL, 0);
}

static void break_chunk(Stage *stage)
{
    DwcpPages pages = zero_chunk(1);

    pages.chunks[0].chunk = UINT32_MAX;
    raw_pages(stage->raw[1].fd, &pages, NULL, 0);
}

static void break_zstd(Stage *stage)
{
    DwcpPages pages = zero_chunk(1);

    pages.chunks[0].zero = 0;
    pages.codec = DWCP_CODEC_ZSTD;
    raw_pages(stage->raw[1].fd, &pages, "this is not zstd", 16);
}

static void break_window(Stage *stage)
{
    send_zero(stage->raw[1].fd, DWCP_NUMBERS_AHEAD_MAX + 1ull);
}

static void early_pages(Stage *stage)
{
    send_zero(stage->raw[0].fd, 1);
}

static void end_twice(Stage *stage)
{
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_END, 9);
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_END, 9);
}

static void end_behind(Stage *stage)
{
    send_zero(stage->raw[0].fd, 1);
    send_zero(stage->raw[0].fd, 2);
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_END, 1);
}

static void after_end(Stage *stage)
{
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_END, 2);
    send_zero(stage->raw[0].fd, 3);
}

static void after_complete(Stage *stage)
{
    send_zero(stage->raw[1].fd, 1);
}

static void say_go(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_GO, NULL, 0);
}

static void say_go_aside(Stage *stage)
{
    raw_record(stage->raw[1].fd, DWCP_RECORD_GO, NULL, 0);
}

static void end_aside(Stage *stage)
{
    raw_record_u64(stage->raw[1].fd, DWCP_RECORD_END, 0);
}

static void channel_aside(Stage *stage)
{
    raw_record(stage->raw[1].fd, DWCP_RECORD_CHANNEL, "\0\0x", 3);
}

static void channel_unknown(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_CHANNEL, "\1\0x", 3);
}

static void channel_flood(Stage *stage)
{
    const uint32_t length = 2 + DWCP_CHANNEL_DATA_MAX;
    uint8_t *body = g_malloc0(length);
    unsigned i;

    /* The local socket takes some as well: send what both cannot hold. */
    for (i = 0; i < 3 * DWCP_CHANNEL_WINDOW / DWCP_CHANNEL_DATA_MAX; i++) {
        raw_record(stage->raw[0].fd, DWCP_RECORD_CHANNEL, body, length);
    }
    g_free(body);
}

static void channel_after_eof(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_CHANNEL_EOF, "\0\0", 2);
    raw_record(stage->raw[0].fd, DWCP_RECORD_CHANNEL, "\0\0x", 3);
}

static void window_beyond(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_WINDOW, "\0\0\1\0\0\0\0\0\0\0",
               10);
}

static void say_ack(Stage *stage)
{
    raw_record_u64(stage->raw[1].fd, DWCP_RECORD_ACK, 0);
}

static void say_begin(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_BEGIN, "\1\0\0\0", 4);
}

static void say_sealed(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_SEALED, NULL, 0);
}

static void say_pong(Stage *stage)
{
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_PONG, 1);
}

static void ping_aside(Stage *stage)
{
    raw_record_u64(stage->raw[1].fd, DWCP_RECORD_PING, 1);
}

static void abort_aside(Stage *stage)
{
    raw_record(stage->raw[1].fd, DWCP_RECORD_ABORT, "\5\0\0\0why", 7);
}

static void unknown_type(Stage *stage)
{
    raw_send(stage->raw[1].fd, "\xc8\0\0\0\0\0\0\0", 8);
}

static void unknown_flag(Stage *stage)
{
    raw_send(stage->raw[1].fd, "\1\1\0\0\x40\0\0\0", 8);
}

static void absurd_length(Stage *stage)
{
    raw_send(stage->raw[1].fd, "\1\0\0\0\xff\xff\xff\xff", 8);
}

static void say_http(Stage *stage)
{
    raw_send(stage->raw[0].fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
}

static void say_abort(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_ABORT,
               "\5\0\0\0the disk\nis full\x1b", 21);
}

static void vanish(Stage *stage)
{
    close(stage->raw[0].fd);
    stage->raw[0].fd = -1;
}

static void vanish_aside(Stage *stage)
{
    close(stage->raw[1].fd);
    stage->raw[1].fd = -1;
}

static void reset(Stage *stage)
{
    raw_reset(stage->raw[0].fd);
    raw_reset(stage->raw[1].fd);
    stage->raw[0].fd = stage->raw[1].fd = -1;
}

static void cut_record(Stage *stage)
{
    raw_send(stage->raw[0].fd, "\1\0\0\0\x40\0\0\0half", 12);
    vanish(stage);
}

static void stage_up_plain(Stage *stage)
{
    stage_up(stage, 0);
}

typedef struct Row {
    const char *name;
    void (*stage)(Stage *stage);
    void (*step)(Stage *stage);
    int code; /* 0 = any */
    const char *text;
} Row;

static const Row rows[] = {
    { "block", stage_begun, break_block, -EPROTO, "block 1 of 1" },
    { "page", stage_begun, break_page, -EPROTO, "page 127 of block 0" },
    { "chunk", stage_begun, break_chunk, -EPROTO, "of block 0" },
    { "zstd", stage_begun, break_zstd, -EPROTO, "zstd" },
    { "number", stage_begun, break_window, -EPROTO, "too far ahead" },
    { "early-pages", stage_up_plain, early_pages, -EPROTO, "while up" },
    { "end-twice", stage_begun, end_twice, -EPROTO, "END while" },
    { "end-behind", stage_begun, end_behind, -EPROTO, "END at" },
    { "after-end", stage_begun, after_end, -EPROTO, "after the last" },
    { "after-complete", stage_complete, after_complete, -EPROTO,
      "while complete" },
    { "go-up", stage_up_plain, say_go, -EPROTO, "GO while" },
    { "go-begun", stage_begun, say_go, -EPROTO, "GO while" },
    { "go-complete", stage_complete, say_go, -EPROTO, "GO while" },
    { "go-aside", stage_ready, say_go_aside, -EPROTO, "on stream 1" },
    { "end-aside", stage_begun, end_aside, -EPROTO, "on stream 1" },
    { "end-ready", stage_ready, end_twice, -EPROTO, "END while ready" },
    { "pages-ready", stage_ready, after_complete, -EPROTO, "while ready" },
    { "channel-aside", stage_begun, channel_aside, -EPROTO, "on stream 1" },
    { "channel-unknown", stage_begun, channel_unknown, -EPROTO, "channel 1" },
    { "channel-flood", stage_up_plain, channel_flood, -EPROTO, "window" },
    { "channel-eof", stage_up_plain, channel_after_eof, -EPROTO, "its end" },
    { "window", stage_up_plain, window_beyond, -EPROTO, "WINDOW" },
    { "ack", stage_begun, say_ack, -EPROTO, "not for a target" },
    { "begin", stage_begun, say_begin, -EPROTO, "not for a target" },
    { "sealed", stage_ready, say_sealed, -EPROTO, "not for a target" },
    { "pong", stage_begun, say_pong, -EPROTO, "PONG record is not for" },
    { "ping-aside", stage_begun, ping_aside, -EPROTO, "on stream 1" },
    { "abort-aside", stage_begun, abort_aside, -ECONNABORTED,
      "gave up: why" },
    { "type", stage_begun, unknown_type, -EPROTO, "type 200" },
    { "flags", stage_begun, unknown_flag, -EPROTO, "flags" },
    { "length", stage_begun, absurd_length, -EPROTO, "length 4294967295" },
    { "http", stage_begun, say_http, -EPROTO, "unknown" },
    { "abort", stage_begun, say_abort, -ECONNABORTED,
      "the disk?is full?" },
    { "abort-ready", stage_ready, say_abort, -ECONNABORTED, "the disk" },
    { "vanish-up", stage_up_plain, vanish, -ECONNRESET, "stream 0" },
    { "vanish-begun", stage_begun, vanish, -ECONNRESET, "stream 0" },
    { "vanish-complete", stage_complete, vanish, -ECONNRESET, "stream 0" },
    { "vanish-ready", stage_ready, vanish, -ECONNRESET, "stream 0" },
    { "vanish-aside", stage_begun, vanish_aside, -ECONNRESET, "stream 1" },
    { "vanish-aside-ready", stage_ready, vanish_aside, -ECONNRESET,
      "stream 1" },
    { "reset-up", stage_up_plain, reset, -ECONNRESET, "stream" },
    { "reset-begun", stage_begun, reset, -ECONNRESET, "stream" },
    { "reset-ready", stage_ready, reset, -ECONNRESET, "stream" },
    { "cut-record", stage_begun, cut_record, -ECONNRESET, "stream 0" },
};

static void test_row(gconstpointer opaque)
{
    const Row *row = opaque;
    Usage before = usage_now();
    Stage stage;

    row->stage(&stage);
    row->step(&stage);
    stage_dead(&stage, row->code, row->text);
    stage_free(&stage);
    usage_same(before);
}

/* A protocol error is told to the peer before the connection closes. */
static void test_told(void)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    Stage stage;

    stage_begun(&stage);
    unknown_type(&stage);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_ABORT, body);
    g_assert_cmpuint(dwcp_get_le32(body), ==, EPROTO);
    g_assert_nonnull(g_strstr_len((char *)body + 4, 200, "type 200"));
    stage_dead(&stage, -EPROTO, "type 200");
    stage_free(&stage);
    g_free(body);
}

static void ready_at_once(void *opaque)
{
    DwcpTarget **target = opaque;

    if (dwcp_target_memory_complete(*target) == 1) {
        (void)!dwcp_target_ready(*target); /* the second time refused */
    }
}

/* Nothing is to be moved, and the user is ready in the callback that says so:
 * BEGIN must have been said before. */
static void test_ready_at_once(void)
{
    DwcpTargetOptions options = end_target_options();
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    DwcpTarget *target = NULL;
    DwcpRecord record;
    char port[8];
    Raw raw;

    options.events.changed = ready_at_once;
    options.events.opaque = &target;
    g_assert_cmpint(dwcp_target_new(&options, &target, NULL), ==, 0);
    g_assert_cmpint(dwcp_target_listen(target, kit_listen(port), NULL), ==, 0);
    raw_join(&raw, port, 0, 1, NULL);
    raw_record_u64(raw.fd, DWCP_RECORD_END, 0);
    raw_record_u64(raw.fd, DWCP_RECORD_PING, 1);
    g_assert_true(raw_read(raw.fd, body, DWCP_RECORD_HEADER + 8));
    g_assert_cmpuint(body[0], ==, DWCP_RECORD_PONG); /* END was read */
    g_assert_cmpint(dwcp_target_begin(target), ==, 0);
    g_assert_true(raw_next(raw.fd, &record, body));
    g_assert_cmpuint(record.type, ==, DWCP_RECORD_BEGIN);
    raw_expect(raw.fd, DWCP_RECORD_READY, body);
    close(raw.fd);
    dwcp_target_free(target);
    g_free(body);
}

/* Streams read the list of blocks from begin on: it is closed then. */
static void test_late_block(void)
{
    DwcpError err = { 0 };
    uint8_t page[PAGE];
    Stage stage;

    stage_begun(&stage);
    g_assert_cmpint(dwcp_target_add_block(stage.target.target, page, PAGE,
                                          &err),
                    ==, -EINVAL);
    g_assert_nonnull(strstr(err.text, "RAM block 1 comes after begin"));
    unknown_type(&stage);
    end_wait_failed(&stage.target);
    g_assert_cmpint(dwcp_target_add_block(stage.target.target, page, PAGE,
                                          &err),
                    ==, -EINVAL);
    stage_free(&stage);
}

/* ------------------------------------------------ odd, but no harm done -- */

static void test_held(void)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    unsigned i;
    Stage stage;

    /* On stream 1 frames may come before BEGIN: they wait. */
    stage_up(&stage, 0);
    memset(stage.target.ram, 0xff, PAGES_OF_BLOCK * PAGE);
    send_zero(stage.raw[1].fd, 1);
    send_zero(stage.raw[1].fd, 2);
    raw_record_u64(stage.raw[0].fd, DWCP_RECORD_END, 2);
    raw_record_u64(stage.raw[0].fd, DWCP_RECORD_PING, 1);
    g_assert_cmpint(dwcp_target_memory_complete(stage.target.target), ==, 0);
    g_assert_cmpuint(stage.target.ram[0], ==, 0xff);
    g_assert_cmpint(dwcp_target_begin(stage.target.target), ==, 0);
    g_assert_cmpint(end_wait_complete(&stage.target), ==, 1);
    for (i = 1; i <= 2; i++) {
        raw_expect(stage.raw[1].fd, DWCP_RECORD_ACK, body);
        g_assert_cmpuint(dwcp_get_le64(body), ==, i);
    }
    g_assert_cmpuint(stage.target.ram[0], ==, 0);
    g_assert_cmpuint(stage.target.ram[64 * PAGE], ==, 0xff);
    stage_free(&stage);
    g_free(body);
}

static void test_twice(void)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX), page[PAGE];
    DwcpPages pages = { .number = 2, .count = 1,
                        .chunks = { { .present = 1 } } };
    Stage stage;

    /* The older one of two comes last: it must not win. */
    stage_begun(&stage);
    memset(page, 2, sizeof(page));
    raw_pages(stage.raw[0].fd, &pages, page, PAGE);
    raw_pages(stage.raw[0].fd, &pages, page, PAGE);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_ACK, body);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_ACK, body);
    memset(page, 1, sizeof(page));
    pages.number = 1;
    raw_pages(stage.raw[1].fd, &pages, page, PAGE);
    raw_expect(stage.raw[1].fd, DWCP_RECORD_ACK, body);
    g_assert_cmpuint(stage.target.ram[0], ==, 2);
    raw_record_u64(stage.raw[0].fd, DWCP_RECORD_END, 2);
    g_assert_cmpint(end_wait_complete(&stage.target), ==, 1);
    stage_free(&stage);
    g_free(body);
}

/* PINGs by the thousand at once, their answers read only afterwards. */
static void test_ping_flood(void)
{
    enum { PINGS = 8000 };
    uint8_t *flood = g_malloc0(PINGS * 16), answer[16];
    unsigned i;
    Stage stage;

    stage_begun(&stage);
    for (i = 0; i < PINGS; i++) {
        dwcp_record_encode(flood + 16 * (size_t)i, DWCP_RECORD_PING, 8);
        dwcp_put_le32(flood + 16 * (size_t)i + 8, i);
    }
    raw_send(stage.raw[0].fd, flood, 16 * PINGS);
    for (i = 0; i < PINGS; i++) {
        g_assert_true(raw_read(stage.raw[0].fd, answer, sizeof(answer)));
        g_assert_cmpuint(answer[0], ==, DWCP_RECORD_PONG);
        g_assert_cmpuint(dwcp_get_le32(answer + 8), ==, i);
    }
    g_assert_cmpint(dwcp_target_error(stage.target.target, NULL), ==, 0);
    stage_free(&stage);
    g_free(flood);
}

/* After the seal the connection may do what it likes. */
static void test_sealed(void)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    Usage before = usage_now();
    Stage stage;

    stage_ready(&stage);
    say_go(&stage);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_SEALED, body);
    g_assert_cmpint(end_wait_go(&stage.target), ==, 1);
    raw_until_closed(stage.raw[1].fd); /* the target closes the others */
    say_go(&stage);
    unknown_type(&stage);
    raw_reset(stage.raw[0].fd);
    stage.raw[0].fd = -1;
    dwcp_target_cancel(stage.target.target);
    g_assert_cmpint(dwcp_target_go(stage.target.target), ==, 1);
    g_assert_cmpint(dwcp_target_error(stage.target.target, NULL), ==, 0);
    g_assert_cmpuint(stage.target.failed, ==, 0);
    stage_free(&stage);
    usage_same(before);
    g_free(body);
}

/* ------------------------------------------------------------ silence -- */

static void test_silent(void)
{
    Usage before = usage_now();
    Stage stage;

    stage_up(&stage, 2000);
    stage_dead(&stage, -ETIMEDOUT, "no sign of life");
    stage_free(&stage);
    usage_same(before);
}

/* READY was said, and the source lives, but GO does not come. */
static void test_never_go(void)
{
    uint8_t answer[16], *body = g_malloc(RAW_BODY_MAX);
    Usage before = usage_now();
    Stage stage;

    stage_up(&stage, 1000);
    g_assert_cmpint(dwcp_target_begin(stage.target.target), ==, 0);
    raw_record_u64(stage.raw[0].fd, DWCP_RECORD_END, 0);
    g_assert_cmpint(end_wait_complete(&stage.target), ==, 1);
    g_assert_cmpint(dwcp_target_ready(stage.target.target), ==, 0);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_READY, body);
    do {
        raw_record_u64(stage.raw[0].fd, DWCP_RECORD_PING, 1);
    } while (raw_read(stage.raw[0].fd, answer, sizeof(answer)) &&
             answer[0] == DWCP_RECORD_PONG);
    stage_dead(&stage, -ETIMEDOUT, "has not said go for 2000 ms");
    stage_free(&stage);
    usage_same(before);
    g_free(body);
}

/* What little was consumed is told at the next tick. */
static void test_window(void)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    Stage stage;

    stage_begun(&stage);
    raw_record(stage.raw[0].fd, DWCP_RECORD_CHANNEL, "\0\0x", 3);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_WINDOW, body);
    g_assert_cmpuint(dwcp_get_le64(body + 2), ==, 1);
    stage_free(&stage);
    g_free(body);
}

/* A source that sends and never reads: the target stops reading, and then it
 * is as if the source were silent. */
static void test_deaf(void)
{
    uint8_t record[16] = { 0 };
    Usage before = usage_now();
    Stage stage;

    stage_up(&stage, 2500);
    dwcp_record_encode(record, DWCP_RECORD_PING, 8);
    while (send(stage.raw[0].fd, record, sizeof(record),
                MSG_NOSIGNAL) == (ssize_t)sizeof(record)) {
    }
    stage_dead(&stage, -ETIMEDOUT, "no sign of life");
    stage_free(&stage);
    usage_same(before);
}

int main(int argc, char **argv)
{
    char name[64];
    size_t i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_snprintf(name, sizeof(name), "/peer-target/%s", rows[i].name);
        g_test_add_data_func(name, &rows[i], test_row);
    }
    g_test_add_func("/peer-target/told", test_told);
    g_test_add_func("/peer-target/late-block", test_late_block);
    g_test_add_func("/peer-target/ready-at-once", test_ready_at_once);
    g_test_add_func("/peer-target/held", test_held);
    g_test_add_func("/peer-target/twice", test_twice);
    g_test_add_func("/peer-target/ping-flood", test_ping_flood);
    g_test_add_func("/peer-target/after-the-seal", test_sealed);
    g_test_add_func("/peer-target/silent", test_silent);
    g_test_add_func("/peer-target/deaf", test_deaf);
    g_test_add_func("/peer-target/never-go", test_never_go);
    g_test_add_func("/peer-target/window-soon", test_window);
    return g_test_run();
}
