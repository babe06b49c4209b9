/*
 * The source's inside, shared by its files
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_SOURCE_H
#define DWCP_IO_SOURCE_H

#include "core/ledbat.h"
#include "core/streams.h"
#include "io/feed.h"
#include "io/socket.h"

typedef struct DwcpSourceBlock {
    const uint8_t *host;
    uint64_t pages;
} DwcpSourceBlock;

struct DwcpSource {
    DwcpSession session;
    DwcpFeed feed;

    /* set at init, read-only */
    char *host, *port;
    int family;
    unsigned streams_max, workers_wanted; /* streams: that there may ever be */
    bool adaptive; /* the user left their count to us */
    bool yields;   /* DWCP_PRIORITY_LOW */

    /* set before the first put, then read-only */
    DwcpSourceBlock *blocks;
    unsigned blocks_count;

    /* when END was queued, 0 = not yet; written by end, read by stream 0 */
    atomic_ullong ended_ns;
    /* when finish began to wait, 0 = not yet; written by finish, as above */
    atomic_ullong finish_ns;

    /* stream 0's thread only */
    DwcpModeState path;
    DwcpStreams count; /* of the streams */
    DwcpLedbat ledbat;
    /* written by stream 0's thread, read anywhere */
    _Atomic DwcpMode mode;
    atomic_ullong pace; /* bytes/s of all streams; 0 = does not yield, or not yet */

    /* stream 0's thread until it ends, then _free's */
    DwcpAddresses addresses;
    DwcpStream *streams[DWCP_STREAMS_MAX];
    unsigned streams_started;
    pthread_t workers[DWCP_WORKERS_MAX];
    unsigned workers_started;
};

/* dwcp_source_run: stream 0's thread, from resolving to the end; @opaque is
 * the stream, and the stream's role the source's feed */
void *dwcp_source_run(void *opaque);

/*
 * dwcp_source_shake: the source's half of a handshake; stream 0's makes the
 * session
 *
 * Returns: 0; -EACCES the target has another key; or why there is no
 * connection.
 * Threads: the stream's own.
 */
int dwcp_source_shake(DwcpSource *source, DwcpStream *stream,
                      uint64_t deadline_ns, DwcpError *err) DWCP_CHECKED;

/* dwcp_source_late_locked: has READY waited for finish for too long? */
bool dwcp_source_late_locked(const DwcpSession *session, uint64_t now_ns);
/* dwcp_source_late: says so; Returns: -ETIMEDOUT */
int dwcp_source_late(const DwcpSession *session, DwcpError *err);

/* dwcp_source_sample: a stream looks at its connection; stream 0 judges what all
 * have seen */
void dwcp_source_sample(DwcpStream *stream, uint64_t now_ns);
/* dwcp_source_steer_init: before the first sample; @options: checked */
void dwcp_source_steer_init(DwcpSource *source,
                            const DwcpSourceOptions *options);

/*
 * dwcp_source_steer_to: let streams 0 to @streams - 1 carry the session
 *
 * The others send no more frames, and are closed once all that they sent was
 * acknowledged; those that are missing are made.  Nothing happens if the user
 * gave the count, if the target does not know RESUME, or once END was said.
 *
 * Threads: any.
 */
void dwcp_source_steer_to(DwcpSource *source, unsigned streams);

/* dwcp_source_wants: should the stream have a connection? */
bool dwcp_source_wants(DwcpStream *stream);

/* dwcp_source_start_streams: those that are wanted and never were; stream 0's
 * thread.  Returns: 0, -ENOMEM, -EAGAIN */
int dwcp_source_start_streams(DwcpSource *source, DwcpError *err) DWCP_CHECKED;

/* dwcp_source_encode: a worker's thread; @opaque is the source */
void *dwcp_source_encode(void *opaque);

DwcpSource *dwcp_source_of(DwcpStream *stream);

extern const DwcpStreamOps dwcp_source_ops;

#endif
