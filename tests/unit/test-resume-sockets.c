/*
 * Sockets that the user made
 *
 * Proves that they are what connects, and connects again after a loss, and that
 * what cannot be used as one is refused.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "resumecase.h"

static unsigned with_buffer(const int *fds, unsigned count, int bytes)
{
    socklen_t length;
    unsigned i, n = 0;
    int got;

    for (i = 0; i < count; i++) {
        length = sizeof(got);
        n += getsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &got, &length) == 0 &&
             got == bytes;
    }
    return n;
}

/* Sockets that the user made are what connects, again and again. */
static void test_sockets(void)
{
    DwcpSourceOptions for_source = resume_source_options(false);
    int fds[3], size = 70000, i;
    Usage before = usage_now();
    struct sockaddr_in peer;
    socklen_t length;
    ResumeCase c;

    for (i = 0; i < 3; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        g_assert_cmpint(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size,
                                   sizeof(size)),
                        ==, 0);
    }
    for_source.sockets = fds;
    for_source.sockets_count = 3;
    case_make(&c, for_source, resume_target_options(false));
    ends_up(&c.source, &c.target, 4);
    for (i = 0; i < 3; i++) {
        while (end_stats(&c.source).streams < 4) {
            (void)poll(NULL, 0, 1);
        }
        g_assert_cmpuint(with_buffer(fds, 3, 2 * size), ==, 3);
        length = sizeof(peer);
        g_assert_cmpint(getpeername(fds[i], (struct sockaddr *)&peer, &length),
                        ==, 0);
        /* Or one might stand again before the last has gone. */
        breaker_shut(c.breaker, true);
        breaker_reset(c.breaker, -1);
        while (end_stats(&c.source).streams) {
            (void)poll(NULL, 0, 1);
        }
        breaker_shut(c.breaker, false);
        while (end_stats(&c.source).resumes < (unsigned)i + 1) {
            (void)poll(NULL, 0, 1);
        }
    }
    g_assert_cmpint(dwcp_target_begin(c.target.target), ==, 0);
    ends_finish(&c.source, &c.target);
    case_free(&c);
    usage_same(before);
}

static void bad_sockets(const int *fds, unsigned count, const char *text)
{
    DwcpSourceOptions options = resume_source_options(false);
    DwcpSource *source = NULL;
    DwcpError err = { 0 };

    options.port = "1";
    options.sockets = fds;
    options.sockets_count = count;
    g_assert_cmpint(dwcp_source_new(&options, &source, &err), ==, -EINVAL);
    g_assert_nonnull(strstr(err.text, text));
}

static void test_bad_sockets(void)
{
    char port[8];
    int listen_fd = kit_listen(port), fds[5];

    fds[0] = raw_connect(port);
    bad_sockets(fds, 1, "is connected");
    close(fds[0]);
    bad_sockets(fds, 1, "is no TCP socket");
    fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    bad_sockets(fds, 1, "is no TCP socket");
    bad_sockets(fds, 5, "5 sockets for 4 streams");
    bad_sockets(&listen_fd, 1, "listens");
    fds[1] = fds[2] = socket(AF_INET, SOCK_STREAM, 0);
    bad_sockets(fds + 1, 2, "is given twice");
    close(fds[1]);
    close(fds[0]);
    close(listen_fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resume-sockets/made", test_sockets);
    g_test_add_func("/resume-sockets/bad", test_bad_sockets);
    return g_test_run();
}
