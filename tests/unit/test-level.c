/*
 * core/level: raw pages where the link is faster than the encoders, and only
 * there
 *
 * Proves that nothing is sent raw on a far path, before a rate is known, while a
 * link is full, or for hunger that lasts a moment; that hunger that lasts is fed;
 * that a link which carries more than encoders read gets hardly anything else,
 * through threads that wait for a processor, until it is slower; and, in a model of
 * workers and a link, that a guest is moved nearly as fast as by the better of
 * all raw and all compressed, on links from 100 Mbit/s to 100 Gbit/s, and with no
 * more bytes than compressed, but for a few frames, where compressed fills the link.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>

#include "core/level.h"

#define MS 1000000ull
#define MB 1000000ull
#define FRAME (2ull << 20)

static DwcpLevelTake take_of(bool hungry)
{
    return (DwcpLevelTake){
        .now_ns = 1000 * MS,
        .rate_bytes_per_s = 200 * MB,
        .hungry = hungry,
        .raw_fits = true,
    };
}

/* Takes each 5 ms.  Returns: how many before the first raw one, @most if none. */
static unsigned until_raw(DwcpLevel *level, DwcpLevelTake *take, unsigned most)
{
    unsigned n;

    for (n = 0; n < most; n++, take->now_ns += 5 * MS) {
        if (!dwcp_level_choose(level, take)) {
            break;
        }
    }
    return n;
}

static void test_hunger(void)
{
    DwcpLevelTake take = take_of(true);
    DwcpLevel level;
    unsigned n;

    dwcp_level_init(&level, 2);
    n = until_raw(&level, &take, 1000);
    g_assert_cmpuint(n * 5, >, 50);
    g_assert_cmpuint(n * 5, <, 100);
    g_assert_cmpint(level.stage, ==, DWCP_LEVEL_FILL);
    /* What is hungry is fed, what is not gets it compressed. */
    take.hungry = false;
    g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 2);
    take.hungry = true;
    g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 0);
    for (n = 0; n < 200; n++, take.now_ns += 5 * MS) {
        take.hungry = n % 4 == 0;
        g_assert_cmpuint(dwcp_level_choose(&level, &take), ==,
                         take.hungry ? 0 : 2);
    }
    /* Full: the next hunger is a moment's again. */
    take.hungry = false;
    for (n = 0; level.stage != DWCP_LEVEL_PACK; n++, take.now_ns += 5 * MS) {
        g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 2);
        g_assert_cmpuint(n, <, 100);
    }
    take.hungry = true;
    g_assert_cmpuint(until_raw(&level, &take, 1000) * 5, >, 50);
}

/* Where bytes are dear, or nothing is known, hunger changes nothing. */
static void test_unfit(void)
{
    DwcpLevelTake take = take_of(true);
    DwcpLevel level;

    dwcp_level_init(&level, 2);
    dwcp_level_encoded(&level, FRAME, FRAME); /* 1 GB/s */
    take.raw_fits = false;
    take.rate_bytes_per_s = 9000 * MB;
    g_assert_cmpuint(until_raw(&level, &take, 1000), ==, 1000);
    take.raw_fits = true;
    take.rate_bytes_per_s = 0;
    g_assert_cmpuint(until_raw(&level, &take, 1000), ==, 1000);
    /* But it is remembered until something is known. */
    take.rate_bytes_per_s = 9000 * MB;
    g_assert_cmpuint(until_raw(&level, &take, 1000), <, 2);
    take.raw_fits = false; /* known to be far: at once */
    g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 2);
    take.raw_fits = true;
    g_assert_cmpuint(until_raw(&level, &take, 1000) * 5, >, 50);
}

/* Each round starts hungry, for as long as sockets take to fill; and where there
 * was nothing to encode, streams are hungry for another reason. */
static void test_moments(void)
{
    DwcpLevelTake take = take_of(true);
    DwcpLevel level;
    unsigned i;

    dwcp_level_init(&level, 2);
    for (i = 0; i < 1000; i++, take.now_ns += 5 * MS) {
        take.hungry = i % 10 < 5; /* 25 ms of 50 */
        g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 2);
    }
    take.hungry = true;
    for (i = 0; i < 1000; i++, take.now_ns += DWCP_LEVEL_GAP_NS + MS) {
        g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 2);
    }
}

