/*
 * A source that comes back, against hand-written targets
 *
 * Proves that a target that only shakes hands keeps no source, and that a source
 * says again what its target may have missed, GO above all.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kit.h"

static DwcpSourceOptions source_options(const char *port)
{
    DwcpSourceOptions options = end_source_options(port);

    options.resume_ms_max = 0;
    return options;
}

/* A target that shakes hands and hangs up, as a middlebox makes it look. */
typedef struct HangsUp {
    int listen_fd;
    atomic_uint times;
} HangsUp;

static gpointer hangs_up_run(gpointer opaque)
{
    HangsUp *hangs_up = opaque;
    uint8_t session[DWCP_SESSION_BYTES] = { 1 }, confirm[DWCP_CONFIRM_BYTES];
    Raw raw;

    for (;;) {
        raw.fd = accept(hangs_up->listen_fd, NULL, NULL);
        if (raw.fd < 0) {
            return NULL;
        }
        if (raw_welcome(&raw, session, DWCP_PROFILE_V1 | DWCP_FEATURE_RESUME)) {
            (void)raw_read(raw.fd, confirm, sizeof(confirm));
            atomic_fetch_add(&hangs_up->times, 1);
        }
        raw_reset(raw.fd);
    }
}

/* A handshake alone is no connection: the limits and the pauses go on. */
static void test_hangs_up(gconstpointer opaque)
{
    bool ended = GPOINTER_TO_INT(opaque);
    DwcpSourceOptions options;
    HangsUp hangs_up = { 0 };
    GThread *thread;
    char port[8];
    End source;

    hangs_up.listen_fd = kit_listen(port);
    thread = g_thread_new("hangs-up", hangs_up_run, &hangs_up);
    options = source_options(port);
    options.streams = ended ? 1 : 3;
    options.resume_ms_max = ended ? 600000 : 1000;
    options.switchover_ms_max = 1000;
    end_source(&source, &options);
    end_connect(&source);
    end_wait_connected(&source);
    if (ended) {
        g_assert_cmpint(dwcp_source_end(source.source), ==, 0);
    }
    end_failed_with(&source, -ETIMEDOUT, "could not be made again");
    g_assert_false(dwcp_source_gone(source.source));
    end_free(&source);
    (void)shutdown(hangs_up.listen_fd, SHUT_RDWR);
    g_thread_join(thread);
    close(hangs_up.listen_fd);
    g_assert_cmpuint(atomic_load(&hangs_up.times), <, options.streams * 12);
}

static gpointer finish_run(gpointer opaque)
{
    DwcpSource *source = opaque;
    DwcpError err;

    return GINT_TO_POINTER(dwcp_source_finish(source, &err));
}

/* GO, and the end of channel 0, are said again to a target that lost them. */
static void test_go_again(void)
{
    uint8_t *body = g_malloc0(RAW_BODY_MAX), resume[DWCP_RESUME_BODY];
    DwcpSourceOptions options;
    DwcpResume none = { 0 };
    int listen_fd, again;
    GThread *thread;
    char port[8];
    End source;
    Raw raw;

    listen_fd = kit_listen(port);
    options = source_options(port);
    options.streams = 1;
    end_source(&source, &options);
    end_connect(&source);
    raw_serve_resuming(&raw, listen_fd);
    end_wait_connected(&source);
    end_take(&source);
    raw_record(raw.fd, DWCP_RECORD_BEGIN, "\0\0\0\0", 4);
    g_assert_cmpint(dwcp_source_end(source.source), ==, 0);
    raw_expect(raw.fd, DWCP_RECORD_END, body);
    raw_record(raw.fd, DWCP_RECORD_READY, NULL, 0);
    thread = g_thread_new("finish", finish_run, source.source);
    raw_expect(raw.fd, DWCP_RECORD_GO, body);
    close(source.channel);
    source.channel = -1;
    raw_expect(raw.fd, DWCP_RECORD_CHANNEL_EOF, body);
    dwcp_resume_encode(resume, &none);
    for (again = 0; again < 2; again++) {
        raw_reset(raw.fd);
        raw_serve_resuming(&raw, listen_fd);
        g_assert_cmpint(raw.said.kind, ==, DWCP_HELLO_JOIN);
        raw_record(raw.fd, DWCP_RECORD_RESUME, resume, sizeof(resume));
        raw_expect(raw.fd, DWCP_RECORD_RESUME, body);
        raw_expect(raw.fd, DWCP_RECORD_END, body);
        raw_expect(raw.fd, DWCP_RECORD_GO, body);
        raw_expect(raw.fd, DWCP_RECORD_CHANNEL_EOF, body);
    }
    raw_record(raw.fd, DWCP_RECORD_BEGIN, "\0\0\0\0", 4);
    raw_record(raw.fd, DWCP_RECORD_READY, NULL, 0);
    raw_record(raw.fd, DWCP_RECORD_SEALED, NULL, 0);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 0);
    close(raw.fd);
    close(listen_fd);
    end_free(&source);
    g_free(body);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/peer-resume/hangs-up", GINT_TO_POINTER(false),
                         test_hangs_up);
    g_test_add_data_func("/peer-resume/hangs-up/ended", GINT_TO_POINTER(true),
                         test_hangs_up);
    g_test_add_func("/peer-resume/go-again", test_go_again);
    return g_test_run();
}
