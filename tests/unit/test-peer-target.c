/*
 * A target and sources that break the protocol once the session stands
 *
 * Each row breaks one rule with a hand-written source.  Proves that the target
 * reports exactly one error, which names the rule, that it never says GO, and
 * that nothing of it is left behind.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "targetstage.h"

/* ---------------------------------------------------- breaking a rule -- */

static void break_block(TargetStage *stage)
{
    DwcpPages pages = zero_chunk(1);

    pages.chunks[0].block = 1;
    raw_pages(stage->raw[0].fd, &pages, NULL, 0);
}

static void break_page(TargetStage *stage)
{
    DwcpPages pages = zero_chunk(1);

    pages.chunks[0].chunk = 1; /* pages 64 to 127 of 70 */
    raw_pages(stage->raw[1].fd, &pages, NULL, 0);
}

static void break_chunk(TargetStage *stage)
{
    DwcpPages pages = zero_chunk(1);

    pages.chunks[0].chunk = UINT32_MAX;
    raw_pages(stage->raw[1].fd, &pages, NULL, 0);
}

static void break_zstd(TargetStage *stage)
{
    DwcpPages pages = zero_chunk(1);

    pages.chunks[0].zero = 0;
    pages.codec = DWCP_CODEC_ZSTD;
    raw_pages(stage->raw[1].fd, &pages, "this is not zstd", 16);
}

static void break_window(TargetStage *stage)
{
    send_zero(stage->raw[1].fd, DWCP_NUMBERS_AHEAD_MAX + 1ull);
}

static void early_pages(TargetStage *stage)
{
    send_zero(stage->raw[0].fd, 1);
}

static void end_twice(TargetStage *stage)
{
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_END, 9);
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_END, 9);
}

static void end_behind(TargetStage *stage)
{
    send_zero(stage->raw[0].fd, 1);
    send_zero(stage->raw[0].fd, 2);
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_END, 1);
}

static void after_end(TargetStage *stage)
{
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_END, 2);
    send_zero(stage->raw[0].fd, 3);
}

static void after_complete(TargetStage *stage)
{
    send_zero(stage->raw[1].fd, 1);
}

static void say_go(TargetStage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_GO, NULL, 0);
}

static void say_go_aside(TargetStage *stage)
{
    raw_record(stage->raw[1].fd, DWCP_RECORD_GO, NULL, 0);
}

static void end_aside(TargetStage *stage)
{
    raw_record_u64(stage->raw[1].fd, DWCP_RECORD_END, 0);
}

static void channel_aside(TargetStage *stage)
{
    raw_record(stage->raw[1].fd, DWCP_RECORD_CHANNEL, "\0\0x", 3);
}

static void channel_unknown(TargetStage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_CHANNEL, "\1\0x", 3);
}

static void channel_flood(TargetStage *stage)
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

static void channel_after_eof(TargetStage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_CHANNEL_EOF, "\0\0", 2);
    raw_record(stage->raw[0].fd, DWCP_RECORD_CHANNEL, "\0\0x", 3);
}

static void window_beyond(TargetStage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_WINDOW, "\0\0\1\0\0\0\0\0\0\0",
               10);
}

static void say_ack(TargetStage *stage)
{
    raw_record_u64(stage->raw[1].fd, DWCP_RECORD_ACK, 0);
}

static void say_begin(TargetStage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_BEGIN, "\1\0\0\0", 4);
}

static void say_sealed(TargetStage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_SEALED, NULL, 0);
}

static void say_pong(TargetStage *stage)
{
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_PONG, 1);
}

static void ping_aside(TargetStage *stage)
{
    raw_record_u64(stage->raw[1].fd, DWCP_RECORD_PING, 1);
}

static void abort_aside(TargetStage *stage)
{
    raw_record(stage->raw[1].fd, DWCP_RECORD_ABORT, "\5\0\0\0why", 7);
}

static void unknown_type(TargetStage *stage)
{
    raw_send(stage->raw[1].fd, "\xc8\0\0\0\0\0\0\0", 8);
}

static void unknown_flag(TargetStage *stage)
{
    raw_send(stage->raw[1].fd, "\1\1\0\0\x40\0\0\0", 8);
}

static void absurd_length(TargetStage *stage)
{
    raw_send(stage->raw[1].fd, "\1\0\0\0\xff\xff\xff\xff", 8);
}

static void say_http(TargetStage *stage)
{
    raw_send(stage->raw[0].fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
}

static void say_abort(TargetStage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_ABORT,
               "\5\0\0\0the disk\nis full\x1b", 21);
}

static void vanish(TargetStage *stage)
{
    close(stage->raw[0].fd);
    stage->raw[0].fd = -1;
}

static void vanish_aside(TargetStage *stage)
{
    close(stage->raw[1].fd);
    stage->raw[1].fd = -1;
}

static void reset(TargetStage *stage)
{
    raw_reset(stage->raw[0].fd);
    raw_reset(stage->raw[1].fd);
    stage->raw[0].fd = stage->raw[1].fd = -1;
}

static void cut_record(TargetStage *stage)
{
    raw_send(stage->raw[0].fd, "\1\0\0\0\x40\0\0\0half", 12);
    vanish(stage);
}

static void target_up_plain(TargetStage *stage)
{
    target_up(stage, 0);
}

