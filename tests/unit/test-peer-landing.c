/*
 * A target and sources that break the protocol around a frame that lands
 *
 * Proves that a frame beyond the last is refused however long it has been
 * landing, that END must not name less than what was applied, and that guest
 * RAM which cannot be written ends the session, on both sides with a reason.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/bytes.h"
#include "kit.h"

#define PAGES 64u

/* A target that has begun, with a session of two streams. */
typedef struct Stage {
    End target;
    Raw raw[2];
    uint8_t *body;
    Usage before;
} Stage;

static void stage_begun(Stage *stage)
{
    DwcpTargetOptions options = end_target_options();
    char port[8];

    stage->before = usage_now();
    stage->body = g_malloc(RAW_BODY_MAX);
    end_target(&stage->target, &options, port);
    end_ram(&stage->target, PAGES);
    raw_join(&stage->raw[0], port, 0, 2, NULL);
    end_wait_connected(&stage->target);
    raw_join(&stage->raw[1], port, 1, 2, stage->raw[0].answer.session);
    g_assert_cmpint(dwcp_target_begin(stage->target.target), ==, 0);
    raw_expect(stage->raw[0].fd, DWCP_RECORD_BEGIN, stage->body);
}

/* The target must have failed so, and told the source why. */
static void stage_failed(Stage *stage, int code, const char *text)
{
    raw_expect(stage->raw[0].fd, DWCP_RECORD_ABORT, stage->body);
    g_assert_cmpuint(dwcp_get_le32(stage->body), ==, (uint32_t)-code);
    close(stage->raw[0].fd);
    close(stage->raw[1].fd);
    end_failed_with(&stage->target, code, text);
    end_free(&stage->target);
    g_free(stage->body);
    usage_same(stage->before);
}

static void raw_head(int fd, const DwcpPages *pages, uint32_t payload)
{
    uint8_t record[DWCP_RECORD_HEADER + DWCP_PAGES_HEADER + DWCP_PAGES_CHUNK];

    dwcp_record_encode(record, DWCP_RECORD_PAGES,
                       dwcp_pages_head_bytes(1) + payload);
    dwcp_pages_encode(record + DWCP_RECORD_HEADER, pages);
    raw_send(fd, record, sizeof(record));
}

/* END comes while a frame lands whose number is higher: it began in time, and
 * must be refused all the same.  Whichever the target sees first. */
static void test_beyond(void)
{
    DwcpPages pages = { .number = 5, .count = 1,
                        .chunks = { { .present = 1 } } };
    uint8_t page[PAGE];
    Stage stage;

    memset(page, 5, sizeof(page));
    stage_begun(&stage);
    raw_head(stage.raw[1].fd, &pages, PAGE);
    raw_send(stage.raw[1].fd, page, PAGE - 1);
    raw_record_u64(stage.raw[0].fd, DWCP_RECORD_END, 2);
    raw_record_u64(stage.raw[0].fd, DWCP_RECORD_PING, 1);
    g_assert_true(raw_read(stage.raw[0].fd, stage.body,
                           DWCP_RECORD_HEADER + 8));
    g_assert_cmpuint(stage.body[0], ==, DWCP_RECORD_PONG);
    raw_send(stage.raw[1].fd, page, 1);
    stage_failed(&stage, -EPROTO, "frame 5 after the last, 2");
}

/* What END names as the last may not lie below a frame behind a gap. */
static void test_gap(void)
{
    DwcpPages pages = { .number = 5, .count = 1,
                        .chunks = { { .present = 1, .zero = 1 } } };
    Stage stage;

    stage_begun(&stage);
    raw_pages(stage.raw[0].fd, &pages, NULL, 0);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_ACK, stage.body);
    raw_record_u64(stage.raw[0].fd, DWCP_RECORD_END, 2);
    stage_failed(&stage, -EPROTO, "END at frame 2 after frame 5");
}

/* The bytes that one read brings are copied; those behind it are received into
 * pages that are not there. */
static void test_fault(void)
{
    DwcpPages pages = { .number = 1, .count = 1,
                        .chunks = { { .present = UINT64_MAX } } };
    uint8_t *ram = g_malloc0(PAGES * PAGE);
    Stage stage;

    stage_begun(&stage);
    g_assert_cmpint(mprotect(stage.target.ram + 20 * PAGE, 44 * PAGE,
                             PROT_NONE),
                    ==, 0);
    raw_head(stage.raw[1].fd, &pages, PAGES * PAGE);
    raw_send(stage.raw[1].fd, ram, PAGES * PAGE);
    stage_failed(&stage, -EFAULT, "stream 1: receive: Bad address");
    g_free(ram);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-landing/beyond", test_beyond);
    g_test_add_func("/peer-landing/gap", test_gap);
    g_test_add_func("/peer-landing/fault", test_fault);
    return g_test_run();
}
