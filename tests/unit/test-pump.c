/*
 * io/pump: channel 0 between two real ends
 *
 * Proves that many windows of bytes pass both ways at once and unchanged,
 * also after the switchover and to their end; and that a reader who pauses
 * holds up his own bytes only: memory still moves and GO passes; and that
 * closing it before GO cancels, at either end, in every phase.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kit.h"

#define PAGES 300u

typedef struct Pipe {
    int fd;
    size_t bytes;
    unsigned salt;
} Pipe;

static uint8_t byte_at(size_t at, unsigned salt)
{
    return (uint8_t)(at * 7 + at / 4093 * 31 + salt);
}

static gpointer write_run(gpointer opaque)
{
    const Pipe *pipe = opaque;
    uint8_t data[5000];
    size_t at, i, n;

    for (at = 0; at < pipe->bytes; at += n) {
        n = MIN(sizeof(data), pipe->bytes - at);
        for (i = 0; i < n; i++) {
            data[i] = byte_at(at + i, pipe->salt);
        }
        g_assert_cmpint(send(pipe->fd, data, n, MSG_NOSIGNAL), ==,
                        (ssize_t)n);
    }
    return NULL;
}

static gpointer read_run(gpointer opaque)
{
    const Pipe *pipe = opaque;
    uint8_t data[7000];
    size_t at, i;
    ssize_t n;

    for (at = 0; at < pipe->bytes; at += (size_t)n) {
        n = recv(pipe->fd, data, MIN(sizeof(data), pipe->bytes - at), 0);
        g_assert_cmpint(n, >, 0);
        for (i = 0; i < (size_t)n; i++) {
            if (data[i] != byte_at(at + i, pipe->salt)) {
                g_error("byte %zu differs", at + i);
            }
        }
    }
    return NULL;
}

/* @bytes in both directions at once */
static void exchange(End *source, End *target, size_t bytes)
{
    Pipe forth[2] = { { source->channel, bytes, 1 },
                      { target->channel, bytes, 1 } };
    Pipe back[2] = { { target->channel, bytes, 2 },
                     { source->channel, bytes, 2 } };
    GThread *threads[4];
    unsigned i;

    threads[0] = g_thread_new("write", write_run, &forth[0]);
    threads[1] = g_thread_new("read", read_run, &forth[1]);
    threads[2] = g_thread_new("write", write_run, &back[0]);
    threads[3] = g_thread_new("read", read_run, &back[1]);
    for (i = 0; i < 4; i++) {
        g_thread_join(threads[i]);
    }
}

static void both_up(End *source, End *target)
{
    DwcpTargetOptions target_options = end_target_options();
    DwcpSourceOptions source_options;
    char port[8];

    end_target(target, &target_options, port);
    source_options = end_source_options(port);
    end_source(source, &source_options);
    ends_up(source, target, PAGES);
    end_take(source);
    end_take(target);
    g_assert_cmpint(dwcp_target_begin(target->target), ==, 0);
}

static void move_all(End *source, End *target)
{
    DwcpError err = { 0 };

    memset(source->ram, 0x77, PAGES * PAGE);
    g_assert_cmpint(dwcp_source_put(source->source, 0, 0, PAGES), ==, 0);
    g_assert_cmpint(dwcp_source_end(source->source), ==, 0);
    g_assert_cmpint(end_wait_complete(target), ==, 1);
    g_assert_cmpint(dwcp_target_ready(target->target), ==, 0);
    g_assert_cmpint(dwcp_source_finish(source->source, &err), ==, 0);
    g_assert_cmpint(end_wait_go(target), ==, 1);
    g_assert_cmpint(memcmp(source->ram, target->ram, PAGES * PAGE), ==, 0);
}

static void test_bulk(void)
{
    Usage before = usage_now();
    End source, target;
    uint8_t rest;

    both_up(&source, &target);
    exchange(&source, &target, 3 * DWCP_CHANNEL_WINDOW + 123);
    move_all(&source, &target);
    exchange(&source, &target, 2 * DWCP_CHANNEL_WINDOW + 1);
    /* After GO one direction can end and the other goes on. */
    g_assert_cmpint(shutdown(source.channel, SHUT_WR), ==, 0);
    g_assert_cmpint(recv(target.channel, &rest, 1, 0), ==, 0);
    g_assert_cmpint(send(target.channel, "x", 1, MSG_NOSIGNAL), ==, 1);
    g_assert_cmpint(recv(source.channel, &rest, 1, 0), ==, 1);
    end_free(&source);
    end_free(&target);
    usage_same(before);
}

/* The target's user does not read at all. */
static void test_paused(void)
{
    Usage before = usage_now();
    uint8_t *data = g_malloc0(65536);
    size_t sent = 0;
    End source, target;
    ssize_t n;

    both_up(&source, &target);
    do {
        n = send(source.channel, data, 65536, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        /* What the library has taken is on its way to the window's end. */
    } while (n > 0 || sent < DWCP_CHANNEL_WINDOW);
    move_all(&source, &target);
    end_free(&source);
    end_free(&target);
    g_free(data);
    usage_same(before);
}

/* A stream that is still joining would tell its own story of the end. */
static void wait_joined(End *source, End *target)
{
    DwcpStats at_source = { .size = sizeof(at_source) };
    DwcpStats at_target = { .size = sizeof(at_target) };

    do {
        dwcp_source_stats(source->source, &at_source);
        dwcp_target_stats(target->target, &at_target);
        sched_yield();
    } while (at_source.streams < 2 || at_target.streams < 2);
}

/* How a hypervisor's own cancel reaches the library. */
static void close_one(bool by_source, bool shut, unsigned phase)
{
    Usage before = usage_now();
    End source, target, *closer, *other;
    DwcpError err = { 0 };

    both_up(&source, &target);
    wait_joined(&source, &target);
    closer = by_source ? &source : &target;
    other = by_source ? &target : &source;
    if (phase > 0) {
        g_assert_cmpint(dwcp_source_put(source.source, 0, 0, PAGES), ==, 0);
        g_assert_cmpint(dwcp_source_end(source.source), ==, 0);
    }
    if (phase > 1) {
        g_assert_cmpint(end_wait_complete(&target), ==, 1);
        g_assert_cmpint(dwcp_target_ready(target.target), ==, 0);
    }
    if (shut) {
        g_assert_cmpint(shutdown(closer->channel, SHUT_RDWR), ==, 0);
    } else {
        close(closer->channel);
        closer->channel = -1;
    }
    end_failed_with(other, -ECONNABORTED,
                    by_source ? "the source closed its migration stream"
                              : "the target closed its migration stream");
    g_assert_cmpint(by_source ? dwcp_source_error(source.source, &err)
                              : dwcp_target_error(target.target, &err),
                    ==, -ECANCELED);
    g_assert_cmpuint(closer->failed, ==, 0);
    g_assert_cmpint(dwcp_source_finish(source.source, &err), <, 0);
    g_assert_false(dwcp_source_gone(source.source));
    end_free(&source);
    end_free(&target);
    usage_same(before);
}

static void test_close(void)
{
    unsigned i;

    for (i = 0; i < 12; i++) {
        close_one(i & 1, i & 2, i / 4);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pump/bulk", test_bulk);
    g_test_add_func("/pump/paused", test_paused);
    g_test_add_func("/pump/close", test_close);
    return g_test_run();
}
