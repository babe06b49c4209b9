/*
 * core/channel: a byte channel's credit and ring
 *
 * Proves that bytes come out as they went in for random sizes across the
 * ring's end, that the window holds on both sides to the byte, and that a
 * peer that lies about it, or about where it stands when it comes again, is
 * refused and changes nothing.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "core/channel.h"

#define WINDOW DWCP_CHANNEL_WINDOW

static void test_credit(void)
{
    DwcpChannel channel;
    DwcpError err = { 0 };

    g_assert_cmpint(dwcp_channel_init(&channel), ==, 0);
    g_assert_cmpuint(dwcp_channel_room(&channel), ==, WINDOW);
    channel.sent += WINDOW;
    channel.queued += WINDOW;
    g_assert_cmpuint(dwcp_channel_room(&channel), ==, 0);
    g_assert_cmpint(dwcp_channel_credit(&channel, 100, &err), ==, 0);
    g_assert_cmpuint(dwcp_channel_room(&channel), ==, 100);
    g_assert_cmpint(dwcp_channel_credit(&channel, 100, &err), ==, 0);
    g_assert_cmpint(dwcp_channel_credit(&channel, 99, &err), ==, -EPROTO);
    g_assert_cmpint(dwcp_channel_credit(&channel, WINDOW + 1ull, &err), ==,
                    -EPROTO);
    g_assert_cmpint(dwcp_channel_credit(&channel, UINT64_MAX, &err), ==,
                    -EPROTO);
    g_assert_cmpuint(dwcp_channel_room(&channel), ==, 100);
    g_assert_cmpint(dwcp_channel_credit(&channel, WINDOW, &err), ==, 0);
    g_assert_cmpuint(dwcp_channel_room(&channel), ==, WINDOW);
    dwcp_channel_clear(&channel);
}

/* What a peer says of itself when it comes again is between what it said before
 * and what it was given. */
static void test_resume(void)
{
    static const struct {
        uint64_t received, consumed;
    } bad[] = {
        { 1001, 500 },          /* beyond what was sent */
        { UINT64_MAX, 500 },
        { 299, 299 },           /* before what was consumed */
        { 500, 299 },
        { 500, 501 },           /* consumed, and not received */
        { 500, 1000 },
        { 500, UINT64_MAX },
    };
    DwcpChannel channel;
    DwcpError err = { 0 };
    unsigned i;

    g_assert_cmpint(dwcp_channel_init(&channel), ==, 0);
    channel.sent = 1200; /* 200 of it wait */
    channel.queued = 1000;
    g_assert_cmpint(dwcp_channel_credit(&channel, 300, &err), ==, 0);
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(dwcp_channel_resume(&channel, bad[i].received,
                                            bad[i].consumed, &err),
                        ==, -EPROTO);
        g_assert_cmpuint(channel.queued, ==, 1000);
        g_assert_cmpuint(channel.peer_consumed, ==, 300);
    }
    g_assert_cmpint(dwcp_channel_resume(&channel, 1000, 1000, &err), ==, 0);
    g_assert_cmpuint(channel.peer_consumed, ==, 1000);
    g_assert_cmpuint(dwcp_channel_room(&channel), ==, WINDOW - 200);
    dwcp_channel_clear(&channel);
}

static void test_window(void)
{
    uint8_t *data = g_malloc0(WINDOW);
    const uint8_t *out;
    DwcpChannel channel;
    DwcpError err = { 0 };

    g_assert_cmpint(dwcp_channel_init(&channel), ==, 0);
    g_assert_cmpuint(dwcp_channel_peek(&channel, &out), ==, 0);
    g_assert_cmpint(dwcp_channel_push(&channel, data, WINDOW + 1, &err), ==,
                    -EPROTO);
    g_assert_cmpint(dwcp_channel_push(&channel, data, WINDOW - 1, &err), ==,
                    0);
    g_assert_cmpint(dwcp_channel_push(&channel, data, 2, &err), ==, -EPROTO);
    g_assert_cmpint(dwcp_channel_push(&channel, data, 1, &err), ==, 0);
    g_assert_cmpint(dwcp_channel_push(&channel, data, 1, &err), ==, -EPROTO);
    g_assert_cmpuint(dwcp_channel_peek(&channel, &out), ==, WINDOW);
    dwcp_channel_consume(&channel, 1);
    g_assert_cmpint(dwcp_channel_push(&channel, data, 1, &err), ==, 0);
    g_assert_cmpint(dwcp_channel_push(&channel, data, 1, &err), ==, -EPROTO);
    channel.received_eof = true;
    dwcp_channel_consume(&channel, 10);
    g_assert_cmpint(dwcp_channel_push(&channel, data, 1, &err), ==, -EPROTO);
    dwcp_channel_clear(&channel);
    g_free(data);
}

static void test_report(void)
{
    uint8_t *data = g_malloc0(WINDOW);
    DwcpChannel channel;
    DwcpError err = { 0 };

    g_assert_cmpint(dwcp_channel_init(&channel), ==, 0);
    g_assert_cmpint(dwcp_channel_push(&channel, data, WINDOW, &err), ==, 0);
    g_assert_false(dwcp_channel_report(&channel, DWCP_CHANNEL_REPORT));
    dwcp_channel_consume(&channel, WINDOW / 4 - 1);
    g_assert_false(dwcp_channel_report(&channel, DWCP_CHANNEL_REPORT));
    dwcp_channel_consume(&channel, 1);
    g_assert_true(dwcp_channel_report(&channel, DWCP_CHANNEL_REPORT));
    g_assert_cmpuint(channel.reported, ==, WINDOW / 4);
    g_assert_false(dwcp_channel_report(&channel, DWCP_CHANNEL_REPORT));
    dwcp_channel_clear(&channel);
    g_free(data);
}

/* No period that fits the ring: what stands there from before is different. */
static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at * 7 + (at >> 8) + at / 4093 * 31);
}

static void test_bytes(void)
{
    enum { BYTES = 5 * WINDOW };
    GRand *rnd = g_rand_new_with_seed(3);
    uint8_t *data = g_malloc(DWCP_CHANNEL_DATA_MAX);
    uint64_t in = 0, at = 0;
    const uint8_t *got;
    DwcpChannel channel;
    DwcpError err = { 0 };
    uint32_t n, i;

    g_assert_cmpint(dwcp_channel_init(&channel), ==, 0);
    while (at < BYTES) {
        n = (uint32_t)g_rand_int_range(rnd, 1, DWCP_CHANNEL_DATA_MAX + 1);
        for (i = 0; i < n; i++) {
            data[i] = byte_at(in + i);
        }
        if (in < BYTES && dwcp_channel_push(&channel, data, n, &err) == 0) {
            in += n;
        }
        n = dwcp_channel_peek(&channel, &got);
        if (n && g_rand_int_range(rnd, 0, 3)) {
            n = (uint32_t)g_rand_int_range(rnd, 1, (int)MIN(n, 200000) + 1);
            for (i = 0; i < n; i++) {
                if (got[i] != byte_at(at + i)) {
                    g_error("byte %" G_GUINT64_FORMAT " differs", at + i);
                }
            }
            dwcp_channel_consume(&channel, n);
            at += n;
        }
    }
    g_assert_cmpuint(channel.received, ==, in);
    dwcp_channel_clear(&channel);
    g_free(data);
    g_rand_free(rnd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/channel/credit", test_credit);
    g_test_add_func("/channel/resume", test_resume);
    g_test_add_func("/channel/window", test_window);
    g_test_add_func("/channel/report", test_report);
    g_test_add_func("/channel/bytes", test_bytes);
    return g_test_run();
}
