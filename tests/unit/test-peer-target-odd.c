/*
 * A target and sources that are odd, or silent, once the session stands
 *
 * Proves that what is merely odd (frames twice, floods of PING) does no harm,
 * and that a target gives up a source that says nothing, or hears nothing.
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

/* ------------------------------------------------ odd, but no harm done -- */

static void test_held(void)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    unsigned i;
    TargetStage stage;

    /* On stream 1 frames may come before BEGIN: they wait. */
    target_up(&stage, 0);
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
    target_free(&stage);
    g_free(body);
}

static void test_twice(void)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX), page[PAGE];
    DwcpPages pages = { .number = 2, .count = 1,
                        .chunks = { { .present = 1 } } };
    TargetStage stage;

    /* The older one of two comes last: it must not win. */
    target_begun(&stage);
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
    target_free(&stage);
    g_free(body);
}

/* PINGs by the thousand at once, their answers read only afterwards. */
static void test_ping_flood(void)
{
    enum { PINGS = 8000 };
    uint8_t *flood = g_malloc0(PINGS * 16), answer[16];
    unsigned i;
    TargetStage stage;

    target_begun(&stage);
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
    target_free(&stage);
    g_free(flood);
}

/* After the seal the connection may do what it likes. */
static void test_sealed(void)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    Usage before = usage_now();
    TargetStage stage;

    target_ready(&stage);
    raw_record(stage.raw[0].fd, DWCP_RECORD_GO, NULL, 0);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_SEALED, body);
    g_assert_cmpint(end_wait_go(&stage.target), ==, 1);
    raw_until_closed(stage.raw[1].fd); /* the target closes the others */
    raw_record(stage.raw[0].fd, DWCP_RECORD_GO, NULL, 0);
    raw_send(stage.raw[1].fd, "\xc8\0\0\0\0\0\0\0", 8); /* no type */
    raw_reset(stage.raw[0].fd);
    stage.raw[0].fd = -1;
    dwcp_target_cancel(stage.target.target);
    g_assert_cmpint(dwcp_target_go(stage.target.target), ==, 1);
    g_assert_cmpint(dwcp_target_error(stage.target.target, NULL), ==, 0);
    g_assert_cmpuint(stage.target.failed, ==, 0);
    target_free(&stage);
    usage_same(before);
    g_free(body);
}

/* ------------------------------------------------------------ silence -- */

static void test_silent(void)
{
    Usage before = usage_now();
    TargetStage stage;

    target_up(&stage, 2000);
    target_dead(&stage, -ETIMEDOUT, "no sign of life");
    target_free(&stage);
    usage_same(before);
}

/* READY was said, and the source lives, but GO does not come. */
static void test_never_go(void)
{
    uint8_t answer[16], *body = g_malloc(RAW_BODY_MAX);
    Usage before = usage_now();
    TargetStage stage;

    target_up(&stage, 1000);
    g_assert_cmpint(dwcp_target_begin(stage.target.target), ==, 0);
    raw_record_u64(stage.raw[0].fd, DWCP_RECORD_END, 0);
    g_assert_cmpint(end_wait_complete(&stage.target), ==, 1);
    g_assert_cmpint(dwcp_target_ready(stage.target.target), ==, 0);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_READY, body);
    do {
        raw_record_u64(stage.raw[0].fd, DWCP_RECORD_PING, 1);
    } while (raw_read(stage.raw[0].fd, answer, sizeof(answer)) &&
             answer[0] == DWCP_RECORD_PONG);
    target_dead(&stage, -ETIMEDOUT, "has not said go for 2000 ms");
    target_free(&stage);
    usage_same(before);
    g_free(body);
}

/* What little was consumed is told at the next tick. */
static void test_window(void)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    TargetStage stage;

    target_begun(&stage);
    raw_record(stage.raw[0].fd, DWCP_RECORD_CHANNEL, "\0\0x", 3);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_WINDOW, body);
    g_assert_cmpuint(dwcp_get_le64(body + 2), ==, 1);
    target_free(&stage);
    g_free(body);
}

/* A source that sends and never reads: the target stops reading, and then it
 * is as if the source were silent. */
static void test_deaf(void)
{
    uint8_t record[16] = { 0 };
    Usage before = usage_now();
    TargetStage stage;

    target_up(&stage, 2500);
    dwcp_record_encode(record, DWCP_RECORD_PING, 8);
    while (send(stage.raw[0].fd, record, sizeof(record),
                MSG_NOSIGNAL) == (ssize_t)sizeof(record)) {
    }
    target_dead(&stage, -ETIMEDOUT, "no sign of life");
    target_free(&stage);
    usage_same(before);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-target-odd/held", test_held);
    g_test_add_func("/peer-target-odd/twice", test_twice);
    g_test_add_func("/peer-target-odd/ping-flood", test_ping_flood);
    g_test_add_func("/peer-target-odd/after-the-seal", test_sealed);
    g_test_add_func("/peer-target-odd/silent", test_silent);
    g_test_add_func("/peer-target-odd/deaf", test_deaf);
    g_test_add_func("/peer-target-odd/never-go", test_never_go);
    g_test_add_func("/peer-target-odd/window-soon", test_window);
    return g_test_run();
}
