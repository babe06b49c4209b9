/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "breaker.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAIRS_MAX 2048u

/* Bytes on their way in one direction. */
typedef struct Half {
    uint8_t buffer[16384];
    size_t at, end;
} Half;

typedef struct Pair {
    int fds[2]; /* source, target; -1 = gone */
    Half *halves[2]; /* from fds[0], from fds[1] */
} Pair;

struct Breaker {
    char target_port[8];
    int listen_fd, wake_fd;
    GThread *thread;
    atomic_bool stop, shut, hold;
    atomic_uint count;
    atomic_ullong passed;
    pthread_mutex_t lock;
    int resets[64]; /* that were asked for; guarded by lock */
    unsigned resets_count;
    Pair pairs[PAIRS_MAX]; /* the thread's */
};

static void wake(Breaker *breaker)
{
    const uint64_t one = 1;

    g_assert_cmpint(write(breaker->wake_fd, &one, sizeof(one)), ==,
                    sizeof(one));
}

static void pair_end(Pair *pair, bool reset)
{
    unsigned i;

    for (i = 0; i < 2; i++) {
        if (pair->fds[i] >= 0) {
            if (reset) {
                raw_reset(pair->fds[i]);
            } else {
                close(pair->fds[i]);
            }
            pair->fds[i] = -1;
            g_free(pair->halves[i]);
        }
    }
}

static void take_connection(Breaker *breaker)
{
    unsigned number = atomic_load(&breaker->count);
    int fd = raw_accept(breaker->listen_fd);
    Pair *pair = &breaker->pairs[number];

    if (atomic_load(&breaker->shut) || number == PAIRS_MAX) {
        raw_reset(fd);
        return;
    }
    pair->fds[0] = fd;
    pair->fds[1] = raw_try_connect(breaker->target_port);
    if (pair->fds[1] < 0) { /* it has ended; the source has not seen it yet */
        raw_reset(fd);
        pair->fds[0] = -1;
        return;
    }
    pair->halves[0] = g_new0(Half, 1);
    pair->halves[1] = g_new0(Half, 1);
    atomic_fetch_add(&breaker->count, 1);
}

static void do_resets(Breaker *breaker)
{
    unsigned count = atomic_load(&breaker->count), i;
    int which;

    pthread_mutex_lock(&breaker->lock);
    while (breaker->resets_count) {
        which = breaker->resets[--breaker->resets_count];
        for (i = 0; i < count; i++) {
            if (breaker->pairs[i].fds[0] >= 0 &&
                (which < 0 || which == (int)i)) {
                pair_end(&breaker->pairs[i], true);
                if (which == -2) {
                    break;
                }
            }
        }
    }
    pthread_mutex_unlock(&breaker->lock);
}

/* Returns: false: this direction has ended, by a reset or not. */
static bool move_bytes(Breaker *breaker, Half *half, int from, int to,
                       short from_events, short to_events, bool *reset)
{
    ssize_t n;

    *reset = true;
    if (half->at == half->end && from_events) {
        n = recv(from, half->buffer, sizeof(half->buffer), MSG_DONTWAIT);
        *reset = n != 0;
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            return false;
        }
        half->at = 0;
        half->end = n > 0 ? (size_t)n : 0;
        to_events = POLLOUT;
    }
    if (half->at < half->end && to_events) {
        n = send(to, half->buffer + half->at, half->end - half->at,
                 MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            return false;
        }
        half->at += n > 0 ? (size_t)n : 0;
        atomic_fetch_add(&breaker->passed, n > 0 ? (unsigned long long)n : 0);
    }
    return true;
}

static gpointer breaker_run(gpointer opaque)
{
    Breaker *breaker = opaque;
    struct pollfd *fds = g_new0(struct pollfd, 2 * PAIRS_MAX + 2);
    unsigned i, side, count;
    uint64_t woken;
    bool reset;
    Pair *pair;

    while (!atomic_load(&breaker->stop)) {
        count = atomic_load(&breaker->count);
        fds[0] = (struct pollfd){ .fd = breaker->wake_fd, .events = POLLIN };
        fds[1] = (struct pollfd){ .fd = breaker->listen_fd, .events = POLLIN };
        for (i = 0; i < 2 * count; i++) {
            pair = &breaker->pairs[i / 2];
            side = i % 2;
            fds[i + 2] = (struct pollfd){ .fd = pair->fds[side] };
            if (pair->fds[side] >= 0 && !atomic_load(&breaker->hold)) {
                fds[i + 2].events =
                    (pair->halves[side]->at == pair->halves[side]->end
                         ? POLLIN
                         : 0) |
                    (pair->halves[!side]->at < pair->halves[!side]->end
                         ? POLLOUT
                         : 0);
            } else {
                fds[i + 2].fd = -1;
            }
        }
        (void)poll(fds, 2 * count + 2, -1);
        if (fds[0].revents) {
            (void)!read(breaker->wake_fd, &woken, sizeof(woken));
        }
        do_resets(breaker);
        for (i = 0; i < count; i++) {
            pair = &breaker->pairs[i];
            if (pair->fds[0] < 0 || fds[2 * i + 2].fd < 0) {
                continue;
            }
            if (!move_bytes(breaker, pair->halves[0], pair->fds[0],
                            pair->fds[1], fds[2 * i + 2].revents,
                            fds[2 * i + 3].revents, &reset) ||
                !move_bytes(breaker, pair->halves[1], pair->fds[1],
                            pair->fds[0], fds[2 * i + 3].revents,
                            fds[2 * i + 2].revents, &reset)) {
                pair_end(pair, reset);
            }
        }
        if (fds[1].revents) {
            take_connection(breaker);
        }
    }
    for (i = 0; i < atomic_load(&breaker->count); i++) {
        pair_end(&breaker->pairs[i], true);
    }
    g_free(fds);
    return NULL;
}

Breaker *breaker_new(const char *target_port, char *port)
{
    Breaker *breaker = g_new0(Breaker, 1);

    g_strlcpy(breaker->target_port, target_port, sizeof(breaker->target_port));
    breaker->listen_fd = kit_listen(port);
    breaker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&breaker->lock, NULL);
    breaker->thread = g_thread_new("breaker", breaker_run, breaker);
    return breaker;
}

void breaker_free(Breaker *breaker)
{
    atomic_store(&breaker->stop, true);
    wake(breaker);
    g_thread_join(breaker->thread);
    close(breaker->listen_fd);
    close(breaker->wake_fd);
    pthread_mutex_destroy(&breaker->lock);
    g_free(breaker);
}

void breaker_reset(Breaker *breaker, int number)
{
    pthread_mutex_lock(&breaker->lock);
    g_assert_cmpuint(breaker->resets_count, <, G_N_ELEMENTS(breaker->resets));
    breaker->resets[breaker->resets_count++] = number;
    pthread_mutex_unlock(&breaker->lock);
    wake(breaker);
}

void breaker_shut(Breaker *breaker, bool shut)
{
    atomic_store(&breaker->shut, shut);
}

void breaker_hold(Breaker *breaker, bool hold)
{
    atomic_store(&breaker->hold, hold);
    wake(breaker);
}

unsigned breaker_count(Breaker *breaker)
{
    return atomic_load(&breaker->count);
}

uint64_t breaker_passed(Breaker *breaker)
{
    return atomic_load(&breaker->passed);
}
