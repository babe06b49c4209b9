/*
 * One TCP connection past its handshake: records in, records and frames out
 *
 * Each stream has a thread that waits in poll() for its socket, its wake-up
 * descriptor and (stream 0) the local ends of the byte channels.  It reads
 * records and hands them to the role's `record`; it sends queued control
 * records first, then frames that the role's `pull` gives it.  Sockets are
 * not blocking, so one slow direction never stops the other.
 *
 * Threads: the stream's own thread owns all but the out group; any thread may
 * queue control records and wake it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_STREAM_H
#define DWCP_IO_STREAM_H

#include "core/flow.h"
#include "core/wire.h"
#include "io/session.h"
#include "io/transport.h"

typedef struct DwcpAead DwcpAead;
typedef struct DwcpLanding DwcpLanding;
typedef struct DwcpPump DwcpPump;
typedef struct DwcpSealed DwcpSealed;

/*
 * DwcpFrame: an encoded PAGES record on its way to a socket
 *
 * Owned by whoever has the pointer: encoder, queue, stream, pool.
 */
typedef struct DwcpFrame {
    struct DwcpFrame *next;
    uint64_t number; /* of the first chunk */
    uint32_t count;  /* of chunks */
    uint32_t pages;  /* described */
    bool again;      /* for a stream that was lost */
    unsigned level;  /* zstd's, 0 = raw */
    uint64_t taken_ns; /* when its chunks were */
    size_t length;   /* of the record */
    size_t head;     /* of it in bytes; the rest is in guest RAM */
    size_t used;     /* the most of bytes that was: to be wiped */
    struct iovec *guest;  /* if it may be raw: dwcp_raw_parts_max() entries
                           * behind bytes, else NULL */
    unsigned guest_count;
    /* dwcp_frame_bytes_max(); at level 0 dwcp_frame_head_bytes_max() */
    _Alignas(struct iovec) uint8_t bytes[];
} DwcpFrame;

/* DwcpStreamOps: what a role adds; called by the stream's thread, unlocked */
typedef struct DwcpStreamOps {
    /* Returns: 0 done; 1 not now: give it again after the next wake-up; or an
     * error, which ends the session. */
    int (*record)(DwcpStream *stream, const DwcpRecord *record,
                  const uint8_t *body, DwcpError *err);
    /* PAGES, of which only the head need stand at @body: does the rest land
     * in guest RAM?  NULL member: no.  Returns: 0 no, give it to record when
     * it is whole; 1 not now, as above; 2 stream->landing was started; or an
     * error. */
    int (*land)(DwcpStream *stream, const DwcpRecord *record,
                const uint8_t *body, DwcpError *err);
    /* The last byte has landed.  Returns: 0 or an error. */
    int (*landed)(DwcpStream *stream, DwcpError *err);
    /* The next frame to send, or NULL and how long to wait in *wait_ns
     * (UINT64_MAX = until woken).  NULL member: this role sends none. */
    DwcpFrame *(*pull)(DwcpStream *stream, uint64_t *wait_ns);
    /* The last byte was taken by the socket; the frame is the role's again. */
    void (*sent)(DwcpStream *stream, DwcpFrame *frame);
    /* Has the connection done its work before the session has?  It is closed
     * then, and not lost.  NULL member: never. */
    bool (*drained)(DwcpStream *stream);
    /* The connection is gone, the session goes on: what was under way on it? */
    void (*lost)(DwcpStream *stream);
    /* The peer's RESUME was taken in: say again what it may have missed. */
    int (*resumed)(DwcpStream *stream, DwcpError *err);
    /* Once a dwcp_session_tick_ns at least.  Returns: 0 or an error. */
    int (*tick)(DwcpStream *stream, uint64_t now_ns, DwcpError *err);
    /* Each sample_ns, as nearly as the loop gets there.  NULL member: never. */
    void (*sample)(DwcpStream *stream, uint64_t now_ns);
    uint64_t sample_ns;
} DwcpStreamOps;

struct DwcpStream {
    /* set at init, read-only */
    DwcpSession *session;
    const DwcpStreamOps *ops;
    void *role; /* the source's or target's own */
    int wake_fd;
    pthread_t thread;
    /* guarded by session->lock */
    DwcpStream *next; /* session->all */
    bool shaking;     /* target: has not confirmed yet, */
    uint64_t accepted_ns; /* since when */
    bool offering;    /* target: a NEW that was offered this session, and */
    uint8_t offer[DWCP_SESSION_BYTES]; /* has not confirmed it yet */
    DwcpFlowInfo flow; /* the connection, as sampled last; its id counts from
                        * 1, in the order in which they came to stand */

    /* set by the handshake, then read-only until the connection ends */
    bool again; /* a stream 0 that came again: RESUME goes first */
    unsigned index;
    DwcpTransport *transport; /* tcp, or what session->wrap put on it */
    DwcpTcp tcp; /* without a descriptor: not connected */
    bool spare; /* one of the user's sockets */
    DwcpAead *seal, *open; /* of a keyed session, else NULL */

