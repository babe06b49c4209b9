/*
 * Two rings: the bytes, and a mark for each piece of them that came at once.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/fault-delay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MARKS_MAX 4096u

struct DwcpDelay {
    uint64_t got, given; /* bytes in all */
    struct {
        uint64_t end;    /* of got, then */
        uint64_t due_ns;
    } marks[MARKS_MAX];
    uint64_t marked, passed; /* marks in all */
    bool over;       /* the connection ends behind what is kept: */
    int over_errno;  /* how, 0 = the peer closed */
    uint8_t bytes[DWCP_DELAY_BYTES_MAX];
};

DwcpDelay *dwcp_delay_new(void)
{
    return calloc(1, sizeof(DwcpDelay));
}

void dwcp_delay_free(DwcpDelay *delay)
{
    free(delay);
}

bool dwcp_delay_empty(const DwcpDelay *delay)
{
    return delay->passed == delay->marked && !delay->over;
}

static bool full(const DwcpDelay *delay)
{
    return delay->over || delay->marked - delay->passed == MARKS_MAX ||
           delay->got - delay->given == DWCP_DELAY_BYTES_MAX;
}

static void take_in(DwcpDelay *delay, DwcpTransport *below, uint64_t due_ns)
{
    size_t at, room;
    struct iovec part;
    ssize_t n = 1;

    while (n > 0 && !full(delay)) {
        at = delay->got % DWCP_DELAY_BYTES_MAX;
        room = DWCP_DELAY_BYTES_MAX - (size_t)(delay->got - delay->given);
        room = room < DWCP_DELAY_BYTES_MAX - at ? room
                                                : DWCP_DELAY_BYTES_MAX - at;
        part = (struct iovec){ delay->bytes + at, room };
        n = below->ops->receive(below, &part, 1);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        delay->over = n <= 0;
        delay->over_errno = n < 0 ? errno : 0;
        delay->got += n > 0 ? (size_t)n : 0;
        delay->marks[delay->marked % MARKS_MAX].end = delay->got;
        delay->marks[delay->marked % MARKS_MAX].due_ns = due_ns;
        delay->marked++;
    }
}

/* Returns: bytes copied to @parts, of @most that are due. */
static size_t hand_on(DwcpDelay *delay, const struct iovec *parts,
                      size_t count, size_t most)
{
    size_t given = 0, done, at, n, i;

    for (i = 0; i < count && given < most; i++) {
        for (done = 0; done < parts[i].iov_len && given < most; done += n) {
            at = delay->given % DWCP_DELAY_BYTES_MAX;
            n = parts[i].iov_len - done;
            n = n < most - given ? n : most - given;
            n = n < DWCP_DELAY_BYTES_MAX - at ? n : DWCP_DELAY_BYTES_MAX - at;
            memcpy((uint8_t *)parts[i].iov_base + done, delay->bytes + at, n);
            delay->given += n;
            given += n;
        }
    }
    return given;
}

ssize_t dwcp_delay_receive(DwcpDelay *delay, DwcpTransport *below,
                           const struct iovec *parts, size_t count,
                           uint64_t by_ns, uint64_t now_ns)
{
    uint64_t due = delay->given, at;
    size_t given;

    take_in(delay, below, now_ns + by_ns);
    /* Bytes keep their order, if the delay becomes shorter as well. */
    for (at = delay->passed; at < delay->marked; at++) {
        if (delay->marks[at % MARKS_MAX].due_ns > now_ns) {
            break;
        }
        due = delay->marks[at % MARKS_MAX].end;
    }
    given = hand_on(delay, parts, count, (size_t)(due - delay->given));
    while (delay->passed < at &&
           delay->marks[delay->passed % MARKS_MAX].end <= delay->given &&
           !(delay->over && delay->passed + 1 == delay->marked)) {
        delay->passed++;
    }
    if (given) {
        return (ssize_t)given;
    }
    if (delay->over && at == delay->marked && delay->given == delay->got) {
        errno = delay->over_errno;
        return delay->over_errno ? -1 : 0;
    }
    errno = EAGAIN;
    return -1;
}

void dwcp_delay_poll(const DwcpDelay *delay, struct pollfd *fd,
                     uint64_t *wait_ns, uint64_t now_ns)
{
    uint64_t due_ns, left_ns;

    if (!(fd->events & POLLIN)) {
        return;
    }
    if (delay->passed < delay->marked) {
        due_ns = delay->marks[delay->passed % MARKS_MAX].due_ns;
        left_ns = due_ns > now_ns ? due_ns - now_ns : 0;
        *wait_ns = left_ns < *wait_ns ? left_ns : *wait_ns;
    }
    if (full(delay)) {
        fd->events &= ~POLLIN;
    }
}