typedef struct Row {
    const char *name;
    void (*stage)(TargetStage *stage);
    void (*step)(TargetStage *stage);
    int code; /* 0 = any */
    const char *text;
} Row;

static const Row rows[] = {
    { "block", target_begun, break_block, -EPROTO, "block 1 of 1" },
    { "page", target_begun, break_page, -EPROTO, "page 127 of block 0" },
    { "chunk", target_begun, break_chunk, -EPROTO, "of block 0" },
    { "zstd", target_begun, break_zstd, -EPROTO, "zstd" },
    { "number", target_begun, break_window, -EPROTO, "too far ahead" },
    { "early-pages", target_up_plain, early_pages, -EPROTO, "while up" },
    { "end-twice", target_begun, end_twice, -EPROTO, "END while" },
    { "end-behind", target_begun, end_behind, -EPROTO, "END at" },
    { "after-end", target_begun, after_end, -EPROTO, "after the last" },
    { "after-complete", target_complete, after_complete, -EPROTO,
      "while complete" },
    { "go-up", target_up_plain, say_go, -EPROTO, "GO while" },
    { "go-begun", target_begun, say_go, -EPROTO, "GO while" },
    { "go-complete", target_complete, say_go, -EPROTO, "GO while" },
    { "go-aside", target_ready, say_go_aside, -EPROTO, "on stream 1" },
    { "end-aside", target_begun, end_aside, -EPROTO, "on stream 1" },
    { "end-ready", target_ready, end_twice, -EPROTO, "END while ready" },
    { "pages-ready", target_ready, after_complete, -EPROTO, "while ready" },
    { "channel-aside", target_begun, channel_aside, -EPROTO, "on stream 1" },
    { "channel-unknown", target_begun, channel_unknown, -EPROTO, "channel 1" },
    { "channel-flood", target_up_plain, channel_flood, -EPROTO, "window" },
    { "channel-eof", target_up_plain, channel_after_eof, -EPROTO, "its end" },
    { "window", target_up_plain, window_beyond, -EPROTO, "WINDOW" },
    { "ack", target_begun, say_ack, -EPROTO, "not for a target" },
    { "begin", target_begun, say_begin, -EPROTO, "not for a target" },
    { "sealed", target_ready, say_sealed, -EPROTO, "not for a target" },
    { "pong", target_begun, say_pong, -EPROTO, "PONG record is not for" },
    { "ping-aside", target_begun, ping_aside, -EPROTO, "on stream 1" },
    { "abort-aside", target_begun, abort_aside, -ECONNABORTED,
      "gave up: why" },
    { "type", target_begun, unknown_type, -EPROTO, "type 200" },
    { "flags", target_begun, unknown_flag, -EPROTO, "flags" },
    { "length", target_begun, absurd_length, -EPROTO, "length 4294967295" },
    { "http", target_begun, say_http, -EPROTO, "unknown" },
    { "abort", target_begun, say_abort, -ECONNABORTED,
      "the disk?is full?" },
    { "abort-ready", target_ready, say_abort, -ECONNABORTED, "the disk" },
    { "vanish-up", target_up_plain, vanish, -ECONNRESET, "stream 0" },
    { "vanish-begun", target_begun, vanish, -ECONNRESET, "stream 0" },
    { "vanish-complete", target_complete, vanish, -ECONNRESET, "stream 0" },
    { "vanish-ready", target_ready, vanish, -ECONNRESET, "stream 0" },
    { "vanish-aside", target_begun, vanish_aside, -ECONNRESET, "stream 1" },
    { "vanish-aside-ready", target_ready, vanish_aside, -ECONNRESET,
      "stream 1" },
    { "reset-up", target_up_plain, reset, -ECONNRESET, "stream" },
    { "reset-begun", target_begun, reset, -ECONNRESET, "stream" },
    { "reset-ready", target_ready, reset, -ECONNRESET, "stream" },
    { "cut-record", target_begun, cut_record, -ECONNRESET, "stream 0" },
};

static void test_row(gconstpointer opaque)
{
    const Row *row = opaque;
    Usage before = usage_now();
    TargetStage stage;

    row->stage(&stage);
    row->step(&stage);
    target_dead(&stage, row->code, row->text);
    target_free(&stage);
    usage_same(before);
}

/* A protocol error is told to the peer before the connection closes. */
static void test_told(void)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    TargetStage stage;

    target_begun(&stage);
    unknown_type(&stage);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_ABORT, body);
    g_assert_cmpuint(dwcp_get_le32(body), ==, EPROTO);
    g_assert_nonnull(g_strstr_len((char *)body + 4, 200, "type 200"));
    target_dead(&stage, -EPROTO, "type 200");
    target_free(&stage);
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
    TargetStage stage;

    target_begun(&stage);
    g_assert_cmpint(dwcp_target_add_block(stage.target.target, page, PAGE,
                                          &err),
                    ==, -EINVAL);
    g_assert_nonnull(strstr(err.text, "RAM block 1 comes after begin"));
    unknown_type(&stage);
    end_wait_failed(&stage.target);
    g_assert_cmpint(dwcp_target_add_block(stage.target.target, page, PAGE,
                                          &err),
                    ==, -EINVAL);
    target_free(&stage);
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
    return g_test_run();
}
