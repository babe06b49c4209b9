/*
 * What the session tests share: both ends, a hand-written peer, leak counters
 *
 * An End watches the events of one real source or target.  The raw peer
 * speaks the protocol from core/ alone over a blocking socket, so that a test
 * can break any rule of it.  Nothing here decides whether a test passed but
 * by g_assert; waits have no limit of their own, the test runner's holds.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_KIT_H
#define DWCP_TESTS_KIT_H

#include <pthread.h>

#include "core/bounds.h"
#include "core/hello.h"
#include "core/wire.h"

#define PAGE 4096u

/* ---------------------------------------------------------------- ends -- */

/* One real end and what it said; its fields are guarded by lock. */
typedef struct End {
    DwcpSource *source; /* one of the two */
    DwcpTarget *target;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned connected, failed, changed, warned; /* calls so far */
    DwcpError error, warning;                    /* the last ones */
    int channel; /* channel 0 once taken, or -1 */
    uint8_t *ram;
    uint64_t pages;
} End;

/* end_source, end_target: options that tests may then change */
DwcpSourceOptions end_source_options(const char *port);
DwcpTargetOptions end_target_options(void);

/* end_source, end_target: a new end; a target listens, its port in @port */
void end_source(End *end, const DwcpSourceOptions *options);
void end_target(End *end, const DwcpTargetOptions *options, char *port);
/* the same, but failure is an answer; an end that could not be made is freed
 * with end_free as well.  A listener belongs to the end on success only. */
int end_try_source(End *end, const DwcpSourceOptions *options,
                   DwcpError *err) DWCP_CHECKED;
int end_try_target(End *end, const DwcpTargetOptions *options, int listen_fd,
                   DwcpError *err) DWCP_CHECKED;
int end_try_ram(End *end, uint64_t pages, DwcpError *err) DWCP_CHECKED;

void end_connect(End *end);
void end_ram(End *end, uint64_t pages); /* map and add a block */
void end_take(End *end);                /* channel 0 */
void end_free(End *end);
DwcpStats end_stats(End *source);
/* ends_up: two new ends: map @pages on both sides, connect, wait until both are
 * connected */
void ends_up(End *source, End *target, uint64_t pages);

/* kit_fill: with what does not compress */
struct _GRand;
void kit_fill(struct _GRand *rnd, uint8_t *ram, uint64_t pages);

/* Waits; each returns as soon as it holds. */
void end_wait_connected(End *end); /* fails the test if the end fails */
void end_wait_failed(End *end);
void end_wait_warned(End *end, unsigned count);
int end_wait_complete(End *end); /* 1, or the session's error */
int end_wait_go(End *end);       /* 1, or the session's error */

/* end_failed_with: waits, then: one failure, this code, this in its text */
void end_failed_with(End *end, int code, const char *text);

/* ends_finish: from end() to go(), each step as it must be, then the same memory
 * on both sides */
void ends_finish(End *source, End *target);

int kit_listen(char *port); /* a loopback listener; @port has 8 bytes */

/* ----------------------------------------------------------- raw peers -- */

/* A connection on which the test itself speaks. */
typedef struct Raw {
    int fd;
    uint8_t hello[DWCP_HELLO_BYTES], welcome[DWCP_WELCOME_BYTES];
    DwcpHello said;      /* hello, decoded */
    DwcpWelcome answer;  /* welcome, decoded */
} Raw;

int raw_connect(const char *port);
int raw_try_connect(const char *port); /* -1: refused */
int raw_accept(int listen_fd);
void raw_send(int fd, const void *data, size_t length); /* may be refused */
bool raw_read(int fd, void *data, size_t length);       /* false: closed */
void raw_until_closed(int fd); /* discard what comes until the end */
void raw_reset(int fd);        /* close with a reset */

DwcpHello raw_hello(unsigned stream, unsigned streams,
                    const uint8_t *session); /* a good one */

/* raw_welcomed: send HELLO, read WELCOME into @raw; false: closed */
bool raw_welcomed(Raw *raw, const char *port, const DwcpHello *hello);
void raw_confirm(Raw *raw);

/* raw_join: a whole handshake as a source; stream 0 gives the session */
void raw_join(Raw *raw, const char *port, unsigned stream, unsigned streams,
              const uint8_t *session);

/* raw_welcome: what a target does between accept and CONFIRM; false: what came
 * is no HELLO, or the end */
bool raw_welcome(Raw *raw, const uint8_t *session, uint64_t features);
/* raw_serve: accept, and a whole handshake as a target */
void raw_serve(Raw *raw, int listen_fd, const uint8_t *session);

/* the same with RESUME: raw_hello_resuming() is the HELLO of a first
 * connection, or with @session of one that joins it; raw_shake() does the
 * handshake that begins with it; raw_serve_resuming() is a target's half */
DwcpHello raw_hello_resuming(unsigned stream, const uint8_t *session);
void raw_shake(Raw *raw, const char *port, const DwcpHello *hello);
void raw_serve_resuming(Raw *raw, int listen_fd);

void raw_record(int fd, DwcpRecordType type, const void *body,
                uint32_t length);
void raw_record_u64(int fd, DwcpRecordType type, uint64_t value);
void raw_pages(int fd, const DwcpPages *pages, const void *payload,
               uint32_t length);

/* raw_next: the next record that is not PING, which is answered, or PONG;
 * false: closed.  @body has RAW_BODY_MAX bytes. */
#define RAW_BODY_MAX                                                           \
    (DWCP_PAGES_HEADER + DWCP_FRAME_CHUNKS_MAX * DWCP_PAGES_CHUNK +            \
     DWCP_FRAME_PLAIN_MAX)
bool raw_next(int fd, DwcpRecord *record, uint8_t *body);

/* raw_expect: skip records until one of @type; fails the test if closed */
void raw_expect(int fd, DwcpRecordType type, uint8_t *body);

/* ------------------------------------------------------------- leaks -- */

typedef struct Usage {
    unsigned fds, threads;
} Usage;

Usage usage_now(void);

/* usage_same: waits until ended threads are gone from the system's list */
void usage_same(Usage before);

/* kit_soak: @soak in the long version (DWCP_SOAK=1), else @quick */
unsigned kit_soak(unsigned quick, unsigned soak);

#endif
