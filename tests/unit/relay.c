/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "relay.h"

#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAMS 8u

/* One direction of a connection: what is left of the unit that passes. */
typedef struct Lane {
    int from, to;
    unsigned handshake; /* messages of the handshake still to pass */
    size_t first_bytes; /* of the handshake's first message */
    size_t left;        /* of the unit; 0 = a header comes next */
    uint8_t header[DWCP_RECORD_HEADER];
    size_t header_at;
    bool marked; /* the unit is the plan's: act when it has passed */
    bool closed;
} Lane;

struct Relay {
    RelayPlan plan;
    char target_port[8];
    int listen_fd, stop_fd;
    Lane lanes[2 * STREAMS];
    unsigned count;
    bool fired, frozen, cut;
    GThread *thread;
};

static void act(Relay *relay)
{
    const struct linger now = { 1, 0 };
    unsigned i;

    if (relay->fired) {
        return;
    }
    relay->fired = true;
    switch (relay->plan.act) {
    case RELAY_CALL:
        relay->plan.call(relay->plan.opaque);
        return;
    case RELAY_FREEZE:
        relay->frozen = true;
        return;
    default:
        relay->cut = true;
    }
    for (i = 0; i < relay->count; i++) {
        if (relay->plan.act == RELAY_RESET) {
            (void)setsockopt(relay->lanes[i].from, SOL_SOCKET, SO_LINGER, &now,
                             sizeof(now));
        }
        close(relay->lanes[i].from);
        relay->lanes[i].closed = true;
    }
}

static bool stopped(const Relay *relay)
{
    return relay->frozen || relay->cut;
}

static void add_connection(Relay *relay)
{
    int source = raw_accept(relay->listen_fd);
    int target = raw_connect(relay->target_port);

    g_assert_cmpuint(relay->count, <, 2 * STREAMS);
    relay->lanes[relay->count++] = (Lane){
        .from = source, .to = target,
        .handshake = 2, .first_bytes = DWCP_HELLO_BYTES,
    };
    relay->lanes[relay->count++] = (Lane){
        .from = target, .to = source,
        .handshake = 1, .first_bytes = DWCP_WELCOME_BYTES,
    };
}

/* A header is whole: what is this record, and is it the plan's? */
static void header_whole(Relay *relay, Lane *lane)
{
    DwcpRecord record;
    DwcpError err = { 0 };
    bool planned;
    size_t half;

    lane->header_at = 0;
    if (dwcp_record_decode(lane->header, PAGE, &record, &err) < 0) {
        g_error("relay: %s", err.text);
    }
    lane->left = record.length;
    planned = record.type == relay->plan.type && !relay->fired;
    if (planned && relay->plan.when == RELAY_BEFORE) {
        act(relay);
    }
    if (planned && relay->plan.when == RELAY_MIDDLE) {
        half = DWCP_RECORD_HEADER / 2;
        raw_send(lane->to, lane->header, half);
        act(relay);
        if (!stopped(relay)) {
            raw_send(lane->to, lane->header + half, half);
        }
        return;
    }
    if (stopped(relay)) {
        return;
    }
    raw_send(lane->to, lane->header, DWCP_RECORD_HEADER);
    lane->marked = planned && relay->plan.when == RELAY_AFTER;
    if (lane->marked && !lane->left) {
        lane->marked = false;
        act(relay);
    }
}

static void pass(Relay *relay, Lane *lane, const uint8_t *data, size_t length)
{
    size_t n;

    while (length && !stopped(relay)) {
        if (!lane->left && lane->handshake) {
            lane->left = lane->first_bytes;
            lane->first_bytes = DWCP_CONFIRM_BYTES;
            lane->handshake--;
        }
        if (lane->left) {
            n = MIN(length, lane->left);
            raw_send(lane->to, data, n);
            lane->left -= n;
            if (!lane->left && lane->marked) {
                lane->marked = false;
                act(relay);
            }
        } else {
            n = MIN(length, DWCP_RECORD_HEADER - lane->header_at);
            memcpy(lane->header + lane->header_at, data, n);
            lane->header_at += n;
            if (lane->header_at == DWCP_RECORD_HEADER) {
                header_whole(relay, lane);
            }
        }
        data += n;
        length -= n;
    }
}

static void serve_lane(Relay *relay, Lane *lane)
{
    static const size_t size = 256 << 10;
    uint8_t *data = g_malloc(size);
    ssize_t n = recv(lane->from, data, size, MSG_DONTWAIT);

    if (n > 0) {
        pass(relay, lane, data, (size_t)n);
    } else {
        (void)shutdown(lane->to, SHUT_WR);
        lane->closed = true; /* its descriptor closes with the relay */
    }
    g_free(data);
}

static gpointer relay_run(gpointer opaque)
{
    Relay *relay = opaque;
    struct pollfd fds[2 + 2 * STREAMS];
    unsigned i, count;

    for (;;) {
        count = relay->count;
        fds[0] = (struct pollfd){ relay->stop_fd, POLLIN, 0 };
        fds[1] = (struct pollfd){ stopped(relay) ? -1 : relay->listen_fd,
                                  POLLIN, 0 };
        for (i = 0; i < count; i++) {
            fds[2 + i] = (struct pollfd){
                relay->lanes[i].closed || stopped(relay)
                    ? -1
                    : relay->lanes[i].from,
                POLLIN, 0,
            };
        }
        (void)poll(fds, 2 + count, -1);
        if (fds[0].revents) {
            return NULL;
        }
        for (i = 0; i < count; i++) {
            if (fds[2 + i].revents && !stopped(relay)) {
                serve_lane(relay, &relay->lanes[i]);
            }
        }
        if (fds[1].revents && !stopped(relay)) {
            add_connection(relay);
        }
    }
}

Relay *relay_new(const RelayPlan *plan, const char *target_port, char *port)
{
    Relay *relay = g_new0(Relay, 1);

    relay->plan = *plan;
    g_strlcpy(relay->target_port, target_port, sizeof(relay->target_port));
    relay->listen_fd = kit_listen(port);
    relay->stop_fd = eventfd(0, EFD_CLOEXEC);
    relay->thread = g_thread_new("relay", relay_run, relay);
    return relay;
}

bool relay_free(Relay *relay)
{
    const uint64_t one = 1;
    bool fired;
    unsigned i;

    g_assert_cmpint(write(relay->stop_fd, &one, sizeof(one)), ==, sizeof(one));
    g_thread_join(relay->thread);
    for (i = 0; i < relay->count && !relay->cut; i++) {
        close(relay->lanes[i].from);
    }
    close(relay->listen_fd);
    close(relay->stop_fd);
    fired = relay->fired;
    g_free(relay);
    return fired;
}
