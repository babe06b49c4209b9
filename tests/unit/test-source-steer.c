/*
 * What a source makes of its path: mode and number of streams
 *
 * Proves that a session of low priority is paced, until END, and no other; that
 * the mode of a real session is measured from its own connections, and that a pin
 * holds; that a stream which retires loses nothing and is not counted as lost;
 * that a count which the user gave, a target that does not know RESUME, and END
 * each keep the count as it is.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/source.h"
#include "steercase.h"

/* --------------------------------------------------------------- mode -- */

static void test_measured(void)
{
    DwcpStats stats = { .size = sizeof(stats) };
    ResumeCase c;

    steer_case_new(&c, 1, (SteerHow){ .streams = 2 });
    g_assert_cmpint(end_stats(&c.source).mode, !=, DWCP_MODE_INTERNET);
    while (end_stats(&c.source).mode != DWCP_MODE_DATACENTER) {
        (void)poll(NULL, 0, 1);
    }
    dwcp_target_stats(c.target.target, &stats);
    g_assert_cmpint(stats.mode, ==, 0);
    case_free(&c);
}

/* What the kernel keeps of the stream's rate; UINT64_MAX = all. */
static uint64_t pace_of(ResumeCase *c, unsigned index)
{
    uint64_t pace = 0;
    socklen_t length = sizeof(pace);

    g_assert_cmpint(getsockopt(c->source.source->streams[index]->tcp.fd,
                               SOL_SOCKET, SO_MAX_PACING_RATE, &pace, &length),
                    ==, 0);
    return pace;
}

/* A session of low priority is paced on every stream, one that came late as
 * well, until END. */
static void test_yields(gconstpointer opaque)
{
    const SteerHow *how = opaque;
    bool low = how->priority == DWCP_PRIORITY_LOW;
    unsigned i;
    ResumeCase c;

    steer_case_new(&c, STEER_LARGE, *how);
    steer_case_begin(&c);
    steer_await(&c, DWCP_STREAMS_DEFAULT);
    dwcp_source_steer_to(c.source.source, 12);
    steer_await(&c, 12);
    memset(c.source.ram, 1, STEER_LARGE * PAGE);
    steer_put_all(&c);
    for (i = 0; i < 12; i++) {
        while (low && pace_of(&c, i) > end_stats(&c.source).pace_bytes_per_s) {
            (void)poll(NULL, 0, 1);
        }
        g_assert_true((pace_of(&c, i) < UINT64_MAX) == low);
    }
    g_assert_true((end_stats(&c.source).pace_bytes_per_s > 0) == low);
    g_assert_cmpint(dwcp_source_end(c.source.source), ==, 0);
    for (i = 0; i < 12; i++) {
        while (pace_of(&c, i) != UINT64_MAX) {
            (void)poll(NULL, 0, 1);
        }
    }
    g_assert_cmpuint(end_stats(&c.source).pace_bytes_per_s, ==, 0);
    case_free(&c);
}

/* Long enough for a source that measures to come to another answer. */
static void test_pinned(void)
{
    ResumeCase measured, pinned;

    steer_case_new(&pinned, 1, (SteerHow){ .mode = DWCP_MODE_INTERNET });
    steer_case_new(&measured, 1, (SteerHow){ 0 });
    while (end_stats(&measured.source).mode != DWCP_MODE_DATACENTER) {
        g_assert_cmpint(end_stats(&pinned.source).mode, ==, DWCP_MODE_INTERNET);
        (void)poll(NULL, 0, 1);
    }
    g_assert_cmpint(end_stats(&pinned.source).mode, ==, DWCP_MODE_INTERNET);
    case_free(&pinned);
    case_free(&measured);
}

/* -------------------------------------------------------------- count -- */

/* From many to one and on to more, with frames in flight all the time. */
static void test_retire(gconstpointer opaque)
{
    const SteerHow *how = opaque;
    static const unsigned counts[] = { 1, 12, 3, 20, 2, 8 };
    DwcpStats at_target = { .size = sizeof(at_target) };
    GRand *rnd = g_rand_new_with_seed(1);
    Usage before = usage_now();
    unsigned i;
    ResumeCase c;

    steer_case_new(&c, STEER_LARGE, *how);
    kit_fill(rnd, c.source.ram, STEER_LARGE);
    steer_case_begin(&c);
    steer_await(&c, DWCP_STREAMS_DEFAULT);
    for (i = 0; i < G_N_ELEMENTS(counts); i++) {
        steer_put_all(&c);
        dwcp_source_steer_to(c.source.source, counts[i]);
        g_assert_cmpuint(end_stats(&c.source).streams_wanted, ==, counts[i]);
        steer_await(&c, counts[i]);
        do { /* or a stream that comes again ends the one that is to end */
            dwcp_target_stats(c.target.target, &at_target);
        } while (at_target.streams != counts[i]);
    }
    g_assert_cmpuint(end_stats(&c.source).streams_lost, ==, 0);
    steer_case_finish(&c);
    g_assert_cmpuint(end_stats(&c.source).resent_bytes, ==, 0);
    g_assert_cmpuint(end_stats(&c.source).pending_bytes, ==, 0);
    dwcp_target_stats(c.target.target, &at_target);
    g_assert_cmpuint(at_target.streams_lost, ==, 0);
    case_free(&c);
    usage_same(before);
    g_rand_free(rnd);
}