    /* owner thread only */
    uint8_t *in; /* in_size bytes; [in_at, in_end) is not parsed yet */
    size_t in_size, in_at, in_end;
    size_t in_used; /* the most of it that was: to be wiped */
    size_t memory_bytes; /* of its buffers, as the session counts them, */
    size_t sealed_bytes; /* and of those of the connection */
    size_t in_missing; /* of the record that is being read; 0 = unknown */
    bool in_held;       /* the first record waits for a wake-up */
    DwcpFrame *frame;   /* being sent */
    size_t frame_at;    /* bytes of it that the socket has taken */
    unsigned guest_at;  /* the part that frame_at stands in, */
    size_t guest_done;  /* and how much of it was taken */
    uint8_t *ctrl;      /* control bytes being sent */
    size_t ctrl_at, ctrl_end;
    DwcpSealed *sealed; /* of a keyed session, else NULL */
    bool broken;        /* the connection has ended, not the session */
    bool retired;       /* as drained said */
    bool resumed;       /* again: the peer's RESUME has come */
    bool answered;      /* a record has come; stays until the next handshake */
    bool want_out;      /* the socket takes no more now */
    uint64_t wait_ns;   /* what pull said */
    uint64_t ticked_ns, sampled_ns;
    uint64_t tcp_acked_bytes; /* source, stream 0: at the last tick */
    uint64_t idle_ns;   /* source: last tick that found nothing in flight */
    DwcpPump *pump;     /* stream 0 */
    void *decoder;      /* target: DwcpDecoder */
    DwcpLanding *landing; /* target */
    /* source: frames sent and not acknowledged, a ring */
    struct DwcpUnacked {
        uint64_t number;
        uint32_t count, pages, bytes;
    } *unacked;
    uint64_t sent_frames, acked_frames;
    uint32_t enough_bytes; /* as the socket was told; 0 = not yet */
    uint32_t unsent_bytes; /* source: as the socket was told; 0 = not yet */
    uint64_t pace; /* the same, bytes/s; 0 = as it was made */

    /* guarded by out_lock */
    pthread_mutex_t out_lock;
    uint8_t *out; /* DWCP_CONTROL_QUEUE_MAX bytes */
    size_t out_end;

    atomic_bool cut;  /* the connection is to end: another takes its place */
    atomic_bool done; /* the thread is about to return */
};

/* dwcp_stream_new: no socket, no thread, no buffers yet; Returns: NULL, out of
 * memory or descriptors */
DwcpStream *dwcp_stream_new(DwcpSession *session, const DwcpStreamOps *ops,
                            void *role);

/*
 * dwcp_stream_open: buffers, empty; after the handshake, so that strangers
 * cost little, and before dwcp_session_adopt
 *
 * Returns: 0 or -ENOMEM
 */
int dwcp_stream_open(DwcpStream *stream, DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_stream_take_pump: stream 0 takes over the byte channel, which nobody
 * serves now; a new one if there is none, else RESUME is queued first of all
 *
 * Returns: 0 or -ENOMEM.
 */
int dwcp_stream_take_pump(DwcpStream *stream, DwcpError *err) DWCP_CHECKED;

/* dwcp_stream_free: after its thread was joined; NULL is allowed */
void dwcp_stream_free(DwcpStream *stream);

/*
 * dwcp_stream_close: the peer sees the end; the owner's, and once it is done
 *
 * @reset: as a reset, and a socket of the user's can be connected again
 */
void dwcp_stream_close(DwcpStream *stream, bool reset);

/* dwcp_stream_sleep: wait for a dwcp_stream_wake, @ns at most; the owner's, while
 * it has no connection.  dwcp_stream_pause: whoever wakes it, but not beyond the
 * session's end */
void dwcp_stream_sleep(DwcpStream *stream, uint64_t ns);
void dwcp_stream_pause(DwcpStream *stream, uint64_t ns);

/* dwcp_stream_wake: leave poll() and look around; any thread */
void dwcp_stream_wake(DwcpStream *stream);

/*
 * dwcp_stream_queue: queue a control record
 *
 * @parts: body, in two parts; either may be empty
 *
 * Returns: 0; -ENOBUFS the queue is full: the peer does not read.
 * Threads: any; all but the owner call dwcp_stream_wake afterwards.
 */
int dwcp_stream_queue(DwcpStream *stream, DwcpRecordType type,
                      const void *first, uint32_t first_length,
                      const void *second, uint32_t second_length) DWCP_CHECKED;

/* dwcp_stream_queue_u64: the same with one little-endian integer */
int dwcp_stream_queue_u64(DwcpStream *stream, DwcpRecordType type,
                          uint64_t value) DWCP_CHECKED;

/* dwcp_stream_queue_busy: should the owner stop making more records? */
bool dwcp_stream_queue_busy(DwcpStream *stream);

/*
 * dwcp_stream_farewell: tell the peer why the session failed, if that is ours to
 * tell; of a stream that has shaken hands and is not adopted
 */
void dwcp_stream_farewell(DwcpStream *stream);

/*
 * dwcp_stream_loop: run until the session or the connection ends
 *
 * If the connection ends too early, that fails the session, unless lost
 * connections are replaced; closes the socket.
 *
 * Returns: whether the session goes on without this connection.
 * Threads: the stream's own, after dwcp_session_adopt.
 */
bool dwcp_stream_loop(DwcpStream *stream);

#endif
