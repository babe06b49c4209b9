/*
 * How hard to compress the next frame, if the user left that to us
 *
 * Time and bytes pull apart.  A link that encoders cannot fill costs time, and
 * pages that are sent as they are cost it nothing; a link that is full costs
 * bytes.  Which it is shows at the streams: a take is hungry if a stream has
 * nothing to send while chunks wait to be encoded.  The share of hungry time is
 * averaged over DWCP_LEVEL_HUNGER_NS: for a moment streams are hungry at the
 * start of each round, and while their sockets fill.
 *
 *   PACK   every frame is compressed: level 3 while a slow link is full, else 2
 *   FILL   hungry streams get raw frames, at once, and as many as keep them busy
 *          while a frame is compressed; in between frames are compressed:
 *          together that is the link and all encoders
 *   RAW    every frame is raw: the encoders would only be in the way
 *
 * PACK -> FILL when three quarters of the time were hungry, FILL -> PACK when less
 * than an eighth asked for raw frames.  FILL -> RAW when raw frames leave streams
 * hungry, or the link carries a quarter more than the encoders read: nothing
 * compressed can be faster.  RAW -> FILL when it carries less than two thirds of
 * what they read and hunger is gone: hunger alone says nothing then, since streams that wait
 * for a processor look like a full link.  How fast encoders are changes with what
 * else the processors do, so in RAW a frame is compressed now and then, to know.
 *
 * Above PACK only where the owner says that bytes are cheap (core/mode: a short
 * path), and once a rate is known: a far path's bytes count, and how fast one is
 * nobody knows when it starts.
 *
 * Threads: none of its own; the owner locks.  Time comes in with each call.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_LEVEL_H
#define DWCP_CORE_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

#define DWCP_LEVEL_IDLE_LINK 2u
#define DWCP_LEVEL_FULL_LINK 3u
/* The fastest link that may count as full: level 3 takes a third more time. */
#define DWCP_LEVEL_SLOW_BYTES_PER_S (32u << 20)
#define DWCP_LEVEL_HUNGER_NS 50000000ull
/* No take for so long: there was nothing to encode, hunger means nothing. */
#define DWCP_LEVEL_GAP_NS 50000000ull
/* In RAW one frame is compressed in this time. */
#define DWCP_LEVEL_PROBE_NS 200000000ull

typedef enum DwcpLevelStage {
    DWCP_LEVEL_PACK,
    DWCP_LEVEL_FILL,
    DWCP_LEVEL_RAW,
} DwcpLevelStage;

typedef struct DwcpLevel {
    unsigned workers; /* set at init */
    DwcpLevelStage stage;
    double hunger;  /* share of the time of late; FILL: that asked for raw */
    double unfed;   /* FILL: share of takes behind a raw frame that were hungry */
    uint64_t at_ns; /* of the last take; 0 = never */
    uint64_t packed_ns; /* of the last that was compressed */
    bool raw;           /* the last was not */
    double encoder_bytes_per_s; /* plain bytes that one worker reads; 0 = not
                                 * known yet */
} DwcpLevel;

/*
 * DwcpLevelTake: a worker is about to encode a frame
 *
 * @rate_bytes_per_s: that leave on all streams; 0 = not known yet
 * @ready_bytes: that are encoded and wait for a stream
 * @hungry: a stream has nothing to send, and is not about to take one of these
 * @backlog: half of what may be ready is
 * @raw_fits: bytes are cheap on this path
 */
typedef struct DwcpLevelTake {
    uint64_t now_ns;
    uint64_t rate_bytes_per_s, ready_bytes;
    bool hungry, backlog, raw_fits;
} DwcpLevelTake;

void dwcp_level_init(DwcpLevel *level, unsigned workers);

/* dwcp_level_choose: Returns: zstd's level for that frame, or 0: raw */
unsigned dwcp_level_choose(DwcpLevel *level, const DwcpLevelTake *take);

/* dwcp_level_encoded: one worker has compressed @plain_bytes in @spent_ns */
void dwcp_level_encoded(DwcpLevel *level, uint64_t plain_bytes,
                        uint64_t spent_ns);

#endif
