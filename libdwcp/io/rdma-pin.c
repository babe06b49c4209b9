/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/rdma-pin.h"

#include <assert.h>
#include <unistd.h>

#include "io/rdma-memory.h"

static void *run(void *opaque)
{
    const uint64_t one = 1;
    DwcpPin *pin = opaque;
    DwcpPinJob *job;

    pthread_mutex_lock(&pin->lock);
    while (!pin->stop) {
        if (pin->made == pin->in) {
            pthread_cond_wait(&pin->work, &pin->lock);
            continue;
        }
        job = &pin->jobs[pin->made % DWCP_PIECES_AHEAD];
        pthread_mutex_unlock(&pin->lock);
        /* The source's device only reads. */
        job->mr = dwcp_rdma_register(pin->pd, job->host, job->bytes, 0,
                                     &job->error);
        pthread_mutex_lock(&pin->lock);
        pin->made++;
        (void)!write(pin->wake_fd, &one, sizeof(one));
    }
    pthread_mutex_unlock(&pin->lock);
    return NULL;
}

int dwcp_pin_start(DwcpPin *pin, struct ibv_pd *pd, int wake_fd, DwcpError *err)
{
    int rc;

    pin->pd = pd;
    pin->wake_fd = wake_fd;
    pthread_mutex_init(&pin->lock, NULL);
    pthread_cond_init(&pin->work, NULL);
    rc = dwcp_thread_start(&pin->thread, "dwcp-pin", run, pin, err);
    pin->started = rc == 0;
    if (rc < 0) {
        pthread_cond_destroy(&pin->work);
        pthread_mutex_destroy(&pin->lock);
    }
    return rc;
}

void dwcp_pin_stop(DwcpPin *pin)
{
    if (!pin->started) {
        return;
    }
    pthread_mutex_lock(&pin->lock);
    pin->stop = true;
    pthread_cond_signal(&pin->work);
    pthread_mutex_unlock(&pin->lock);
    pthread_join(pin->thread, NULL);
}

void dwcp_pin_clear(DwcpPin *pin)
{
    if (pin->started) {
        pthread_cond_destroy(&pin->work);
        pthread_mutex_destroy(&pin->lock);
        pin->started = false;
    }
}

void dwcp_pin_push(DwcpPin *pin, DwcpPiece *piece, void *host, uint32_t bytes)
{
    pthread_mutex_lock(&pin->lock);
    assert(pin->in - pin->out < DWCP_PIECES_AHEAD);
    pin->jobs[pin->in % DWCP_PIECES_AHEAD] =
        (DwcpPinJob){ .piece = piece, .host = host, .bytes = bytes };
    pin->in++;
    pthread_cond_signal(&pin->work);
    pthread_mutex_unlock(&pin->lock);
}

bool dwcp_pin_take(DwcpPin *pin, DwcpPinJob *job)
{
    bool taken;

    pthread_mutex_lock(&pin->lock);
    taken = pin->out < pin->made;
    if (taken) {
        *job = pin->jobs[pin->out % DWCP_PIECES_AHEAD];
        pin->out++;
    }
    pthread_mutex_unlock(&pin->lock);
    return taken;
}
