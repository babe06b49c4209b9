/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-pump.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000u
/* Frames read in one go; between two goes what is due goes out. */
#define BATCH_FRAMES 32

uint64_t wan_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void signal_fd(int fd)
{
    /* An eventfd write fails only when the counter is full: it is signalled. */
    (void)!write(fd, &(uint64_t){1}, sizeof(uint64_t));
}

/* Writes what is due. Returns false when the device is gone. */
static bool send_due(WanPump *pump)
{
    const uint8_t *frame;
    size_t length;

    while ((frame = wan_link_due(&pump->link, wan_now_ns(), &length))) {
        ssize_t done = write(pump->to_fd, frame, length);

        if (done < 0 && errno == EBADFD) {
            return false;
        }
        if (done < 0) {
            pump->write_errors++;
        }
        wan_link_done(&pump->link);
    }
    return true;
}

/* Answers what was read in the name of the other end. */
static void send_reply(WanPump *pump)
{
    size_t length;
    const uint8_t *frame = wan_link_reply(&pump->link, &length);

    if (frame && write(pump->from_fd, frame, length) < 0) {
        pump->write_errors++;
    }
}

/* Reads up to a batch. Returns how many, or -1 when the device is gone. */
static int read_batch(WanPump *pump)
{
    int i;

    for (i = 0; i < BATCH_FRAMES; i++) {
        uint8_t *frame = wan_link_reserve(&pump->link);
        ssize_t length = read(pump->from_fd, frame, WAN_FRAME_MAX);

        if (length < 0) {
            return errno == EBADFD ? -1 : i;
        }
        wan_link_offer(&pump->link, frame, (size_t)length, wan_now_ns());
        send_reply(pump);
    }
    return i;
}

static void wait_for_work(const WanPump *pump, uint64_t deadline_ns)
{
    struct pollfd polls[] = {{.fd = pump->from_fd, .events = POLLIN},
                             {.fd = pump->wake_fd, .events = POLLIN}};
    uint64_t now_ns = wan_now_ns();
    uint64_t wait_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / NS_PER_S),
                            .tv_nsec = (long)(wait_ns % NS_PER_S)};
    uint64_t woken;

    (void)ppoll(polls, 2, deadline_ns == WAN_NEVER ? NULL : &wait, NULL);
    if (polls[1].revents) {
        (void)!read(pump->wake_fd, &woken, sizeof(woken));
    }
}

static void *run(void *opaque)
{
    WanPump *pump = opaque;
    uint64_t deadline_ns;
    int got;

    /* A path does not get slower when the hosts are busy, so it must not wait
     * for its turn behind them. Without the privilege it does. */
    (void)pthread_setschedparam(pthread_self(), SCHED_FIFO,
                                &(struct sched_param){.sched_priority = 1});
    /* The default slack of 50 us would blur the spacing of packets. */
    (void)prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
    for (;;) {
        (void)pthread_mutex_lock(&pump->lock);
        if (pump->stop) {
            break;
        }
        got = send_due(pump) ? read_batch(pump) : -1;
        deadline_ns = wan_link_deadline_ns(&pump->link);
        (void)pthread_mutex_unlock(&pump->lock);
        if (got < 0) {
            signal_fd(pump->gone_fd);
            return NULL;
        }
        if (got < BATCH_FRAMES) {
            wait_for_work(pump, deadline_ns);
        }
    }
    (void)pthread_mutex_unlock(&pump->lock);
    return NULL;
}

int wan_pump_start(WanPump *pump, int from_fd, int to_fd, int gone_fd)
{
    int result;

    pump->from_fd = from_fd;
    pump->to_fd = to_fd;
    pump->gone_fd = gone_fd;
    pump->stop = false;
    pump->write_errors = 0;
    pump->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pump->wake_fd < 0) {
        return -errno;
    }
    (void)pthread_mutex_init(&pump->lock, NULL); /* cannot fail on Linux */
    result = pthread_create(&pump->thread, NULL, run, pump);
    if (result != 0) {
        close(pump->wake_fd);
    }
    return -result;
}

void wan_pump_stop(WanPump *pump)
{
    wan_pump_lock(pump);
    pump->stop = true;
    wan_pump_unlock(pump);
    (void)pthread_join(pump->thread, NULL);
    (void)pthread_mutex_destroy(&pump->lock);
    close(pump->wake_fd);
}

void wan_pump_lock(WanPump *pump)
{
    (void)pthread_mutex_lock(&pump->lock);
}

void wan_pump_unlock(WanPump *pump)
{
    (void)pthread_mutex_unlock(&pump->lock);
    signal_fd(pump->wake_fd);
}
