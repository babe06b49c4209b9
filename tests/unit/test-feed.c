/*
 * io/feed: what is encoded and waits is bounded in bytes and in milliseconds
 *
 * What is encoded is a copy that ages, and memory that the guest's limit pays
 * for.  Proves that workers stop at the limit, with at most the frame that
 * each has in work beyond it: in bytes when the target reads slowly, in
 * milliseconds of the rate when that is limited.  And that a stream which is not
 * wanted gets nothing, and that what it was called for others are called for.
 * And that time counts as dry if, and only if, streams have taken everything, and
 * that without a level a frame is raw or compressed, as was chosen.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "core/codec.h"
#include "io/source.h"
#include "stage.h"

#define MIB (1ull << 20)
#define PAGES 16384u /* 64 MiB */
#define WORKERS 1u

static uint64_t ready_bytes(DwcpFeed *feed)
{
    uint64_t bytes;

    pthread_mutex_lock(&feed->lock);
    bytes = feed->ready_bytes;
    pthread_mutex_unlock(&feed->lock);
    return bytes;
}

/* A source with pages that do not compress, and a target that has begun. */
static uint32_t *hand_over(Stage *stage, DwcpSourceOptions *options)
{
    uint32_t *ram = g_malloc((size_t)PAGES * PAGE);
    GRand *rnd = g_rand_new_with_seed(3);
    unsigned i;

    for (i = 0; i < PAGES * (PAGE / 4); i++) {
        ram[i] = g_rand_int(rnd);
    }
    g_rand_free(rnd);
    options->workers = WORKERS;
    stage_up_as(stage, options);
    g_assert_cmpint(dwcp_source_add_block(stage->source.source, ram,
                                          (uint64_t)PAGES * PAGE, NULL),
                    ==, 1);
    raw_record(stage->raw[0].fd, DWCP_RECORD_BEGIN, "\2\0\0\0", 4);
    dwcp_source_set_rate(stage->source.source, options->queue_ms_max
                                                   ? 8 * MIB : 0);
    g_assert_cmpint(dwcp_source_put(stage->source.source, 1, 0, PAGES), ==, 0);
    return ram;
}

static void test_bytes(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    uint64_t most = 2 * MIB + WORKERS * dwcp_frame_bytes_max(PAGE);
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    DwcpFeed *feed;
    uint32_t *ram;
    unsigned i;
    Stage stage;

    options.streams = 1;
    options.queue_bytes_max = 2 * MIB;
    ram = hand_over(&stage, &options);
    feed = &stage.source.source->feed;
    while (ready_bytes(feed) < 2 * MIB) {
        g_thread_yield();
    }
    for (i = 0; i < 16; i++) {
        g_assert_cmpuint(ready_bytes(feed), <=, most);
        raw_expect(stage.raw[0].fd, DWCP_RECORD_PAGES, body);
    }
    stage_free(&stage);
    g_free(ram);
    g_free(body);
}

static void test_milliseconds(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    uint64_t most = 8 * MIB / 8 + WORKERS * dwcp_frame_bytes_max(PAGE);
    DwcpFeed *feed;
    uint32_t *ram;
    unsigned i;
    Stage stage;

    options.streams = 1;
    options.queue_ms_max = 125; /* an eighth of a second */
    ram = hand_over(&stage, &options);
    feed = &stage.source.source->feed;
    for (i = 0; i < 16; i++) {
        raw_expect(stage.raw[0].fd, DWCP_RECORD_PAGES, body);
        g_assert_cmpuint(ready_bytes(feed), <=, most);
    }
    stage_free(&stage);
    g_free(ram);
    g_free(body);
}

static bool woken(const DwcpStream *stream)
{
    uint64_t count;

    return read(stream->wake_fd, &count, sizeof(count)) == sizeof(count);
}

