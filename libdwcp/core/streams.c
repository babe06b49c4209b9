/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/streams.h"

#include <assert.h>
#include <string.h>

/* Rounds before a look, and those that a change is given to show. */
#define HUNGRY_ROUNDS 2u
#define SETTLE_ROUNDS 6u
/* The windows of those that stay grow slowly into what the others left. */
#define REST_ROUNDS 24u
/* Bytes that slow start begins with: ten segments. */
#define START_BYTES 14480.0
#define NS_PER_US 1000ull
/* CUBIC grows by seconds, whatever the RTT: on a shorter path it is soon done. */
#define LONG_US 80000u
/* More than that in a round is slow start, which needs no help. */
#define GROWTH 1.25
/* What a standing queue has said of the link is believed for this long. */
#define FULL_NS 30000000000ull

static const char *const texts[DWCP_STREAMS_REASONS] = {
    [DWCP_STREAMS_START] = "as it began",
    [DWCP_STREAMS_PINNED] = "pinned",
    [DWCP_STREAMS_LOSS] = "losses keep each stream slow",
    [DWCP_STREAMS_ROOM] = "windows grow slowly on a long path",
    [DWCP_STREAMS_WINDOW] = "its window keeps each stream slow",
    [DWCP_STREAMS_THREADS] = "frames wait for a thread",
    [DWCP_STREAMS_NO_GAIN] = "more did not help",
    [DWCP_STREAMS_NO_JOIN] = "more could not be made",
    [DWCP_STREAMS_REST] = "fewer may do",
    [DWCP_STREAMS_MISSED] = "fewer did not do",
};

void dwcp_streams_init(DwcpStreams *streams, unsigned wanted, bool pinned,
                       uint64_t now_ns)
{
    assert(wanted >= 1 && wanted <= DWCP_STREAMS_MAX);
    memset(streams, 0, sizeof(*streams));
    dwcp_flows_init(&streams->flows);
    streams->wanted = wanted;
    streams->reason = pinned ? DWCP_STREAMS_PINNED : DWCP_STREAMS_START;
    streams->pinned = pinned;
    streams->since_ns = now_ns;
    streams->up_wait_ns = DWCP_STREAMS_LOOK_NS;
    streams->down_wait_ns = DWCP_STREAMS_LOOK_NS;
    streams->fed_ns = now_ns;
}

static bool set_wanted(DwcpStreams *streams, unsigned wanted,
                       DwcpStreamsReason reason, uint64_t now_ns)
{
    streams->hungry = 0;
    streams->idle_ns = 0;
    streams->fed_ns = now_ns;
    if (wanted == streams->wanted) {
        return false;
    }
    streams->wanted = wanted;
    streams->reason = reason;
    streams->since_ns = now_ns;
    streams->changes++;
    return true;
}

/* ------------------------------------------------------------ evidence -- */

/* A queue stood of late at this rate: it is the link that limits.  CUBIC
 * streams that fill a link empty the queue for a while now and then. */
static bool is_full(const DwcpStreams *streams)
{
    return streams->full_ns &&
           streams->average >= (double)streams->full_bytes_per_s * 0.95;
}

static bool is_long(const DwcpStreams *streams)
{
    return streams->round.rtt_us - streams->round.queue_us >= LONG_US;
}

/* Do the streams wait for what more of them change? */
static bool is_hunger(const DwcpStreams *streams, DwcpMode mode)
{
    const DwcpFlowLimit limit = streams->round.limit;

    if (streams->paced) {
        return false;
    }
    return (limit == DWCP_FLOW_LOSS && !is_full(streams)) ||
           (limit == DWCP_FLOW_ROOM && !is_full(streams) && !streams->grows &&
            is_long(streams)) ||
           limit == DWCP_FLOW_WINDOW ||
           (limit == DWCP_FLOW_APPLICATION && streams->backlog &&
            mode == DWCP_MODE_DATACENTER);
}

