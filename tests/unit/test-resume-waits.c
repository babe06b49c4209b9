/*
 * Sessions that have lost all their connections
 *
 * Proves that nothing of it shows while new ones are made, that a cancel
 * answers then, and that what cannot come back ends in time with a reason.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "resumecase.h"

/* No connection stands, and none can be made. */
static void cut_off(ResumeCase *c)
{
    breaker_shut(c->breaker, true);
    breaker_reset(c->breaker, -1);
    while (!end_stats(&c->source).reconnecting_ms) {
        (void)poll(NULL, 0, 1);
    }
}

static void test_reconnecting(void)
{
    GRand *rnd = g_rand_new_with_seed(2);
    ResumeCase c;

    case_new(&c, LARGE, false, 0);
    kit_fill(rnd, c.source.ram, LARGE);
    g_assert_cmpint(dwcp_target_begin(c.target.target), ==, 0);
    cut_off(&c);
    g_assert_cmpuint(end_stats(&c.source).streams, ==, 0);
    /* The migration thread notices nothing, and does not turn in circles. */
    g_assert_cmpint(dwcp_source_wait(c.source.source, 20), ==, 1);
    g_assert_cmpint(dwcp_source_put(c.source.source, 0, 0, LARGE), ==, 0);
    dwcp_source_flush(c.source.source);
    g_assert_cmpint(dwcp_source_wait(c.source.source, 20), ==, 1);
    g_assert_cmpuint(dwcp_source_pending_bytes(c.source.source), ==,
                     (uint64_t)LARGE * PAGE);
    breaker_shut(c.breaker, false);
    ends_finish(&c.source, &c.target);
    g_assert_cmpuint(end_stats(&c.source).resumes, ==, 1);
    case_free(&c);
    g_rand_free(rnd);
}

static void test_cancel(void)
{
    Usage before = usage_now();
    ResumeCase c;

    case_new(&c, 10, false, 1);
    cut_off(&c);
    dwcp_source_cancel(c.source.source);
    g_assert_cmpint(dwcp_source_error(c.source.source, NULL), ==, -ECANCELED);
    g_assert_cmpint(dwcp_source_wait(c.source.source, 100000), ==, -ECANCELED);
    g_assert_false(dwcp_source_gone(c.source.source));
    case_free(&c); /* joins */
    usage_same(before);
}

/* All streams are in the middle of a frame: the target hears of the cancel all
 * the same, also if the source is freed at once. */
static void test_cancel_busy(gconstpointer opaque)
{
    bool keyed = GPOINTER_TO_INT(opaque);
    GRand *rnd = g_rand_new_with_seed(4);
    unsigned round, still;
    uint64_t sent;
    ResumeCase c;

#ifdef __SANITIZE_THREAD__
    g_test_skip("frames have 0.3 s to end, which ThreadSanitizer can take up");
    return;
#endif
    for (round = 0; round < 2; round++) {
        case_new(&c, 4 * LARGE, keyed, 0);
        kit_fill(rnd, c.source.ram, 4 * LARGE);
        g_assert_cmpint(dwcp_target_begin(c.target.target), ==, 0);
        breaker_hold(c.breaker, true);
        g_assert_cmpint(dwcp_source_put(c.source.source, 0, 0, 4 * LARGE), ==,
                        0);
        dwcp_source_flush(c.source.source);
        for (sent = still = 0; still < 50; still++) { /* until sockets are full */
            (void)poll(NULL, 0, 1);
            if (end_stats(&c.source).wire_bytes != sent) {
                sent = end_stats(&c.source).wire_bytes;
                still = 0;
            }
        }
        g_assert_cmpuint(end_stats(&c.source).pending_bytes, >, 0);
        dwcp_source_cancel(c.source.source);
        breaker_hold(c.breaker, false);
        if (round) {
            end_free(&c.source);
        }
        end_failed_with(&c.target, -ECONNABORTED, "the source cancelled");
        case_free(&c);
    }
    g_rand_free(rnd);
}

