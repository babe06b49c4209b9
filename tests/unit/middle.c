/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "middle.h"

#include <glib.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static bool pass(Middle *middle, int from, int to, int dir)
{
    uint8_t buffer[4096];
    ssize_t n = recv(from, buffer, sizeof(buffer), 0);
    size_t at = middle->passed[dir];

    if (n <= 0) {
        return false;
    }
    if (dir == middle->change_dir && middle->change_at >= at &&
        middle->change_at < at + (size_t)n) {
        buffer[middle->change_at - at] ^= 0x10;
    }
    g_byte_array_append(middle->seen[dir], buffer, (guint)n);
    middle->passed[dir] += (size_t)n;
    raw_send(to, buffer, (size_t)n);
    return true;
}

static gpointer middle_run(gpointer opaque)
{
    Middle *middle = opaque;
    int source = raw_accept(middle->listen_fd);
    int target = raw_connect(middle->target_port);
    struct pollfd fds[2] = {
        { .fd = source, .events = POLLIN },
        { .fd = target, .events = POLLIN },
    };
    bool open = true;

    while (open) {
        (void)poll(fds, 2, -1);
        if (fds[0].revents) {
            open = pass(middle, source, target, 0);
        }
        if (open && fds[1].revents) {
            open = pass(middle, target, source, 1);
        }
    }
    close(source);
    close(target);
    return NULL;
}

void middle_start(Middle *middle, const char *target_port, int dir, size_t at)
{
    *middle = (Middle){ .target_port = target_port, .change_dir = dir,
                        .change_at = at };
    middle->listen_fd = kit_listen(middle->port);
    middle->seen[0] = g_byte_array_new();
    middle->seen[1] = g_byte_array_new();
    middle->thread = g_thread_new("middle", middle_run, middle);
}

void middle_wait(Middle *middle)
{
    if (middle->thread) {
        g_thread_join(middle->thread);
        middle->thread = NULL;
    }
}

void middle_end(Middle *middle)
{
    middle_wait(middle);
    close(middle->listen_fd);
    g_byte_array_unref(middle->seen[0]);
    g_byte_array_unref(middle->seen[1]);
}
