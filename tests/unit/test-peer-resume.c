/*
 * Coming back to a target, against hand-written sources
 *
 * Proves that a target holds its source to the rules of coming back, and knows
 * what it has; that it says again what the source may have missed, SEALED above
 * all; and that a place is given to one connection at a time, the latest.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "io/stream.h"
#include "kit.h"

static DwcpTargetOptions target_options(void)
{
    DwcpTargetOptions options = end_target_options();

    options.resume_ms_max = 0;
    return options;
}

/* A hand-written source that comes again with @type as its first record. */
static void comes_again(DwcpRecordType type, const void *body, uint32_t length,
                        const char *text)
{
    DwcpTargetOptions for_target = target_options();
    DwcpHello hello = raw_hello_resuming(0, NULL);
    Raw first, second;
    char port[8];
    End target;

    end_target(&target, &for_target, port);
    raw_shake(&first, port, &hello);
    end_wait_connected(&target);
    raw_reset(first.fd);
    hello = raw_hello_resuming(0, first.answer.session);
    raw_shake(&second, port, &hello);
    raw_record(second.fd, type, body, length);
    if (text) {
        end_failed_with(&target, -EPROTO, text);
    } else {
        uint8_t *got = g_malloc(RAW_BODY_MAX);

        raw_expect(second.fd, DWCP_RECORD_RESUME, got);
        raw_record_u64(second.fd, DWCP_RECORD_PING, 5);
        g_assert_true(raw_read(second.fd, got, DWCP_RECORD_HEADER + 8));
        g_assert_cmpuint(got[0], ==, DWCP_RECORD_PONG);
        g_assert_cmpuint(target.failed, ==, 0);
        g_free(got);
    }
    close(second.fd);
    end_free(&target);
}

static void test_rules(void)
{
    DwcpResume resume = { 0 };
    uint8_t body[DWCP_RESUME_BODY], zero[8] = { 0 };

    dwcp_resume_encode(body, &resume);
    comes_again(DWCP_RECORD_RESUME, body, sizeof(body), NULL);
    comes_again(DWCP_RECORD_PING, zero, 8, "before RESUME");
    comes_again(DWCP_RECORD_GO, NULL, 0, "before RESUME");
    resume.received = 1; /* nothing was sent */
    dwcp_resume_encode(body, &resume);
    comes_again(DWCP_RECORD_RESUME, body, sizeof(body), "RESUME: 1 bytes");
    resume = (DwcpResume){ .received = 5, .consumed = 6 };
    dwcp_resume_encode(body, &resume);
    comes_again(DWCP_RECORD_RESUME, body, sizeof(body), "RESUME: channel 0");
    resume = (DwcpResume){ .channel = 1 };
    dwcp_resume_encode(body, &resume);
    comes_again(DWCP_RECORD_RESUME, body, sizeof(body), "RESUME: channel 1");
}

/* RESUME on a stream that did not come again. */
static void test_uncalled(void)
{
    DwcpTargetOptions for_target = target_options();
    DwcpHello hello = raw_hello_resuming(0, NULL);
    uint8_t body[DWCP_RESUME_BODY] = { 0 };
    char port[8];
    End target;
    Raw raw;

    end_target(&target, &for_target, port);
    raw_shake(&raw, port, &hello);
    raw_record(raw.fd, DWCP_RECORD_RESUME, body, sizeof(body));
    end_failed_with(&target, -EPROTO, "RESUME that nobody waits for");
    close(raw.fd);
    end_free(&target);
}

/* What comes again after memory is complete is acknowledged and dropped; what
 * END did not announce is refused, then as well. */
static void test_known(gconstpointer opaque)
{
    bool ready = GPOINTER_TO_INT(opaque);
    DwcpTargetOptions for_target = target_options();
    DwcpHello hello = raw_hello_resuming(0, NULL);
    DwcpPages pages = { .number = 1, .count = 1,
                        .chunks = { { .present = 1 } } };
    uint8_t *body = g_malloc0(RAW_BODY_MAX), page[PAGE];
    Raw raw[2];
    char port[8];
    End target;

    end_target(&target, &for_target, port);
    end_ram(&target, 4);
    raw_shake(&raw[0], port, &hello);
    end_wait_connected(&target);
    hello = raw_hello_resuming(1, raw[0].answer.session);
    raw_shake(&raw[1], port, &hello);
    g_assert_cmpint(dwcp_target_begin(target.target), ==, 0);
    memset(page, 1, sizeof(page));
    raw_pages(raw[1].fd, &pages, page, PAGE);
    raw_record_u64(raw[0].fd, DWCP_RECORD_END, 1);
    g_assert_cmpint(end_wait_complete(&target), ==, 1);
    if (ready) {
        g_assert_cmpint(dwcp_target_ready(target.target), ==, 0);
    }
    memset(page, 2, sizeof(page));
    raw_pages(raw[1].fd, &pages, page, PAGE);
    raw_expect(raw[1].fd, DWCP_RECORD_ACK, body);
    raw_expect(raw[1].fd, DWCP_RECORD_ACK, body);
    g_assert_cmpuint(dwcp_get_le64(body), ==, 2);
    g_assert_cmpuint(target.ram[0], ==, 1);
    g_assert_cmpuint(target.failed, ==, 0);
    pages.number = 2;
    raw_pages(raw[1].fd, &pages, page, PAGE);
    end_failed_with(&target, -EPROTO, ready ? "while ready" : "while complete");
    close(raw[0].fd);
    close(raw[1].fd);
    end_free(&target);
    g_free(body);
}