/* Takes each 5 ms for five seconds: are they raw but for a few? */
static bool all_raw(DwcpLevel *level, DwcpLevelTake *take)
{
    unsigned i, packed = 0;

    for (i = 0; i < 1000; i++, take->now_ns += 5 * MS) {
        packed += dwcp_level_choose(level, take) != 0;
    }
    return packed >= 24 && packed <= 26; /* one in 200 ms */
}

/* Raw frames that leave streams hungry: what is asked for is more of them. */
static void test_unfed(void)
{
    DwcpLevelTake take = take_of(true);
    DwcpLevel level;
    unsigned n;

    dwcp_level_init(&level, 2);
    (void)until_raw(&level, &take, 1000);
    for (n = 0; level.stage != DWCP_LEVEL_RAW; n++, take.now_ns += MS) {
        g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 0);
        g_assert_cmpuint(n, <, 20);
    }
    g_assert_cmpuint(n, >, 4);
    g_assert_true(all_raw(&level, &take));
}

/* A link that was seen to be fast counts as fast though it looks full. */
static void test_fast(void)
{
    DwcpLevelTake take = take_of(true);
    DwcpLevel level;
    unsigned i;

    dwcp_level_init(&level, 2);
    dwcp_level_encoded(&level, FRAME, FRAME * 1000 / 150); /* 150 MB/s each */
    dwcp_level_encoded(&level, 4096, 4096);     /* says nothing: 1 GB/s */
    (void)until_raw(&level, &take, 1000);
    take.hungry = false;
    take.rate_bytes_per_s = 374 * MB;
    /* A frame takes 14 ms: 5.2 MB leave meanwhile. */
    take.ready_bytes = 5 * MB;
    g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 0);
    take.ready_bytes = 55 * MB / 10;
    g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 2);
    take.rate_bytes_per_s = 376 * MB;
    g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 0);
    take.rate_bytes_per_s = 203 * MB;
    g_assert_true(all_raw(&level, &take));
    take.hungry = true; /* slower because of its sender, not because it is full */
    g_assert_true(all_raw(&level, &take));
    take.rate_bytes_per_s = 199 * MB;
    g_assert_true(all_raw(&level, &take));
    g_assert_cmpint(level.stage, ==, DWCP_LEVEL_RAW);
    take.hungry = false;
    for (i = 0; level.stage == DWCP_LEVEL_RAW; i++, take.now_ns += 5 * MS) {
        (void)dwcp_level_choose(&level, &take);
        g_assert_cmpuint(i, <, 100);
    }
    g_assert_cmpuint(i * 5, >, 50);
    /* The encoders are slower as well: it is the processors, not the link. */
    level.stage = DWCP_LEVEL_RAW;
    dwcp_level_encoded(&level, FRAME, FRAME * 10); /* a quarter of it counts */
    take.rate_bytes_per_s = 190 * MB;
    g_assert_true(all_raw(&level, &take));
}

static void test_full_link(void)
{
    DwcpLevelTake take = take_of(false);
    DwcpLevel level;

    dwcp_level_init(&level, 2);
    take.backlog = true;
    take.rate_bytes_per_s = 32u << 20;
    g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 3);
    take.raw_fits = false;
    g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 3);
    take.backlog = false;
    g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 2);
    take.backlog = true;
    take.rate_bytes_per_s++;
    g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 2);
    take.rate_bytes_per_s = 0;
    g_assert_cmpuint(dwcp_level_choose(&level, &take), ==, 2);
}

/* ---- a model: workers, the frames that are ready, sockets, a link ---- */

typedef struct Model {
    double link, encoder; /* bytes per second; of one worker, plain */
    double ratio;         /* of compressed bytes to plain ones */
    unsigned workers;
} Model;

typedef struct Result {
    double s, bytes;
} Result;

#define SOCKETS (4.0 * MB) /* of what has left, what they hold */
#define RAW_ENCODER 5e9    /* a look for zeros */