static void test_unwanted(void)
{
    const DwcpPages pages = { .number = 1, .count = 1 };
    DwcpFrame *frame = g_malloc0(sizeof(*frame));
    DwcpSession session;
    DwcpStream *streams[2];
    uint64_t wait_ns;
    DwcpFeed feed;
    unsigned i;

    g_assert_cmpint(dwcp_session_init(&session, DWCP_ROLE_SOURCE,
                                      DWCP_SECURITY_NONE,
                                      &(DwcpKeys){ .psk = NULL }, PAGE, 0, 0,
                                      &(DwcpEvents){ .opaque = NULL }, NULL),
                    ==, 0);
    g_assert_cmpint(dwcp_feed_init(&feed, NULL, &session, MIB, 100, 1, 2, 1,
                                   NULL),
                    ==, 0);
    g_assert_cmpint(dwcp_feed_begin(&feed, false, NULL), ==, 0);
    for (i = 0; i < 2; i++) {
        streams[i] = dwcp_stream_new(&session, &dwcp_source_ops, &feed);
        streams[i]->index = i;
        g_assert_null(dwcp_feed_pull(streams[i], &wait_ns));
        g_assert_false(dwcp_feed_drained(streams[i]));
    }
    dwcp_feed_set_streams(&feed, 1);
    g_assert_true(woken(streams[0]) && woken(streams[1]));
    g_assert_null(dwcp_feed_pull(streams[0], &wait_ns));
    g_assert_null(dwcp_feed_pull(streams[1], &wait_ns));
    g_assert_false(dwcp_feed_drained(streams[0]));
    g_assert_true(dwcp_feed_drained(streams[1]));
    dwcp_feed_ready(&feed, frame, &pages);
    g_assert_true(woken(streams[0]) && !woken(streams[1]));
    g_assert_null(dwcp_feed_pull(streams[1], &wait_ns));
    g_assert_true(dwcp_feed_pull(streams[0], &wait_ns) == frame);
    for (i = 0; i < 2; i++) {
        dwcp_stream_free(streams[i]);
    }
    dwcp_frame_free(frame);
    dwcp_feed_clear(&feed);
    dwcp_session_clear(&session);
}

/* A feed with one stream, whose pulls and losses are the test's. */
typedef struct Lone {
    DwcpSession session;
    DwcpStream stream;
    DwcpFeed feed;
} Lone;

static void lone_new(Lone *lone, int level)
{
    DwcpError err;

    *lone = (Lone){ .session.page_size = PAGE,
                    .stream = { .session = &lone->session,
                                .role = &lone->feed } };
    g_assert_cmpint(dwcp_feed_init(&lone->feed, NULL, &lone->session, 32 * MIB,
                                   100, 16, 1, level, &err),
                    ==, 0);
    lone->stream.transport = dwcp_tcp_init(&lone->stream.tcp);
    lone->stream.unacked = g_new0(struct DwcpUnacked, DWCP_STREAM_UNACKED_MAX);
    g_assert_cmpint(dwcp_feed_begin(&lone->feed, false, &err), ==, 0);
}

static void lone_free(Lone *lone)
{
    dwcp_feed_clear(&lone->feed);
    g_free(lone->stream.unacked);
}

/* What is lost is encoded again, at a slow level in small pieces as well: who
 * ends the session waits for one of them. */
static void test_again_slow(void)
{
    uint64_t wait_ns;
    DwcpFrame *frame;
    DwcpPages pages;
    unsigned level, i;
    Lone lone;

    lone_new(&lone, 10);
    g_assert_cmpint(dwcp_feed_put(&lone.feed, 0, 0, 4 * DWCP_CHUNK_PAGES), ==, 0);
    g_assert_cmpint(dwcp_feed_flush(&lone.feed), ==, 0);
    for (i = 0; i < 8; i++) {
        g_assert_cmpint(dwcp_feed_take(&lone.feed, &pages, &frame, &level), ==, 0);
        g_assert_cmpuint(pages.number, ==, i % 4 + 1);
        g_assert_cmpuint(pages.count, ==, 1);
        frame->head = frame->length = 1;
        dwcp_feed_ready(&lone.feed, frame, &pages);
        g_assert_true(dwcp_feed_pull(&lone.stream, &wait_ns) == frame);
        dwcp_feed_sent(&lone.stream, frame);
        if (i == 3) {
            dwcp_feed_lost(&lone.stream);
        }
    }
    g_assert_cmpuint(lone.feed.again_bytes, ==, 4);
    lone_free(&lone);
}