/* A target that has sealed says so again to a source that lost it. */
static void test_sealed_again(void)
{
    uint8_t *body = g_malloc0(RAW_BODY_MAX), resume[DWCP_RESUME_BODY];
    DwcpTargetOptions for_target = target_options();
    DwcpHello hello = raw_hello_resuming(0, NULL);
    DwcpResume none = { 0 };
    char port[8];
    End target;
    unsigned i;
    Raw raw;

    dwcp_resume_encode(resume, &none);
    end_target(&target, &for_target, port);
    raw_shake(&raw, port, &hello);
    end_wait_connected(&target);
    g_assert_cmpint(dwcp_target_begin(target.target), ==, 0);
    raw_record_u64(raw.fd, DWCP_RECORD_END, 0);
    g_assert_cmpint(end_wait_complete(&target), ==, 1);
    g_assert_cmpint(dwcp_target_ready(target.target), ==, 0);
    raw_expect(raw.fd, DWCP_RECORD_READY, body);
    raw_record(raw.fd, DWCP_RECORD_GO, NULL, 0);
    g_assert_cmpint(end_wait_go(&target), ==, 1);
    end_take(&target);
    hello = raw_hello_resuming(0, raw.answer.session);
    for (i = 0; i < 2; i++) {
        raw_reset(raw.fd);
        raw_shake(&raw, port, &hello);
        raw_record(raw.fd, DWCP_RECORD_RESUME, resume, sizeof(resume));
        if (i == 0) { /* as a source does, but it is not what asks for it */
            raw_record_u64(raw.fd, DWCP_RECORD_END, 0);
            raw_record(raw.fd, DWCP_RECORD_GO, NULL, 0);
        }
        raw_expect(raw.fd, DWCP_RECORD_RESUME, body);
        raw_expect(raw.fd, DWCP_RECORD_BEGIN, body);
        raw_expect(raw.fd, DWCP_RECORD_READY, body);
        raw_expect(raw.fd, DWCP_RECORD_SEALED, body);
        /* Channel 0 has outlived the connection, too. */
        g_assert_cmpint(send(target.channel, "x", 1, MSG_NOSIGNAL), ==, 1);
        raw_expect(raw.fd, DWCP_RECORD_CHANNEL, body);
    }
    /* The others are not asked back. */
    close(raw.fd);
    hello = raw_hello_resuming(1, raw.answer.session);
    g_assert_true(raw_welcomed(&raw, port, &hello));
    g_assert_cmpuint(raw.welcome[10], ==, DWCP_REFUSAL_SESSION);
    close(raw.fd);
    g_assert_cmpint(dwcp_target_go(target.target), ==, 1);
    end_free(&target);
    g_free(body);
}

/* A stream that stands gives way to one that comes in its place. */
static void test_replaced(void)
{
    DwcpTargetOptions for_target = target_options();
    DwcpHello hello = raw_hello_resuming(0, NULL);
    DwcpStats stats = { .size = sizeof(stats) };
    uint8_t *body = g_malloc0(RAW_BODY_MAX);
    char port[8];
    End target;
    Raw raw[3];

    end_target(&target, &for_target, port);
    raw_shake(&raw[0], port, &hello);
    end_wait_connected(&target);
    hello = raw_hello_resuming(1, raw[0].answer.session);
    raw_shake(&raw[1], port, &hello);
    while (stats.streams < 2) { /* it stands: CONFIRMs may overtake each other */
        dwcp_target_stats(target.target, &stats);
        (void)poll(NULL, 0, 1);
    }
    raw_shake(&raw[2], port, &hello); /* the same again */
    raw_until_closed(raw[1].fd);
    g_assert_cmpuint(target.failed, ==, 0);
    hello = raw_hello_resuming(0, raw[0].answer.session);
    close(raw[1].fd);
    raw_shake(&raw[1], port, &hello);
    raw_record(raw[1].fd, DWCP_RECORD_RESUME, body, DWCP_RESUME_BODY);
    raw_until_closed(raw[0].fd);
    raw_expect(raw[1].fd, DWCP_RECORD_RESUME, body);
    g_assert_cmpuint(target.failed, ==, 0);
    close(raw[0].fd);
    close(raw[1].fd);
    close(raw[2].fd);
    end_free(&target);
    g_free(body);
}

