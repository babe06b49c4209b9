/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "door.h"

#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void door_up(Door *door)
{
    DwcpTargetOptions options = end_target_options();

    door->before = usage_now();
    door->warned = 0;
    end_target(&door->target, &options, door->port);
    end_ram(&door->target, 64);
}

DwcpError door_warned(Door *door)
{
    DwcpError warning;

    end_wait_warned(&door->target, ++door->warned);
    pthread_mutex_lock(&door->target.lock);
    g_assert_cmpuint(door->target.warned, ==, door->warned);
    g_assert_cmpuint(door->target.failed, ==, 0);
    warning = door->target.warning;
    pthread_mutex_unlock(&door->target.lock);
    g_assert_cmpint(warning.code, <, 0);
    g_assert_cmpstr(warning.text, !=, "");
    return warning;
}

void door_warned_of(Door *door, const char *text)
{
    DwcpError warning = door_warned(door);

    if (!strstr(warning.text, text)) {
        g_error("warned of \"%s\", not of \"%s\"", warning.text, text);
    }
}

void door_move(Door *door)
{
    DwcpPages pages = { .number = 1, .count = 1,
                        .chunks = { { .present = 1 } } };
    uint8_t page[PAGE], *body = g_malloc(RAW_BODY_MAX);
    Raw raw;

    raw_join(&raw, door->port, 0, 1, NULL);
    end_wait_connected(&door->target);
    g_assert_cmpint(dwcp_target_begin(door->target.target), ==, 0);
    raw_expect(raw.fd, DWCP_RECORD_BEGIN, body);
    memset(page, 0x42, sizeof(page));
    raw_pages(raw.fd, &pages, page, sizeof(page));
    raw_record_u64(raw.fd, DWCP_RECORD_END, 1);
    g_assert_cmpint(end_wait_complete(&door->target), ==, 1);
    g_assert_cmpint(dwcp_target_ready(door->target.target), ==, 0);
    raw_expect(raw.fd, DWCP_RECORD_READY, body);
    raw_record(raw.fd, DWCP_RECORD_GO, NULL, 0);
    raw_expect(raw.fd, DWCP_RECORD_SEALED, body);
    g_assert_cmpint(end_wait_go(&door->target), ==, 1);
    g_assert_cmpuint(door->target.ram[PAGE - 1], ==, 0x42);
    close(raw.fd);
    g_free(body);
}

void door_free(Door *door)
{
    g_assert_cmpuint(door->target.warned, ==, door->warned);
    g_assert_cmpuint(door->target.failed, ==, 0);
    end_free(&door->target);
    usage_same(door->before);
}

void door_knock(Door *door, const void *data, size_t length,
                const char *text)
{
    int fd = raw_connect(door->port);

    raw_send(fd, data, length);
    (void)shutdown(fd, SHUT_WR); /* it may have been reset already */
    raw_until_closed(fd);
    close(fd);
    door_warned_of(door, text);
}