/* The user's end of channel 0 is a way to cancel then, too. */
static void test_channel_closed(void)
{
    ResumeCase c;

    case_new(&c, 10, false, 1);
    cut_off(&c);
    (void)shutdown(c.source.channel, SHUT_RDWR);
    g_assert_cmpint(dwcp_source_wait(c.source.source, 20000), ==, -ECANCELED);
    g_assert_false(dwcp_source_gone(c.source.source));
    case_free(&c);
}

/* What does not come back is given up, with a reason, on both sides. */
static void test_gone(gconstpointer opaque)
{
    bool ended = GPOINTER_TO_INT(opaque);
    DwcpTargetOptions for_target = resume_target_options(false);
    DwcpSourceOptions for_source = resume_source_options(false);
    DwcpError err;
    ResumeCase c;
    char byte;

    for_target.resume_ms_max = 400;
    for_target.silence_ms_max = 300;
    for_source.resume_ms_max = ended ? 600000 : 400;
    for_source.switchover_ms_max = 200;
    case_make(&c, for_source, for_target);
    case_up(&c, 4);
    if (ended) {
        g_assert_cmpint(dwcp_target_begin(c.target.target), ==, 0);
        g_assert_cmpint(dwcp_source_end(c.source.source), ==, 0);
        g_assert_cmpint(end_wait_complete(&c.target), ==, 1);
    }
    breaker_shut(c.breaker, true);
    breaker_reset(c.breaker, -1);
    if (ended) { /* READY does not get through, and finish() waits for it */
        g_assert_cmpint(dwcp_source_finish(c.source.source, &err), <, 0);
    }
    end_failed_with(&c.source, -ETIMEDOUT, "could not be made again");
    end_failed_with(&c.target, -ETIMEDOUT, "no sign of life");
    /* Whoever waits at channel 0 sees its end, though no stream serves it. */
    g_assert_cmpint(recv(c.source.channel, &byte, 1, 0), ==, 0);
    g_assert_cmpint(recv(c.target.channel, &byte, 1, 0), ==, 0);
    g_assert_false(dwcp_source_gone(c.source.source));
    case_free(&c);
}

/* An attempt that nobody answers ends with the time that there was. */
static void test_unanswered(void)
{
    DwcpSourceOptions for_source = resume_source_options(false);
    DwcpError err;
    gint64 before;
    ResumeCase c;

    for_source.switchover_ms_max = 300;
    case_make(&c, for_source, resume_target_options(false));
    end_connect(&c.source);
    end_wait_connected(&c.source);
    end_wait_connected(&c.target);
    g_assert_cmpint(dwcp_source_end(c.source.source), ==, 0);
    breaker_hold(c.breaker, true);
    before = g_get_monotonic_time();
    breaker_reset(c.breaker, -1);
    g_assert_cmpint(dwcp_source_finish(c.source.source, &err), <, 0);
    /* As with a cancel, ten times what is promised: the guest stands still. */
    g_assert_cmpint(g_get_monotonic_time() - before, <, 3000000);
    end_failed_with(&c.source, -ETIMEDOUT, "for 300 ms");
    case_free(&c);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resume-waits/reconnecting", test_reconnecting);
    g_test_add_func("/resume-waits/cancel", test_cancel);
    g_test_add_func("/resume-waits/channel-closed", test_channel_closed);
    g_test_add_data_func("/resume-waits/cancel/busy/plain", GINT_TO_POINTER(false),
                         test_cancel_busy);
    g_test_add_data_func("/resume-waits/cancel/busy/keyed", GINT_TO_POINTER(true),
                         test_cancel_busy);
    g_test_add_data_func("/resume-waits/gone", GINT_TO_POINTER(false),
                         test_gone);
    g_test_add_data_func("/resume-waits/gone/ended", GINT_TO_POINTER(true),
                         test_gone);
    g_test_add_func("/resume-waits/unanswered", test_unanswered);
    return g_test_run();
}
