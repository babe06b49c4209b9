/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "stage.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"

const uint8_t stage_session[DWCP_SESSION_BYTES] = "0123456789abcde";

void stage_connect(Stage *stage, const DwcpSourceOptions *change)
{
    DwcpSourceOptions options = change ? *change : end_source_options(NULL);

    stage->before = usage_now();
    stage->raw[0].fd = stage->raw[1].fd = -1;
    stage->listen_fd = kit_listen(stage->port);
    options.port = stage->port;
    end_source(&stage->source, &options);
    end_ram(&stage->source, STAGE_PAGES);
    end_connect(&stage->source);
}

void stage_up_as(Stage *stage, const DwcpSourceOptions *change)
{
    unsigned i, streams = change ? change->streams : 2;
    Raw raw;

    stage_connect(stage, change);
    for (i = 0; i < streams; i++) {
        raw_serve(&raw, stage->listen_fd, stage_session);
        stage->raw[raw.said.stream] = raw;
    }
    end_wait_connected(&stage->source);
}

void stage_up(Stage *stage)
{
    stage_up_as(stage, NULL);
}

void stage_ended_as(Stage *stage, const DwcpSourceOptions *change)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);

    stage_up_as(stage, change);
    say_begin(stage);
    g_assert_cmpint(dwcp_source_end(stage->source.source), ==, 0);
    raw_expect(stage->raw[0].fd, DWCP_RECORD_END, body);
    g_assert_cmpuint(dwcp_get_le64(body), ==, 0);
    g_free(body);
}

void stage_ended(Stage *stage)
{
    stage_ended_as(stage, NULL);
}

void stage_free(Stage *stage)
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

void stage_dead(Stage *stage, int code, const char *text)
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

void say_begin(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_BEGIN, "\1\0\0\0", 4);
}

void say_ready(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_READY, NULL, 0);
}

void say_ready_twice(Stage *stage)
{
    say_ready(stage);
    say_ready(stage);
}

void say_sealed(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_SEALED, NULL, 0);
}

void say_abort(Stage *stage)
{
    raw_record(stage->raw[0].fd, DWCP_RECORD_ABORT, "\14\0\0\0no memory", 13);
}

void unknown_type(Stage *stage)
{
    raw_send(stage->raw[1].fd, "\x40\0\0\0\0\0\0\0", 8);
}

void vanish(Stage *stage)
{
    close(stage->raw[0].fd);
    stage->raw[0].fd = -1;
}

void reset(Stage *stage)
{
    raw_reset(stage->raw[0].fd);
    raw_reset(stage->raw[1].fd);
    stage->raw[0].fd = stage->raw[1].fd = -1;
}
