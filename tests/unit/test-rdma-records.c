/*
 * The records about RDMA on stream 0, with hand-written peers and no device
 *
 * Device and lane are in the test's hands (--wrap).  Proves that the feature is
 * agreed on when both sides have it and not else; that a source asks once, not
 * after END, with auto not before the path is a datacenter's; that each record
 * that comes when it must not ends the session; that a lane that cannot be made
 * is said and told, and harms nothing; and that memory is not complete, and READY
 * not taken, while a lane stands.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "io/lane-end.h"
#include "kit.h"

static const uint8_t session_id[DWCP_SESSION_BYTES] = "0123456789abcde";

/* ------------------------------------------------------------- wraps -- */

static int start_code; /* what starting a lane comes to */
static atomic_uint starts;

int __wrap_dwcp_rdma_check(DwcpError *err);
int __wrap_dwcp_rdma_address_check(int fd, DwcpError *err);
int __wrap_dwcp_lane_source_start(DwcpSource *source, int fd,
                                  const DwcpLaneOffer *offer, DwcpError *err);
int __wrap_dwcp_lane_target_start(DwcpTarget *target, int fd, DwcpError *err);

int __wrap_dwcp_rdma_check(DwcpError *err)
{
    (void)err;
    return 0;
}

int __wrap_dwcp_rdma_address_check(int fd, DwcpError *err)
{
    (void)fd;
    (void)err;
    return 0;
}

static int started(DwcpError *err)
{
    atomic_fetch_add(&starts, 1);
    if (start_code) {
        *err = (DwcpError){ start_code, "it has gone" };
    }
    return start_code;
}

int __wrap_dwcp_lane_source_start(DwcpSource *source, int fd,
                                  const DwcpLaneOffer *offer, DwcpError *err)
{
    bool begun;

    (void)fd;
    g_assert_cmpuint(offer->port, ==, 4791);
    if (!start_code) { /* as if it stood, with nothing on TCP */
        while (!dwcp_feed_lane_enter(&source->feed, &begun)) {
            (void)poll(NULL, 0, 1);
        }
    }
    return started(err);
}

int __wrap_dwcp_lane_target_start(DwcpTarget *target, int fd, DwcpError *err)
{
    (void)fd;
    pthread_mutex_lock(&target->session.lock);
    target->session.lane.open = start_code == 0;
    pthread_mutex_unlock(&target->session.lock);
    return started(err);
}

/* ------------------------------------------------------------- target -- */

typedef struct Side {
    End end;
    Raw raw;
    char port[8];
    int listen_fd; /* of a hand-written target */
    uint8_t *body;
} Side;

/* A target with a hand-written source that has, or has not, the feature. */
static void target_up(Side *side, bool feature, DwcpRdma wish)
{
    DwcpTargetOptions options = end_target_options();
    DwcpHello hello = raw_hello(0, 1, NULL);
    DwcpError err = { 0 };

    atomic_store(&starts, 0);
    options.rdma = wish;
    side->listen_fd = -1;
    side->body = g_malloc(RAW_BODY_MAX);
    end_target(&side->end, &options, side->port);
    end_ram(&side->end, 64);
    hello.features |= feature ? DWCP_FEATURE_RDMA : 0;
    g_assert_true(raw_welcomed(&side->raw, side->port, &hello));
    g_assert_cmpint(dwcp_welcome_decode(side->raw.welcome, &hello,
                                        side->raw.hello, &side->raw.answer,
                                        &err),
                    ==, 0);
    g_assert_cmpint((side->raw.answer.features & DWCP_FEATURE_RDMA) != 0, ==,
                    feature && wish != DWCP_RDMA_OFF);
    raw_confirm(&side->raw);
    end_wait_connected(&side->end);
    g_assert_cmpint(dwcp_target_begin(side->end.target), ==, 0);
}

static void side_free(Side *side)
{
    close(side->raw.fd);
    if (side->listen_fd >= 0) {
        close(side->listen_fd);
    }
    end_free(&side->end);
    g_free(side->body);
}

static DwcpStats stats_of(Side *side)
{
    DwcpStats stats = { .size = sizeof(stats) };

    if (side->end.source) {
        dwcp_source_stats(side->end.source, &stats);
    } else {
        dwcp_target_stats(side->end.target, &stats);
    }
    return stats;
}

static void send_down(Side *side, uint64_t frames)
{
    raw_record(side->raw.fd, DWCP_RECORD_RDMA_DOWN, &frames, 8);
}

