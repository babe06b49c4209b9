/*
 * A whole source, fed with bytes on two streams after their handshakes
 *
 * The input is a list of pieces (pieces.h).  The source's user hands
 * over all its pages, ends, and asks to finish, as a hypervisor would.
 * Whatever comes: the source ends; it has sent GO only if finish says so; and
 * once an error was returned, it has not sent GO and never will.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "fuzz.h"
#include "pieces.h"

#define PAGES 70u

static void source_up(End *end, int fd[2])
{
    static const uint8_t session[DWCP_SESSION_BYTES] = "0123456789abcde";
    DwcpSourceOptions options;
    int listen_fd, i;
    char port[8];
    Raw raw;

    listen_fd = kit_listen(port);
    options = end_source_options(port);
    end_source(end, &options);
    end_ram(end, PAGES);
    end->ram[PAGE] = 1; /* zero pages, and one that is not */
    end_connect(end);
    for (i = 0; i < 2; i++) {
        raw_serve(&raw, listen_fd, session);
        fd[raw.said.stream] = raw.fd;
    }
    end_wait_connected(end);
    close(listen_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DwcpError err = { 0 };
    DwcpSource *source;
    bool ended;
    int fd[2], rc;
    End end;

    source_up(&end, fd);
    source = end.source;
    (void)!dwcp_source_put(source, 0, 0, PAGES);
    ended = dwcp_source_end(source) == 0;
    pieces_feed(fd, data, size);
    fuzz_require(ended);
    fuzz_require(dwcp_source_pending_bytes(source) <= PAGES * PAGE);
    fuzz_require(!dwcp_source_gone(source));
    pieces_hang_up(fd);
    rc = dwcp_source_finish(source, &err);
    fuzz_require(dwcp_source_gone(source) == (rc >= 0));
    fuzz_require(rc >= 0 || (err.code == rc && *err.text));
    dwcp_source_cancel(source);
    fuzz_require(dwcp_source_gone(source) == (rc >= 0));
    fuzz_require(end.failed == (rc < 0));
    end_free(&end);
    return 0;
}
