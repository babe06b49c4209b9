/*
 * The RDMA lane as the session sees it: what was said, and its thread
 *
 * A session has one lane at the most, once.  Stream 0's thread starts the lane's
 * thread, which makes the queue pair, moves pages, and takes it down; all that
 * either tells the other stands here, under session->lock, and a write to @fd
 * wakes the lane.  What knows verbs is behind dwcp_lane_source_start and
 * dwcp_lane_target_start (rdma-source.c, rdma-target.c).
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_LANE_END_H
#define DWCP_IO_LANE_END_H

#include "io/source.h"
#include "io/target.h"

/* dwcp_lane_init, _clear: of session->lane */
void dwcp_lane_init(DwcpSession *session);
void dwcp_lane_clear(DwcpSession *session);

/*
 * dwcp_lane_start: the lane's thread, and what wakes it
 *
 * Returns: 0; -EMFILE, -EAGAIN.
 * Threads: stream 0's.
 */
int dwcp_lane_start(DwcpSession *session, void *(*run)(void *), void *opaque,
                    DwcpError *err) DWCP_CHECKED;

/* dwcp_lane_join: once nobody can start it any more */
void dwcp_lane_join(DwcpSession *session);

void dwcp_lane_wake_locked(const DwcpSession *session);

/* dwcp_lane_over: is the session at its end, or has the peer no lane any more?
 * What the lane's thread waits for is over then. */
bool dwcp_lane_over(DwcpSession *session);

/*
 * dwcp_lane_say_down_locked: our queue pair is destroyed, or never was; said
 * once, and again on a stream 0 that comes again
 *
 * @why: NULL: the lane has done its work
 */
void dwcp_lane_say_down_locked(DwcpSession *session, uint64_t frames,
                               const char *why);
void dwcp_lane_say_down(DwcpSession *session, uint64_t frames, const char *why);

/* dwcp_lane_heard_down: RDMA_DOWN has come; Returns: 0; -EPROTO */
int dwcp_lane_heard_down(DwcpStream *stream, const DwcpRecord *record,
                         const uint8_t *body, DwcpError *err) DWCP_CHECKED;

/* dwcp_lane_await_down: wait for it; Returns: false: the session ended first */
bool dwcp_lane_await_down(DwcpSession *session);

/* dwcp_lane_resumed: stream 0 stands again: say again what was said; Returns: 0,
 * -ENOBUFS */
int dwcp_lane_resumed(DwcpStream *stream) DWCP_CHECKED;

/* ---- source-rdma.c, target-rdma.c: the records on stream 0 ---- */

/* dwcp_source_rdma_ask: once it is time; each sample of stream 0 */
void dwcp_source_rdma_ask(DwcpStream *stream);
int dwcp_source_rdma_record(DwcpStream *stream, const DwcpRecord *record,
                            const uint8_t *body, DwcpError *err) DWCP_CHECKED;
/* dwcp_lane_ready_check: READY has come: only once the target has no lane any
 * more; Returns: 0; -EPROTO */
int dwcp_lane_ready_check(DwcpSource *source, DwcpError *err) DWCP_CHECKED;
int dwcp_source_rdma_resumed(DwcpStream *stream, DwcpError *err) DWCP_CHECKED;
int dwcp_target_rdma_record(DwcpStream *stream, const DwcpRecord *record,
                            const uint8_t *body, DwcpError *err) DWCP_CHECKED;

/* ---- what knows verbs ---- */

/* dwcp_lane_source_start: connect to what the target offers; Returns: 0; or why
 * there will be no lane */
int dwcp_lane_source_start(DwcpSource *source, int fd,
                           const DwcpLaneOffer *offer,
                           DwcpError *err) DWCP_CHECKED;

/* dwcp_lane_target_start: offer a lane at the address of @fd; as above */
int dwcp_lane_target_start(DwcpTarget *target, int fd,
                           DwcpError *err) DWCP_CHECKED;

#endif