static void down(Side *side)
{
    send_down(side, 0);
}

static void ask(Side *side)
{
    raw_record(side->raw.fd, DWCP_RECORD_RDMA_ASK, NULL, 0);
}

static void ask_twice(Side *side)
{
    ask(side);
    ask(side);
}

static void down_twice(Side *side)
{
    ask(side);
    down(side);
    down(side);
}

static void test_target_refuses(void)
{
    static const struct {
        void (*say)(Side *);
        bool feature;
        DwcpRdma wish;
        const char *text;
    } rows[] = {
        { ask, false, DWCP_RDMA_AUTO, "no RDMA was agreed on" },
        { ask, true, DWCP_RDMA_OFF, "no RDMA was agreed on" },
        { down, true, DWCP_RDMA_AUTO, "no RDMA was agreed on" },
        { ask_twice, true, DWCP_RDMA_AUTO, "RDMA_ASK for the second time" },
        { down_twice, true, DWCP_RDMA_ON, "RDMA_DOWN for the second time" },
    };
    unsigned i;
    Side side;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        target_up(&side, rows[i].feature, rows[i].wish);
        rows[i].say(&side);
        end_failed_with(&side.end, -EPROTO, rows[i].text);
        side_free(&side);
    }
}

/* It cannot be made: said to the source, told to the user, and no more. */
static void test_target_cannot(void)
{
    DwcpLaneDown got;
    Side side;

    start_code = -ENODEV;
    target_up(&side, true, DWCP_RDMA_ON);
    ask(&side);
    raw_expect(side.raw.fd, DWCP_RECORD_RDMA_DOWN, side.body);
    dwcp_lane_down_decode(side.body, 8 + 11, &got);
    g_assert_cmpuint(got.frames, ==, 0);
    g_assert_cmpstr(got.text, ==, "it has gone");
    g_assert_cmpuint(stats_of(&side).rdma, ==, DWCP_RDMA_UNUSED);
    g_assert_cmpstr(stats_of(&side).rdma_why, ==, "it has gone");
    raw_record_u64(side.raw.fd, DWCP_RECORD_END, 0);
    g_assert_cmpint(end_wait_complete(&side.end), ==, 1);
    side_free(&side);
    start_code = 0;
    target_up(&side, false, DWCP_RDMA_ON);
    g_assert_cmpstr(stats_of(&side).rdma_why, ==,
                    "the source does not offer RDMA");
    side_free(&side);
}

/* Memory is not complete, whatever has come, before the lane is down. */
static void test_target_sealed(void)
{
    DwcpTarget *target;
    DwcpSession *session;
    Side side;

    target_up(&side, true, DWCP_RDMA_ON);
    target = side.end.target;
    session = &target->session;
    ask(&side);
    raw_record_u64(side.raw.fd, DWCP_RECORD_END, 0);
    raw_record_u64(side.raw.fd, DWCP_RECORD_PING, 1);
    do { /* behind END */
        g_assert_true(raw_read(side.raw.fd, side.body, DWCP_RECORD_HEADER));
        g_assert_true(raw_read(side.raw.fd, side.body + DWCP_RECORD_HEADER,
                               dwcp_get_le32(side.body + 4)));
    } while (side.body[0] != DWCP_RECORD_PONG);
    g_assert_cmpint(dwcp_target_memory_complete(target), ==, 0);
    g_assert_cmpint(dwcp_target_ready(target), ==, -EINVAL);
    pthread_mutex_lock(&session->lock);
    session->lane.open = false;
    dwcp_lane_say_down_locked(session, 0, NULL);
    pthread_mutex_unlock(&session->lock);
    dwcp_target_check_complete(target);
    g_assert_cmpint(dwcp_target_memory_complete(target), ==, 1);
    g_assert_cmpint(dwcp_target_ready(target), ==, 0);
    /* READY comes behind it. */
    g_assert_true(raw_read(side.raw.fd, side.body, 16));
    g_assert_cmpuint(side.body[0], ==, DWCP_RECORD_RDMA_DOWN);
    g_assert_true(raw_read(side.raw.fd, side.body, 8));
    g_assert_cmpuint(side.body[0], ==, DWCP_RECORD_READY);
    side_free(&side);
}

/* ------------------------------------------------------------- source -- */

