/*
 * The target's frames: into guest RAM, and counted
 *
 * A frame is counted as received when it has been applied; memory is complete
 * when END has named the last number and all up to it are.  What still lands
 * then is what has come again on another connection, for this one was lost or
 * is about to be: guest RAM is sealed against it first, and it is dropped.  From
 * then on no frame is taken.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/target.h"

#include <errno.h>

#include "core/codec.h"
#include "core/fail.h"
#include "io/landing.h"
#include "io/lane-end.h"

/* END has named the last number: a frame must not go beyond it. */
static int last_check_locked(const DwcpTarget *target, const DwcpPages *pages,
                             DwcpError *err)
{
    if (target->ended &&
        pages->number + pages->count - 1 > target->end_number) {
        return dwcp_fail(err, -EPROTO, "frame %llu after the last, %llu",
                         (unsigned long long)pages->number,
                         (unsigned long long)target->end_number);
    }
    return 0;
}

/*
 * A frame after the last one: it had arrived, but the source lost the connection
 * that would have told it so, and sends it again.
 */
static bool known_locked(const DwcpTarget *target, const DwcpPages *pages)
{
    const DwcpSession *session = &target->session;

    return atomic_load(&session->resume) &&
           (session->phase == DWCP_PHASE_COMPLETE ||
            session->phase == DWCP_PHASE_READY ||
            session->phase == DWCP_PHASE_SEALED) &&
           pages->number + pages->count - 1 <= target->end_number;
}

