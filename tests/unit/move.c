/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "move.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <sched.h>
#include <string.h>

static void reach(Move *move, MoveStep step)
{
    /* Two threads, but each step is the one thread's or the other's. */
    if (atomic_load(&move->step) < (int)step) {
        atomic_store(&move->step, (int)step);
    }
}

/* Returns: whether the end has connected; false: it never will. */
static bool connected(End *end)
{
    bool is;

    pthread_mutex_lock(&end->lock);
    while (!end->connected && !end->failed &&
           !(end->source ? dwcp_source_error(end->source, NULL)
                         : dwcp_target_error(end->target, NULL))) {
        pthread_cond_wait(&end->cond, &end->lock);
    }
    is = end->connected;
    pthread_mutex_unlock(&end->lock);
    return is;
}

static void take(End *end)
{
    DwcpError err;
    int fd = end->source ? dwcp_source_take_channel(end->source, 0, &err)
                         : dwcp_target_take_channel(end->target, 0, &err);

    pthread_mutex_lock(&end->lock);
    end->channel = fd >= 0 ? fd : -1;
    pthread_mutex_unlock(&end->lock);
}

/* Returns: 0, or the first error. */
static int hand_over(Move *move)
{
    DwcpSource *source = move->source.source;
    unsigned round, i;
    int rc;

    rc = dwcp_source_put(source, 0, 0, MOVE_PAGES);
    reach(move, MOVE_PUT);
    for (round = 0; rc == 0 && round < 3; round++) {
        dwcp_source_round(source);
        for (i = 0; rc == 0 && i < MOVE_PAGES; i += 7 + round) {
            memset(move->source.ram + i * (size_t)PAGE, (int)(i + round), 100);
            rc = dwcp_source_put(source, 0, i, 1);
        }
        dwcp_source_flush(source);
        if (rc == 0) {
            rc = dwcp_source_wait(source, 2);
            rc = rc > 0 ? 0 : rc;
        }
    }
    return rc < 0 ? rc : dwcp_source_end(source);
}

static gpointer source_run(gpointer opaque)
{
    Move *move = opaque;
    DwcpError err = { 0 };

    if (connected(&move->source)) {
        reach(move, MOVE_CONNECTED);
        take(&move->source);
        if (hand_over(move) == 0) {
            reach(move, MOVE_ENDED);
            move->finish_rc = dwcp_source_finish(move->source.source, &err);
            move->finish_called = true;
            reach(move, MOVE_FINISHED);
        }
    }
    atomic_store(&move->source_done, true);
    return NULL;
}

static gpointer target_run(gpointer opaque)
{
    Move *move = opaque;
    DwcpTarget *target = move->target.target;

    if (connected(&move->target)) {
        take(&move->target);
        if (dwcp_target_begin(target) == 0 &&
            end_wait_complete(&move->target) == 1) {
            reach(move, MOVE_COMPLETE);
            if (dwcp_target_ready(target) == 0) {
                reach(move, MOVE_READY);
                (void)end_wait_go(&move->target);
            }
        }
    }
    return NULL;
}

/* Promise number one, looked at all the time. */
static gpointer watcher_run(gpointer opaque)
{
    Move *move = opaque;
    bool gone, go, was_gone = false;

    while (!atomic_load(&move->stop)) {
        go = dwcp_target_go(move->target.target) == 1;
        gone = dwcp_source_gone(move->source.source);
        g_assert_false(go && !gone);
        g_assert_false(was_gone && !gone);
        was_gone = gone;
        (void)poll(NULL, 0, 1);
    }
    return NULL;
}

void move_new(Move *move, const DwcpTargetOptions *target_options)
{
    memset(move, 0, sizeof(*move));
    end_target(&move->target, target_options, move->port);
    end_ram(&move->target, MOVE_PAGES);
}

void move_start(Move *move, const DwcpSourceOptions *source_options,
                const char *port)
{
    DwcpSourceOptions options = *source_options;

    options.port = port;
    end_source(&move->source, &options);
    end_ram(&move->source, MOVE_PAGES);
    move_run(move);
    end_connect(&move->source);
}

void move_run(Move *move)
{
    memset(move->target.ram, 0xdd, MOVE_PAGES * PAGE);
    memset(move->source.ram, 0x11, MOVE_PAGES * PAGE / 2);
    move->watcher = g_thread_new("watcher", watcher_run, move);
    move->target_thread = g_thread_new("target", target_run, move);
    move->source_thread = g_thread_new("source", source_run, move);
}

void move_wait(Move *move, MoveStep step)
{
    while (atomic_load(&move->step) < (int)step &&
           !atomic_load(&move->source_done)) {
        sched_yield();
    }
}

MoveOutcome move_end(Move *move)
{
    DwcpSource *source = move->source.source;
    DwcpTarget *target = move->target.target;
    MoveOutcome out;

    g_thread_join(move->source_thread);
    out.gone = dwcp_source_gone(source);
    if (!out.gone) {
        /* What it holds is the user's to end: nobody may come any more. */
        dwcp_source_cancel(source);
        dwcp_target_cancel(target);
    }
    g_thread_join(move->target_thread);
    atomic_store(&move->stop, true);
    g_thread_join(move->watcher);

    dwcp_source_cancel(source);
    g_assert_cmpint(dwcp_source_gone(source), ==, out.gone);
    out.go = dwcp_target_go(target) == 1;
    g_assert_false(out.go && !out.gone);
    if (move->finish_called) {
        g_assert_cmpint(out.gone, ==, move->finish_rc >= 0);
        if (move->finish_rc == 0) {
            g_assert_true(out.go);
            /* Sealed means that all has arrived, seen or not. */
            g_assert_cmpuint(dwcp_source_pending_bytes(source), ==, 0);
        }
    } else {
        g_assert_false(out.gone);
    }
    if (out.go) {
        g_assert_cmpint(memcmp(move->source.ram, move->target.ram,
                               MOVE_PAGES * PAGE),
                        ==, 0);
    } else {
        g_assert_cmpint(dwcp_target_go(target), <, 0);
    }
    return out;
}

void move_free(Move *move)
{
    end_free(&move->source);
    end_free(&move->target);
}
