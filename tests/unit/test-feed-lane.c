/*
 * io/feed-lane: the way from TCP to an RDMA lane and back
 *
 * Proves that the lane is entered only when all that was taken from the ring is
 * acknowledged and BEGIN has come, that workers take nothing new on the way
 * but what was lost; that from then on frames are raw and the streams get none;
 * and that what the lane had and lost is encoded again, compressed, for TCP.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/source.h"
#include "kit.h"

#define CHUNKS 4u

/* A feed whose worker, stream and lane are the test's. */
typedef struct Bare {
    DwcpSession session;
    DwcpStream *stream;
    DwcpFeed feed;
    int fd; /* of the lane */
} Bare;

static void set_up(Bare *bare)
{
    DwcpFeed *feed = &bare->feed;

    g_assert_cmpint(dwcp_session_init(&bare->session, DWCP_ROLE_SOURCE,
                                      DWCP_SECURITY_NONE,
                                      &(DwcpKeys){ .psk = NULL }, PAGE, 0, 0,
                                      &(DwcpEvents){ .opaque = NULL }, NULL),
                    ==, 0);
    g_assert_cmpint(dwcp_feed_init(feed, NULL, &bare->session, 32u << 20, 100,
                                   16, 1, 1, NULL),
                    ==, 0);
    feed->raw_too = true;
    bare->stream = dwcp_stream_new(&bare->session, &dwcp_source_ops, feed);
    bare->stream->unacked = g_new0(struct DwcpUnacked,
                                   DWCP_STREAM_UNACKED_MAX);
    bare->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    dwcp_feed_lane_attach(feed, bare->fd);
    g_assert_cmpint(dwcp_feed_put(feed, 0, 0, CHUNKS * DWCP_CHUNK_PAGES), ==,
                    0);
    g_assert_cmpint(dwcp_feed_flush(feed), ==, 0);
}

static void tear_down(Bare *bare)
{
    struct DwcpUnacked *unacked = bare->stream->unacked;

    bare->stream->unacked = NULL;
    dwcp_stream_free(bare->stream);
    g_free(unacked);
    dwcp_feed_clear(&bare->feed);
    dwcp_session_clear(&bare->session);
    close(bare->fd);
}

static bool woken(const Bare *bare)
{
    uint64_t count;

    return read(bare->fd, &count, sizeof(count)) == sizeof(count);
}

/* A worker's turn: one frame, at this level. */
static DwcpFrame *encode(Bare *bare, unsigned level_wanted, uint64_t number)
{
    DwcpFrame *frame;
    DwcpPages pages;
    unsigned level;

    g_assert_cmpint(dwcp_feed_take(&bare->feed, &pages, &frame, &level), ==, 0);
    g_assert_cmpuint(level, ==, level_wanted);
    g_assert_cmpuint(pages.number, ==, number);
    g_assert_nonnull(frame->guest);
    frame->head = frame->length = 1;
    dwcp_feed_ready(&bare->feed, frame, &pages);
    return frame;
}

/* Is there nothing that a worker may take, for the way's sake? */
static bool waits(Bare *bare)
{
    bool waits;

    pthread_mutex_lock(&bare->feed.lock);
    waits = bare->feed.way == DWCP_WAY_DRAIN && !bare->feed.again_count;
    pthread_mutex_unlock(&bare->feed.lock);
    return waits;
}

static uint64_t taken(Bare *bare)
{
    uint64_t chunks;

    pthread_mutex_lock(&bare->feed.lock);
    chunks = bare->feed.ring_out;
    pthread_mutex_unlock(&bare->feed.lock);
    return chunks;
}

static gpointer worker_run(gpointer opaque)
{
    Bare *bare = opaque;
    DwcpFrame *frame;
    DwcpPages pages;
    unsigned level;

    if (dwcp_feed_take(&bare->feed, &pages, &frame, &level) < 0) {
        return NULL;
    }
    frame->head = frame->length = 1;
    dwcp_feed_ready(&bare->feed, frame, &pages);
    return frame;
}