static void weigh(DwcpStreams *streams, DwcpMode mode, uint64_t now_ns)
{
    const DwcpFlowRound *round = &streams->round;
    bool hungry;

    streams->grows =
        (double)round->rate_bytes_per_s > streams->average * GROWTH;
    /* Two rounds' average, or more when they are short. */
    streams->average =
        streams->average
            ? (streams->average + (double)round->rate_bytes_per_s) / 2
            : (double)round->rate_bytes_per_s;
    if (round->queue_stands) {
        streams->full_ns = now_ns;
        streams->full_bytes_per_s = (uint64_t)streams->average;
    } else if (now_ns - streams->full_ns >= FULL_NS) {
        streams->full_ns = 0;
    }
    hungry = is_hunger(streams, mode);
    if (!hungry) {
        streams->hungry = 0;
    } else {
        streams->hungry =
            streams->hunger == round->limit ? streams->hungry + 1 : 1;
        streams->hunger = round->limit;
    }
    streams->busy = round->limit == DWCP_FLOW_APPLICATION && !hungry
                        ? 0
                        : streams->busy + 1;
    /* One round is no evidence, against either. */
    if (streams->hungry >= HUNGRY_ROUNDS) {
        streams->fed_ns = 0;
    } else if (!streams->fed_ns) {
        streams->fed_ns = now_ns;
    }
    if (streams->busy >= HUNGRY_ROUNDS) {
        streams->idle_ns = 0;
    } else if (!streams->idle_ns) {
        streams->idle_ns = now_ns;
    }
}

/* ----------------------------------------------------------------- try -- */

static unsigned doublings(double ratio)
{
    unsigned n = 0;

    while (ratio > 1) {
        ratio /= 2;
        n++;
    }
    return n;
}

static bool begin(DwcpStreams *streams, int state, unsigned wanted,
                  DwcpStreamsReason reason, uint64_t now_ns)
{
    const DwcpFlowRound *round = &streams->round;
    double each = streams->average * round->rtt_us / 1e6 /
                  (double)(round->streams ? round->streams : 1);

    streams->state = state;
    streams->before = streams->wanted;
    streams->before_bytes_per_s = (uint64_t)streams->average;
    streams->joined_ns = 0;
    streams->rounds = 0;
    streams->rounds_max = SETTLE_ROUNDS + doublings(each / START_BYTES);
    return set_wanted(streams, wanted, reason, now_ns);
}

static bool steady(DwcpStreams *streams, DwcpMode mode, uint64_t now_ns)
{
    static const DwcpStreamsReason reasons[DWCP_FLOW_LIMITS] = {
        [DWCP_FLOW_LOSS] = DWCP_STREAMS_LOSS,
        [DWCP_FLOW_ROOM] = DWCP_STREAMS_ROOM,
        [DWCP_FLOW_WINDOW] = DWCP_STREAMS_WINDOW,
        [DWCP_FLOW_APPLICATION] = DWCP_STREAMS_THREADS,
    };
    const DwcpFlowLimit hunger = streams->hunger;
    const bool small = hunger == DWCP_FLOW_LOSS || hunger == DWCP_FLOW_ROOM;
    const unsigned most =
        small || is_long(streams) || mode == DWCP_MODE_DATACENTER
            ? DWCP_STREAMS_MAX
            : DWCP_STREAMS_NORMAL;
    unsigned wanted = streams->wanted * (small ? 4 : 2), least;

    if (streams->up_bytes_per_s &&
        streams->average * 4 < (double)streams->up_bytes_per_s * 3) {
        streams->up_ns = 0; /* another path than the one that was tried */
        streams->up_bytes_per_s = 0;
    }
    wanted = wanted < most ? wanted : most;
    if (streams->hungry >= HUNGRY_ROUNDS && wanted > streams->wanted &&
        now_ns >= streams->up_ns) {
        return begin(streams, DWCP_STREAMS_UP, wanted, reasons[hunger],
                     now_ns);
    }
    least =
        streams->idle_ns && now_ns - streams->idle_ns >= DWCP_STREAMS_REST_NS
            ? DWCP_STREAMS_LEAST
            : DWCP_STREAMS_NORMAL;
    if (streams->wanted > least && now_ns >= streams->down_ns &&
        streams->fed_ns && now_ns - streams->fed_ns >= DWCP_STREAMS_REST_NS) {
        wanted = streams->wanted / 2;
        streams->rested_ns = now_ns;
        return begin(streams, DWCP_STREAMS_DOWN,
                     wanted > least ? wanted : least, DWCP_STREAMS_REST,
                     now_ns);
    }
    return false;
}

