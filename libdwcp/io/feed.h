/*
 * From the migration thread to the sockets: runs, chunks, frames
 *
 *   put()  ->  open chunk  ->  ring of chunks  ->  workers encode
 *          ->  ready frames  ->  streams pull, send  ->  acknowledged
 *
 * Runs are merged into the chunk that the migration thread is walking through
 * and get their hand-over number when it leaves it; a waiting chunk is 32
 * bytes, so the whole guest can be absorbed at completion.  Workers stop when
 * the ready frames reach a limit in bytes or in milliseconds of the measured
 * rate: what is encoded is a copy that ages.  Whatever is handed over and not
 * acknowledged is `pending`, and costs downtime if the guest stops now.
 *
 * Order: frames may leave and arrive in any order; the number says which
 * description of a page is the newest.  Two chunks with the same page differ
 * in round, and whoever reads the page reads it after its hand-over, so the
 * later number never describes less than the dirty log promised.
 *
 * Lost connections: a chunk stays in the ring until it was acknowledged.  What a
 * lost stream had and was not acknowledged is encoded again under the same
 * number, from guest RAM as it is then, before anything new: frames need not be
 * kept, and what waits to be sent again costs a bit.
 *
 * RDMA: a lane that stands takes all frames, raw ones, and the streams get none.
 * Both ways at once would let an old description pass a newer one, which an RDMA
 * write does not notice.  So on the way to the lane workers pause until all that
 * was taken is acknowledged; on the way back nothing is sent before the lane can
 * write no more.
 *
 * Locks: `lock`, a leaf; nothing else is taken under it.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_FEED_H
#define DWCP_IO_FEED_H

#include "core/codec.h"
#include "core/hostcap.h"
#include "core/level.h"
#include "core/pacer.h"
#include "core/seqset.h"
#include "io/stream.h"

/* What a chunk becomes at the least, if it is not mostly zeros. */
#define DWCP_CHUNK_WIRE_BYTES (32u << 10)

/* DwcpFeedWay: which frames take */
typedef enum DwcpFeedWay {
    DWCP_WAY_TCP,
    DWCP_WAY_DRAIN, /* TCP, but no new ones: to the lane */
    DWCP_WAY_LANE,
} DwcpFeedWay;

typedef struct DwcpFeed {
    /* set at init, read-only */
    DwcpSource *source;
    DwcpSession *session;
    uint32_t queue_bytes_max, queue_ms_max;
    unsigned frames_beyond; /* of the pool, those that no stream holds */
    int level; /* DWCP_LEVEL_AUTO, or fixed; stream 0's handshake may change it
                * before the first worker starts */
    bool raw_too; /* a lane may come to be: frames have room for both; as above */

    /* migration thread only */
    DwcpChunk open; /* present 0 = none */
    uint32_t round;

    pthread_mutex_t lock;
    pthread_cond_t work;  /* workers: something to encode, or room */
    pthread_cond_t drain; /* waiters: something was taken or acknowledged */
    /* guarded by lock */
    DwcpChunk *ring; /* a power of two of entries */
    uint64_t ring_size, ring_in, ring_out; /* counts; acked.below <= ring_out
                                            * <= ring_in */
    uint64_t again[DWCP_NUMBERS_AHEAD_MAX / 64]; /* ring of bits by number: to
                                                  * be encoded again */
    uint64_t again_count;
    DwcpFrame *ready, **ready_end;
    uint64_t ready_bytes;
    DwcpFrame *spare; /* the pool */
    unsigned frames;  /* that exist */
    uint64_t idle;    /* bit per stream that found nothing to pull */
    DwcpStream *streams[DWCP_STREAMS_MAX]; /* of the idle bits */
    DwcpSeqset acked;
    DwcpPacer pacer;
    DwcpHostcapMember hostcap; /* asked once the pacer has nothing against it */
    uint64_t rate_bytes_per_s; /* measured */
    uint64_t rate_ns, rate_bytes;
    DwcpLevel choice;   /* of the level, with DWCP_LEVEL_AUTO */
    unsigned level_now;
    bool begun; /* BEGIN has come: stream 0 may carry pages */
    uint64_t pulled; /* chunks that streams have taken to send */
    uint64_t dry_ns, dry_since_ns; /* streams had taken all; 0 = they have not */
    uint64_t zero_pages, zstd_pages, raw_pages, again_bytes;

    DwcpFeedWay way;
    int lane_fd; /* wakes the lane; -1 = there is none */

    bool paced; /* a stream has waited for one of them since
                 * dwcp_feed_pressure */

    /* written by the migration thread / under lock; read anywhere */
    atomic_ullong put_pages, acked_pages;
    atomic_uint streams_wanted; /* those of this index and above get no frames */
    atomic_uint rounds;
    atomic_bool raw_fits; /* bytes are cheap on this path; stream 0's thread */
} DwcpFeed;

