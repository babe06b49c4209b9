/*
 * A whole target, fed with bytes on two streams after their handshakes
 *
 * The input is a list of pieces (pieces.h).  The target's user begins at once
 * and says ready as soon as memory is complete, as a hypervisor would.
 * Whatever comes: the target ends, either failed or told to go, and tells so
 * once.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "pieces.h"

#define PAGES 70u

typedef struct User {
    DwcpTarget *target;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned connected, failed, changed;
} User;

static void told(User *user, unsigned *what)
{
    pthread_mutex_lock(&user->lock);
    ++*what;
    pthread_cond_broadcast(&user->cond);
    pthread_mutex_unlock(&user->lock);
}

static void on_connected(void *opaque)
{
    User *user = opaque;

    told(user, &user->connected);
}

static void on_changed(void *opaque)
{
    User *user = opaque;

    if (dwcp_target_memory_complete(user->target) == 1) {
        (void)!dwcp_target_ready(user->target); /* the second time refused */
    }
    told(user, &user->changed);
}

static void on_failed(void *opaque, const DwcpError *err)
{
    User *user = opaque;

    fuzz_require(err->code < 0 && *err->text);
    told(user, &user->failed);
}

/* All connections are good ones: none may be refused. */
static void on_warned(void *opaque, const DwcpError *err)
{
    (void)opaque;
    fprintf(stderr, "warned: %s\n", err->text);
    fuzz_require(!"refused");
}

static void wait_for(User *user, const unsigned *what)
{
    pthread_mutex_lock(&user->lock);
    while (!*what) {
        pthread_cond_wait(&user->cond, &user->lock);
    }
    pthread_mutex_unlock(&user->lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    User user = { .lock = PTHREAD_MUTEX_INITIALIZER,
                  .cond = PTHREAD_COND_INITIALIZER };
    DwcpTargetOptions options = end_target_options();
    uint8_t *ram = calloc(PAGES, PAGE);
    char port[8];
    Raw raw[2];
    int fd[2], rc;

    fuzz_require(ram != NULL);
    options.events = (DwcpEvents){ on_connected, on_changed, on_failed, on_warned,
                                   &user };
    fuzz_require(dwcp_target_new(&options, &user.target, NULL) == 0);
    fuzz_require(dwcp_target_listen(user.target, kit_listen(port), NULL) == 0);
    fuzz_require(dwcp_target_add_block(user.target, ram, PAGES * PAGE,
                                       NULL) == 0);
    raw_join(&raw[0], port, 0, 2, NULL);
    wait_for(&user, &user.connected);
    raw_join(&raw[1], port, 1, 2, raw[0].answer.session);
    fuzz_require(dwcp_target_begin(user.target) == 0);
    fd[0] = raw[0].fd;
    fd[1] = raw[1].fd;
    pieces_feed(fd, data, size);
    pieces_hang_up(fd);
    rc = dwcp_target_go(user.target);
    if (rc != 1) {
        wait_for(&user, &user.failed);
        fuzz_require(dwcp_target_go(user.target) < 0);
    }
    dwcp_target_free(user.target);
    fuzz_require(user.failed == (rc == 1 ? 0 : 1));
    fuzz_require(user.connected == 1);
    free(ram);
    return 0;
}
