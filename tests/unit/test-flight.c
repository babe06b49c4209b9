/*
 * core/flight: what the source has under way on the RDMA lane
 *
 * Proves with a model of a target that whatever the order of frames, writes
 * and acknowledgements, a page ends with its newest description: that no zero
 * of an older frame comes behind a newer write.  And that credits, bytes and
 * acknowledgements are counted, and a peer that counts otherwise is refused.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "core/flight.h"

#define PAGE 4096u

static DwcpPages frame_of(uint64_t number, uint32_t block, uint32_t chunk,
                          uint64_t present, uint64_t zero)
{
    return (DwcpPages){ .number = number,
                        .count = 1,
                        .chunks = { { .block = block,
                                      .chunk = chunk,
                                      .present = present,
                                      .zero = zero } } };
}

static void test_chunks(void)
{
    DwcpFlight *flight = g_new(DwcpFlight, 1);
    DwcpPages first = frame_of(1, 0, 7, 3, 1), other = frame_of(2, 0, 8, 1, 0);
    DwcpPages same = frame_of(3, 0, 7, 4, 0), both = other;
    DwcpPages elsewhere = frame_of(4, 1, 7, 3, 1);
    const DwcpFlightFrame *frame;

    both.count = 2;
    both.chunks[1] = same.chunks[0];
    dwcp_flight_init(flight);
    g_assert_true(dwcp_flight_may(flight, &first));
    dwcp_flight_begin(flight, &first, PAGE);
    g_assert_true(dwcp_flight_may(flight, &other));
    g_assert_true(dwcp_flight_may(flight, &elsewhere));
    g_assert_false(dwcp_flight_may(flight, &same));
    g_assert_false(dwcp_flight_may(flight, &both));
    dwcp_flight_begin(flight, &other, PAGE);
    g_assert_cmpuint(flight->bytes, ==, 2 * PAGE);
    g_assert_cmpint(dwcp_flight_ack(flight, 1, &frame, NULL), ==, 1);
    g_assert_cmpuint(frame->number, ==, 1);
    g_assert_cmpuint(frame->pages, ==, 2);
    g_assert_cmpint(dwcp_flight_ack(flight, 1, &frame, NULL), ==, 0);
    g_assert_true(dwcp_flight_may(flight, &same));
    g_assert_false(dwcp_flight_may(flight, &both));
    g_assert_cmpuint(dwcp_flight_next(flight)->number, ==, 2);
    g_assert_null(dwcp_flight_next(flight));
    g_assert_true(dwcp_flight_may(flight, &both));
    g_assert_cmpuint(flight->bytes, ==, 0);
    g_free(flight);
}

/* The same chunk twice in one frame is no reason to wait, and counts twice. */
static void test_twice(void)
{
    DwcpFlight *flight = g_new(DwcpFlight, 1);
    DwcpPages twice = frame_of(1, 0, 7, 1, 0);

    twice.count = 2;
    twice.chunks[1] = twice.chunks[0];
    dwcp_flight_init(flight);
    g_assert_true(dwcp_flight_may(flight, &twice));
    dwcp_flight_begin(flight, &twice, PAGE);
    g_assert_false(dwcp_flight_may(flight, &twice));
    g_assert_nonnull(dwcp_flight_next(flight));
    g_assert_true(dwcp_flight_may(flight, &twice));
    g_free(flight);
}

static void test_credits(void)
{
    DwcpFlight *flight = g_new(DwcpFlight, 1);
    const DwcpFlightFrame *frame;
    DwcpPages pages;
    unsigned i;

    dwcp_flight_init(flight);
    g_assert_cmpint(dwcp_flight_credit(flight, 1, NULL), ==, -EPROTO);
    dwcp_flight_spend(flight); /* a REGISTER */
    for (i = 1; i < DWCP_LANE_CREDITS; i++) {
        pages = frame_of(i, 0, i, 1, 1);
        g_assert_true(dwcp_flight_may(flight, &pages));
        dwcp_flight_begin(flight, &pages, PAGE);
    }
    pages = frame_of(i, 0, i, 1, 1);
    g_assert_false(dwcp_flight_may(flight, &pages));
    g_assert_cmpint(dwcp_flight_credit(flight, DWCP_LANE_CREDITS + 1, NULL), ==,
                    -EPROTO);
    g_assert_cmpint(dwcp_flight_credit(flight, 1, NULL), ==, 0);
    g_assert_true(dwcp_flight_may(flight, &pages));
    g_assert_cmpint(dwcp_flight_ack(flight, DWCP_LANE_CREDITS, &frame, NULL),
                    ==, -EPROTO);
    g_assert_cmpint(dwcp_flight_ack(flight, 1, &frame, NULL), ==, 1);
    g_assert_cmpint(dwcp_flight_ack(flight, 0, &frame, NULL), ==, -EPROTO);
    g_free(flight);
}

