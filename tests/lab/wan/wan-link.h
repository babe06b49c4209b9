/*
 * One direction of a link, without I/O: frames go in, come out later or never.
 *
 *     offer -> [ queue, drop-tail | serializer at the rate ] -> loss
 *                                       -> [ delay line ] -> due
 *
 * Time comes in with each call (monotonic nanoseconds, never going back). The
 * bottleneck sends one frame after another at the rate; a frame is due when
 * its last bit has left and its delay has passed. What the path loses has used
 * the bottleneck like everything else. Frames never overtake each other,
 * unless reordering is asked for.
 *
 * All memory is allocated at the start: the bytes in one ring, their
 * descriptors in another. A frame that finds a ring full is dropped and
 * counted apart from the queue's drops: it means that --buffer is too small.
 *
 * Threads: the caller's lock around every call.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_LINK_H
#define WAN_LINK_H

#include "wan-flow.h"
#include "wan-gso.h"
#include "wan-loss.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Frames in one direction at a time; a power of two. */
#define WAN_FRAMES_MAX 131072u
#define WAN_NEVER UINT64_MAX

typedef struct WanLinkConfig {
    uint64_t rate_bits_per_s; /* 0 is unlimited */
    uint64_t delay_ns;        /* one way */
    uint64_t jitter_ns;       /* delay varies evenly by up to this, both ways */
    uint64_t queue_bytes;     /* limit of the queue in wire bytes; 0 is none */
    uint64_t queue_ns;        /* the same in time at the rate; 0 is none */
    double reorder;           /* share of frames that overtake one, 0 to 1 */
    WanLossConfig loss;
} WanLinkConfig;

typedef struct WanCounters {
    WanCount offered;      /* from the sending host */
    WanCount queue_drops;  /* queue full */
    WanCount cut_drops;    /* offered or under way while the link was cut */
    WanCount killed_drops; /* of flows that were to end */
    WanCount buffer_drops; /* the emulator's own memory was full */
    WanCount bad_frames;   /* not understood */
    WanCount sent;         /* through the bottleneck: what the link carried */
    WanCount lost;         /* of sent */
    WanCount delivered;    /* to the receiving host */
    uint64_t queue_high_bytes;
} WanCounters;

/* Where a frame lies and when it moves on. A frame that is lost on the path
 * has no bytes, but its turn at the bottleneck. */
typedef struct WanFrame {
    uint64_t arrived_ns;
    uint64_t due_ns;
    uint64_t end; /* ring position up to which delivery frees the ring */
    uint32_t offset;
    uint32_t length;
    uint32_t packets;
    uint32_t wire_bytes;
    WanFlowRef flow; /* number 0: not TCP */
    uint32_t seq;    /* of the first byte of payload */
    uint32_t payload_bytes;
    uint32_t segment_bytes; /* payload of each packet but the last */
} WanFrame;

typedef struct WanLink {
    WanLinkConfig config;
    WanCounters counters;
    WanLoss loss;
    WanFlows flows;
    bool cut;

    uint8_t reply[WAN_RESET_MAX]; /* for the sender of the last frame */
    size_t reply_bytes;

    uint8_t *ring;
    uint64_t ring_bytes;
    uint64_t ring_head; /* first byte in use, counted from the start of time */
    uint64_t ring_tail; /* first byte not in use */
    uint8_t *scratch;   /* one frame, for cutting it up */

    /* Frames [head, serial) are in the delay line, [serial, tail) wait. */
    WanFrame *frames;
    uint64_t frames_head;
    uint64_t frames_serial;
    uint64_t frames_tail;

    uint64_t queued_bytes;   /* wire bytes of the waiting frames */
    uint64_t busy_until_ns;  /* when the serializer has sent the last one */
    uint64_t rate_remainder; /* of the last division by the rate */
} WanLink;

/*
 * @ring_bytes: memory for frames under way, at least twice WAN_FRAME_MAX
 *
 * Returns: 0, or -ENOMEM.
 */
int wan_link_init(WanLink *link, size_t ring_bytes, uint64_t seed)
    __attribute__((warn_unused_result));
void wan_link_clear(WanLink *link);

/* Changes the link from now on; what has left the bottleneck keeps its time. */
void wan_link_configure(WanLink *link, const WanLinkConfig *config,
                        uint64_t now_ns);

/* Cuts the link: everything under way and offered is dropped until mended. */
void wan_link_set_cut(WanLink *link, bool cut, uint64_t now_ns);

/* Sets all counters to 0. */
void wan_link_reset_counters(WanLink *link, uint64_t now_ns);

/*
 * WAN_FRAME_MAX bytes to read the next frame into, for wan_link_offer(). Never
 * NULL: with the ring full the frame is read all the same, and then dropped.
 */
uint8_t *wan_link_reserve(WanLink *link);

/* Takes the frame of @length bytes that was put where wan_link_reserve() said. */
void wan_link_offer(WanLink *link, uint8_t *frame, size_t length,
                    uint64_t now_ns);

/*
 * The frame that answers the last offer at once, because its flow has the fate
 * WAN_FATE_RESET; NULL if there is none. Valid until the next offer.
 */
const uint8_t *wan_link_reply(const WanLink *link, size_t *length);

/*
 * The next frame that is due, until wan_link_done(); NULL if there is none.
 */
const uint8_t *wan_link_due(WanLink *link, uint64_t now_ns, size_t *length);

/* Releases the frame that wan_link_due() returned, counted as delivered. */
void wan_link_done(WanLink *link);

/* When to call wan_link_due() next, or WAN_NEVER. */
uint64_t wan_link_deadline_ns(const WanLink *link);

#endif
