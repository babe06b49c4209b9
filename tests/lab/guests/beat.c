/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's heartbeat: one line on a serial port every 10 ms,
 *
 *     B <number> <CLOCK_MONOTONIC ns> <CLOCK_REALTIME ns>
 *
 * numbered without a hole.  The time stamps that count are those of the
 * observer at the other end of the port: it computes what anybody outside
 * would have seen of a migration.  The guest's own clock stands still while
 * the virtual machine is stopped, so it can only tell how late the beat was
 * inside the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define BEAT_NS INT64_C(10000000)
#define SECOND_NS INT64_C(1000000000)

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

static int port_open(const char *path)
{
    struct termios tio;
    int fd = open(path, O_WRONLY | O_NOCTTY);

    if (fd < 0) {
        fprintf(stderr, "beat: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    if (tcgetattr(fd, &tio) == 0) {
        cfmakeraw(&tio);
        cfsetspeed(&tio, B115200);
        tio.c_cflag |= CLOCAL;
        tcsetattr(fd, TCSANOW, &tio);
    }
    return fd;
}

int main(int argc, char **argv)
{
    struct sched_param prio = { .sched_priority = 50 };
    int64_t next;
    uint64_t number = 0;
    int fd;

    if (argc != 2) {
        fprintf(stderr, "usage: beat TTY\n");
        return 2;
    }
    fd = port_open(argv[1]);
    /* Before the guest's own load, so that the gap shows the migration. */
    if (sched_setscheduler(0, SCHED_FIFO, &prio) || mlockall(MCL_CURRENT)) {
        fprintf(stderr, "beat: %s\n", strerror(errno));
    }
    next = clock_ns(CLOCK_MONOTONIC);
    for (;;) {
        struct timespec at;
        char line[96];
        int64_t now;
        int len;

        next += BEAT_NS;
        now = clock_ns(CLOCK_MONOTONIC);
        if (next < now) {
            /* Missed beats are dropped: a burst would hide the lateness. */
            next = now;
        }
        at.tv_sec = next / SECOND_NS;
        at.tv_nsec = next % SECOND_NS;
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL)) {
        }
        len = snprintf(line, sizeof(line),
                       "B %" PRIu64 " %" PRId64 " %" PRId64 "\n", number++,
                       clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_REALTIME));
        if (write(fd, line, (size_t)len) < 0 && errno != EINTR) {
            fprintf(stderr, "beat: %s\n", strerror(errno));
            return 1;
        }
    }
}