/* dwcp_feed_init: Returns: 0, -ENOMEM */
int dwcp_feed_init(DwcpFeed *feed, DwcpSource *source, DwcpSession *session,
                   uint32_t queue_bytes_max, uint32_t queue_ms_max,
                   unsigned frames_beyond, unsigned streams_wanted, int level,
                   DwcpError *err) DWCP_CHECKED;
void dwcp_feed_clear(DwcpFeed *feed);

/* migration thread; see dwcp_source_put, _flush, _round
 * Returns: 0, -ENOMEM, -ENOBUFS (numbers are used up) */
int dwcp_feed_put(DwcpFeed *feed, uint32_t block, uint64_t first,
                  uint64_t pages) DWCP_CHECKED;
int dwcp_feed_flush(DwcpFeed *feed) DWCP_CHECKED;
int dwcp_feed_round(DwcpFeed *feed) DWCP_CHECKED;

/* dwcp_frame_free: wiped; NULL is allowed */
void dwcp_frame_free(DwcpFrame *frame);

bool dwcp_feed_full(DwcpFeed *feed);
uint64_t dwcp_feed_pending_pages(DwcpFeed *feed);
int dwcp_feed_wait(DwcpFeed *feed, unsigned timeout_ms) DWCP_CHECKED;

/* dwcp_feed_last_number: of all that was flushed; 0 = nothing was */
uint64_t dwcp_feed_last_number(DwcpFeed *feed);

/*
 * dwcp_feed_take: wait for chunks and a frame to encode them into
 *
 * As many chunks as fit a frame, but not more than one stream's share of
 * what waits: the end of a round is spread over all streams.
 *
 * @pages: number, count and chunks are filled in
 * @level: to compress with, or 0: send raw; with DWCP_LEVEL_AUTO as core/level
 *         chooses
 *
 * Returns: 0; -ECANCELED the session is over.
 * Threads: workers.
 */
int dwcp_feed_take(DwcpFeed *feed, DwcpPages *pages, DwcpFrame **frame,
                   unsigned *level) DWCP_CHECKED;

/* dwcp_feed_rate_locked: bytes per second that can be expected to leave; 0 =
 * not known yet */
uint64_t dwcp_feed_rate_locked(const DwcpFeed *feed);
/* dwcp_feed_ready_limit_locked: ready bytes beyond which workers pause */
uint64_t dwcp_feed_ready_limit_locked(const DwcpFeed *feed);

/* dwcp_feed_not_dry_locked: there is, or will be, something to send */
void dwcp_feed_not_dry_locked(DwcpFeed *feed);

/* dwcp_feed_ready: a worker's frame is encoded; takes the frame */
void dwcp_feed_ready(DwcpFeed *feed, DwcpFrame *frame, const DwcpPages *pages);

/* streams, whose role is the feed; see DwcpStreamOps */
DwcpFrame *dwcp_feed_pull(DwcpStream *stream, uint64_t *wait_ns);
void dwcp_feed_sent(DwcpStream *stream, DwcpFrame *frame);

/* dwcp_feed_ack: the peer has applied @count frames of this stream in all
 * Returns: 0; -EPROTO it cannot have. */
int dwcp_feed_ack(DwcpStream *stream, uint64_t count,
                  DwcpError *err) DWCP_CHECKED;

/* dwcp_feed_lost: the stream's connection has ended; what it had and was not
 * acknowledged goes out on others.  Threads: the stream's own. */
void dwcp_feed_lost(DwcpStream *stream);

/* dwcp_feed_set_streams: how many of them take frames; any thread */
void dwcp_feed_set_streams(DwcpFeed *feed, unsigned streams_wanted);