/* So many bytes at the most, give or take a frame. */
static void test_bytes(void)
{
    DwcpFlight *flight = g_new(DwcpFlight, 1);
    uint64_t chunk_bytes = 64ull * PAGE, i;
    DwcpPages pages;

    dwcp_flight_init(flight);
    for (i = 0; i < DWCP_LANE_FLIGHT_BYTES / chunk_bytes; i++) {
        pages = frame_of(i + 1, 0, (uint32_t)i, UINT64_MAX, 0);
        g_assert_true(dwcp_flight_may(flight, &pages));
        dwcp_flight_begin(flight, &pages, PAGE);
        flight->credits = DWCP_LANE_CREDITS; /* not what this is about */
        if (i >= DWCP_LANE_CREDITS - 2) {
            g_assert_nonnull(dwcp_flight_next(flight));
            flight->bytes += chunk_bytes;
        }
    }
    pages.chunks[0].chunk = 5000;
    g_assert_false(dwcp_flight_may(flight, &pages));
    g_free(flight);
}

/*
 * A target with 4 chunks of one page.  Each hand-over is zero or a value that
 * grows; frames are begun out of order as workers finish them, each write lands
 * when it is begun (the earliest), each head is applied when it is acknowledged
 * (the latest).
 */
#define CHUNKS 4u
#define FRAMES 200u

typedef struct Model {
    DwcpFlight flight;
    DwcpPages frames[FRAMES + 1];
    unsigned waiting[FRAMES], waiting_count, next;
    unsigned order[FRAMES + 1]; /* as begun */
    unsigned ram[CHUNKS];   /* the source's */
    unsigned there[CHUNKS]; /* the target's */
    uint64_t applied[CHUNKS];
    bool heeds; /* asks dwcp_flight_may */
} Model;

static void model_hand_over(Model *model, GRand *rand)
{
    unsigned at = model->next + 1;
    uint32_t chunk = (uint32_t)g_rand_int_range(rand, 0, CHUNKS);

    if (model->next == FRAMES) {
        return;
    }
    model->next = at;
    model->ram[chunk] = g_rand_boolean(rand) ? 0 : at;
    model->frames[at] = frame_of(at, 0, chunk, 1, !model->ram[chunk]);
    model->waiting[model->waiting_count++] = at;
}

static void model_begin(Model *model, GRand *rand)
{
    /* Of the two that wait longest: workers overtake each other. */
    unsigned which = model->waiting_count > 1 && g_rand_boolean(rand);
    const DwcpPages *pages;
    uint32_t chunk;

    if (!model->waiting_count || !model->flight.credits) {
        return;
    }
    pages = &model->frames[model->waiting[which]];
    chunk = pages->chunks[0].chunk;
    if (model->heeds && !dwcp_flight_may(&model->flight, pages)) {
        return;
    }
    model->order[model->flight.begun] = model->waiting[which];
    dwcp_flight_begin(&model->flight, pages, PAGE);
    if (!pages->chunks[0].zero) {
        model->there[chunk] = model->ram[chunk]; /* as it is by now */
    }
    memmove(model->waiting + which, model->waiting + which + 1,
            (--model->waiting_count - which) * sizeof(unsigned));
}

static void model_ack(Model *model)
{
    const DwcpFlightFrame *frame = dwcp_flight_next(&model->flight);
    const DwcpChunk *chunk;

    if (!frame) {
        return;
    }
    g_assert_cmpint(dwcp_flight_credit(&model->flight, 1, NULL), ==, 0);
    g_assert_cmpuint(frame->number, ==, model->order[model->flight.acked - 1]);
    chunk = &model->frames[frame->number].chunks[0];
    if (model->applied[chunk->chunk] <= frame->number) {
        model->applied[chunk->chunk] = frame->number;
        if (chunk->zero) {
            model->there[chunk->chunk] = 0;
        }
    }
}

/* Returns: is the target's memory the source's in the end? */
static bool model_run(guint32 seed, bool heeds)
{
    Model *model = g_new0(Model, 1);
    GRand *rand = g_rand_new_with_seed(seed);
    bool same;

    dwcp_flight_init(&model->flight);
    model->heeds = heeds;
    while (model->next < FRAMES || model->waiting_count ||
           model->flight.acked < model->flight.begun) {
        switch (g_rand_int_range(rand, 0, 3)) {
        case 0:
            model_hand_over(model, rand);
            break;
        case 1:
            model_begin(model, rand);
            break;
        default:
            model_ack(model);
        }
    }
    same = memcmp(model->ram, model->there, sizeof(model->ram)) == 0;
    g_rand_free(rand);
    g_free(model);
    return same;
}

static void test_newest_wins(void)
{
    unsigned seed, wrong = 0;

    for (seed = 0; seed < 2000; seed++) {
        g_assert_true(model_run(seed, true));
        wrong += !model_run(seed, false);
    }
    g_assert_cmpuint(wrong, >, 100); /* the rule is what does it */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/flight/chunks", test_chunks);
    g_test_add_func("/flight/twice", test_twice);
    g_test_add_func("/flight/credits", test_credits);
    g_test_add_func("/flight/bytes", test_bytes);
    g_test_add_func("/flight/newest-wins", test_newest_wins);
    return g_test_run();
}
