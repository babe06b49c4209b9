/*
 * Ends that fail, or cannot go on, while connections are lost
 *
 * Proves that a source which comes back hears why its target has failed; that
 * GO is not said while nobody would hear it; that a target whose host refuses
 * is given up; and that connections which move nothing do not keep a session.
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
#include "io/source.h"
#include "kit.h"

static void wait_streams(End *end, unsigned streams)
{
    DwcpStats stats = { .size = sizeof(stats) };

    do {
        (void)poll(NULL, 0, 1);
        if (end->source) {
            dwcp_source_stats(end->source, &stats);
        } else {
            dwcp_target_stats(end->target, &stats);
        }
    } while (stats.streams != streams);
}

/* A source that was away is told what has become of its target. */
static void test_told(gconstpointer opaque)
{
    unsigned index = (unsigned)GPOINTER_TO_INT(opaque);
    DwcpTargetOptions for_target = end_target_options();
    DwcpHello hello = raw_hello_resuming(0, NULL);
    uint8_t *body = g_malloc0(RAW_BODY_MAX);
    unsigned times;
    char port[8];
    End target;
    Raw raw;

    for_target.resume_ms_max = 0;
    end_target(&target, &for_target, port);
    raw_shake(&raw, port, &hello);
    end_wait_connected(&target);
    raw_reset(raw.fd);
    wait_streams(&target, 0);
    dwcp_target_cancel(target.target);
    hello = raw_hello_resuming(index, raw.answer.session);
    for (times = 0; times < 3; times++) { /* whoever comes, and as often */
        raw_shake(&raw, port, &hello);
        raw_expect(raw.fd, DWCP_RECORD_ABORT, body);
        g_assert_cmpuint(dwcp_get_le32(body), ==, ECANCELED);
        g_assert_cmpint(strncmp((char *)body + 4, "the target cancelled", 20),
                        ==, 0);
        raw_until_closed(raw.fd);
        close(raw.fd);
    }
    end_free(&target);
    g_free(body);
}

/* A source with one stream, and a target that resumes. */
typedef struct Lost {
    End source;
    int listen_fd;
    char port[8];
    Raw raw;
} Lost;

static void lost_up(Lost *lost, DwcpSourceOptions options)
{
    lost->listen_fd = kit_listen(lost->port);
    options.port = lost->port;
    options.streams = 1;
    end_source(&lost->source, &options);
    end_ram(&lost->source, 4);
    end_connect(&lost->source);
    raw_serve_resuming(&lost->raw, lost->listen_fd);
    end_wait_connected(&lost->source);
    raw_record(lost->raw.fd, DWCP_RECORD_BEGIN, "\1\0\0\0", 4);
}

/* finish() is called while the target is away, and it does not come back. */
static void test_go_into_void(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    uint8_t *body = g_malloc0(RAW_BODY_MAX);
    DwcpError err = { 0 };
    Lost lost;

    options.resume_ms_max = 0;
    options.switchover_ms_max = 400;
    lost_up(&lost, options);
    g_assert_cmpint(dwcp_source_end(lost.source.source), ==, 0);
    raw_expect(lost.raw.fd, DWCP_RECORD_END, body);
    raw_record(lost.raw.fd, DWCP_RECORD_READY, NULL, 0);
    while (dwcp_session_phase(&lost.source.source->session) !=
           DWCP_PHASE_READY) {
        (void)poll(NULL, 0, 1);
    }
    close(lost.listen_fd);
    raw_reset(lost.raw.fd);
    wait_streams(&lost.source, 0);
    g_assert_cmpint(dwcp_source_finish(lost.source.source, &err), ==,
                    -ETIMEDOUT);
    g_assert_false(dwcp_source_gone(lost.source.source));
    end_failed_with(&lost.source, -ETIMEDOUT, "could not be made again");
    end_free(&lost.source);
    g_free(body);
}

/* Where nobody listens any more, nobody will again. */
static void test_refused(void)
{
    DwcpSourceOptions options = end_source_options(NULL);
    Lost lost;

    options.resume_ms_max = 4 * DWCP_REFUSED_MS;
    lost_up(&lost, options);
    close(lost.listen_fd);
    raw_reset(lost.raw.fd);
    end_failed_with(&lost.source, -ECONNREFUSED, "the target is gone");
    end_free(&lost.source);
}

/* Each connection is good, and breaks before anything has moved. */
static void test_flaps(gconstpointer opaque)
{
    bool ended = GPOINTER_TO_INT(opaque);
    DwcpSourceOptions options = end_source_options(NULL);
    uint8_t resume[DWCP_RESUME_BODY], *body = g_malloc0(RAW_BODY_MAX);
    DwcpResume none = { 0 };
    DwcpRecord record;
    struct pollfd comes;
    Lost lost;

    options.resume_ms_max = ended ? 600000 : 1000;
    options.silence_ms_max = ended ? 1000 : 600000;
    lost_up(&lost, options);
    comes = (struct pollfd){ .fd = lost.listen_fd, .events = POLLIN };
    dwcp_resume_encode(resume, &none);
    if (ended) {
        g_assert_cmpint(dwcp_source_end(lost.source.source), ==, 0);
    } else {
        g_assert_cmpint(dwcp_source_put(lost.source.source, 0, 0, 4), ==, 0);
        dwcp_source_flush(lost.source.source);
        raw_expect(lost.raw.fd, DWCP_RECORD_PAGES, body);
    }
    while (dwcp_source_error(lost.source.source, NULL) == 0) {
        raw_reset(lost.raw.fd);
        lost.raw.fd = -1;
        while (poll(&comes, 1, 10) == 0 &&
               dwcp_source_error(lost.source.source, NULL) == 0) {
        }
        if (dwcp_source_error(lost.source.source, NULL)) {
            break;
        }
        raw_serve_resuming(&lost.raw, lost.listen_fd);
        raw_record(lost.raw.fd, DWCP_RECORD_RESUME, resume, sizeof(resume));
        (void)raw_next(lost.raw.fd, &record, body);
        (void)raw_next(lost.raw.fd, &record, body); /* it is used */
    }
    end_failed_with(&lost.source, -ETIMEDOUT, "again and again");
    g_assert_false(dwcp_source_gone(lost.source.source));
    if (lost.raw.fd >= 0) {
        close(lost.raw.fd);
    }
    close(lost.listen_fd);
    end_free(&lost.source);
    g_free(body);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/peer-lost/told/first", GINT_TO_POINTER(0),
                         test_told);
    g_test_add_data_func("/peer-lost/told/other", GINT_TO_POINTER(1),
                         test_told);
    g_test_add_func("/peer-lost/go-into-void", test_go_into_void);
    g_test_add_func("/peer-lost/refused", test_refused);
    g_test_add_data_func("/peer-lost/flaps", GINT_TO_POINTER(false),
                         test_flaps);
    g_test_add_data_func("/peer-lost/flaps/ended", GINT_TO_POINTER(true),
                         test_flaps);
    return g_test_run();
}