/* dwcp_feed_drained: does the stream get no more frames, and was every one that
 * it had acknowledged?  Threads: the stream's own. */
bool dwcp_feed_drained(DwcpStream *stream);

/* dwcp_feed_pressure: @paced: was the rate's limit waited for since the last
 * call?  @backlog: do frames wait for a stream? */
void dwcp_feed_pressure(DwcpFeed *feed, bool *paced, bool *backlog);

/* dwcp_feed_dry_ms: for so long, in all, streams had taken everything */
uint64_t dwcp_feed_dry_ms(DwcpFeed *feed);

/* dwcp_feed_begin: BEGIN has come; Returns: 0; -EPROTO for the second time,
 * unless it comes @again on a new connection */
int dwcp_feed_begin(DwcpFeed *feed, bool again, DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_feed_ready_check: may READY come now?
 *
 * Only after BEGIN, and when streams have taken every frame; not even that if
 * one was lost.  Nothing more can be asked: a peer may have a frame, and say READY, before the thread that sent
 * it has looked at its clock.
 *
 * Returns: 0; -EPROTO.
 */
int dwcp_feed_ready_check(DwcpFeed *feed, DwcpError *err) DWCP_CHECKED;

/* dwcp_feed_again_locked: numbers that were pulled are to be encoded again */
void dwcp_feed_again_locked(DwcpFeed *feed, uint64_t number, uint32_t count);
/* dwcp_feed_sent_locked: a frame was taken in by a socket or device; back to the
 * pool with it */
void dwcp_feed_sent_locked(DwcpFeed *feed, DwcpFrame *frame, uint64_t now_ns);
/* dwcp_feed_acked_locked: Returns: 0; -ENOBUFS out of the window */
int dwcp_feed_acked_locked(DwcpFeed *feed, uint64_t number, uint32_t count,
                           uint32_t pages) DWCP_CHECKED;
/* dwcp_feed_next_locked: the next ready frame, if there is one and the rate's
 * limit allows it now; else NULL and when to ask again */
DwcpFrame *dwcp_feed_next_locked(DwcpFeed *feed, uint64_t now_ns,
                                 uint64_t *wait_ns);
void dwcp_feed_wake_lane_locked(const DwcpFeed *feed);

/* ---- feed-lane.c: for the lane's thread ---- */

/* dwcp_feed_lane_attach: a write to @fd wakes the lane; -1: there is none */
void dwcp_feed_lane_attach(DwcpFeed *feed, int fd);

/*
 * dwcp_feed_lane_enter: let the frames take the lane
 *
 * Returns: 1 they do; 0 not yet: BEGIN has not come (@begun is false), or what
 * took TCP is not all acknowledged; the lane is woken when this may have
 * changed.
 */
int dwcp_feed_lane_enter(DwcpFeed *feed, bool *begun);

/* dwcp_feed_lane_pull: as dwcp_feed_pull */
DwcpFrame *dwcp_feed_lane_pull(DwcpFeed *feed, uint64_t *wait_ns);
/* dwcp_feed_lane_sent: its writes and its head are posted */
void dwcp_feed_lane_sent(DwcpFeed *feed, DwcpFrame *frame);
/* dwcp_feed_lane_acked: Returns: 0; -EPROTO */
int dwcp_feed_lane_acked(DwcpFeed *feed, uint64_t number, uint32_t count,
                         uint32_t pages, DwcpError *err) DWCP_CHECKED;

/* dwcp_feed_lane_again: the lane is lost, and with it what these numbers
 * describe; @bytes of it were written in vain; @frame, if not NULL, goes back to
 * the pool.  Before dwcp_feed_lane_leave. */
void dwcp_feed_lane_again(DwcpFeed *feed, uint64_t number, uint32_t count,
                          uint64_t bytes, DwcpFrame *frame);
/* dwcp_feed_lane_leave: the frames take TCP again; nothing can write to the
 * target's memory by RDMA */
void dwcp_feed_lane_leave(DwcpFeed *feed);

/* dwcp_feed_set_rate: 0 = no limit */
void dwcp_feed_set_rate(DwcpFeed *feed, uint64_t bytes_per_s);

/* dwcp_feed_wake: the session is over; workers and waiters leave */
void dwcp_feed_wake(DwcpFeed *feed);

#endif
