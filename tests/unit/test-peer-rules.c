/*
 * A source and targets that break the protocol once the session stands
 *
 * Each row breaks one rule with a hand-written target.  Proves that the source
 * reports exactly one error, which names the rule, and has not said GO.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "stage.h"

/* ---------------------------------------------------- breaking a rule -- */

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

static void say_ready_aside(Stage *stage)
{
    raw_record(stage->raw[1].fd, DWCP_RECORD_READY, NULL, 0);
}

/* READY before the last frame has left: nothing leaves faster than this. */
static void ready_early(Stage *stage)
{
    DwcpSource *source = stage->source.source;

    dwcp_source_set_rate(source, 1);
    g_assert_cmpint(dwcp_source_put(source, 0, 0, 1), ==, 0);
    dwcp_source_flush(source);
    dwcp_source_round(source);
    memset(stage->source.ram, 1, PAGE);
    g_assert_cmpint(dwcp_source_put(source, 0, 0, 1), ==, 0);
    dwcp_source_round(source);
    g_assert_cmpint(dwcp_source_put(source, 0, 0, 1), ==, 0);
    g_assert_cmpint(dwcp_source_end(source), ==, 0);
    say_begin(stage);
    say_ready(stage);
}

static void ready_no_begin(Stage *stage)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);

    g_assert_cmpint(dwcp_source_end(stage->source.source), ==, 0);
    raw_expect(stage->raw[0].fd, DWCP_RECORD_END, body);
    say_ready(stage);
    g_free(body);
}

static void say_ping(Stage *stage)
{
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_PING, 1);
}

static void pong_aside(Stage *stage)
{
    raw_record_u64(stage->raw[1].fd, DWCP_RECORD_PONG, 1);
}

static void abort_aside(Stage *stage)
{
    raw_record(stage->raw[1].fd, DWCP_RECORD_ABORT, "\14\0\0\0why", 7);
}

static void begin_twice(Stage *stage)
{
    say_begin(stage);
    say_begin(stage);
}

static void ready_and_begin(Stage *stage)
{
    say_ready(stage);
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

static void vanish_aside(Stage *stage)
{
    raw_reset(stage->raw[1].fd);
    stage->raw[1].fd = -1;
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
    { "ready-early", stage_up, ready_early, -EPROTO, "of 3 chunks have" },
    { "ready-no-begin", stage_up, ready_no_begin, -EPROTO, "before BEGIN" },
    { "begin-ready", stage_ended, ready_and_begin, -EPROTO, "second time" },
    { "ping", stage_up, say_ping, -EPROTO, "PING record is not for a source" },
    { "pong-aside", stage_up, pong_aside, -EPROTO, "PONG record on stream 1" },
    { "abort-aside", stage_up, abort_aside, -ECONNABORTED, "gave up: why" },
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

/* Answers two PINGs, so that whole turns of the source lie between;
 * Returns: whether PAGES came before the last. */
static bool pages_before_pings(int fd, uint8_t *body)
{
    uint8_t header[DWCP_RECORD_HEADER];
    DwcpRecord record;
    unsigned pings = 0;
    bool came = false;

    while (pings < 2) {
        g_assert_true(raw_read(fd, header, sizeof(header)));
        g_assert_cmpint(dwcp_record_decode(header, PAGE, &record, NULL), ==,
                        0);
        g_assert_true(raw_read(fd, body, record.length));
        came |= record.type == DWCP_RECORD_PAGES;
        if (record.type == DWCP_RECORD_PING) {
            raw_record(fd, DWCP_RECORD_PONG, body, record.length);
            pings++;
        }
    }
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
    g_assert_false(pages_before_pings(stage.raw[0].fd, body));
    say_begin(&stage);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_PAGES, body);
    stage_free(&stage);
    g_free(body);
}

int main(int argc, char **argv)
{
    char name[64];
    size_t i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_snprintf(name, sizeof(name), "/peer-rules/%s", rows[i].name);
        g_test_add_data_func(name, &rows[i], test_row);
    }
    g_test_add_func("/peer-rules/before-begin", test_before_begin);
    return g_test_run();
}
