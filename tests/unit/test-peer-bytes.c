/*
 * A good session's bytes, changed at each byte and cut at each byte
 *
 * What a source says on stream 0 of a small move, from the first record to END,
 * is sent to a real target with one byte changed, or only in part; the page of
 * payload is sampled.  Proves that the target ends with one error that is put
 * in words, whether the change or the end of the bytes is to blame, and that
 * no memory, thread or descriptor is left.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "kit.h"

#define PAGES 66u

static size_t add_record(uint8_t *out, DwcpRecordType type, const void *body,
                         uint32_t length)
{
    dwcp_record_encode(out, type, length);
    if (length) {
        memcpy(out + DWCP_RECORD_HEADER, body, length);
    }
    return DWCP_RECORD_HEADER + length;
}

static size_t add_u64(uint8_t *out, DwcpRecordType type, uint64_t value)
{
    uint8_t body[8];

    dwcp_put_le64(body, value);
    return add_record(out, type, body, sizeof(body));
}

/* Returns: bytes of the session; *@payload and the page behind it are where
 * the page's contents stand. */
static size_t session_bytes(uint8_t *out, size_t *payload)
{
    DwcpPages pages = { .number = 1, .count = 2,
                        .chunks = { { .chunk = 0, .present = 5, .zero = 4 },
                                    { .chunk = 1, .present = 2, .zero = 2 } } };
    uint8_t head[96], *at = out;

    at += add_record(at, DWCP_RECORD_CHANNEL, "\0\0device state", 14);
    at += add_u64(at, DWCP_RECORD_PING, 7);
    dwcp_record_encode(at, DWCP_RECORD_PAGES, sizeof(head) + PAGE);
    at += DWCP_RECORD_HEADER;
    dwcp_pages_encode(at, &pages);
    at += sizeof(head);
    *payload = (size_t)(at - out);
    memset(at, 0x33, PAGE);
    at += PAGE;
    at += add_record(at, DWCP_RECORD_WINDOW, "\0\0\0\0\0\0\0\0\0\0", 10);
    at += add_record(at, DWCP_RECORD_CHANNEL_EOF, "\0\0", 2);
    at += add_u64(at, DWCP_RECORD_END, 2);
    return (size_t)(at - out);
}

/* Sends @length bytes and hangs up: before GO, so that the target must fail. */
static void feed(const uint8_t *data, size_t length)
{
    DwcpTargetOptions options = end_target_options();
    char port[8];
    Raw raw;
    End end;
    int rc;

    end_target(&end, &options, port);
    end_ram(&end, PAGES);
    raw_join(&raw, port, 0, 1, NULL);
    end_wait_connected(&end);
    g_assert_cmpint(dwcp_target_begin(end.target), ==, 0);
    raw_send(raw.fd, data, length);
    (void)shutdown(raw.fd, SHUT_WR); /* it may have been reset already */
    raw_until_closed(raw.fd);
    close(raw.fd);
    end_wait_failed(&end);
    rc = dwcp_target_go(end.target);
    g_assert_cmpint(rc, ==, end.error.code);
    g_assert_cmpint(rc, <, 0);
    g_assert_cmpuint(end.failed, ==, 1);
    g_assert_cmpuint(end.warned, ==, 0);
    g_assert_cmpstr(end.error.text, !=, "");
    g_assert_null(strchr(end.error.text, '\n'));
    end_free(&end);
}

static void test_flipped(void)
{
    uint8_t *data = g_malloc(2 * PAGE);
    Usage before = usage_now();
    size_t length, payload, at;

    length = session_bytes(data, &payload);
    for (at = 0; at < length; at++) {
        if (at > payload + 8 && at < payload + PAGE - 8 && at % 1000) {
            continue;
        }
        data[at] ^= 0xff;
        feed(data, length);
        data[at] ^= 0xff ^ 0x01;
        feed(data, length);
        data[at] ^= 0x01;
    }
    usage_same(before);
    g_free(data);
}

static void test_cut(void)
{
    uint8_t *data = g_malloc(2 * PAGE);
    Usage before = usage_now();
    size_t length, payload, at;

    length = session_bytes(data, &payload);
    for (at = 0; at < length; at++) {
        if (at > payload + 8 && at < payload + PAGE - 8 && at % 1000) {
            continue;
        }
        feed(data, at);
    }
    usage_same(before);
    g_free(data);
}

/* Garbage behind a good beginning, wherever that ends. */
static void test_garbage(void)
{
    uint8_t *data = g_malloc(2 * PAGE);
    GRand *rnd = g_rand_new_with_seed(99);
    Usage before = usage_now();
    size_t length, payload, at, i;

    for (at = 0; at < 150; at += 3) {
        length = session_bytes(data, &payload);
        for (i = at; i < length; i++) {
            data[i] = (uint8_t)g_rand_int(rnd);
        }
        feed(data, length);
    }
    usage_same(before);
    g_rand_free(rnd);
    g_free(data);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-bytes/flipped", test_flipped);
    g_test_add_func("/peer-bytes/cut", test_cut);
    g_test_add_func("/peer-bytes/garbage", test_garbage);
    return g_test_run();
}