static void wait_longer(uint64_t *until_ns, uint64_t *wait_ns, uint64_t now_ns)
{
    *until_ns = now_ns + *wait_ns;
    *wait_ns = 2 * *wait_ns < DWCP_STREAMS_LOOK_NS_MAX
                   ? 2 * *wait_ns
                   : DWCP_STREAMS_LOOK_NS_MAX;
}

static bool up(DwcpStreams *streams, uint64_t now_ns)
{
    const double gain =
        streams->average / ((double)streams->before_bytes_per_s + 1);
    double enough = 1 + 0.25 * ((double)streams->wanted / streams->before - 1);

    enough = enough < 1.5 ? enough : 1.5;
    if (!streams->joined_ns) {
        if (streams->round.streams >= streams->wanted) {
            streams->joined_ns = now_ns;
        } else if (now_ns - streams->since_ns >= DWCP_STREAMS_JOIN_NS) {
            streams->state = DWCP_STREAMS_STEADY;
            wait_longer(&streams->up_ns, &streams->up_wait_ns, now_ns);
            return set_wanted(streams, streams->before, DWCP_STREAMS_NO_JOIN,
                              now_ns);
        }
        return false;
    }
    streams->rounds++;
    if (gain >= enough ||
        (2 * streams->rounds >= streams->rounds_max && gain < 0.85 &&
         streams->hungry >= HUNGRY_ROUNDS) ||
        (streams->rounds >= streams->rounds_max &&
         (gain >= 1.125 || is_full(streams)))) {
        streams->state = DWCP_STREAMS_STEADY;
        if (streams->rested_ns &&
            now_ns - streams->rested_ns < streams->down_wait_ns) {
            /* What was given back had been worth something. */
            wait_longer(&streams->down_ns, &streams->down_wait_ns, now_ns);
        }
        streams->up_wait_ns = DWCP_STREAMS_LOOK_NS;
        return false;
    }
    if (streams->rounds < streams->rounds_max) {
        return false;
    }
    streams->state = DWCP_STREAMS_STEADY;
    wait_longer(&streams->up_ns, &streams->up_wait_ns, now_ns);
    streams->up_bytes_per_s = streams->before_bytes_per_s;
    return set_wanted(streams, streams->before, DWCP_STREAMS_NO_GAIN, now_ns);
}

static bool down(DwcpStreams *streams, uint64_t now_ns)
{
    const uint64_t rtt_ns = streams->round.rtt_us * NS_PER_US;

    const double kept =
        streams->average / ((double)streams->before_bytes_per_s + 1);
    uint64_t look_ns;

    streams->rounds++;
    if (streams->rounds < SETTLE_ROUNDS ||
        (kept >= 0.75 && streams->rounds < REST_ROUNDS)) {
        return false;
    }
    streams->state = DWCP_STREAMS_STEADY;
    if (kept >= 0.9 || streams->round.limit == DWCP_FLOW_APPLICATION) {
        return false;
    }
    wait_longer(&streams->down_ns, &streams->down_wait_ns, now_ns);
    /* Those that come back need their time before more are thought of. */
    look_ns = now_ns + 4ull * streams->rounds_max * rtt_ns;
    if (streams->up_ns < look_ns) {
        streams->up_ns = look_ns;
    }
    return set_wanted(streams, streams->before, DWCP_STREAMS_MISSED, now_ns);
}

bool dwcp_streams_tick(DwcpStreams *streams, const DwcpStreamsTick *tick)
{
    bool changed = false;

    streams->paced |= tick->paced;
    streams->backlog |= tick->backlog;
    if (!dwcp_flows_tick(&streams->flows, tick->infos, tick->count,
                         tick->now_ns, &streams->round)) {
        return false;
    }
    if (!streams->pinned) {
        weigh(streams, tick->mode, tick->now_ns);
        switch (streams->state) {
        case DWCP_STREAMS_STEADY:
            changed = steady(streams, tick->mode, tick->now_ns);
            break;
        case DWCP_STREAMS_UP:
            changed = up(streams, tick->now_ns);
            break;
        case DWCP_STREAMS_DOWN:
            changed = down(streams, tick->now_ns);
            break;
        }
    }
    streams->paced = streams->backlog = false;
    return changed;
}

const char *dwcp_streams_reason_text(DwcpStreamsReason reason)
{
    assert(reason < DWCP_STREAMS_REASONS);
    return texts[reason];
}
