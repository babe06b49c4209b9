/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-link.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1000000000u

_Static_assert((WAN_FRAMES_MAX & (WAN_FRAMES_MAX - 1)) == 0,
               "descriptors are found by masking");

static WanFrame *frame_at(const WanLink *link, uint64_t index)
{
    return &link->frames[index & (WAN_FRAMES_MAX - 1)];
}

static void count(WanCount *counter, uint32_t packets, uint64_t bytes)
{
    counter->packets += packets;
    counter->bytes += bytes;
}

int wan_link_init(WanLink *link, size_t ring_bytes, uint64_t seed)
{
    assert(ring_bytes >= 2 * (size_t)WAN_FRAME_MAX);
    memset(link, 0, sizeof(*link));
    wan_loss_init(&link->loss, seed);
    link->ring_bytes = ring_bytes;
    link->ring = malloc(ring_bytes);
    link->scratch = malloc(WAN_FRAME_MAX);
    link->frames = calloc(WAN_FRAMES_MAX, sizeof(*link->frames));
    if (!link->ring || !link->scratch || !link->frames ||
        wan_flows_init(&link->flows) < 0) {
        wan_link_clear(link);
        return -ENOMEM;
    }
    return 0;
}

void wan_link_clear(WanLink *link)
{
    free(link->ring);
    free(link->scratch);
    free(link->frames);
    wan_flows_clear(&link->flows);
    memset(link, 0, sizeof(*link));
}

/* How long the serializer works on a frame. What the division by the rate
 * leaves over goes to the next frame, so that the rate is exact. */
static uint64_t send_time_ns(const WanLink *link, uint32_t wire_bytes,
                             uint64_t *remainder)
{
    uint64_t rate = link->config.rate_bits_per_s;
    uint64_t bit_ns;

    if (rate == 0) {
        return 0;
    }
    bit_ns = (uint64_t)wire_bytes * 8 * NS_PER_S + link->rate_remainder;
    *remainder = bit_ns % rate;
    return bit_ns / rate;
}

static uint64_t path_delay_ns(WanLink *link)
{
    uint64_t jitter = link->config.jitter_ns;
    uint64_t earliest;

    if (jitter == 0) {
        return link->config.delay_ns;
    }
    earliest =
        link->config.delay_ns > jitter ? link->config.delay_ns - jitter : 0;
    return earliest +
           (uint64_t)(wan_loss_uniform(&link->loss) *
                      (double)(link->config.delay_ns + jitter - earliest));
}

/* Lets the frame at @index overtake the one before it. Positions keep their
 * times, and the ring's bytes are freed in order all the same: those of both
 * with the second of the two. */
static void overtake(WanLink *link, uint64_t index)
{
    bool first = index - 1 == link->frames_head;
    uint64_t freed = first ? link->ring_head : frame_at(link, index - 2)->end;
    WanFrame *earlier = frame_at(link, index - 1);
    WanFrame *later = frame_at(link, index);
    WanFrame swap = *earlier;

    earlier->offset = later->offset;
    earlier->length = later->length;
    earlier->packets = later->packets;
    earlier->wire_bytes = later->wire_bytes;
    earlier->flow = later->flow;
    earlier->end = freed;
    later->offset = swap.offset;
    later->length = swap.length;
    later->packets = swap.packets;
    later->wire_bytes = swap.wire_bytes;
    later->flow = swap.flow;
}

static uint64_t start_ns(const WanLink *link, const WanFrame *frame)
{
    return frame->arrived_ns > link->busy_until_ns ? frame->arrived_ns
                                                   : link->busy_until_ns;
}

static void note_carried(WanLink *link, const WanFrame *frame)
{
    WanRun run = {.flow = frame->flow,
                  .seq = frame->seq,
                  .payload_bytes = frame->payload_bytes,
                  .segment_bytes = frame->segment_bytes};

    if (frame->payload_bytes > 0) {
        run.header_bytes =
            (frame->wire_bytes - frame->payload_bytes) / frame->packets;
        wan_flows_carry(&link->flows, &run);
    }
}

