/*
 * io/pump: what is kept of channel 0 does not wait for the clock
 *
 * Device state is longer than a stream's queue, and the guest stands still until
 * all of it has gone.  Here no tick and no sample ever comes to a stream's help:
 * what its user wrote, and closed nothing after, arrives at the other end all
 * the same, in either direction.
 *
 * The linker is to route dwcp_session_tick_ns and dwcp_stream_new here.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <string.h>
#include <sys/socket.h>

#include "io/stream.h"
#include "kit.h"

/* Several queues long, but so short that no WINDOW is said, which would wake. */
#define BYTES (DWCP_CHANNEL_REPORT - 1000)
_Static_assert(BYTES > 3 * DWCP_CONTROL_QUEUE_MAX, "fits into the queue");

uint64_t __wrap_dwcp_session_tick_ns(const DwcpSession *session);
uint64_t __wrap_dwcp_session_tick_ns(const DwcpSession *session)
{
    (void)session;
    return 3600000000000ull;
}

DwcpStream *__real_dwcp_stream_new(DwcpSession *session,
                                   const DwcpStreamOps *ops, void *role);
DwcpStream *__wrap_dwcp_stream_new(DwcpSession *session,
                                   const DwcpStreamOps *ops, void *role);
DwcpStream *__wrap_dwcp_stream_new(DwcpSession *session,
                                   const DwcpStreamOps *ops, void *role)
{
    static DwcpStreamOps unsampled;

    if (session->role == DWCP_ROLE_SOURCE) { /* its only stream */
        unsampled = *ops;
        unsampled.sample = NULL;
        ops = &unsampled;
    }
    return __real_dwcp_stream_new(session, ops, role);
}

static gpointer write_run(gpointer opaque)
{
    int fd = GPOINTER_TO_INT(opaque);
    uint8_t *data = g_malloc(BYTES);

    memset(data, 0x5a, BYTES);
    raw_send(fd, data, BYTES);
    g_free(data);
    return NULL;
}

static void passes(int from, int to)
{
    GThread *writer = g_thread_new("write", write_run, GINT_TO_POINTER(from));
    uint8_t *data = g_malloc(BYTES);

    g_assert_true(raw_read(to, data, BYTES));
    g_assert_cmpuint(data[BYTES - 1], ==, 0x5a);
    g_thread_join(writer);
    g_free(data);
}

static void test_kept(gconstpointer opaque)
{
    bool from_target = GPOINTER_TO_INT(opaque);
    DwcpTargetOptions target_options = end_target_options();
    DwcpSourceOptions source_options;
    Usage before = usage_now();
    End source, target;
    char port[8];

    end_target(&target, &target_options, port);
    source_options = end_source_options(port);
    source_options.streams = 1;
    end_source(&source, &source_options);
    end_connect(&source);
    end_wait_connected(&source);
    end_wait_connected(&target);
    end_take(&source);
    end_take(&target);
    if (from_target) {
        passes(target.channel, source.channel);
    } else {
        passes(source.channel, target.channel);
    }
    end_free(&source);
    end_free(&target);
    usage_same(before);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/pump-kept/source", GINT_TO_POINTER(false),
                         test_kept);
    g_test_add_data_func("/pump-kept/target", GINT_TO_POINTER(true),
                         test_kept);
    return g_test_run();
}