/* Dry: all that was handed over has been taken, and a stream asks for more. */
static void test_dry(void)
{
    uint64_t wait_ns, dry_ms = 0;
    DwcpFrame *frame;
    DwcpPages pages;
    unsigned level, i;
    Lone lone;

    lone_new(&lone, 1);
    g_assert_cmpint(dwcp_feed_put(&lone.feed, 0, 0, 1), ==, 0);
    g_assert_cmpint(dwcp_feed_flush(&lone.feed), ==, 0);
    for (i = 0; i < 2; i++) {
        /* Nothing is ready, but something is being encoded, or is sent. */
        g_assert_cmpint(dwcp_feed_take(&lone.feed, &pages, &frame, &level), ==, 0);
        g_assert_null(dwcp_feed_pull(&lone.stream, &wait_ns));
        frame->head = frame->length = 1;
        dwcp_feed_ready(&lone.feed, frame, &pages);
        g_assert_true(dwcp_feed_pull(&lone.stream, &wait_ns) == frame);
        g_usleep(2000);
        dwcp_feed_sent(&lone.stream, frame);
        g_assert_cmpuint(dwcp_feed_dry_ms(&lone.feed), ==, dry_ms);
        g_assert_null(dwcp_feed_pull(&lone.stream, &wait_ns));
        while (dwcp_feed_dry_ms(&lone.feed) < dry_ms + 2) {
            g_thread_yield();
        }
        if (i == 0) {
            dwcp_feed_lost(&lone.stream);
            dry_ms = dwcp_feed_dry_ms(&lone.feed);
            g_usleep(2000);
            g_assert_cmpuint(dwcp_feed_dry_ms(&lone.feed), ==, dry_ms);
        }
    }
    g_assert_cmpint(dwcp_feed_put(&lone.feed, 0, 64, 1), ==, 0);
    g_assert_cmpint(dwcp_feed_flush(&lone.feed), ==, 0);
    dry_ms = dwcp_feed_dry_ms(&lone.feed);
    g_usleep(2000);
    g_assert_null(dwcp_feed_pull(&lone.stream, &wait_ns));
    g_assert_cmpuint(dwcp_feed_dry_ms(&lone.feed), ==, dry_ms);
    lone_free(&lone);
}

/* A worker that has nothing to do until a connection is lost. */
static gpointer take_run(gpointer opaque)
{
    DwcpFrame *frame = NULL;
    DwcpFeed *feed = opaque;
    DwcpPages pages;
    unsigned level;

    g_assert_cmpint(dwcp_feed_take(feed, &pages, &frame, &level), ==, 0);
    g_assert_cmpuint(pages.number, ==, 1);
    frame->head = frame->length = 1;
    dwcp_feed_ready(feed, frame, &pages);
    return NULL;
}

/* Does a worker wait for work?  It holds the lock until it does. */
static bool waits_for_work(DwcpFeed *feed)
{
    bool waits;

    pthread_mutex_lock(&feed->lock);
    waits = feed->work.__data.__wrefs >> 3;
    pthread_mutex_unlock(&feed->lock);
    return waits;
}

/*
 * Whoever waits for work or for a frame is told of what was lost, and READY may
 * come before all of it has been sent again: the target may have it.
 */
static void test_lost(void)
{
    DwcpSession session = { .page_size = PAGE };
    DwcpStream *lost, *idle;
    uint64_t wait_ns;
    GThread *worker;
    DwcpFrame *frame;
    DwcpPages pages;
    unsigned level;
    DwcpError err;
    DwcpFeed feed;

    pthread_mutex_init(&session.lock, NULL);
    g_assert_cmpint(dwcp_feed_init(&feed, NULL, &session, 32 * MIB, 100, 16, 2,
                                   1, &err),
                    ==, 0);
    lost = dwcp_stream_new(&session, &dwcp_source_ops, &feed);
    idle = dwcp_stream_new(&session, &dwcp_source_ops, &feed);
    idle->index = 1;
    lost->unacked = g_new0(struct DwcpUnacked, DWCP_STREAM_UNACKED_MAX);
    g_assert_cmpint(dwcp_feed_ready_check(&feed, &err), ==, -EPROTO);
    g_assert_cmpint(dwcp_feed_begin(&feed, false, &err), ==, 0);
    g_assert_cmpint(dwcp_feed_put(&feed, 0, 0, 1), ==, 0);
    g_assert_cmpint(dwcp_feed_flush(&feed), ==, 0);
    g_assert_cmpint(dwcp_feed_take(&feed, &pages, &frame, &level), ==, 0);
    frame->head = frame->length = 1;
    g_assert_cmpint(dwcp_feed_ready_check(&feed, &err), ==, -EPROTO);
    dwcp_feed_ready(&feed, frame, &pages);
    g_assert_true(dwcp_feed_pull(lost, &wait_ns) == frame);
    g_assert_cmpint(dwcp_feed_ready_check(&feed, &err), ==, 0);
    dwcp_feed_sent(lost, frame);
    g_assert_null(dwcp_feed_pull(idle, &wait_ns));
    worker = g_thread_new("worker", take_run, &feed);
    while (!waits_for_work(&feed)) {
        g_thread_yield();
    }
    (void)woken(idle);
    atomic_fetch_add(&session.streams_lost, 1);
    dwcp_feed_lost(lost);
    g_assert_true(woken(idle)); /* it looks, and is called again for the frame */
    g_assert_cmpint(dwcp_feed_ready_check(&feed, &err), ==, 0);
    g_assert_cmpint(dwcp_feed_ready_check(&feed, &err), ==, 0);
    g_thread_join(worker);
    frame = dwcp_feed_pull(idle, &wait_ns);
    g_assert_nonnull(frame);
    dwcp_frame_free(frame);
    dwcp_stream_free(lost);
    dwcp_stream_free(idle);
    dwcp_feed_clear(&feed);
    pthread_mutex_destroy(&session.lock);
}