/* A source with a hand-written target that has, or has not, the feature. */
static void source_up(Side *side, bool feature, DwcpRdma wish, DwcpMode mode)
{
    DwcpSourceOptions options;
    uint8_t confirm[DWCP_CONFIRM_BYTES];
    Raw *raw = &side->raw;
    DwcpError err;

    atomic_store(&starts, 0);
    side->body = g_malloc(RAW_BODY_MAX);
    side->listen_fd = kit_listen(side->port);
    options = end_source_options(side->port);
    options.rdma = wish;
    options.mode = mode;
    options.streams = 1;
    end_source(&side->end, &options);
    end_ram(&side->end, 64);
    end_connect(&side->end);
    raw->fd = raw_accept(side->listen_fd);
    g_assert_true(raw_read(raw->fd, raw->hello, sizeof(raw->hello)));
    g_assert_cmpint(dwcp_hello_decode(raw->hello, &raw->said, &err), ==, 0);
    g_assert_cmpint((raw->said.features & DWCP_FEATURE_RDMA) != 0, ==,
                    wish != DWCP_RDMA_OFF);
    (void)dwcp_hello_judge(&raw->said, DWCP_SECURITY_NONE,
                           DWCP_PROFILE_V1 | (feature ? DWCP_FEATURE_RDMA : 0),
                           PAGE, &raw->answer);
    memcpy(raw->answer.session, session_id, DWCP_SESSION_BYTES);
    dwcp_welcome_encode(raw->welcome, &raw->answer);
    dwcp_welcome_tag(raw->welcome, raw->hello, NULL);
    raw_send(raw->fd, raw->welcome, sizeof(raw->welcome));
    g_assert_true(raw_read(raw->fd, confirm, sizeof(confirm)));
    end_wait_connected(&side->end);
    raw_record(raw->fd, DWCP_RECORD_BEGIN, "\1\0\0\0", 4);
}

static void offer(Side *side)
{
    DwcpLaneOffer what = { .port = 4791 };
    uint8_t body[DWCP_LANE_OFFER_BODY];

    dwcp_lane_offer_encode(body, &what);
    raw_record(side->raw.fd, DWCP_RECORD_RDMA_OFFER, body, sizeof(body));
}

static void expect_ask(Side *side)
{
    raw_expect(side->raw.fd, DWCP_RECORD_RDMA_ASK, side->body);
}

static void offer_twice(Side *side)
{
    expect_ask(side);
    offer(side);
    offer(side);
}

static void offer_wrong(Side *side)
{
    uint8_t body[DWCP_LANE_OFFER_BODY] = { 9 };

    expect_ask(side);
    raw_record(side->raw.fd, DWCP_RECORD_RDMA_OFFER, body, sizeof(body));
}

static void down_twice_from_target(Side *side)
{
    expect_ask(side);
    down(side);
    down(side);
}

static void ready_on_lane(Side *side)
{
    expect_ask(side);
    offer(side);
    while (!atomic_load(&starts)) {
        (void)poll(NULL, 0, 1);
    }
    g_assert_cmpint(dwcp_source_end(side->end.source), ==, 0);
    raw_expect(side->raw.fd, DWCP_RECORD_END, side->body);
    raw_record(side->raw.fd, DWCP_RECORD_READY, NULL, 0);
}

static void test_source_refuses(void)
{
    static const struct {
        void (*say)(Side *);
        bool feature;
        const char *text;
    } rows[] = {
        { offer, false, "nobody asked" },
        { down, false, "nobody asked" },
        { offer_twice, true, "RDMA_OFFER for the second time" },
        { offer_wrong, true, "RDMA_OFFER: version 9" },
        { down_twice_from_target, true, "RDMA_DOWN for the second time" },
        { ready_on_lane, true, "READY while the RDMA lane stands" },
    };
    unsigned i;
    Side side;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        source_up(&side, rows[i].feature, DWCP_RDMA_ON, DWCP_MODE_MEASURED);
        rows[i].say(&side);
        end_failed_with(&side.end, -EPROTO, rows[i].text);
        side_free(&side);
    }
}