/* A connection that was made before the one that stands, and confirms after it,
 * is not the one that the source uses. */
static void test_overtaken(void)
{
    DwcpTargetOptions for_target = target_options();
    DwcpPages pages = { .number = 1, .count = 1,
                        .chunks = { { .present = 1, .zero = 1 } } };
    DwcpHello hello = raw_hello_resuming(0, NULL);
    uint8_t *body = g_malloc0(RAW_BODY_MAX);
    char port[8];
    End target;
    Raw raw[3];

    end_target(&target, &for_target, port);
    end_ram(&target, 4);
    raw_shake(&raw[0], port, &hello);
    end_wait_connected(&target);
    g_assert_cmpint(dwcp_target_begin(target.target), ==, 0);
    hello = raw_hello_resuming(1, raw[0].answer.session);
    g_assert_true(raw_welcomed(&raw[1], port, &hello));
    raw_shake(&raw[2], port, &hello);
    raw_pages(raw[2].fd, &pages, NULL, 0);
    raw_expect(raw[2].fd, DWCP_RECORD_ACK, body);
    raw_confirm(&raw[1]);
    raw_until_closed(raw[1].fd);
    end_wait_warned(&target, 1);
    g_assert_nonnull(strstr(target.warning.text, "a later connection stands"));
    pages.number = 2;
    raw_pages(raw[2].fd, &pages, NULL, 0);
    raw_expect(raw[2].fd, DWCP_RECORD_ACK, body);
    close(raw[0].fd);
    close(raw[1].fd);
    close(raw[2].fd);
    end_free(&target);
    g_free(body);
}

/* A place is given to one at a time, and to no other index. */
static void test_place(void)
{
    DwcpSession session;
    DwcpStream stream[2] = { { .index = 1 }, { .index = 2 } };

    g_assert_cmpint(dwcp_session_init(&session, DWCP_ROLE_TARGET,
                                      DWCP_SECURITY_NONE,
                                      &(DwcpKeys){ .psk = NULL }, PAGE, 0, 0,
                                      &(DwcpEvents){ .opaque = NULL }, NULL),
                    ==, 0);
    g_assert_cmpint(dwcp_session_vacate(&session, &stream[0], 0), ==, 0);
    g_assert_cmpint(dwcp_session_vacate(&session, &stream[0], 0), ==,
                    -ETIMEDOUT);
    g_assert_cmpint(dwcp_session_vacate(&session, &stream[1], 0), ==, 0);
    dwcp_session_occupied(&session, 1);
    g_assert_cmpint(dwcp_session_vacate(&session, &stream[0], 0), ==, 0);
    g_assert_cmpint(dwcp_session_vacate(&session, &stream[1], 0), ==,
                    -ETIMEDOUT);
    dwcp_session_clear(&session);
}

/* Two were offered a session: the one that confirms first has the target. */
static void test_faster(void)
{
    DwcpTargetOptions for_target = target_options();
    DwcpHello hello = raw_hello_resuming(0, NULL);
    uint8_t got[DWCP_RECORD_HEADER + 8];
    Raw first, second;
    char port[8];
    End target;

    end_target(&target, &for_target, port);
    g_assert_true(raw_welcomed(&second, port, &hello));
    g_assert_true(raw_welcomed(&first, port, &hello));
    raw_confirm(&first);
    end_wait_connected(&target);
    raw_confirm(&second);
    raw_until_closed(second.fd);
    end_wait_warned(&target, 1);
    g_assert_nonnull(strstr(target.warning.text, "was faster"));
    raw_record_u64(first.fd, DWCP_RECORD_PING, 5);
    g_assert_true(raw_read(first.fd, got, sizeof(got)));
    g_assert_cmpuint(got[0], ==, DWCP_RECORD_PONG);
    close(first.fd);
    close(second.fd);
    end_free(&target);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-resume/faster", test_faster);
    g_test_add_func("/peer-resume/rules", test_rules);
    g_test_add_func("/peer-resume/uncalled", test_uncalled);
    g_test_add_data_func("/peer-resume/known", GINT_TO_POINTER(false), test_known);
    g_test_add_data_func("/peer-resume/known/ready", GINT_TO_POINTER(true),
                         test_known);
    g_test_add_func("/peer-resume/sealed-again", test_sealed_again);
    g_test_add_func("/peer-resume/replaced", test_replaced);
    g_test_add_func("/peer-resume/overtaken", test_overtaken);
    g_test_add_func("/peer-resume/place", test_place);
    return g_test_run();
}