/* The target does not take frames yet: what was sent cannot be acknowledged, so
 * the stream stays until it is. */
static void test_held(void)
{
    ResumeCase c;

    steer_case_new(&c, STEER_LARGE, (SteerHow){ 0 });
    steer_await(&c, DWCP_STREAMS_DEFAULT);
    memset(c.source.ram, 1, STEER_LARGE * PAGE);
    steer_put_all(&c);
    dwcp_source_steer_to(c.source.source, 1);
    (void)poll(NULL, 0, 200); /* the other way would show by now */
    g_assert_cmpuint(end_stats(&c.source).streams, >, 1);
    steer_case_begin(&c);
    steer_await(&c, 1);
    steer_case_finish(&c);
    g_assert_cmpuint(end_stats(&c.source).resent_bytes, ==, 0);
    case_free(&c);
}

/* What the controller says is done: here that four more are not to be had. */
static void test_followed(void)
{
    DwcpStreams *count;
    ResumeCase c;
    End *source = &c.source;
    DwcpTargetOptions for_target = end_target_options();
    DwcpSourceOptions for_source;
    char port[8];

    for_target.resume_ms_max = 0;
    end_target(&c.target, &for_target, port);
    for_source = end_source_options(port);
    for_source.resume_ms_max = 0;
    for_source.streams = 0;
    end_source(source, &for_source);
    count = &source->source->count;
    count->state = DWCP_STREAMS_UP;
    count->wanted = 12;
    count->before = 5;
    count->since_ns -= DWCP_STREAMS_JOIN_NS;
    end_connect(source);
    end_wait_connected(source);
    while (end_stats(&c.source).streams_wanted != 5) {
        (void)poll(NULL, 0, 1);
    }
    steer_await(&c, 5);
    end_free(&c.source);
    end_free(&c.target);
}

static void stays(SteerHow how, unsigned streams)
{
    ResumeCase c;

    steer_case_new(&c, STEER_LARGE, how);
    steer_case_begin(&c);
    steer_await(&c, streams);
    dwcp_source_steer_to(c.source.source, streams + 1);
    g_assert_cmpuint(end_stats(&c.source).streams_wanted, ==, streams);
    memset(c.source.ram, 1, STEER_LARGE * PAGE);
    steer_put_all(&c);
    dwcp_source_steer_to(c.source.source, 1);
    g_assert_cmpuint(end_stats(&c.source).streams_wanted, ==, streams);
    steer_case_finish(&c);
    case_free(&c);
}

/* The user's count, or one that the target could not follow. */
static void test_stays(void)
{
    stays((SteerHow){ .streams = 4 }, 4);
    stays((SteerHow){ .never = true }, DWCP_STREAMS_DEFAULT);
}

static void test_frozen(void)
{
    ResumeCase c;

    steer_case_new(&c, 4, (SteerHow){ 0 });
    steer_case_begin(&c);
    g_assert_cmpint(dwcp_source_end(c.source.source), ==, 0);
    dwcp_source_steer_to(c.source.source, 2);
    g_assert_cmpuint(end_stats(&c.source).streams_wanted, ==, DWCP_STREAMS_DEFAULT);
    case_free(&c);
}

/* What HELLO says of a source with these options. */
static unsigned announced(unsigned streams, uint32_t resume_ms_max)
{
    uint8_t session[DWCP_SESSION_BYTES] = { 1 };
    DwcpSourceOptions options;
    char port[8];
    int listen_fd = kit_listen(port);
    End source;
    Raw raw;

    options = end_source_options(port);
    options.streams = streams;
    options.resume_ms_max = resume_ms_max;
    end_source(&source, &options);
    end_connect(&source);
    raw_serve(&raw, listen_fd, session);
    close(listen_fd);
    close(raw.fd);
    end_free(&source);
    return raw.said.streams;
}

static void test_announced(void)
{
    g_assert_cmpuint(announced(0, 0), ==, DWCP_STREAMS_MAX);
    g_assert_cmpuint(announced(5, 0), ==, 5);
    g_assert_cmpuint(announced(0, DWCP_RESUME_NEVER), ==,
                     DWCP_STREAMS_DEFAULT);
}

int main(int argc, char **argv)
{
    static const SteerHow raw = { .level = 0 }, zstd = { .level = 1 },
                     keyed = { .level = 1, .keyed = true },
                     low = { .priority = DWCP_PRIORITY_LOW };

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/source-steer/mode/measured", test_measured);
    g_test_add_func("/source-steer/mode/pinned", test_pinned);
    g_test_add_data_func("/source-steer/yields/low", &low, test_yields);
    g_test_add_data_func("/source-steer/yields/normal", &raw, test_yields);
    g_test_add_data_func("/source-steer/retire/raw", &raw, test_retire);
    g_test_add_data_func("/source-steer/retire/zstd", &zstd, test_retire);
    g_test_add_data_func("/source-steer/retire/keyed", &keyed, test_retire);
    g_test_add_func("/source-steer/held", test_held);
    g_test_add_func("/source-steer/followed", test_followed);
    g_test_add_func("/source-steer/stays", test_stays);
    g_test_add_func("/source-steer/frozen", test_frozen);
    g_test_add_func("/source-steer/announced", test_announced);
    return g_test_run();
}
