/*
 * What a source and a target have in common: phase, error, streams, wake-ups
 *
 * The first error wins.  fail() and cancel() only set state and wake threads;
 * every thread of the session waits in poll() with a wake-up descriptor, or
 * on a condition that fail() broadcasts, and leaves on its own.
 *
 * Locks: `lock` guards what its group says.  No I/O, callback or allocation
 * under it.  Order: session.lock, then stream.out_lock (docs/threads.md).
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_SESSION_H
#define DWCP_IO_SESSION_H

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "core/bounds.h"
#include "core/hello.h"
#include "core/lane.h"
#include "core/phase.h"

typedef struct DwcpPump DwcpPump;
typedef struct DwcpStream DwcpStream;
typedef struct DwcpTransportWrap DwcpTransportWrap;

/* DwcpLaneEnd: this side of the RDMA lane (io/lane-end.h) */
typedef struct DwcpLaneEnd {
    /* stream 0's thread only */
    bool asked, offered, given_up;
    bool started; /* set before the lane's thread runs; read by _free, too */
    pthread_t thread;

    /* guarded by lock */
    int fd;    /* wakes the lane's thread; -1 = there is none */
    bool open; /* target: a queue pair may write to guest RAM */
    bool said, heard; /* RDMA_DOWN, and what stood in it */
    DwcpLaneDown said_down, heard_down;
} DwcpLaneEnd;

typedef struct DwcpSession {
    /* set at init, read-only */
    DwcpRole role;
    DwcpEvents events;
    DwcpSecurity security;
    uint32_t page_size;
    uint32_t silence_ms_max;
    uint32_t switchover_ms_max;
    uint32_t resume_ms_max; /* DWCP_RESUME_NEVER */
    DwcpRdma rdma_wish;
    void *role_data; /* the DwcpSource or DwcpTarget */
    DwcpTransportWrap *wrap; /* what is put on each connection, or NULL */
    uint8_t base_key[DWCP_KEY_BYTES]; /* of the first connection, if keyed */
    void (*on_end)(struct DwcpSession *session); /* role's own waiters; may be
                                                  * NULL; called unlocked */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* any field of this group; CLOCK_MONOTONIC */
    /* guarded by lock */
    DwcpPhase phase;
    DwcpError error; /* code 0 = none */
    bool tell_peer;  /* the error is ours to tell */
    bool cancelled;  /* by the user: `failed` is not begun any more */
    bool lost;       /* stream 0 has ended for good */
    unsigned callbacks; /* running now; _free waits for none */
    DwcpStream *all; /* every stream object, linked by next */
    DwcpStream *streams[DWCP_STREAMS_MAX]; /* those past the handshake */
    uint64_t adopted; /* connections that ever stood */
    uint64_t vacated; /* bit per index that dwcp_session_vacate gave away */
    uint8_t id[DWCP_SESSION_BYTES];
    uint8_t session_key[DWCP_KEY_BYTES]; /* base key of those that join */
    DwcpPump *pump;  /* channel 0; set once; stream 0's thread uses it */
    int channel_fd;  /* the user's end of channel 0; -1 = taken */
    int spares[DWCP_STREAMS_MAX]; /* sockets that the user made for us, not in */
    unsigned spares_count;        /* use now */
    uint64_t down_ns; /* since when no connection stands; 0 = one does, or none
                       * has yet */
    unsigned resumes; /* times that one stood again */
    uint64_t rtt_us;
    uint64_t ready_ns; /* when READY came (source) or was said (target) */
    DwcpLaneEnd lane;
    DwcpRdmaState rdma; /* io/rdma.h */
    char rdma_why[DWCP_RDMA_WHY_BYTES];

    /* written under lock, read anywhere */
    atomic_bool dead;    /* FAILED */
    atomic_bool closing; /* _free was called: no callback starts any more */
    atomic_bool resume;  /* lost connections are replaced: both sides can */
    atomic_bool rdma_offered; /* in the handshake of stream 0, */
    atomic_bool rdma_agreed;  /* and by both */
    atomic_bool down;    /* no connection stands, but one may again */
    /* written by stream threads, read by stream 0's */
    atomic_ullong heard_ns;    /* last sign of life of the peer */
    atomic_ullong progress_ns; /* last byte of a frame sent, frame acknowledged,
                                * or frame held back by the rate's limit */
    atomic_ullong consumed_ns; /* the peer last consumed bytes of channel 0 */
    atomic_ullong moved_ns;    /* the peer last had something more: a frame, or
                                * bytes of channel 0 */
    _Atomic DwcpCipher cipher; /* of the stream that came last */
    /* counters; written by stream threads */
    atomic_ullong wire_bytes;
    atomic_ullong memory_bytes;
    atomic_uint streams_lost;
    atomic_uint rdma_first_pieces;
    atomic_ullong rdma_bytes, rdma_registered_bytes;
} DwcpSession;

/* dwcp_session_init: Returns: 0; -EINVAL (keys, page size; faults, if they are
 * built in), -ENOTSUP (security, libsodium) */
