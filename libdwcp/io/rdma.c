/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/rdma.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/fail.h"

int dwcp_rdma_init(DwcpSession *session, DwcpRdma wish, DwcpError *err)
{
    DwcpError why;
    int rc;

    if (wish > DWCP_RDMA_AUTO) {
        return dwcp_fail(err, -EINVAL, "rdma %u is not off, on or auto",
                         (unsigned)wish);
    }
    session->rdma_wish = wish;
    if (wish == DWCP_RDMA_OFF) {
        return 0;
    }
    if (session->security != DWCP_SECURITY_NONE) {
        rc = dwcp_fail(&why, -ENOTSUP,
                       "RDMA writes are plain text and the session is to be "
                       "encrypted: say rdma=off, or security=none on a trusted "
                       "network");
    } else {
        rc = dwcp_rdma_check(&why);
    }
    if (rc < 0 && wish == DWCP_RDMA_ON) {
        return dwcp_fail(err, rc, "%s", why.text);
    }
    if (rc < 0) {
        session->rdma_wish = DWCP_RDMA_OFF;
        dwcp_rdma_set(session, DWCP_RDMA_UNUSED, "%s", why.text);
    } else {
        dwcp_rdma_set(session, DWCP_RDMA_WAITING, NULL);
    }
    return 0;
}

void dwcp_rdma_set(DwcpSession *session, DwcpRdmaState state, const char *why,
                   ...)
{
    va_list args;

    va_start(args, why);
    pthread_mutex_lock(&session->lock);
    session->rdma = state;
    if (why) {
        (void)vsnprintf(session->rdma_why, sizeof(session->rdma_why), why,
                        args);
    }
    pthread_mutex_unlock(&session->lock);
    va_end(args);
}

/*
 * A lane that has done its work carries no pages any more, even though its
 * thread may still be taking it down when the session is over.
 */
static DwcpRdmaState state_locked(const DwcpSession *session)
{
    bool is_done = session->lane.heard && !session->lane.heard_down.text[0];

    return session->rdma == DWCP_RDMA_ACTIVE && is_done ? DWCP_RDMA_ENDED
                                                        : session->rdma;
}

void dwcp_rdma_stats(DwcpSession *session, DwcpStats *stats)
{
    pthread_mutex_lock(&session->lock);
    stats->rdma = state_locked(session);
    (void)snprintf(stats->rdma_why, sizeof(stats->rdma_why), "%s",
                   session->rdma_why);
    pthread_mutex_unlock(&session->lock);
    stats->rdma_first_pieces = atomic_load(&session->rdma_first_pieces);
    stats->rdma_bytes = atomic_load(&session->rdma_bytes);
    stats->rdma_registered_bytes = atomic_load(&session->rdma_registered_bytes);
}
