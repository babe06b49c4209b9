/*
 * A target and sources that break the protocol around a frame that lands
 *
 * Proves that a frame beyond the last is refused however long it has been
 * landing, that END must not name less than what was applied, and that guest
 * RAM which cannot be written ends the session, on both sides with a reason.  And
 * that a target which sleeps through the middle of a frame wakes up for its end,
 * and notices what comes meanwhile.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "io/target.h"
#include "kit.h"

#define PAGES 64u

/* A target that has begun, with a session of two streams. */
typedef struct Stage {
    End target;
    Raw raw[2];
    uint8_t *body;
    Usage before;
} Stage;

static void stage_begun_with(Stage *stage, uint64_t pages)
{
    DwcpTargetOptions options = end_target_options();
    char port[8];

    stage->before = usage_now();
    stage->body = g_malloc(RAW_BODY_MAX);
    end_target(&stage->target, &options, port);
    end_ram(&stage->target, pages);
    raw_join(&stage->raw[0], port, 0, 2, NULL);
    end_wait_connected(&stage->target);
    raw_join(&stage->raw[1], port, 1, 2, stage->raw[0].answer.session);
    g_assert_cmpint(dwcp_target_begin(stage->target.target), ==, 0);
    raw_expect(stage->raw[0].fd, DWCP_RECORD_BEGIN, stage->body);
}

static void stage_begun(Stage *stage)
{
    stage_begun_with(stage, PAGES);
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

static int lowat(int fd)
{
    socklen_t length = sizeof(int);
    int bytes;

    g_assert_cmpint(getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, &length),
                    ==, 0);
    return bytes;
}

/* The socket of stream 1, once the target has taken it in: the source knows
 * before that. */
static int joined(DwcpSession *session)
{
    int fd = -1;

    while (fd < 0) {
        pthread_mutex_lock(&session->lock);
        fd = session->streams[1] ? session->streams[1]->tcp.fd : -1;
        pthread_mutex_unlock(&session->lock);
        g_thread_yield();
    }
    return fd;
}

#define FRAME_CHUNKS 8u
#define FRAME_BYTES (FRAME_CHUNKS * DWCP_CHUNK_PAGES * PAGE)

/* A raw frame of 2 MiB: its record header and head, and a payload. */
static uint8_t *large_frame(uint8_t *record, size_t *head)
{
    uint8_t *payload = g_malloc(FRAME_BYTES);
    DwcpPages pages = { .number = 1, .count = FRAME_CHUNKS };
    unsigned i;

    for (i = 0; i < FRAME_CHUNKS; i++) {
        pages.chunks[i] = (DwcpChunk){ .chunk = i, .present = UINT64_MAX };
    }
    for (i = 0; i < FRAME_BYTES; i++) {
        payload[i] = (uint8_t)(i % 251 + 1);
    }
    *head = DWCP_RECORD_HEADER + dwcp_pages_head_bytes(FRAME_CHUNKS);
    dwcp_record_encode(record, DWCP_RECORD_PAGES,
                       dwcp_pages_head_bytes(FRAME_CHUNKS) + FRAME_BYTES);
    dwcp_pages_encode(record + DWCP_RECORD_HEADER, &pages);
    return payload;
}

static void test_enough(void)
{
    uint8_t record[DWCP_RECORD_HEADER + DWCP_PAGES_HEADER +
                   FRAME_CHUNKS * DWCP_PAGES_CHUNK];
    const DwcpPages last = { .number = 20, .count = 1,
                             .chunks = { { .present = 1, .zero = 1 } } };
    const int buffer = 2 << 20;
    unsigned long long heard_ns;
    DwcpSession *session;
    uint8_t *payload;
    size_t head;
    Stage stage;
    int fd;

    stage_begun_with(&stage, FRAME_CHUNKS * DWCP_CHUNK_PAGES);
    session = &stage.target.target->session;
    fd = joined(session);
    payload = large_frame(record, &head);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer))) {
        g_test_skip("a large socket buffer needs privileges");
    } else {
        raw_send(stage.raw[1].fd, record, head);
        raw_send(stage.raw[1].fd, payload, 1000);
        while (lowat(fd) != DWCP_ENOUGH_BYTES) {
            g_thread_yield();
        }
        /* Less than that is a sign of life all the same. */
        heard_ns = atomic_load(&session->heard_ns);
        raw_send(stage.raw[1].fd, payload + 1000, 1000);
        while (atomic_load(&session->heard_ns) == heard_ns) {
            g_thread_yield();
        }
        g_assert_cmpint(lowat(fd), ==, DWCP_ENOUGH_BYTES);
        raw_send(stage.raw[1].fd, payload + 2000, FRAME_BYTES - 2001);
        while (lowat(fd) != 1) {
            g_thread_yield();
        }
        raw_send(stage.raw[1].fd, payload + FRAME_BYTES - 1, 1);
        raw_expect(stage.raw[1].fd, DWCP_RECORD_ACK, stage.body);
        g_assert_cmpmem(stage.target.ram, FRAME_BYTES, payload, FRAME_BYTES);
    }
    g_free(payload);
    raw_pages(stage.raw[0].fd, &last, NULL, 0);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_ACK, stage.body);
    raw_record_u64(stage.raw[0].fd, DWCP_RECORD_END, 2);
    stage_failed(&stage, -EPROTO, "END at frame 2 after frame 20");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-landing/beyond", test_beyond);
    g_test_add_func("/peer-landing/gap", test_gap);
    g_test_add_func("/peer-landing/fault", test_fault);
    g_test_add_func("/peer-landing/enough", test_enough);
    return g_test_run();
}