/* @kind: 'r' all raw, 'p' all compressed, 'a' as the module chooses */
static Result move(const Model *model, char kind, unsigned frames)
{
    double free_s[64] = { 0 }, now = 0, queue = 0, queue_s = 0, spent;
    double sent = 0, sent_s = 0, rate = 0;
    Result result = { 0 };
    DwcpLevelTake take;
    DwcpLevel level;
    unsigned i, at, choice;

    dwcp_level_init(&level, model->workers);
    for (; frames; frames--) {
        for (i = at = 0; i < model->workers; i++) {
            at = free_s[i] < free_s[at] ? i : at;
        }
        now = MAX(now, free_s[at]);
        spent = MIN(queue, (now - queue_s) * model->link);
        queue -= spent;
        sent += spent;
        queue_s = now;
        if (queue > SOCKETS + model->link / 10) { /* wait for room */
            spent = queue - SOCKETS - model->link / 10;
            now += spent / model->link;
            queue -= spent;
            sent += spent;
            queue_s = now;
        }
        if (now - sent_s > 0.1) {
            rate = sent / (now - sent_s);
            sent = 0;
            sent_s = now;
        }
        take = (DwcpLevelTake){ .now_ns = (uint64_t)(now * 1e9) + 1,
                                .rate_bytes_per_s = (uint64_t)rate,
                                .ready_bytes =
                                    (uint64_t)MAX(queue - SOCKETS, 0),
                                .hungry = queue < SOCKETS,
                                .raw_fits = true };
        choice = kind == 'a' ? dwcp_level_choose(&level, &take) : kind == 'p';
        spent = (double)FRAME / (choice ? model->encoder : RAW_ENCODER);
        if (choice) {
            dwcp_level_encoded(&level, FRAME, (uint64_t)(spent * 1e9));
        }
        free_s[at] = now + spent;
        queue += (double)FRAME * (choice ? model->ratio : 1);
        result.bytes += (double)FRAME * (choice ? model->ratio : 1);
    }
    result.s = now + queue / model->link;
    return result;
}

static void test_model(void)
{
    static const double links[] = { 12.5e6, 62.5e6, 125e6, 250e6, 625e6,
                                    1.25e9, 3.1e9,  12.5e9 };
    static const unsigned workers[] = { 1, 2, 4, 8 };
    static const double ratios[] = { 0.1, 0.26, 0.6, 1.0 };
    Result chosen, raw, packed;
    unsigned i, j, k;
    Model model;

    for (i = 0; i < G_N_ELEMENTS(links); i++) {
        for (j = 0; j < G_N_ELEMENTS(workers); j++) {
            for (k = 0; k < G_N_ELEMENTS(ratios); k++) {
                model = (Model){ links[i], 150e6, ratios[k], workers[j] };
                chosen = move(&model, 'a', 4096);
                raw = move(&model, 'r', 4096);
                packed = move(&model, 'p', 4096);
                g_test_message("link %.0f MB/s, %u workers, ratio %.2f: "
                               "%.2f s, raw %.2f, compressed %.2f; %.0f MB of "
                               "%.0f to %.0f",
                               links[i] / 1e6, workers[j], ratios[k], chosen.s,
                               raw.s, packed.s, chosen.bytes / 1e6,
                               packed.bytes / 1e6, raw.bytes / 1e6);
                /* The first rate, and hunger, cost a third of a second. */
                g_assert_cmpfloat(chosen.s, <,
                                  MIN(raw.s, packed.s) * 1.03 + 0.35);
                if (links[i] < 0.9 * ratios[k] * workers[j] * 150e6) {
                    /* Sockets that fill slowly are hungry for a while. */
                    g_assert_cmpfloat(chosen.bytes, <=,
                                      packed.bytes + 8 * (double)FRAME);
                }
            }
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/level/hunger", test_hunger);
    g_test_add_func("/level/unfit", test_unfit);
    g_test_add_func("/level/moments", test_moments);
    g_test_add_func("/level/unfed", test_unfed);
    g_test_add_func("/level/fast", test_fast);
    g_test_add_func("/level/full-link", test_full_link);
    g_test_add_func("/level/model", test_model);
    return g_test_run();
}