/*
 * A frame of a session without a level can be either kind, each time that it is
 * taken: with room for the pages' places behind the bytes, and none of those that
 * it had before.
 */
static void test_both_kinds(void)
{
    uint8_t *ram = g_malloc((size_t)DWCP_FRAME_PLAIN_MAX * 2);
    const uint8_t *hosts[DWCP_FRAME_CHUNKS_MAX];
    DwcpEncoder *encoder = dwcp_encoder_new(PAGE);
    unsigned level, i, n, kinds[2] = { 0, 0 };
    DwcpFrame *frame, *first = NULL;
    uint64_t wait_ns;
    DwcpPages pages;
    Lone lone;

    memset(ram, 1, (size_t)DWCP_FRAME_PLAIN_MAX * 2);
    lone_new(&lone, DWCP_LEVEL_AUTO);
    dwcp_level_init(&lone.feed.choice, 1);
    atomic_store(&lone.feed.raw_fits, true);
    for (i = 0; i < 3; i++) {
        for (n = 0; n < 16; n++) { /* every second page: no two are one part */
            g_assert_cmpint(dwcp_feed_put(&lone.feed, 0, i * 1024 + 2 * n, 1), ==,
                            0);
        }
        g_assert_cmpint(dwcp_feed_flush(&lone.feed), ==, 0);
        lone.feed.rate_bytes_per_s = 1000 * MIB; /* as if it had been measured */
        lone.feed.choice.stage = DWCP_LEVEL_RAW;
        lone.feed.choice.hunger = 0.5;
        lone.feed.choice.packed_ns = i == 1 ? 0 : dwcp_now_ns();
        g_assert_cmpint(dwcp_feed_take(&lone.feed, &pages, &frame, &level), ==, 0);
        g_assert_true(!first || frame == first); /* from the pool */
        first = frame;
        g_assert_cmpuint(frame->guest_count, ==, 0);
        for (n = 0; n < pages.count; n++) {
            hosts[n] = ram;
        }
        if (level) {
            frame->head = frame->length = dwcp_encode_frame(
                encoder, hosts, &pages, level, frame->bytes);
        } else {
            frame->head = dwcp_encode_raw(hosts, &pages, PAGE, frame->bytes,
                                          frame->guest, &frame->guest_count);
            frame->length = frame->head + 16 * PAGE;
            g_assert_cmpuint(frame->guest_count, ==, 16);
            g_assert_true((uint8_t *)frame->guest >=
                          frame->bytes + dwcp_frame_bytes_max(PAGE));
        }
        kinds[level != 0]++;
        dwcp_feed_ready(&lone.feed, frame, &pages);
        g_assert_true(dwcp_feed_pull(&lone.stream, &wait_ns) == frame);
        dwcp_feed_sent(&lone.stream, frame);
    }
    g_assert_cmpuint(kinds[0], ==, 2);
    g_assert_cmpuint(kinds[1], ==, 1);
    g_assert_cmpuint(lone.feed.raw_pages, ==, 32);
    g_assert_cmpuint(lone.feed.zstd_pages, ==, 16);
    lone_free(&lone);
    dwcp_encoder_free(encoder);
    g_free(ram);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/feed/bytes", test_bytes);
    g_test_add_func("/feed/milliseconds", test_milliseconds);
    g_test_add_func("/feed/unwanted", test_unwanted);
    g_test_add_func("/feed/again/slow", test_again_slow);
    g_test_add_func("/feed/dry", test_dry);
    g_test_add_func("/feed/lost", test_lost);
    g_test_add_func("/feed/both-kinds", test_both_kinds);
    return g_test_run();
}