/* Moves what the serializer has finished by now into the delay line. */
static void advance(WanLink *link, uint64_t now_ns)
{
    while (link->frames_serial != link->frames_tail) {
        WanFrame *frame = frame_at(link, link->frames_serial);
        uint64_t remainder = 0;
        uint64_t finish_ns = start_ns(link, frame) +
                             send_time_ns(link, frame->wire_bytes, &remainder);

        if (finish_ns > now_ns) {
            return;
        }
        link->rate_remainder = remainder;
        link->busy_until_ns = finish_ns;
        link->queued_bytes -= frame->wire_bytes;
        count(&link->counters.sent, frame->packets, frame->wire_bytes);
        note_carried(link, frame);
        frame->due_ns = finish_ns + path_delay_ns(link);
        if (frame->length == 0) {
            count(&link->counters.lost, frame->packets, frame->wire_bytes);
        } else if (link->config.reorder > 0 &&
                   link->frames_serial != link->frames_head &&
                   wan_loss_uniform(&link->loss) < link->config.reorder) {
            overtake(link, link->frames_serial);
        }
        link->frames_serial++;
    }
}

void wan_link_configure(WanLink *link, const WanLinkConfig *config,
                        uint64_t now_ns)
{
    advance(link, now_ns);
    link->config = *config;
    link->rate_remainder = 0;
    wan_loss_configure(&link->loss, &config->loss);
}

void wan_link_set_cut(WanLink *link, bool cut, uint64_t now_ns)
{
    advance(link, now_ns);
    link->cut = cut;
    if (!cut) {
        return;
    }
    for (; link->frames_head != link->frames_tail; link->frames_head++) {
        WanFrame *frame = frame_at(link, link->frames_head);

        if (frame->length > 0 || link->frames_head >= link->frames_serial) {
            count(&link->counters.cut_drops, frame->packets, frame->wire_bytes);
        }
    }
    link->frames_serial = link->frames_tail;
    link->ring_head = link->ring_tail;
    link->queued_bytes = 0;
}

void wan_link_reset_counters(WanLink *link, uint64_t now_ns)
{
    advance(link, now_ns);
    memset(&link->counters, 0, sizeof(link->counters));
    link->counters.queue_high_bytes = link->queued_bytes;
    wan_flows_reset_counters(&link->flows);
}

/* A frame is in one piece: near the end of the ring it starts over. */
static bool reserve_in_ring(WanLink *link)
{
    uint64_t at = link->ring_tail % link->ring_bytes;
    uint64_t skip = 0;

    if (link->frames_head == link->frames_tail) {
        /* Starting over whenever the ring is empty keeps the memory in use
         * small, and in the processor's cache. */
        skip = at == 0 ? 0 : link->ring_bytes - at;
        link->ring_head = link->ring_tail + skip;
    } else if (link->ring_bytes - at < WAN_FRAME_MAX) {
        skip = link->ring_bytes - at;
    }
    if (link->ring_tail + skip + WAN_FRAME_MAX - link->ring_head >
            link->ring_bytes ||
        link->frames_tail - link->frames_head >= WAN_FRAMES_MAX) {
        return false;
    }
    link->ring_tail += skip;
    return true;
}

uint8_t *wan_link_reserve(WanLink *link)
{
    if (!reserve_in_ring(link)) {
        return link->scratch;
    }
    return link->ring + link->ring_tail % link->ring_bytes;
}

/* The queue's limit in wire bytes: the smaller of the two ways to say it. */
static uint64_t queue_limit_bytes(const WanLinkConfig *config)
{
    uint64_t limit = config->queue_bytes ? config->queue_bytes : UINT64_MAX;

    if (config->queue_ns && config->rate_bits_per_s) {
        double bytes = (double)config->queue_ns / NS_PER_S *
                       (double)config->rate_bits_per_s / 8;

        if (bytes < (double)limit) {
            limit = (uint64_t)bytes;
        }
    }
    return limit;
}

