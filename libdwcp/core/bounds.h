/*
 * Every limit of the library, with the reason for its size
 *
 * Wire limits are part of the protocol (docs/wire.md); the others may change
 * from release to release.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_BOUNDS_H
#define DWCP_CORE_BOUNDS_H

#include "dwcp/dwcp.h"

/* A chunk is 64 pages, aligned: one bit of a uint64_t per page. */
#define DWCP_CHUNK_PAGES 64u

/*
 * What one frame describes: this many chunks, and pages that are not zero up
 * to these bytes (or one chunk, if its pages are large).  zstd gains more from
 * 2 MiB at once than from a level: a working guest's memory at level 2 in
 * 256 KiB, 1 MiB, 2 MiB pieces is 100 : 85 : 77, at falling cost.
 */
#define DWCP_FRAME_CHUNKS_MAX 64u
#define DWCP_FRAME_PLAIN_MAX (2u << 20)

#define DWCP_PAGE_SIZE_MIN 1024u
#define DWCP_PAGE_SIZE_MAX 65536u
#define DWCP_BLOCKS_MAX 65536u

/* Numbers are stored in 32 bits per page at the target; 0 is "never". */
#define DWCP_NUMBERS_MAX (UINT32_MAX - 1u)

/*
 * How far hand-over numbers may run ahead of the oldest that is not
 * acknowledged.  A chunk of zeros costs 32 bytes: very many of them may be in
 * flight.  Costs 8 KiB at either end.
 */
#define DWCP_NUMBERS_AHEAD_MAX 65536u

/* Frames that one stream may have sent and not seen acknowledged. */
#define DWCP_STREAM_UNACKED_MAX 4096u

/* A byte channel's receive buffer, and so its window: device state fits. */
#define DWCP_CHANNELS_MAX 1u
#define DWCP_CHANNEL_WINDOW (4u << 20)
#define DWCP_CHANNEL_DATA_MAX (64u << 10)
/* Consumed bytes that the peer is told of at once; less at the next tick. */
#define DWCP_CHANNEL_REPORT (DWCP_CHANNEL_WINDOW / 4)

/* Body of any record but PAGES. */
#define DWCP_CONTROL_BODY_MAX (DWCP_CHANNEL_DATA_MAX + 16u)

/* Control records wait here for their socket; peers cannot make it grow. */
#define DWCP_CONTROL_QUEUE_MAX (256u << 10)

#define DWCP_ABORT_TEXT_MAX 200u

/* Of each thread; the deepest is a name service module's. */
#define DWCP_STACK_BYTES (512u << 10)

/*
 * Unsent bytes that a stream's socket may hold: what it sends in
 * DWCP_UNSENT_MS, so that a thread that wakes up late finds it busy.
 */
#define DWCP_UNSENT_BYTES_MIN (256u << 10)
#define DWCP_UNSENT_BYTES_MAX (4u << 20)
#define DWCP_UNSENT_MS 20u

/*
 * In the middle of a frame a stream wakes up for no less, where its socket's
 * buffer holds four times as much: a chunk of 4 KiB pages.
 */
#define DWCP_ENOUGH_BYTES (256u << 10)

#define DWCP_QUEUE_BYTES_DEFAULT (32u << 20)
#define DWCP_QUEUE_BYTES_MIN (256u << 10)
#define DWCP_QUEUE_BYTES_START (4 * DWCP_FRAME_PLAIN_MAX) /* rate unknown */
#define DWCP_QUEUE_MS_DEFAULT 100u
#define DWCP_SILENCE_MS_DEFAULT 30000u
#define DWCP_SWITCHOVER_MS_DEFAULT 5000u
/*
 * A source says GO within silence_ms_max of READY or never; a target waits for
 * it this many times as long, so that it does not give up while GO is on its
 * way: then neither side would run.
 */
#define DWCP_GO_SILENCES 2u
#define DWCP_PING_MS 1000u

