/*
 * A source and targets that say nothing, or not what the source waits for
 *
 * Proves that no wait is without end, that what is only slow is not given up,
 * and for the other side of GO: whatever the target does then, the source
 * stays gone.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stage.h"

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

/* The same, and each time an ACK that acknowledges nothing. */
static void test_idle_acks(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    uint8_t *body = g_malloc(RAW_BODY_MAX), header[DWCP_RECORD_HEADER];
    DwcpRecord record;
    Stage stage;

    options.silence_ms_max = 2000;
    stage_up_as(&stage, &options);
    g_assert_cmpint(dwcp_source_put(stage.source.source, 0, 0, 70), ==, 0);
    dwcp_source_flush(stage.source.source);
    while (raw_read(stage.raw[0].fd, header, sizeof(header))) {
        g_assert_cmpint(dwcp_record_decode(header, PAGE, &record, NULL), ==,
                        0);
        g_assert_true(raw_read(stage.raw[0].fd, body, record.length));
        if (record.type == DWCP_RECORD_PING) {
            raw_record(stage.raw[0].fd, DWCP_RECORD_PONG, body,
                       record.length);
            raw_record_u64(stage.raw[0].fd, DWCP_RECORD_ACK, 0);
        }
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
    raw_serve(&stage.raw[0], stage.listen_fd, stage_session);
    raw_serve(&stage.raw[1], stage.listen_fd, stage_session);
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

/* ------------------------------------------- between END and GO -- */

static gpointer finish_fails_run(gpointer opaque)
{
    DwcpError err = { 0 };

    g_assert_cmpint(dwcp_source_finish(opaque, &err), ==, -ETIMEDOUT);
    return NULL;
}

/* Answers @count PINGs of stream 0, and says each time what else is consumed
 * of channel 0. */
static void answer_pings(Stage *stage, unsigned count, uint8_t *body)
{
    uint8_t window[10] = { 0 }, header[DWCP_RECORD_HEADER];
    int fd = stage->raw[0].fd;
    DwcpRecord record;

    while (window[2] < count) {
        g_assert_true(raw_read(fd, header, sizeof(header)));
        g_assert_cmpint(dwcp_record_decode(header, PAGE, &record, NULL), ==,
                        0);
        g_assert_true(raw_read(fd, body, record.length));
        if (record.type == DWCP_RECORD_PING) {
            raw_record(fd, DWCP_RECORD_PONG, body, record.length);
            window[2]++;
            raw_record(fd, DWCP_RECORD_WINDOW, window, sizeof(window));
        }
    }
}

/* A target that answers PING and reads, but does not become ready. */
static void test_never_ready(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    uint8_t *body = g_malloc0(RAW_BODY_MAX);
    DwcpRecord record;
    GThread *finish;
    Stage stage;

    options.silence_ms_max = 1500;
    stage_ended_as(&stage, &options);
    end_take(&stage.source);
    g_assert_cmpint(write(stage.source.channel, body, 100), ==, 100);
    finish = g_thread_new("finish", finish_fails_run, stage.source.source);
    /* Device state that is taken slowly, for longer than the limit. */
    answer_pings(&stage, 6, body);
    g_assert_cmpint(dwcp_source_error(stage.source.source, NULL), ==, 0);
    while (raw_next(stage.raw[0].fd, &record, body)) {
    }
    g_thread_join(finish);
    stage_dead(&stage, -ETIMEDOUT, "nothing has moved for 1500 ms");
    g_free(body);
}

/* The same, but the user never comes to finish: the window is shut. */
static void test_never_read(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    uint8_t *body = g_malloc0(RAW_BODY_MAX);
    size_t left = DWCP_CHANNEL_WINDOW;
    DwcpRecord record;
    Stage stage;
    ssize_t n;

    options.silence_ms_max = 1500;
    stage_ended_as(&stage, &options);
    end_take(&stage.source);
    while (left) {
        n = send(stage.source.channel, body, MIN(left, 65536), MSG_DONTWAIT);
        left -= n > 0 ? (size_t)n : 0;
        if (n < 0) {
            g_assert_cmpint(errno, ==, EAGAIN);
            g_assert_true(raw_next(stage.raw[0].fd, &record, body));
        }
    }
    while (raw_next(stage.raw[0].fd, &record, body)) {
    }
    stage_dead(&stage, -ETIMEDOUT, "does not become ready");
    g_free(body);
}

/* A user who saves for long is not the target's fault. */
static void test_slow_user(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    uint8_t *body = g_malloc0(RAW_BODY_MAX);
    unsigned i;
    Stage stage;

    options.silence_ms_max = 1500;
    stage_ended_as(&stage, &options);
    end_take(&stage.source);
    g_assert_cmpint(write(stage.source.channel, body, 100), ==, 100);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_CHANNEL, body);
    for (i = 0; i < 7; i++) { /* no progress after the first */
        answer_pings(&stage, 1, body);
    }
    g_assert_cmpint(dwcp_source_error(stage.source.source, NULL), ==, 0);
    stage_free(&stage);
    g_free(body);
}

/* READY, but the source's user does not come to finish. */
static void test_never_finish(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    DwcpRecord record;
    Stage stage;

    options.silence_ms_max = 1500;
    stage_ended_as(&stage, &options);
    say_ready(&stage);
    while (raw_next(stage.raw[0].fd, &record, body)) {
        g_assert_cmpint(record.type, !=, DWCP_RECORD_GO);
    }
    stage_dead(&stage, -ETIMEDOUT, "for 1500 ms the source has not finished");
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
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    DwcpError err = { 0 };
    Stage stage;

    options.switchover_ms_max = 400;
    stage_up_as(&stage, &options);
    say_begin(&stage);
    g_assert_cmpint(dwcp_source_end(stage.source.source), ==, 0);
    raw_expect(stage.raw[0].fd, DWCP_RECORD_END, body);
    say_ready(&stage);
    g_assert_cmpint(dwcp_source_finish(stage.source.source, &err), ==, 1);
    g_assert_true(dwcp_source_gone(stage.source.source));
    stage_free(&stage);
    g_free(body);
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
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-silence/silent", test_silent);
    g_test_add_func("/peer-silence/silent-end", test_silent_end);
    g_test_add_func("/peer-silence/stuck", test_stuck);
    g_test_add_func("/peer-silence/idle-acks", test_idle_acks);
    g_test_add_func("/peer-silence/slow", test_slow);
    g_test_add_func("/peer-silence/never-ready", test_never_ready);
    g_test_add_func("/peer-silence/never-read", test_never_read);
    g_test_add_func("/peer-silence/slow-user", test_slow_user);
    g_test_add_func("/peer-silence/never-finish", test_never_finish);
    g_test_add_func("/peer-silence/beyond", test_beyond);
    g_test_add_func("/peer-silence/beyond-silent", test_beyond_silent);
    g_test_add_func("/peer-silence/ready-abort", test_ready_abort);
    return g_test_run();
}
