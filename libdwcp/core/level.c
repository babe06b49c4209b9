/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/level.h"

#include <assert.h>

#include "core/bounds.h"

#define HUNGRY_UP 0.75
#define HUNGRY_DOWN 0.125
/* Of what encoders read: when a link counts as fast, and goes on to. */
#define FAST 1.25
#define FAST_KEEP 0.67
/* Weight of the newest frame in the encoders' speed, where they are few, and in
 * unfed; and the least frame that says something of their speed. */
#define WEIGHT 0.125
#define PROBE_WEIGHT 0.25
#define ENCODED_BYTES_MIN (256u << 10)

void dwcp_level_init(DwcpLevel *level, unsigned workers)
{
    assert(workers);
    *level = (DwcpLevel){ .workers = workers };
}

static void set_stage(DwcpLevel *level, DwcpLevelStage stage)
{
    level->stage = stage;
    level->hunger = stage == DWCP_LEVEL_PACK ? 0 : 0.5; /* begins anew */
    level->unfed = 0.5;
}

/* Will all that is ready have left before one frame is compressed? */
static bool falls_short(const DwcpLevel *level, const DwcpLevelTake *take)
{
    return level->encoder_bytes_per_s > 0 &&
           (double)take->ready_bytes * level->encoder_bytes_per_s <
               (double)take->rate_bytes_per_s * DWCP_FRAME_PLAIN_MAX;
}

static void feel(DwcpLevel *level, const DwcpLevelTake *take, bool hungry)
{
    uint64_t spent_ns = level->at_ns ? take->now_ns - level->at_ns : 0;
    double weight;

    level->at_ns = take->now_ns;
    if (level->raw) {
        level->unfed += WEIGHT * ((take->hungry ? 1.0 : 0.0) - level->unfed);
    }
    if (hungry && spent_ns > DWCP_LEVEL_GAP_NS) {
        return;
    }
    weight = (double)spent_ns / (double)(spent_ns + DWCP_LEVEL_HUNGER_NS);
    level->hunger += weight * ((hungry ? 1.0 : 0.0) - level->hunger);
}

/* Does the link carry @part of what all encoders read? */
static bool outruns(const DwcpLevel *level, const DwcpLevelTake *take,
                    double part)
{
    return level->encoder_bytes_per_s > 0 &&
           (double)take->rate_bytes_per_s >=
               part * level->workers * level->encoder_bytes_per_s;
}

static void climb(DwcpLevel *level, const DwcpLevelTake *take)
{
    switch (level->stage) {
    case DWCP_LEVEL_PACK:
        if (level->hunger > HUNGRY_UP) {
            set_stage(level, DWCP_LEVEL_FILL);
        }
        break;
    case DWCP_LEVEL_FILL:
        if (level->unfed > HUNGRY_UP || outruns(level, take, FAST)) {
            set_stage(level, DWCP_LEVEL_RAW);
        } else if (level->hunger < HUNGRY_DOWN) {
            set_stage(level, DWCP_LEVEL_PACK);
        }
        break;
    case DWCP_LEVEL_RAW:
        if (level->hunger < HUNGRY_DOWN && !outruns(level, take, FAST_KEEP)) {
            set_stage(level, DWCP_LEVEL_FILL);
        }
        break;
    }
}

unsigned dwcp_level_choose(DwcpLevel *level, const DwcpLevelTake *take)
{
    bool hungry = take->hungry;

    assert(take->now_ns >= level->at_ns);
    hungry |= level->stage == DWCP_LEVEL_FILL && falls_short(level, take);
    feel(level, take, hungry);
    if (take->raw_fits && take->rate_bytes_per_s) {
        climb(level, take);
    } else if (level->stage != DWCP_LEVEL_PACK) {
        set_stage(level, DWCP_LEVEL_PACK);
    }
    level->raw = level->stage == DWCP_LEVEL_RAW
                     ? take->now_ns - level->packed_ns < DWCP_LEVEL_PROBE_NS
                     : level->stage == DWCP_LEVEL_FILL && hungry;
    if (level->raw) {
        return 0;
    }
    level->packed_ns = take->now_ns;
    return take->backlog && take->rate_bytes_per_s &&
                   take->rate_bytes_per_s <= DWCP_LEVEL_SLOW_BYTES_PER_S
               ? DWCP_LEVEL_FULL_LINK
               : DWCP_LEVEL_IDLE_LINK;
}

void dwcp_level_encoded(DwcpLevel *level, uint64_t plain_bytes,
                        uint64_t spent_ns)
{
    double weight = level->stage == DWCP_LEVEL_RAW ? PROBE_WEIGHT : WEIGHT;
    double speed;

    if (plain_bytes < ENCODED_BYTES_MIN || !spent_ns) {
        return;
    }
    speed = (double)plain_bytes * 1e9 / (double)spent_ns;
    level->encoder_bytes_per_s =
        level->encoder_bytes_per_s > 0
            ? level->encoder_bytes_per_s +
                  weight * (speed - level->encoder_bytes_per_s)
            : speed;
}
