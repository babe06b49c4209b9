/*
 * A source's options: what they may be, and the source that comes of them
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/fail.h"
#include "io/capmap.h"
#include "io/rdma.h"
#include "io/source.h"

#define WORKERS_DEFAULT_MAX 8u
/* Frames of the pool beyond those that streams and workers hold. */
#define FRAMES_QUEUED 16u

static void source_on_end(DwcpSession *session)
{
    DwcpSource *source = session->role_data;

    dwcp_feed_wake(&source->feed);
}

static int range_check(const char *what, long value, long min, long max,
                       DwcpError *err)
{
    if (value >= min && value <= max) {
        return 0;
    }
    return dwcp_fail(err, -EINVAL, "%s %ld is not %ld to %ld", what, value,
                     min, max);
}

static unsigned workers_default(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    if (online < 1) {
        return 1;
    }
    return online < (long)WORKERS_DEFAULT_MAX ? (unsigned)online
                                              : WORKERS_DEFAULT_MAX;
}

/*
 * A service name has a letter; all else must be a number that is a port: the
 * resolver itself takes 65616 for 80.
 */
static int port_check(const char *port, DwcpError *err)
{
    const char *c;
    unsigned value = 0;

    for (c = port; *c >= '0' && *c <= '9' && value <= UINT16_MAX; c++) {
        value = value * 10 + (unsigned)(*c - '0');
    }
    if (!*c && value > 0 && value <= UINT16_MAX) {
        return 0;
    }
    for (c = port; *c; c++) {
        if ((*c | 0x20) >= 'a' && (*c | 0x20) <= 'z') {
            return 0;
        }
    }
    return dwcp_fail(err, -EINVAL, "port %.32s is not 1 to 65535", port);
}

/* Sockets as we can use them: TCP, neither connected nor listening, each once,
 * and no more than streams. */
static int sockets_check(const DwcpSourceOptions *options, unsigned streams,
                         DwcpError *err)
{
    struct sockaddr_storage peer;
    socklen_t length;
    int protocol, listens = 0;
    unsigned i, j;

    if (options->sockets_count > streams) {
        return dwcp_fail(err, -EINVAL, "%u sockets for %u streams",
                         options->sockets_count, streams);
    }
    for (i = 0; i < options->sockets_count; i++) {
        length = sizeof(protocol);
        if (getsockopt(options->sockets[i], SOL_SOCKET, SO_PROTOCOL, &protocol,
                       &length) < 0 ||
            protocol != IPPROTO_TCP) {
            return dwcp_fail(err, -EINVAL, "descriptor %d is no TCP socket",
                             options->sockets[i]);
        }
        length = sizeof(listens);
        if (getsockopt(options->sockets[i], SOL_SOCKET, SO_ACCEPTCONN,
                       &listens, &length) == 0 &&
            listens) {
            return dwcp_fail(err, -EINVAL, "socket %d listens",
                             options->sockets[i]);
        }
        for (j = 0; j < i; j++) {
            if (options->sockets[j] == options->sockets[i]) {
                return dwcp_fail(err, -EINVAL, "socket %d is given twice",
                                 options->sockets[i]);
            }
        }
        length = sizeof(peer);
        if (getpeername(options->sockets[i], (struct sockaddr *)&peer,
                        &length) == 0) {
            return dwcp_fail(err, -EISCONN, "socket %d is connected",
                             options->sockets[i]);
        }
    }
    return 0;
}

/* From here on they are ours. */
static void sockets_take(DwcpSource *source, const DwcpSourceOptions *options)
{
    DwcpSession *session = &source->session;
    unsigned i;
    int fd;

    for (i = 0; i < options->sockets_count; i++) {
        fd = options->sockets[i];
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        session->spares[session->spares_count++] = fd;
    }
}

static int options_apply(DwcpSource *source, const DwcpSourceOptions *options,
                         DwcpError *err)
{
    if (!options->host || !*options->host || !options->port ||
        !*options->port) {
        return dwcp_fail(err, -EINVAL, "host or port is empty");
    }
    if (port_check(options->port, err) < 0) {
        return -EINVAL;
    }
    source->adaptive = !options->streams;
    source->streams_max = options->streams ? options->streams
                          : options->resume_ms_max == DWCP_RESUME_NEVER
                              ? DWCP_STREAMS_DEFAULT
                              : DWCP_STREAMS_MAX;
    source->workers_wanted =
        options->workers ? options->workers : workers_default();
    if (range_check("streams", (long)source->streams_max, 1,
                    DWCP_STREAMS_MAX, err) < 0 ||
        range_check("workers", (long)source->workers_wanted, 1,
                    DWCP_WORKERS_MAX, err) < 0 ||
        range_check("level", options->level, DWCP_LEVEL_AUTO, DWCP_LEVEL_MAX,
                    err) < 0 ||
        range_check("mode", (long)options->mode, DWCP_MODE_MEASURED,
                    (long)DWCP_MODE_COUNT - 1, err) < 0 ||
        range_check("priority", (long)options->priority,
                    DWCP_PRIORITY_NORMAL, DWCP_PRIORITY_LOW, err) < 0) {
        return -EINVAL;
    }
    if (sockets_check(options, source->streams_max, err) < 0) {
        return -EINVAL;
    }
    source->yields = options->priority == DWCP_PRIORITY_LOW;
    source->family = options->family;
    source->host = strdup(options->host);
    source->port = strdup(options->port);
    if (!source->host || !source->port) {
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    if (options->switchover_ms_max) {
        source->session.switchover_ms_max = options->switchover_ms_max;
    }
    dwcp_source_steer_init(source, options);
    source->session.on_end = source_on_end;
    source->session.role_data = source;
    return 0;
}

static int feed_setup(DwcpSource *source, const DwcpSourceOptions *options,
                      DwcpError *err)
{
    uint32_t bytes = options->queue_bytes_max ? options->queue_bytes_max
                                              : DWCP_QUEUE_BYTES_DEFAULT;
    uint32_t ms = options->queue_ms_max ? options->queue_ms_max
                                        : DWCP_QUEUE_MS_DEFAULT;
    int rc = dwcp_feed_init(&source->feed, source, &source->session, bytes, ms,
                            source->workers_wanted + FRAMES_QUEUED,
                            source->count.wanted, options->level, err);

    dwcp_level_init(&source->feed.choice, source->workers_wanted);
    return rc;
}

int dwcp_source_new(const DwcpSourceOptions *options, DwcpSource **out,
                    DwcpError *err)
{
    DwcpSource *source = calloc(1, sizeof(*source));
    int rc;

    if (!source) {
        return dwcp_fail(err, -ENOMEM, "out of memory");
    }
    rc = dwcp_session_init(&source->session, DWCP_ROLE_SOURCE,
                           options->security, &options->keys,
                           options->page_size, options->silence_ms_max,
                           options->resume_ms_max, &options->events, err);
    if (rc < 0) {
        free(source);
        return rc;
    }
    rc = dwcp_rdma_init(&source->session, options->rdma, err);
    if (rc == 0) {
        rc = options_apply(source, options, err);
    }
    if (rc == 0) {
        rc = feed_setup(source, options, err);
    }
    if (rc == 0 && options->host_cap) {
        rc = dwcp_capmap_join(&source->feed.hostcap, *options->host_cap, err);
        if (rc < 0) {
            dwcp_feed_clear(&source->feed);
        }
    }
    if (rc < 0) {
        dwcp_session_clear(&source->session);
        free(source->host);
        free(source->port);
        free(source);
        return rc;
    }
    sockets_take(source, options);
    *out = source;
    return 0;
}