/* How many segments from the front find room. An empty queue takes one
 * whatever its limit, or nothing would ever pass. */
static uint32_t segments_that_fit(const WanLink *link, const WanSegments *shape)
{
    uint64_t limit = queue_limit_bytes(&link->config);
    uint64_t room;
    uint32_t each, fit;

    room = limit > link->queued_bytes ? limit - link->queued_bytes : 0;
    if (shape->wire_bytes <= room) {
        return shape->count;
    }
    each = shape->header_bytes + shape->segment_bytes;
    fit = (uint32_t)(room / each);
    if (fit == 0 && link->queued_bytes == 0) {
        fit = 1;
    }
    return fit < shape->count ? fit : shape->count;
}

/* A frame's segments and, if it is TCP, whose they are. */
typedef struct Offer {
    WanSegments shape;
    WanTcp tcp;
    WanFlowRef flow; /* number 0: not TCP */
    uint64_t now_ns;
} Offer;

/* Puts segments [first, first + packets) at the end of the queue, with the
 * bytes that lie at the ring's tail; lost ones have none. */
static void append(WanLink *link, const Offer *offer, uint32_t first,
                   uint32_t packets, uint32_t length)
{
    WanFrame *frame = frame_at(link, link->frames_tail);
    uint32_t payload_bytes = offer->tcp.payload_bytes;
    uint32_t each = payload_bytes;

    if (offer->shape.header_bytes > 0) {
        each = offer->shape.segment_bytes;
        payload_bytes = wan_gso_wire_bytes(&offer->shape, first, packets) -
                        packets * offer->shape.header_bytes;
    }
    *frame = (WanFrame){
        .arrived_ns = offer->now_ns,
        .offset = (uint32_t)(link->ring_tail % link->ring_bytes),
        .end = link->ring_tail + length,
        .length = length,
        .packets = packets,
        .wire_bytes = wan_gso_wire_bytes(&offer->shape, first, packets),
        .flow = offer->flow,
        .seq = offer->tcp.seq + first * each,
        .payload_bytes = payload_bytes,
        .segment_bytes = each};
    link->ring_tail += length;
    link->frames_tail++;
    link->queued_bytes += frame->wire_bytes;
    if (link->queued_bytes > link->counters.queue_high_bytes) {
        link->counters.queue_high_bytes = link->queued_bytes;
    }
}

/* Appends the first @fit segments of a frame of which some are lost: each run
 * of equal fate by itself. */
static void append_runs(WanLink *link, const Offer *offer, const uint8_t *frame,
                        const bool *lost, uint32_t fit)
{
    uint32_t first, next;

    for (first = 0; first < fit; first = next) {
        uint32_t length = 0;

        next = first + 1;
        while (next < fit && lost[next] == lost[first]) {
            next++;
        }
        if (!reserve_in_ring(link)) {
            count(&link->counters.buffer_drops, next - first,
                  wan_gso_wire_bytes(&offer->shape, first, next - first));
            continue;
        }
        if (!lost[first]) {
            length = (uint32_t)wan_gso_extract(
                frame, &offer->shape, first, next - first,
                link->ring + link->ring_tail % link->ring_bytes);
        }
        append(link, offer, first, next - first, length);
    }
}

/* Finds the flow of an offer. Returns whether it may pass; if it may not, the
 * answer to its sender is made. */
static bool passes(WanLink *link, const uint8_t *frame, size_t length,
                   Offer *offer)
{
    const WanFlow *flow;

    if (!wan_tcp_parse(frame, length, &offer->tcp)) {
        return true;
    }
    flow = wan_flows_note(&link->flows, &offer->tcp);
    offer->flow = wan_flows_ref(&link->flows, flow);
    if (flow->fate == WAN_FATE_RESET) {
        link->reply_bytes = wan_tcp_build_answer(&offer->tcp, link->reply);
    }
    return flow->fate == WAN_FATE_NONE;
}

