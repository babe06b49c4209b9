/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "targetstage.h"

#include <glib.h>
#include <unistd.h>

#include "core/bytes.h"

DwcpPages zero_chunk(uint64_t number)
{
    return (DwcpPages){
        .number = number,
        .count = 1,
        .chunks = { { .present = UINT64_MAX, .zero = UINT64_MAX } },
    };
}

void send_zero(int fd, uint64_t number)
{
    DwcpPages pages = zero_chunk(number);

    raw_pages(fd, &pages, NULL, 0);
}

void target_up(TargetStage *stage, uint32_t silence_ms_max)
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

void target_begun(TargetStage *stage)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);

    target_up(stage, 0);
    g_assert_cmpint(dwcp_target_begin(stage->target.target), ==, 0);
    raw_expect(stage->raw[0].fd, DWCP_RECORD_BEGIN, body);
    g_assert_cmpuint(dwcp_get_le32(body), ==, 1);
    g_free(body);
}

void target_complete(TargetStage *stage)
{
    target_begun(stage);
    send_zero(stage->raw[1].fd, 1);
    raw_record_u64(stage->raw[0].fd, DWCP_RECORD_END, 1);
    g_assert_cmpint(end_wait_complete(&stage->target), ==, 1);
}

void target_ready(TargetStage *stage)
{
    uint8_t *body = g_malloc(RAW_BODY_MAX);

    target_complete(stage);
    g_assert_cmpint(dwcp_target_ready(stage->target.target), ==, 0);
    raw_expect(stage->raw[0].fd, DWCP_RECORD_READY, body);
    g_free(body);
}

void target_free(TargetStage *stage)
{
    int i;

    for (i = 0; i < 2; i++) {
        if (stage->raw[i].fd >= 0) {
            close(stage->raw[i].fd);
        }
    }
    end_free(&stage->target);
}

void target_dead(TargetStage *stage, int code, const char *text)
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