static void test_source_cannot(void)
{
    DwcpLaneDown got;
    Side side;

    start_code = -ENODEV;
    source_up(&side, true, DWCP_RDMA_ON, DWCP_MODE_MEASURED);
    expect_ask(&side);
    offer(&side);
    raw_expect(side.raw.fd, DWCP_RECORD_RDMA_DOWN, side.body);
    dwcp_lane_down_decode(side.body, 8 + 11, &got);
    g_assert_cmpstr(got.text, ==, "it has gone");
    g_assert_cmpuint(stats_of(&side).rdma, ==, DWCP_RDMA_UNUSED);
    g_assert_cmpstr(stats_of(&side).rdma_why, ==, "it has gone");
    down(&side); /* the target's answer */
    g_assert_cmpint(dwcp_source_put(side.end.source, 0, 0, 64), ==, 0);
    dwcp_source_flush(side.end.source);
    raw_expect(side.raw.fd, DWCP_RECORD_PAGES, side.body);
    side_free(&side);
    start_code = 0;

    source_up(&side, true, DWCP_RDMA_ON, DWCP_MODE_MEASURED);
    expect_ask(&side);
    raw_record(side.raw.fd, DWCP_RECORD_RDMA_DOWN,
               "\0\0\0\0\0\0\0\0no memory", 17);
    g_assert_cmpint(dwcp_source_put(side.end.source, 0, 0, 64), ==, 0);
    dwcp_source_flush(side.end.source);
    raw_expect(side.raw.fd, DWCP_RECORD_PAGES, side.body);
    while (!strstr(stats_of(&side).rdma_why, "the target: no memory")) {
        g_assert_cmpint(dwcp_source_error(side.end.source, NULL), ==, 0);
        (void)poll(NULL, 0, 1);
    }
    g_assert_cmpuint(atomic_load(&starts), ==, 0);
    side_free(&side);
}

/* The next record but those of no concern; false: PONG came first. */
static bool asked(Side *side)
{
    DwcpRecord record;
    uint8_t header[DWCP_RECORD_HEADER];
    unsigned pings = 0;

    while (pings < 2) { /* more than a second of samples */
        g_assert_true(raw_read(side->raw.fd, header, sizeof(header)));
        g_assert_cmpint(dwcp_record_decode(header, PAGE, &record, NULL), ==, 0);
        g_assert_true(raw_read(side->raw.fd, side->body, record.length));
        if (record.type == DWCP_RECORD_RDMA_ASK) {
            return true;
        }
        pings += record.type == DWCP_RECORD_PING;
    }
    return false;
}

static void test_source_asks(void)
{
    static const struct {
        DwcpRdma wish;
        DwcpMode mode;
        bool feature, ended, asks;
    } rows[] = {
        { DWCP_RDMA_ON, DWCP_MODE_INTERNET, true, false, true },
        { DWCP_RDMA_AUTO, DWCP_MODE_DATACENTER, true, false, true },
        { DWCP_RDMA_AUTO, DWCP_MODE_INTERNET, true, false, false },
        { DWCP_RDMA_ON, DWCP_MODE_DATACENTER, false, false, false },
        { DWCP_RDMA_OFF, DWCP_MODE_DATACENTER, true, false, false },
    };
    unsigned i;
    Side side;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        source_up(&side, rows[i].feature, rows[i].wish, rows[i].mode);
        g_assert_cmpint(asked(&side), ==, rows[i].asks);
        side_free(&side);
    }
}

/* An offer that comes when the guest is stopped is declined. */
static void test_source_late(void)
{
    DwcpLaneDown got;
    Side side;

    source_up(&side, true, DWCP_RDMA_ON, DWCP_MODE_MEASURED);
    expect_ask(&side);
    g_assert_cmpint(dwcp_source_end(side.end.source), ==, 0);
    raw_expect(side.raw.fd, DWCP_RECORD_END, side.body);
    offer(&side);
    raw_expect(side.raw.fd, DWCP_RECORD_RDMA_DOWN, side.body);
    dwcp_lane_down_decode(side.body, 8 + 23, &got);
    g_assert_cmpstr(got.text, ==, "the offer came too late");
    g_assert_cmpuint(atomic_load(&starts), ==, 0);
    raw_record(side.raw.fd, DWCP_RECORD_READY, NULL, 0);
    end_free(&side.end);
    close(side.raw.fd);
    close(side.listen_fd);
    g_free(side.body);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rdma-records/target/refuses", test_target_refuses);
    g_test_add_func("/rdma-records/target/cannot", test_target_cannot);
    g_test_add_func("/rdma-records/target/sealed", test_target_sealed);
    g_test_add_func("/rdma-records/source/refuses", test_source_refuses);
    g_test_add_func("/rdma-records/source/cannot", test_source_cannot);
    g_test_add_func("/rdma-records/source/asks", test_source_asks);
    g_test_add_func("/rdma-records/source/late", test_source_late);
    return g_test_run();
}