static void enqueue(WanLink *link, const Offer *offer, uint8_t *frame,
                    size_t length)
{
    bool lost[WAN_SEGMENTS_MAX];
    bool any_lost = false;
    uint32_t fit = segments_that_fit(link, &offer->shape);
    uint32_t i, missing = offer->shape.count - fit;

    if (missing > 0) {
        count(&link->counters.queue_drops, missing,
              wan_gso_wire_bytes(&offer->shape, fit, missing));
    }
    for (i = 0; i < fit; i++) {
        lost[i] = wan_loss_draw(&link->loss);
        any_lost |= lost[i];
    }
    if (missing == 0 && !any_lost) {
        append(link, offer, 0, fit, (uint32_t)length);
    } else {
        memcpy(link->scratch, frame, length);
        append_runs(link, offer, link->scratch, lost, fit);
    }
}

void wan_link_offer(WanLink *link, uint8_t *frame, size_t length,
                    uint64_t now_ns)
{
    Offer offer = {.now_ns = now_ns};
    WanCount *drops = NULL;

    advance(link, now_ns);
    link->reply_bytes = 0;
    if (wan_gso_parse(frame, length, &offer.shape) < 0) {
        count(&link->counters.bad_frames, 1, length);
        return;
    }
    count(&link->counters.offered, offer.shape.count, offer.shape.wire_bytes);
    if (link->cut) {
        drops = &link->counters.cut_drops;
    } else if (!passes(link, frame, length, &offer)) {
        drops = &link->counters.killed_drops;
    } else if (frame == link->scratch) {
        drops = &link->counters.buffer_drops;
    }
    if (drops) {
        count(drops, offer.shape.count, offer.shape.wire_bytes);
    } else {
        enqueue(link, &offer, frame, length);
    }
}

const uint8_t *wan_link_reply(const WanLink *link, size_t *length)
{
    *length = link->reply_bytes;
    return link->reply_bytes > 0 ? link->reply : NULL;
}

static void release_head(WanLink *link)
{
    link->ring_head = frame_at(link, link->frames_head)->end;
    link->frames_head++;
}

static bool is_killed(const WanLink *link, const WanFrame *frame)
{
    const WanFlow *flow = wan_flows_at(&link->flows, frame->flow);

    return flow && flow->fate != WAN_FATE_NONE;
}

const uint8_t *wan_link_due(WanLink *link, uint64_t now_ns, size_t *length)
{
    advance(link, now_ns);
    while (link->frames_head != link->frames_serial) {
        WanFrame *frame = frame_at(link, link->frames_head);

        if (frame->due_ns > now_ns) {
            return NULL;
        }
        if (frame->length > 0 && !is_killed(link, frame)) {
            *length = frame->length;
            return link->ring + frame->offset;
        }
        if (frame->length > 0) {
            count(&link->counters.killed_drops, frame->packets,
                  frame->wire_bytes);
        }
        release_head(link);
    }
    return NULL;
}

void wan_link_done(WanLink *link)
{
    WanFrame *frame = frame_at(link, link->frames_head);

    assert(link->frames_head != link->frames_serial && frame->length > 0);
    count(&link->counters.delivered, frame->packets, frame->wire_bytes);
    release_head(link);
}

uint64_t wan_link_deadline_ns(const WanLink *link)
{
    if (link->frames_head != link->frames_serial) {
        return frame_at(link, link->frames_head)->due_ns;
    }
    if (link->frames_serial != link->frames_tail) {
        const WanFrame *frame = frame_at(link, link->frames_serial);
        uint64_t remainder;

        /* Its delay is drawn when it has left the bottleneck; looking at it
         * after the shortest delay it can have is early enough. */
        return start_ns(link, frame) +
               send_time_ns(link, frame->wire_bytes, &remainder) +
               (link->config.delay_ns > link->config.jitter_ns
                    ? link->config.delay_ns - link->config.jitter_ns
                    : 0);
    }
    return WAN_NEVER;
}
