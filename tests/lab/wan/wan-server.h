/*
 * The control socket: a Unix stream socket, lines of wan-control.h, several
 * clients at a time.
 *
 * Threads: the main thread.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_SERVER_H
#define WAN_SERVER_H

#include "wan-control.h"

#include <poll.h>

#define WAN_CLIENTS_MAX 8u

typedef struct WanClient {
    int fd; /* -1 is free */
    size_t used;
    char line[WAN_COMMAND_BYTES];
} WanClient;

typedef struct WanServer {
    int fd;
    char path[4096];
    WanClient clients[WAN_CLIENTS_MAX];
} WanServer;

/*
 * Listens at @path, of any length, replacing a socket that is there.
 *
 * Returns: 0 or -errno.
 */
int wan_server_init(WanServer *server, const char *path)
    __attribute__((warn_unused_result));
void wan_server_clear(WanServer *server);

/* Fills WAN_CLIENTS_MAX + 1 entries for poll(). */
void wan_server_prepare(const WanServer *server, struct pollfd *polls);

/* Serves what poll() has found. */
void wan_server_run(WanServer *server, const struct pollfd *polls, Wan *wan);

#endif