/* Returns: 0 apply it; 1 later; 2 not at all; or an error. */
static int apply_enter(DwcpTarget *target, unsigned stream,
                       const DwcpPages *pages, DwcpError *err)
{
    DwcpSession *session = &target->session;
    int rc = 0;

    pthread_mutex_lock(&session->lock);
    if (session->phase == DWCP_PHASE_UP && stream != 0) {
        rc = 1; /* until begin(): flow control holds the source */
    } else if (known_locked(target, pages)) {
        rc = 2; /* guest RAM is sealed */
    } else if (session->phase != DWCP_PHASE_BEGUN) {
        rc = dwcp_fail(err, -EPROTO, "frame %llu on stream %u while %s",
                       (unsigned long long)pages->number, stream,
                       dwcp_phase_name(session->phase));
    } else {
        rc = last_check_locked(target, pages, err);
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}

bool dwcp_target_arrived_locked(const DwcpTarget *target)
{
    return target->ended && target->session.phase == DWCP_PHASE_BEGUN &&
           target->received.below >= target->end_number;
}

/* All has come, and no lane may write any more; one that may is told. */
static bool all_here_locked(const DwcpTarget *target)
{
    if (!dwcp_target_arrived_locked(target)) {
        return false;
    }
    if (target->session.lane.open) {
        dwcp_lane_wake_locked(&target->session);
    }
    return !target->session.lane.open;
}

void dwcp_target_check_complete(DwcpTarget *target)
{
    DwcpSession *session = &target->session;
    bool complete;

    pthread_mutex_lock(&session->lock);
    complete = all_here_locked(target);
    pthread_mutex_unlock(&session->lock);
    if (!complete) {
        return;
    }
    dwcp_guestram_seal(&target->ram);
    pthread_mutex_lock(&session->lock);
    complete = all_here_locked(target) &&
               dwcp_session_move_locked(session, DWCP_PHASE_COMPLETE, "END",
                                        NULL) == 0;
    pthread_mutex_unlock(&session->lock);
    if (complete) {
        dwcp_session_tell_changed(session);
    }
}

static int apply_leave(DwcpTarget *target, const DwcpPages *pages, int rc,
                       DwcpError *err)
{
    DwcpSession *session = &target->session;
    unsigned i;

    pthread_mutex_lock(&session->lock);
    if (rc == 0) { /* END may have come since the frame began to land */
        rc = last_check_locked(target, pages, err);
    }
    if (rc == 0 && pages->number + pages->count - 1 > target->highest) {
        target->highest = pages->number + pages->count - 1;
    }
    for (i = 0; rc == 0 && i < pages->count; i++) {
        if (dwcp_seqset_add(&target->received, pages->number + i) < 0) {
            rc = dwcp_fail(err, -EPROTO, "frame %llu is too far ahead of %llu",
                           (unsigned long long)pages->number,
                           (unsigned long long)target->received.below);
        }
    }
    pthread_mutex_unlock(&session->lock);
    if (rc == 0) {
        dwcp_target_check_complete(target);
    }
    return rc;
}

static int acknowledge(DwcpStream *stream, DwcpError *err)
{
    int rc = dwcp_stream_queue_u64(stream, DWCP_RECORD_ACK,
                                   ++stream->acked_frames);

    return rc < 0 ? dwcp_fail(err, rc, "the source does not read") : 0;
}

/* Count the frame as applied, which it is unless @rc says otherwise. */
static int frame_done(DwcpStream *stream, const DwcpPages *pages, int rc,
                      DwcpError *err)
{
    rc = apply_leave(stream->role, pages, rc, err);
    return rc < 0 ? rc : acknowledge(stream, err);
}

/* Returns: 0 the frame is one to apply, and frame_done must follow; 1 later; 2
 * it is known; or an error. */
static int frame_enter(DwcpStream *stream, const DwcpPages *pages,
                       DwcpError *err)
{
    DwcpTarget *target = stream->role;
    int rc = apply_enter(target, stream->index, pages, err);

    if (rc == 0 && dwcp_guestram_check(&target->ram, pages, err) < 0) {
        rc = apply_leave(target, pages, -EPROTO, err);
    }
    return rc;
}

int dwcp_target_pages(DwcpStream *stream, const DwcpRecord *record,
                        const uint8_t *body, DwcpError *err)
{
    DwcpTarget *target = stream->role;
    const uint8_t *plain;
    DwcpPages pages;
    uint32_t head;
    int rc;

    rc = dwcp_pages_decode(body, record->length, target->session.page_size,
                           &pages, err);
    if (rc == 0) {
        rc = frame_enter(stream, &pages, err);
    }
    if (rc != 0) {
        return rc == 2 ? acknowledge(stream, err) : rc;
    }
    head = dwcp_pages_head_bytes(pages.count);
    rc = dwcp_decode_payload(stream->decoder, &pages, body + head,
                             record->length - head, &plain, err);
    if (rc == 0) {
        dwcp_guestram_apply(&target->ram, &pages, plain);
    }
    return frame_done(stream, &pages, rc, err);
}

/* A raw frame's head has come. */
int dwcp_target_land(DwcpStream *stream, const DwcpRecord *record,
                       const uint8_t *body, DwcpError *err)
{
    DwcpTarget *target = stream->role;
    DwcpPages pages;
    int rc;

    if (dwcp_pages_codec(body) != DWCP_CODEC_RAW) {
        return 0;
    }
    rc = dwcp_pages_decode(body, record->length, target->session.page_size,
                           &pages, err);
    if (rc < 0 || !dwcp_pages_plain(&pages)) {
        return rc;
    }
    rc = frame_enter(stream, &pages, err);
    if (rc != 0) { /* what is known does not land: it is read, and dropped */
        return rc == 2 ? 0 : rc;
    }
    dwcp_landing_start(stream->landing, &pages);
    return 2;
}

int dwcp_target_landed(DwcpStream *stream, DwcpError *err)
{
    DwcpTarget *target = stream->role;
    const DwcpPages *pages = &stream->landing->pages;

    dwcp_guestram_finish(&target->ram, pages);
    return frame_done(stream, pages, 0, err);
}

int dwcp_target_lane_frame(DwcpTarget *target, const DwcpPages *pages,
                           DwcpError *err)
{
    int rc = apply_enter(target, 0, pages, err);

    if (rc != 0) { /* a lane is down before memory is complete */
        return rc < 0 ? rc
                      : dwcp_fail(err, -EPROTO, "RDMA: frame %llu is late",
                                  (unsigned long long)pages->number);
    }
    rc = dwcp_guestram_check(&target->ram, pages, err);
    if (rc == 0) {
        dwcp_guestram_written(&target->ram, pages);
        dwcp_guestram_finish(&target->ram, pages);
    }
    return apply_leave(target, pages, rc, err);
}

/* The connection has gone in the middle of a frame: it will come again. */
void dwcp_target_lost(DwcpStream *stream)
{
    if (stream->landing) {
        stream->landing->left = 0;
    }
}
