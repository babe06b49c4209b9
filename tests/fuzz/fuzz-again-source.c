/*
 * A whole source whose connections are lost and come again
 *
 * The input is a list of pieces: one byte that says on which of two streams
 * (bit 0), whether its connection ends and the source's next one is awaited first
 * (bit 2), and whether GO is (bit 3), for as long as the source says something;
 * two bytes of length; the bytes.  The source's user has ended and waits in finish
 * all the time.  At the end the target says ABORT.  Whatever comes: finish
 * returns; the source has sent GO only if it says so; and once it has failed, it
 * has not sent GO and never will.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"
#include "fuzz.h"
#include "kit.h"
#include "pieces.h"

#define PAGES 70u
#define AGAIN_MAX 6u

enum { STREAM = 1, AGAIN = 4, AFTER_GO = 8 };

typedef struct Run {
    End end;
    int listen_fd;
    int fd[2]; /* -1: not there */
    atomic_bool over;
    DwcpError err;
    int rc;
} Run;

/* Connections that the source makes until stream @index has one. */
static void await_stream(Run *run, unsigned index)
{
    static const uint8_t session[DWCP_SESSION_BYTES] = "0123456789abcde";
    struct pollfd comes = { .fd = run->listen_fd, .events = POLLIN };
    uint8_t confirm[DWCP_CONFIRM_BYTES];
    Raw raw;

    while (run->fd[index] < 0 && !atomic_load(&run->over)) {
        if (poll(&comes, 1, 5) <= 0) {
            continue;
        }
        raw.fd = raw_accept(run->listen_fd);
        if (!raw_welcome(&raw, session,
                         DWCP_PROFILE_V1 | DWCP_FEATURE_RESUME) ||
            !raw_read(raw.fd, confirm, sizeof(confirm))) {
            close(raw.fd);
            continue;
        }
        fuzz_require(raw.said.stream < 2);
        if (run->fd[raw.said.stream] >= 0) {
            close(run->fd[raw.said.stream]);
        }
        run->fd[raw.said.stream] = raw.fd;
    }
}

static void hang_up(Run *run, unsigned index)
{
    if (run->fd[index] >= 0) {
        close(run->fd[index]);
    }
    run->fd[index] = -1;
}

static void await_go(Run *run, unsigned index)
{
    struct pollfd comes = { .fd = run->fd[index], .events = POLLIN };
    uint8_t *body = g_malloc(RAW_BODY_MAX);
    DwcpRecord record;

    do {
        if (comes.fd < 0 || poll(&comes, 1, 20) <= 0 ||
            !raw_next(comes.fd, &record, body)) {
            break;
        }
    } while (record.type != DWCP_RECORD_GO);
    g_free(body);
}

static gpointer finish_run(gpointer opaque)
{
    Run *run = opaque;

    run->rc = dwcp_source_finish(run->end.source, &run->err);
    atomic_store(&run->over, true);
    return NULL;
}

static void feed(Run *run, const uint8_t *data, size_t size)
{
    unsigned again = 0, index;
    Piece piece;

    while (pieces_next(&data, &size, &piece)) {
        index = piece.how & STREAM;
        if (piece.how & AGAIN && again++ < AGAIN_MAX) {
            hang_up(run, index);
            await_stream(run, index);
        }
        if (piece.how & AFTER_GO) {
            await_go(run, index);
        }
        raw_send(run->fd[index], piece.bytes, piece.length);
    }
}

/* On a connection that comes again even this breaks a rule, which will do. */
static void give_up(Run *run)
{
    uint8_t body[4 + 4];

    dwcp_put_le32(body, 5);
    memcpy(body + 4, "over", 4);
    while (!atomic_load(&run->over)) {
        await_stream(run, 0);
        raw_record(run->fd[0], DWCP_RECORD_ABORT, body, sizeof(body));
        (void)shutdown(run->fd[0], SHUT_WR);
        raw_until_closed(run->fd[0]);
        hang_up(run, 0);
    }
}

static void up(Run *run)
{
    DwcpSourceOptions options;
    char port[8];

    run->listen_fd = kit_listen(port);
    options = end_source_options(port);
    options.resume_ms_max = 0;
    end_source(&run->end, &options);
    end_ram(&run->end, PAGES);
    run->end.ram[PAGE] = 1; /* zero pages, and one that is not */
    end_connect(&run->end);
    await_stream(run, 0);
    await_stream(run, 1);
    end_wait_connected(&run->end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Run run = { .fd = { -1, -1 } };
    DwcpSource *source;
    GThread *thread;

    up(&run);
    source = run.end.source;
    fuzz_require(dwcp_source_put(source, 0, 0, PAGES) == 0);
    fuzz_require(dwcp_source_end(source) == 0);
    thread = g_thread_new("finish", finish_run, &run);
    feed(&run, data, size);
    fuzz_require(dwcp_source_pending_bytes(source) <= PAGES * PAGE);
    give_up(&run);
    g_thread_join(thread);
    fuzz_require(dwcp_source_gone(source) == (run.rc >= 0));
    fuzz_require(run.rc >= 0 || (run.err.code == run.rc && *run.err.text));
    if (run.rc < 0) {
        end_wait_failed(&run.end); /* the event may still be on its way */
    }
    dwcp_source_cancel(source);
    fuzz_require(dwcp_source_gone(source) == (run.rc >= 0));
    hang_up(&run, 0);
    hang_up(&run, 1);
    close(run.listen_fd);
    fuzz_require(run.end.failed == (run.rc < 0));
    end_free(&run.end);
    return 0;
}