/*
 * A session that has lost all its connections tries to make new ones for this
 * long, before END.  libvirt's own limits follow it.  For as long it bears with
 * connections that come and break without anything that moves between them,
 * after END for the silence limit.
 */
#define DWCP_RESUME_MS_DEFAULT 60000u
/* A connection is given up when what was sent on it is not acknowledged for so
 * long, and retransmissions get no answer; after END half the switchover limit. */
#define DWCP_STALL_MS 5000u
/* One attempt to replace a connection, handshake included; in it, until the
 * peer's kernel has answered, or 3 RTT; and the pauses between attempts,
 * doubling from one to the other. */
#define DWCP_RECONNECT_MS 5000u
#define DWCP_ANSWER_MS 1500u
#define DWCP_BACKOFF_MS_MIN 100u
#define DWCP_BACKOFF_MS_MAX 500u
/* A target whose host refuses all attempts for so long is gone. */
#define DWCP_REFUSED_MS 5000u

/* Plain bytes of one encrypted segment: from here on a core encrypts no faster. */
#define DWCP_SEGMENT_PLAIN_MAX (64u << 10)
/* Segments under one key: 64 GiB, far below where AES-GCM gives way. */
#define DWCP_REKEY_SEGMENTS (1u << 20)

/*
 * RDMA (core/lane.h).  Messages that the source has sent and that were not
 * answered: so many receive buffers wait for them, so that a receiver is always
 * ready.  With 2 MiB each they are far more than a path holds.
 */
#define DWCP_LANE_CREDITS 64u
/* Guest bytes written and not acknowledged: they are downtime if the guest
 * stops.  The path's own share is less: 100 Gbit/s times 0.1 ms is 1.2 MiB. */
#define DWCP_LANE_FLIGHT_BYTES (8u << 20)
/* Frames that look ahead of the one that is written, for their pieces. */
#define DWCP_LANE_STAGED 8u
/* Guest RAM is registered in pieces, aligned: pinning one takes some
 * milliseconds, and the keys of a TiB are 65536 at either end. */
#define DWCP_PIECE_BYTES (16u << 20)
/* Pieces that were asked for and not written yet: the first page is written
 * when so many are registered at the most. */
#define DWCP_PIECES_AHEAD 2u
/* From the offer to a lane that stands; then until TCP has drained. */
#define DWCP_LANE_SETUP_MS 10000u
/* Strangers that a target turns away before it gives its offer up. */
#define DWCP_LANE_ATTEMPTS_MAX 8u
/* A lane on which nothing is answered for so long is lost; after END the
 * switchover limit.  That packets are not acknowledged the device notices; this
 * is for a target whose processor has other things to do. */
#define DWCP_LANE_STALL_MS 10000u

/* A connection must finish its handshake in this time, connect included. */
#define DWCP_HANDSHAKE_MS 10000u
/* Connections that a listener serves at once before they belong to it. */
#define DWCP_HANDSHAKES_MAX 96u
/* Of so many, the oldest that has not confirmed for this long makes room for one
 * that waits: else 96 silent strangers would keep everyone out. */
#define DWCP_HANDSHAKE_CROWD_MS 1000u

_Static_assert(DWCP_CHUNK_PAGES == 64, "one bit of a uint64_t per page");
_Static_assert(DWCP_CONTROL_QUEUE_MAX > 2 * DWCP_CONTROL_BODY_MAX,
               "a full record must fit behind a full record");
_Static_assert(DWCP_HANDSHAKES_MAX > DWCP_STREAMS_MAX,
               "all streams of a session may join at once");
_Static_assert(DWCP_PIECE_BYTES % (DWCP_CHUNK_PAGES * DWCP_PAGE_SIZE_MAX) == 0,
               "no chunk stands in two pieces");
_Static_assert(DWCP_FRAME_CHUNKS_MAX < DWCP_NUMBERS_AHEAD_MAX / 64,
               "a frame takes little of the window");

#endif
