/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "kit.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"

/*
 * Workers read guest RAM while the guest writes it: a data race by design,
 * made harmless by the dirty log (core/codec.h).  All others are reported.
 */
__attribute__((visibility("default"))) const char *
__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:gather\nrace:find_zeros\nrace:output_once\n";
}

/* ---------------------------------------------------------------- ends -- */

static void on_connected(void *opaque)
{
    End *end = opaque;

    pthread_mutex_lock(&end->lock);
    end->connected++;
    pthread_cond_broadcast(&end->cond);
    pthread_mutex_unlock(&end->lock);
}

static void on_changed(void *opaque)
{
    End *end = opaque;

    pthread_mutex_lock(&end->lock);
    end->changed++;
    pthread_cond_broadcast(&end->cond);
    pthread_mutex_unlock(&end->lock);
}

static void on_failed(void *opaque, const DwcpError *err)
{
    End *end = opaque;

    pthread_mutex_lock(&end->lock);
    end->failed++;
    end->error = *err;
    pthread_cond_broadcast(&end->cond);
    pthread_mutex_unlock(&end->lock);
}

static void on_warned(void *opaque, const DwcpError *err)
{
    End *end = opaque;

    pthread_mutex_lock(&end->lock);
    end->warned++;
    end->warning = *err;
    pthread_cond_broadcast(&end->cond);
    pthread_mutex_unlock(&end->lock);
}

static void end_init(End *end)
{
    *end = (End){ .channel = -1 };
    pthread_mutex_init(&end->lock, NULL);
    pthread_cond_init(&end->cond, NULL);
}

static DwcpEvents events_of(End *end)
{
    return (DwcpEvents){ on_connected, on_changed, on_failed, on_warned, end };
}

DwcpSourceOptions end_source_options(const char *port)
{
    return (DwcpSourceOptions){
        .host = "127.0.0.1",
        .port = port,
        .security = DWCP_SECURITY_NONE,
        .page_size = PAGE,
        .streams = 2,
        .workers = 1,
        .level = 1,
        .resume_ms_max = DWCP_RESUME_NEVER,
    };
}

DwcpTargetOptions end_target_options(void)
{
    return (DwcpTargetOptions){ .security = DWCP_SECURITY_NONE,
                                .page_size = PAGE,
                                .resume_ms_max = DWCP_RESUME_NEVER };
}

int end_try_source(End *end, const DwcpSourceOptions *options, DwcpError *err)
{
    DwcpSourceOptions mine = *options;

    end_init(end);
    mine.events = events_of(end);
    return dwcp_source_new(&mine, &end->source, err);
}

int end_try_target(End *end, const DwcpTargetOptions *options, int listen_fd,
                   DwcpError *err)
{
    DwcpTargetOptions mine = *options;
    int rc;

    end_init(end);
    mine.events = events_of(end);
    rc = dwcp_target_new(&mine, &end->target, err);
    return rc < 0 ? rc : dwcp_target_listen(end->target, listen_fd, err);
}

void end_source(End *end, const DwcpSourceOptions *options)
{
    DwcpError err = { 0 };

    g_assert_cmpint(end_try_source(end, options, &err), ==, 0);
}

void end_target(End *end, const DwcpTargetOptions *options, char *port)
{
    DwcpError err = { 0 };

    g_assert_cmpint(end_try_target(end, options, kit_listen(port), &err), ==,
                    0);
}

void end_connect(End *end)
{
    DwcpError err = { 0 };

    g_assert_cmpint(dwcp_source_connect(end->source, &err), ==, 0);
}

int end_try_ram(End *end, uint64_t pages, DwcpError *err)
{
    end->pages = pages;
    end->ram = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert(end->ram != MAP_FAILED);
    return end->source ? dwcp_source_add_block(end->source, end->ram,
                                               pages * PAGE, err)
                       : dwcp_target_add_block(end->target, end->ram,
                                               pages * PAGE, err);
}

void end_ram(End *end, uint64_t pages)
{
    DwcpError err = { 0 };

    g_assert_cmpint(end_try_ram(end, pages, &err), ==, 0);
}

void end_take(End *end)
{
    DwcpError err = { 0 };

    end->channel = end->source
                       ? dwcp_source_take_channel(end->source, 0, &err)
                       : dwcp_target_take_channel(end->target, 0, &err);
    g_assert_cmpint(end->channel, >=, 0);
}

void end_free(End *end)
{
    dwcp_source_free(end->source);
    dwcp_target_free(end->target);
    if (end->channel >= 0) {
        close(end->channel);
    }
    if (end->ram) {
        munmap(end->ram, end->pages * PAGE);
    }
    /* These counts are the contract: at most once. */
    g_assert_cmpuint(end->connected, <=, 1);
    g_assert_cmpuint(end->failed, <=, 1);
    pthread_cond_destroy(&end->cond);
    pthread_mutex_destroy(&end->lock);
    *end = (End){ .channel = -1 };
}

