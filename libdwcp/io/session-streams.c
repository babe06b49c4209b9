/*
 * A session's streams: which stand, who takes whose place, and the sockets that
 * the user made for them
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/session.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/stream.h"

void dwcp_session_link(DwcpSession *session, DwcpStream *stream)
{
    pthread_mutex_lock(&session->lock);
    stream->next = session->all;
    session->all = stream;
    pthread_mutex_unlock(&session->lock);
}

void dwcp_session_unlink(DwcpSession *session, DwcpStream *stream)
{
    DwcpStream **at;

    pthread_mutex_lock(&session->lock);
    for (at = &session->all; *at && *at != stream; at = &(*at)->next) {
    }
    if (*at) {
        *at = stream->next;
    }
    pthread_mutex_unlock(&session->lock);
}

int dwcp_session_adopt(DwcpSession *session, DwcpStream *stream)
{
    unsigned index = stream->index;
    int rc = 0;

    assert(index < DWCP_STREAMS_MAX);
    pthread_mutex_lock(&session->lock);
    if (atomic_load(&session->dead)) {
        rc = -ECANCELED;
    } else if (session->streams[index]) {
        rc = -EEXIST;
    } else {
        session->streams[index] = stream;
        stream->flow = (DwcpFlowInfo){
            .id = ++session->adopted,
            .min_rtt_us = UINT32_MAX,
        };
        session->resumes += session->down_ns != 0;
        session->down_ns = 0;
        atomic_store(&session->down, false);
        pthread_cond_broadcast(&session->changed);
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}

unsigned dwcp_session_count_locked(const DwcpSession *session)
{
    unsigned i, n = 0;

    for (i = 0; i < DWCP_STREAMS_MAX; i++) {
        n += session->streams[i] != NULL;
    }
    return n;
}

void dwcp_session_drop(DwcpSession *session, DwcpStream *stream)
{
    pthread_mutex_lock(&session->lock);
    if (session->streams[stream->index] == stream) {
        session->streams[stream->index] = NULL;
        if (!dwcp_session_count_locked(session)) {
            session->down_ns = dwcp_now_ns();
            atomic_store(&session->down,
                         session->phase != DWCP_PHASE_SEALED &&
                             session->phase != DWCP_PHASE_FAILED);
        }
        pthread_cond_broadcast(&session->changed);
    }
    pthread_mutex_unlock(&session->lock);
}

int dwcp_session_vacate(DwcpSession *session, const DwcpStream *stream,
                        uint64_t deadline_ns)
{
    struct timespec until = dwcp_timespec(deadline_ns);
    const uint64_t bit = 1ull << stream->index;
    DwcpStream *stands;
    int rc = 0;

    pthread_mutex_lock(&session->lock);
    while (rc == 0) {
        stands = session->streams[stream->index];
        if (stands && stands->accepted_ns > stream->accepted_ns) {
            rc = -ESTALE;
            break;
        }
        if (!stands && !(session->vacated & bit)) {
            session->vacated |= bit;
            break;
        }
        if (stands) {
            atomic_store(&stands->cut, true);
            dwcp_stream_wake(stands);
        }
        rc = -pthread_cond_timedwait(&session->changed, &session->lock, &until);
    }
    pthread_mutex_unlock(&session->lock);
    return rc;
}

void dwcp_session_occupied(DwcpSession *session, unsigned index)
{
    pthread_mutex_lock(&session->lock);
    session->vacated &= ~(1ull << index);
    pthread_cond_broadcast(&session->changed);
    pthread_mutex_unlock(&session->lock);
}

void dwcp_session_set_lost(DwcpSession *session)
{
    pthread_mutex_lock(&session->lock);
    session->lost = true;
    pthread_cond_broadcast(&session->changed);
    pthread_mutex_unlock(&session->lock);
}

static int socket_family(int fd)
{
    int family = AF_UNSPEC;
    socklen_t length = sizeof(family);

    (void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length);
    return family;
}

int dwcp_session_spare_take(DwcpSession *session, int family)
{
    int fd = -1;
    unsigned i;

    pthread_mutex_lock(&session->lock);
    for (i = 0; i < session->spares_count && fd < 0; i++) {
        if (socket_family(session->spares[i]) == family) {
            fd = session->spares[i];
            session->spares[i] = session->spares[--session->spares_count];
        }
    }
    pthread_mutex_unlock(&session->lock);
    return fd;
}

/* A TCP socket keeps its congestion control and buffers when it is taken apart
 * from its peer, who sees a reset. */
void dwcp_session_spare_give(DwcpSession *session, int fd)
{
    const struct sockaddr nobody = { .sa_family = AF_UNSPEC };

    if (connect(fd, &nobody, sizeof(nobody)) < 0) {
        close(fd);
        return;
    }
    pthread_mutex_lock(&session->lock);
    assert(session->spares_count < DWCP_STREAMS_MAX);
    session->spares[session->spares_count++] = fd;
    pthread_mutex_unlock(&session->lock);
}