static void test_enter(void)
{
    GThread *worker;
    DwcpFrame *frame;
    uint64_t wait_ns;
    unsigned i;
    bool begun;
    Bare bare;

    set_up(&bare);
    /* Before BEGIN TCP goes on. */
    g_assert_false(dwcp_feed_lane_enter(&bare.feed, &begun));
    g_assert_false(begun);
    g_assert_false(waits(&bare));
    frame = encode(&bare, 1, 1);
    g_assert_cmpuint(frame->count, ==, CHUNKS);
    g_assert_cmpint(dwcp_feed_begin(&bare.feed, false, NULL), ==, 0);
    g_assert_true(woken(&bare));

    /* One frame is ready: it is to leave, arrive and be acknowledged. */
    g_assert_cmpint(dwcp_feed_put(&bare.feed, 0, 1000, 100), ==, 0);
    g_assert_cmpint(dwcp_feed_flush(&bare.feed), ==, 0);
    g_assert_false(dwcp_feed_lane_enter(&bare.feed, &begun));
    g_assert_true(begun);
    worker = g_thread_new("worker", worker_run, &bare); /* it has to wait */
    g_assert_true(dwcp_feed_pull(bare.stream, &wait_ns) == frame);
    dwcp_feed_sent(bare.stream, frame);
    g_assert_false(dwcp_feed_lane_enter(&bare.feed, &begun));
    for (i = 0; i < 100; i++) { /* long enough for one that does not */
        g_assert_cmpuint(taken(&bare), ==, CHUNKS);
        (void)poll(NULL, 0, 1);
    }
    g_assert_null(dwcp_feed_pull(bare.stream, &wait_ns));
    g_assert_false(woken(&bare));
    g_assert_cmpint(dwcp_feed_ack(bare.stream, 1, NULL), ==, 0);
    g_assert_true(woken(&bare));
    g_assert_true(dwcp_feed_lane_enter(&bare.feed, &begun));
    frame = g_thread_join(worker);
    g_assert_nonnull(frame);
    g_assert_cmpuint(frame->number, ==, CHUNKS + 1);
    g_assert_true(woken(&bare));
    g_assert_null(dwcp_feed_pull(bare.stream, &wait_ns));
    g_assert_true(dwcp_feed_lane_pull(&bare.feed, &wait_ns) == frame);
    g_assert_null(dwcp_feed_lane_pull(&bare.feed, &wait_ns));
    dwcp_feed_lane_sent(&bare.feed, frame);
    g_assert_cmpint(dwcp_feed_lane_acked(&bare.feed, frame->number,
                                         frame->count, frame->pages, NULL),
                    ==, 0);
    tear_down(&bare);
}

/* A connection is lost on the way: what it had goes on TCP before. */
static void test_lost_on_the_way(void)
{
    DwcpFrame *frame;
    uint64_t wait_ns;
    bool begun;
    Bare bare;

    set_up(&bare);
    g_assert_cmpint(dwcp_feed_begin(&bare.feed, false, NULL), ==, 0);
    frame = encode(&bare, 1, 1);
    g_assert_true(dwcp_feed_pull(bare.stream, &wait_ns) == frame);
    dwcp_feed_sent(bare.stream, frame);
    g_assert_false(dwcp_feed_lane_enter(&bare.feed, &begun));
    dwcp_feed_lost(bare.stream);
    bare.stream->sent_frames = bare.stream->acked_frames = 0;
    g_assert_false(dwcp_feed_lane_enter(&bare.feed, &begun));
    g_assert_false(waits(&bare));
    frame = encode(&bare, 1, 1);
    g_assert_true(dwcp_feed_pull(bare.stream, &wait_ns) == frame);
    dwcp_feed_sent(bare.stream, frame);
    g_assert_cmpint(dwcp_feed_ack(bare.stream, 1, NULL), ==, 0);
    g_assert_true(dwcp_feed_lane_enter(&bare.feed, &begun));
    tear_down(&bare);
}

/* The lane is lost with one frame acknowledged, one posted, one not begun. */
static void test_back(void)
{
    DwcpFrame *frames[3];
    uint64_t wait_ns, i;
    bool begun;
    Bare bare;

    set_up(&bare);
    g_assert_cmpint(dwcp_feed_begin(&bare.feed, false, NULL), ==, 0);
    g_assert_true(dwcp_feed_lane_enter(&bare.feed, &begun));
    (void)encode(&bare, 0, 1);
    for (i = 1; i < 3; i++) {
        g_assert_cmpint(dwcp_feed_put(&bare.feed, 0, 1000 * i, 1), ==, 0);
        g_assert_cmpint(dwcp_feed_flush(&bare.feed), ==, 0);
        (void)encode(&bare, 0, CHUNKS + i);
    }
    for (i = 0; i < 3; i++) {
        frames[i] = dwcp_feed_lane_pull(&bare.feed, &wait_ns);
        g_assert_nonnull(frames[i]);
    }
    dwcp_feed_lane_sent(&bare.feed, frames[0]);
    dwcp_feed_lane_sent(&bare.feed, frames[1]);
    g_assert_cmpint(dwcp_feed_lane_acked(&bare.feed, 1, CHUNKS,
                                         CHUNKS * DWCP_CHUNK_PAGES, NULL),
                    ==, 0);
    dwcp_feed_lane_again(&bare.feed, CHUNKS + 1, 1, 1, NULL);
    dwcp_feed_lane_again(&bare.feed, CHUNKS + 2, 1, 0, frames[2]);
    g_assert_cmpuint(bare.feed.again_bytes, ==, 1);
    dwcp_feed_lane_leave(&bare.feed);
    (void)encode(&bare, 1, CHUNKS + 1);
    frames[0] = dwcp_feed_pull(bare.stream, &wait_ns);
    g_assert_cmpuint(frames[0]->number, ==, CHUNKS + 1);
    g_assert_cmpuint(frames[0]->count, ==, 2);
    g_assert_true(frames[0]->again);
    dwcp_feed_sent(bare.stream, frames[0]);
    g_assert_cmpint(dwcp_feed_ack(bare.stream, 1, NULL), ==, 0);
    g_assert_cmpint(dwcp_feed_ready_check(&bare.feed, NULL), ==, 0);
    tear_down(&bare);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/feed-lane/enter", test_enter);
    g_test_add_func("/feed-lane/lost-on-the-way", test_lost_on_the_way);
    g_test_add_func("/feed-lane/back", test_back);
    return g_test_run();
}