DwcpStats end_stats(End *source)
{
    DwcpStats stats = { .size = sizeof(stats) };

    dwcp_source_stats(source->source, &stats);
    return stats;
}

void ends_up(End *source, End *target, uint64_t pages)
{
    end_ram(source, pages);
    end_ram(target, pages);
    end_connect(source);
    end_wait_connected(source);
    end_wait_connected(target);
}

void kit_fill(GRand *rnd, uint8_t *ram, uint64_t pages)
{
    uint64_t i;

    for (i = 0; i < pages * PAGE; i += 4) {
        guint32 word = g_rand_int(rnd);

        memcpy(ram + i, &word, 4);
    }
}

void end_wait_connected(End *end)
{
    pthread_mutex_lock(&end->lock);
    while (!end->connected && !end->failed) {
        pthread_cond_wait(&end->cond, &end->lock);
    }
    g_assert_cmpstr(end->error.text, ==, "");
    pthread_mutex_unlock(&end->lock);
}

void end_wait_failed(End *end)
{
    pthread_mutex_lock(&end->lock);
    while (!end->failed) {
        pthread_cond_wait(&end->cond, &end->lock);
    }
    pthread_mutex_unlock(&end->lock);
}

void end_wait_warned(End *end, unsigned count)
{
    pthread_mutex_lock(&end->lock);
    while (end->warned < count) {
        pthread_cond_wait(&end->cond, &end->lock);
    }
    pthread_mutex_unlock(&end->lock);
}

static int wait_answer(End *end, int (*ask)(DwcpTarget *target))
{
    unsigned seen;
    int rc;

    for (;;) {
        pthread_mutex_lock(&end->lock);
        seen = end->changed;
        pthread_mutex_unlock(&end->lock);
        rc = ask(end->target);
        if (rc) {
            return rc;
        }
        pthread_mutex_lock(&end->lock);
        while (seen == end->changed) {
            pthread_cond_wait(&end->cond, &end->lock);
        }
        pthread_mutex_unlock(&end->lock);
    }
}

int end_wait_complete(End *end)
{
    return wait_answer(end, dwcp_target_memory_complete);
}

int end_wait_go(End *end)
{
    return wait_answer(end, dwcp_target_go);
}

void end_failed_with(End *end, int code, const char *text)
{
    end_wait_failed(end);
    pthread_mutex_lock(&end->lock);
    if (end->error.code != code || !strstr(end->error.text, text)) {
        g_test_message("%d (%s), expected %d (%s)", end->error.code,
                       end->error.text, code, text);
        g_test_fail();
    }
    g_assert_cmpuint(end->failed, ==, 1);
    g_assert_null(strchr(end->error.text, '\n'));
    pthread_mutex_unlock(&end->lock);
}

void ends_finish(End *source, End *target)
{
    DwcpError err = { 0 };

    g_assert_cmpint(dwcp_source_end(source->source), ==, 0);
    if (end_wait_complete(target) != 1) {
        g_error("%s", target->error.text);
    }
    g_assert_cmpint(dwcp_target_ready(target->target), ==, 0);
    if (dwcp_source_finish(source->source, &err) != 0) {
        g_error("%s", err.text);
    }
    g_assert_cmpint(dwcp_target_go(target->target), ==, 1);
    g_assert_cmpmem(source->ram, source->pages * PAGE, target->ram,
                    target->pages * PAGE);
}

int kit_listen(char *port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t length = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, length), ==, 0);
    g_assert_cmpint(listen(fd, 256), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&addr, &length), ==, 0);
    g_snprintf(port, 8, "%u", ntohs(addr.sin_port));
    return fd;
}

/* ------------------------------------------------------------- leaks -- */

static unsigned entries(const char *path)
{
    DIR *dir = opendir(path);
    unsigned count = 0;

    g_assert_nonnull(dir);
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

static gpointer nothing_run(gpointer opaque)
{
    return opaque;
}

Usage usage_now(void)
{
    static gsize once;

    /* A sanitizer starts a thread of its own with the first of ours. */
    if (g_once_init_enter(&once)) {
        g_thread_join(g_thread_new("first", nothing_run, NULL));
        g_once_init_leave(&once, 1);
    }
    return (Usage){ entries("/proc/self/fd"), entries("/proc/self/task") };
}

void usage_same(Usage before)
{
    gint64 end_us = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    Usage now = usage_now();

    /* A joined thread may show for a moment, a resolver's for longer. */
    while ((now.threads > before.threads || now.fds > before.fds) &&
           g_get_monotonic_time() < end_us) {
        (void)poll(NULL, 0, 1);
        now = usage_now();
    }
    g_assert_cmpuint(now.fds, ==, before.fds);
    g_assert_cmpuint(now.threads, ==, before.threads);
}

unsigned kit_soak(unsigned quick, unsigned soak)
{
    return g_strcmp0(g_getenv("DWCP_SOAK"), "1") == 0 ? soak : quick;
}
