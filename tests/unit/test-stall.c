/*
 * When a connection counts as lost because nobody answers
 *
 * What the system says of each socket is routed through the test.  Proves that
 * packets without an answer for long end a connection, and that a connection
 * which had nothing to send for long does not end with its next packet.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <poll.h>
#include <stdatomic.h>

#include "io/socket.h"
#include "kit.h"

void __real_dwcp_socket_measure(int fd, DwcpSocketState *state);
void __wrap_dwcp_socket_measure(int fd, DwcpSocketState *state);

static atomic_uint looks; /* since the last reset, at stream 0 */
static atomic_bool idle_first;
static atomic_int watched = -1;

/* The last acknowledgement came a minute ago; packets are under way, at the
 * first looks none. */
void __wrap_dwcp_socket_measure(int fd, DwcpSocketState *state)
{
    int none = -1;

    __real_dwcp_socket_measure(fd, state);
    (void)atomic_compare_exchange_strong(&watched, &none, fd);
    if (fd == atomic_load(&watched)) {
        state->flow.silent_ms = 60000;
        state->in_flight = atomic_fetch_add(&looks, 1) > 12 ||
                           !atomic_load(&idle_first);
    }
}

static unsigned lost(End *source)
{
    DwcpStats stats = { .size = sizeof(stats) };

    dwcp_source_stats(source->source, &stats);
    return stats.streams_lost;
}

static void test_stall(gconstpointer opaque)
{
    DwcpTargetOptions for_target = end_target_options();
    DwcpSourceOptions for_source;
    End source, target;
    char port[8];

    atomic_store(&watched, -1);
    atomic_store(&looks, 0);
    atomic_store(&idle_first, GPOINTER_TO_INT(opaque));
    for_target.resume_ms_max = 0;
    end_target(&target, &for_target, port);
    for_source = end_source_options(port);
    for_source.resume_ms_max = 1000; /* a look every 251 ms */
    for_source.streams = 1;
    end_source(&source, &for_source);
    end_connect(&source);
    end_wait_connected(&source);
    while (!lost(&source)) {
        (void)poll(NULL, 0, 1);
    }
    /* At the first tick if it was never idle, else after DWCP_STALL_MS, 20 ticks;
     * samples look as well, five times between two ticks. */
    g_assert_cmpuint(atomic_load(&looks) > 30, ==, atomic_load(&idle_first));
    end_free(&source);
    end_free(&target);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/stall/silent", GINT_TO_POINTER(false), test_stall);
    g_test_add_data_func("/stall/idle", GINT_TO_POINTER(true), test_stall);
    return g_test_run();
}
