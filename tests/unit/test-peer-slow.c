/*
 * Peers that take their time: handshakes that stall, and crowds that do
 *
 * What waits for DWCP_HANDSHAKE_MS waits together: all stalls of both ends run
 * at once, so this test takes hardly longer than one of them.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kit.h"

/* A source that stops within its handshake, after so many bytes. */
static const unsigned source_stalls[] = { 0, 1, 8, 103, 104, 120, 135 };
#define SOURCE_STALLS G_N_ELEMENTS(source_stalls)

/* A target that does; after so many bytes of WELCOME. */
static const unsigned target_stalls[] = { 0, 1, 8, 100, 311 };
#define TARGET_STALLS G_N_ELEMENTS(target_stalls)

typedef struct Slow {
    End end;
    char port[8];
    int listen_fd, fd;
    Raw raw;
} Slow;

static void source_stall(Slow *slow, unsigned bytes)
{
    DwcpTargetOptions options = end_target_options();
    DwcpHello hello = raw_hello(0, 1, NULL);
    uint8_t confirm[DWCP_CONFIRM_BYTES];

    end_target(&slow->end, &options, slow->port);
    if (bytes < DWCP_HELLO_BYTES) {
        slow->raw.fd = raw_connect(slow->port);
        dwcp_hello_encode(slow->raw.hello, &hello);
        raw_send(slow->raw.fd, slow->raw.hello, bytes);
    } else {
        g_assert_true(raw_welcomed(&slow->raw, slow->port, &hello));
        dwcp_confirm_encode(confirm, slow->raw.hello, slow->raw.welcome, NULL);
        raw_send(slow->raw.fd, confirm, bytes - DWCP_HELLO_BYTES);
    }
}

static void target_stall(Slow *slow, unsigned bytes)
{
    DwcpSourceOptions options = end_source_options(slow->port);

    slow->listen_fd = kit_listen(slow->port);
    end_source(&slow->end, &options);
    end_connect(&slow->end);
    slow->fd = raw_accept(slow->listen_fd);
    g_assert_true(raw_read(slow->fd, slow->raw.hello, DWCP_HELLO_BYTES));
    g_assert_cmpint(dwcp_hello_decode(slow->raw.hello, &slow->raw.said, NULL),
                    ==, 0);
    (void)dwcp_hello_judge(&slow->raw.said, DWCP_SECURITY_NONE, DWCP_PROFILE_V1, PAGE,
                           &slow->raw.answer);
    memset(slow->raw.answer.random, 0, DWCP_RANDOM_BYTES);
    dwcp_welcome_encode(slow->raw.welcome, &slow->raw.answer);
    dwcp_welcome_tag(slow->raw.welcome, slow->raw.hello, NULL);
    raw_send(slow->fd, slow->raw.welcome, bytes);
}

/* More who say nothing than a target serves at once. */
static void crowd_come(Slow *slow, int *crowd, unsigned count)
{
    DwcpTargetOptions options = end_target_options();
    unsigned i;

    end_target(&slow->end, &options, slow->port);
    for (i = 0; i < count; i++) {
        crowd[i] = raw_connect(slow->port);
    }
}

static void test_stalls(void)
{
    enum { CROWD = DWCP_HANDSHAKES_MAX + 4 };
    Slow targets[SOURCE_STALLS], sources[TARGET_STALLS], door;
    Usage before = usage_now();
    int crowd[CROWD];
    unsigned i;
    Raw rightful;

    crowd_come(&door, crowd, CROWD);
    for (i = 0; i < SOURCE_STALLS; i++) {
        source_stall(&targets[i], source_stalls[i]);
    }
    for (i = 0; i < TARGET_STALLS; i++) {
        target_stall(&sources[i], target_stalls[i]);
    }
    /* The rightful source waits until the crowd has been sent away. */
    raw_join(&rightful, door.port, 0, 1, NULL);
    end_wait_connected(&door.end);
    g_assert_cmpint(dwcp_target_error(door.end.target, NULL), ==, 0);
    for (i = 0; i < SOURCE_STALLS; i++) {
        end_wait_warned(&targets[i].end, 1);
        g_assert_cmpint(targets[i].end.warning.code, ==, -ETIMEDOUT);
        g_assert_nonnull(strstr(targets[i].end.warning.text, "handshake"));
        g_assert_cmpuint(targets[i].end.failed, ==, 0);
        close(targets[i].raw.fd);
        /* And the next one is welcome. */
        raw_join(&targets[i].raw, targets[i].port, 0, 1, NULL);
        end_wait_connected(&targets[i].end);
        close(targets[i].raw.fd);
        end_free(&targets[i].end);
    }
    for (i = 0; i < TARGET_STALLS; i++) {
        end_failed_with(&sources[i].end, -ETIMEDOUT, "handshake");
        g_assert_false(dwcp_source_gone(sources[i].end.source));
        close(sources[i].fd);
        close(sources[i].listen_fd);
        end_free(&sources[i].end);
    }
    for (i = 0; i < CROWD; i++) {
        close(crowd[i]);
    }
    close(rightful.fd);
    end_free(&door.end);
    usage_same(before);
}

/* Silent strangers who come back whenever they are sent away. */
typedef struct Crowd {
    const char *port;
    atomic_bool stop;
} Crowd;

static gpointer crowd_run(gpointer opaque)
{
    enum { STRANGERS = DWCP_HANDSHAKES_MAX + 100 };
    Crowd *crowd = opaque;
    struct pollfd fds[STRANGERS];
    unsigned i;

    for (i = 0; i < STRANGERS; i++) {
        fds[i] = (struct pollfd){ raw_connect(crowd->port), POLLIN, 0 };
    }
    while (!atomic_load(&crowd->stop)) {
        (void)poll(fds, STRANGERS, 50);
        for (i = 0; i < STRANGERS; i++) {
            if (fds[i].revents) {
                close(fds[i].fd);
                fds[i].fd = raw_connect(crowd->port);
            }
        }
    }
    for (i = 0; i < STRANGERS; i++) {
        close(fds[i].fd);
    }
    return NULL;
}

/* They do not keep the rightful source out for as long as it tries. */
static void test_crowd(void)
{
    static const uint8_t psk[] = "sixteen bytes or more";
    DwcpTargetOptions for_target = end_target_options();
    DwcpSourceOptions for_source;
    Crowd crowd = { 0 };
    GThread *thread;
    End source, target;
    char port[8];

    for_target.security = DWCP_SECURITY_PSK;
    for_target.keys = (DwcpKeys){ .psk = psk, .psk_bytes = sizeof(psk) };
    end_target(&target, &for_target, port);
    crowd.port = port;
    thread = g_thread_new("crowd", crowd_run, &crowd);
    g_usleep(200000); /* a head start: nothing hangs on it */
    for_source = end_source_options(port);
    for_source.security = for_target.security;
    for_source.keys = for_target.keys;
    end_source(&source, &for_source);
    end_connect(&source);
    end_wait_connected(&source);
    end_wait_connected(&target);
    atomic_store(&crowd.stop, true);
    g_thread_join(thread);
    end_free(&source);
    end_free(&target);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-slow/stalls", test_stalls);
    g_test_add_func("/peer-slow/crowd", test_crowd);
    return g_test_run();
}
