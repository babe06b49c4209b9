/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Binds to a path of any length: the address holds 108 bytes, so it names the
 * folder by a descriptor. */
static int bind_path(int fd, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char folder[sizeof(((WanServer *)0)->path)];
    int folder_fd, length, result;

    if (strlen(path) >= sizeof(folder)) {
        return -ENAMETOOLONG;
    }
    (void)snprintf(folder, sizeof(folder), "%.*s",
                   slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0) {
        return -errno;
    }
    length = snprintf(address.sun_path, sizeof(address.sun_path),
                      "/proc/self/fd/%d/%s", folder_fd, name);
    if (length < 0 || (size_t)length >= sizeof(address.sun_path)) {
        result = -ENAMETOOLONG;
    } else {
        result = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0
                     ? -errno
                     : 0;
    }
    close(folder_fd);
    return result;
}

int wan_server_init(WanServer *server, const char *path)
{
    struct stat status;
    size_t i;
    int result;

    for (i = 0; i < WAN_CLIENTS_MAX; i++) {
        server->clients[i].fd = -1;
    }
    server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (server->fd < 0) {
        return -errno;
    }
    if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode)) {
        (void)unlink(path); /* bind() will say if that failed */
    }
    result = bind_path(server->fd, path);
    if (result == 0 && listen(server->fd, (int)WAN_CLIENTS_MAX) < 0) {
        result = -errno;
    }
    if (result < 0) {
        close(server->fd);
        return result;
    }
    (void)snprintf(server->path, sizeof(server->path), "%s", path);
    return 0;
}

static void drop_client(WanClient *client)
{
    close(client->fd);
    client->fd = -1;
}

void wan_server_clear(WanServer *server)
{
    size_t i;

    for (i = 0; i < WAN_CLIENTS_MAX; i++) {
        if (server->clients[i].fd >= 0) {
            drop_client(&server->clients[i]);
        }
    }
    close(server->fd);
    (void)unlink(server->path); /* may be gone with its folder */
}

void wan_server_prepare(const WanServer *server, struct pollfd *polls)
{
    size_t i;

    for (i = 0; i < WAN_CLIENTS_MAX; i++) {
        polls[i] =
            (struct pollfd){.fd = server->clients[i].fd, .events = POLLIN};
    }
    polls[WAN_CLIENTS_MAX] =
        (struct pollfd){.fd = server->fd, .events = POLLIN};
}

static void accept_client(WanServer *server)
{
    int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    size_t i;

    if (fd < 0) {
        return;
    }
    for (i = 0; i < WAN_CLIENTS_MAX; i++) {
        if (server->clients[i].fd < 0) {
            server->clients[i].fd = fd;
            server->clients[i].used = 0;
            return;
        }
    }
    close(fd);
}

static void serve_client(WanClient *client, Wan *wan)
{
    char answer[WAN_ANSWER_BYTES + 1]; /* with its newline */
    size_t answer_bytes;
    char *newline;
    ssize_t got = read(client->fd, client->line + client->used,
                       sizeof(client->line) - client->used);

    if (got <= 0) {
        drop_client(client);
        return;
    }
    client->used += (size_t)got;
    while ((newline = memchr(client->line, '\n', client->used))) {
        size_t line_bytes = (size_t)(newline - client->line) + 1;

        *newline = '\0';
        wan_control_run(wan, client->line, answer);
        answer_bytes = strlen(answer);
        answer[answer_bytes++] = '\n';
        /* A client that does not read its answers is not worth waiting for. */
        if (send(client->fd, answer, answer_bytes, MSG_NOSIGNAL) !=
            (ssize_t)answer_bytes) {
            drop_client(client);
            return;
        }
        client->used -= line_bytes;
        memmove(client->line, newline + 1, client->used);
    }
    if (client->used == sizeof(client->line)) {
        drop_client(client);
    }
}

void wan_server_run(WanServer *server, const struct pollfd *polls, Wan *wan)
{
    size_t i;

    for (i = 0; i < WAN_CLIENTS_MAX; i++) {
        if (polls[i].revents && server->clients[i].fd >= 0) {
            serve_client(&server->clients[i], wan);
        }
    }
    if (polls[WAN_CLIENTS_MAX].revents) {
        accept_client(server);
    }
}
