/*
 * The target's inside, shared by its files
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_TARGET_H
#define DWCP_IO_TARGET_H

#include "core/seqset.h"
#include "io/guestram.h"
#include "io/stream.h"

struct DwcpTarget {
    DwcpSession session;
    DwcpGuestRam ram;

    /* set by listen, then read-only */
    int listen_fd; /* -1 = not listening */
    int listen_wake_fd;
    pthread_t listener;
    bool listening;

    /* guarded by session.lock */
    bool claimed;        /* a NEW was confirmed: session.id is its session's */
    unsigned streams;    /* that the source announced */
    unsigned handshakes; /* connections that are not adopted yet */
    bool begun;          /* streams read the list of blocks */
    bool ended;          /* END has come */
    uint64_t end_number;
    uint64_t highest; /* number that was applied, 0 = none */
    DwcpSeqset received;
};

extern const DwcpStreamOps dwcp_target_ops;

/*
 * dwcp_target_check_complete: has all come?  Then guest RAM is sealed, and
 * memory is complete; to be called after whatever may have been the last.  While
 * a lane may write it is not; its thread is woken, to take it down.
 */
void dwcp_target_check_complete(DwcpTarget *target);
/* dwcp_target_arrived_locked: has all that END named been applied? */
bool dwcp_target_arrived_locked(const DwcpTarget *target);

/* dwcp_target_lane_frame: a frame of the lane, whose pages that are not zero have
 * been written; Returns: 0 or an error.  Threads: the lane's. */
int dwcp_target_lane_frame(DwcpTarget *target, const DwcpPages *pages,
                           DwcpError *err) DWCP_CHECKED;

/* dwcp_target_pages, _land, _landed, _lost: of DwcpStreamOps, for PAGES */
int dwcp_target_pages(DwcpStream *stream, const DwcpRecord *record,
                      const uint8_t *body, DwcpError *err) DWCP_CHECKED;
int dwcp_target_land(DwcpStream *stream, const DwcpRecord *record,
                     const uint8_t *body, DwcpError *err) DWCP_CHECKED;
int dwcp_target_landed(DwcpStream *stream, DwcpError *err) DWCP_CHECKED;
void dwcp_target_lost(DwcpStream *stream);

/* dwcp_target_watch: fail the session if its source has been gone for too long;
 * the listener's, once a dwcp_session_tick_ns */
void dwcp_target_watch(DwcpTarget *target);

/* dwcp_listener_start: take @listen_fd and serve it; Returns: 0, -EAGAIN */
int dwcp_listener_start(DwcpTarget *target, int listen_fd,
                        DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_target_shake: the target's half of a handshake
 *
 * Returns: 0 the stream is one of the session's; else an error to warn of.
 * Threads: the stream's own.
 */
int dwcp_target_shake(DwcpTarget *target, DwcpStream *stream,
                      DwcpError *err) DWCP_CHECKED;

/* dwcp_target_owes_reason_locked: has the session failed of something that a
 * source without a connection, which may come again, is to hear? */
bool dwcp_target_owes_reason_locked(const DwcpTarget *target);

/* dwcp_listener_stop: join the listener and all its streams' threads */
void dwcp_listener_stop(DwcpTarget *target);

#endif