int dwcp_session_init(DwcpSession *session, DwcpRole role,
                      DwcpSecurity security, const DwcpKeys *keys,
                      uint32_t page_size, uint32_t silence_ms_max,
                      uint32_t resume_ms_max, const DwcpEvents *events,
                      DwcpError *err) DWCP_CHECKED;
/* dwcp_session_clear: wipes the keys as well */
void dwcp_session_clear(DwcpSession *session);

/*
 * dwcp_session_move: go to @to if that is allowed from here
 *
 * Returns: 0; -EPROTO not allowed (@what names the event), or the session's
 * error.
 */
int dwcp_session_move(DwcpSession *session, DwcpPhase to, const char *what,
                      DwcpError *err) DWCP_CHECKED;
int dwcp_session_move_locked(DwcpSession *session, DwcpPhase to,
                             const char *what, DwcpError *err) DWCP_CHECKED;

DwcpPhase dwcp_session_phase(DwcpSession *session);

/*
 * dwcp_session_fail: the session is dead of @err, unless it is dead already
 * or past GO, where failure has no say any more
 *
 * @tell_peer: send it to the peer as ABORT
 */
void dwcp_session_fail(DwcpSession *session, const DwcpError *err,
                       bool tell_peer);

/*
 * dwcp_session_await_end: wait a little for the session to end
 *
 * A stream that was cut off or refused often is so because the peer gave up:
 * stream 0 brings the reason, which says more than this stream could.
 *
 * Threads: those of streams 1 and up.
 */
void dwcp_session_await_end(DwcpSession *session);

/* dwcp_session_cancel: fail by the user's wish: `changed` is told, from this
 * thread, `failed` is not */
void dwcp_session_cancel(DwcpSession *session, const char *why);

/* dwcp_session_error: Returns: 0 or err->code */
int dwcp_session_error(DwcpSession *session, DwcpError *err);

/* dwcp_session_wake: make all stream threads look at the session */
void dwcp_session_wake(DwcpSession *session);

/* dwcp_session_link, _unlink: a stream object comes to be, or goes */
void dwcp_session_link(DwcpSession *session, DwcpStream *stream);
void dwcp_session_unlink(DwcpSession *session, DwcpStream *stream);

/* dwcp_session_adopt: stream past its handshake; Returns: 0; -EEXIST index
 * taken; -ECANCELED dead */
int dwcp_session_adopt(DwcpSession *session, DwcpStream *stream) DWCP_CHECKED;
void dwcp_session_drop(DwcpSession *session, DwcpStream *stream);

/*
 * dwcp_session_vacate: end the stream that stands at the index of @stream, if one
 * does, and wait until it was dropped: @stream is to take its place
 *
 * A handshake may be overtaken by that of a connection made after it, which is
 * the one that the peer uses: a stream that was accepted later stays.
 *
 * On success nobody else takes the place until dwcp_session_occupied, which is to
 * follow dwcp_session_adopt or what went wrong before.
 *
 * Returns: 0; -ETIMEDOUT; -ESTALE a later one stands there.
 */
int dwcp_session_vacate(DwcpSession *session, const DwcpStream *stream,
                        uint64_t deadline_ns) DWCP_CHECKED;
void dwcp_session_occupied(DwcpSession *session, unsigned index);

/* dwcp_session_count_locked: streams that stand */
unsigned dwcp_session_count_locked(const DwcpSession *session);

/* dwcp_session_set_lost: no stream 0 stands, and none will again */
void dwcp_session_set_lost(DwcpSession *session);

/* dwcp_session_tick_ns: several looks must fit into the shortest limit */
uint64_t dwcp_session_tick_ns(const DwcpSession *session);

/* dwcp_session_stats: what both roles count alike */
void dwcp_session_stats(DwcpSession *session, DwcpStats *stats);

/* dwcp_session_tell_*: run a callback unless closing */
void dwcp_session_tell_connected(DwcpSession *session);
void dwcp_session_tell_changed(DwcpSession *session);
void dwcp_session_tell_warned(DwcpSession *session, const DwcpError *err);

/* dwcp_session_close: no callback starts after this; waits for running ones */
void dwcp_session_close(DwcpSession *session);

/*
 * dwcp_session_spare_take: a socket that the user made, if one of @family (AF_*)
 * is left; Returns: a descriptor or -1
 */
int dwcp_session_spare_take(DwcpSession *session, int family);
/* dwcp_session_spare_give: back, unconnected; closed if that does not work */
void dwcp_session_spare_give(DwcpSession *session, int fd);

int dwcp_session_take_channel(DwcpSession *session, unsigned channel,
                              DwcpError *err) DWCP_CHECKED;

uint64_t dwcp_now_ns(void);

/* dwcp_timespec: a time of dwcp_now_ns's clock, or a span, for the system */
struct timespec dwcp_timespec(uint64_t ns);

/* dwcp_thread_start: a thread with all signals blocked; Returns: 0, -EAGAIN */
int dwcp_thread_start(pthread_t *thread, const char *name,
                      void *(*run)(void *), void *arg,
                      DwcpError *err) DWCP_CHECKED;

/* dwcp_cond_init_monotonic: timed waits count in dwcp_now_ns's clock */
void dwcp_cond_init_monotonic(pthread_cond_t *cond);

#endif
