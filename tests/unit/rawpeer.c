/*
 * The hand-written peer of kit.h
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "kit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/bytes.h"

int raw_try_connect(const char *port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_addr = { htonl(INADDR_LOOPBACK) },
        .sin_port = htons((uint16_t)g_ascii_strtoull(port, NULL, 10)),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int raw_connect(const char *port)
{
    int fd = raw_try_connect(port);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

int raw_accept(int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

void raw_send(int fd, const void *data, size_t length)
{
    const uint8_t *at = data;
    ssize_t n;

    while (length) {
        n = send(fd, at, length, MSG_NOSIGNAL);
        if (n < 0) {
            return; /* the other end has had enough */
        }
        at += n;
        length -= (size_t)n;
    }
}

bool raw_read(int fd, void *data, size_t length)
{
    uint8_t *at = data;
    ssize_t n;

    while (length) {
        n = recv(fd, at, length, 0);
        if (n <= 0) {
            return false;
        }
        at += n;
        length -= (size_t)n;
    }
    return true;
}

void raw_until_closed(int fd)
{
    uint8_t rest[4096];

    while (recv(fd, rest, sizeof(rest), 0) > 0) {
    }
}

void raw_reset(int fd)
{
    const struct linger now = { 1, 0 };

    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}

DwcpHello raw_hello(unsigned stream, unsigned streams, const uint8_t *session)
{
    DwcpHello hello = {
        .version = DWCP_VERSION,
        .version_min = DWCP_VERSION_MIN,
        .features = DWCP_PROFILE_V1,
        .required = DWCP_PROFILE_V1,
        .security = DWCP_SECURITY_NONE,
        .kind = stream ? DWCP_HELLO_JOIN : DWCP_HELLO_NEW,
        .stream = (uint16_t)stream,
        .streams = (uint16_t)streams,
        .page_size = PAGE,
    };

    if (session) {
        memcpy(hello.session, session, DWCP_SESSION_BYTES);
    }
    memset(hello.random, 0x5a, sizeof(hello.random));
    return hello;
}

bool raw_welcomed(Raw *raw, const char *port, const DwcpHello *hello)
{
    raw->fd = raw_connect(port);
    raw->said = *hello;
    dwcp_hello_encode(raw->hello, hello);
    raw_send(raw->fd, raw->hello, sizeof(raw->hello));
    return raw_read(raw->fd, raw->welcome, sizeof(raw->welcome));
}

void raw_confirm(Raw *raw)
{
    uint8_t confirm[DWCP_CONFIRM_BYTES];

    dwcp_confirm_encode(confirm, raw->hello, raw->welcome, NULL);
    raw_send(raw->fd, confirm, sizeof(confirm));
}

void raw_shake(Raw *raw, const char *port, const DwcpHello *hello)
{
    DwcpError err = { 0 };

    g_assert_true(raw_welcomed(raw, port, hello));
    if (dwcp_welcome_decode(raw->welcome, hello, raw->hello, &raw->answer,
                            &err) < 0) {
        g_error("%s", err.text);
    }
    raw_confirm(raw);
}

void raw_join(Raw *raw, const char *port, unsigned stream, unsigned streams,
              const uint8_t *session)
{
    DwcpHello hello = raw_hello(stream, streams, session);

    raw_shake(raw, port, &hello);
}

DwcpHello raw_hello_resuming(unsigned stream, const uint8_t *session)
{
    DwcpHello hello = raw_hello(session ? 1 : 0, 2, session);

    hello.stream = (uint16_t)stream;
    hello.features |= DWCP_FEATURE_RESUME;
    return hello;
}

bool raw_welcome(Raw *raw, const uint8_t *session, uint64_t features)
{
    if (!raw_read(raw->fd, raw->hello, sizeof(raw->hello)) ||
        dwcp_hello_decode(raw->hello, &raw->said, NULL) < 0) {
        return false;
    }
    (void)dwcp_hello_judge(&raw->said, DWCP_SECURITY_NONE, features, PAGE,
                           &raw->answer);
    memcpy(raw->answer.session, session, DWCP_SESSION_BYTES);
    dwcp_welcome_encode(raw->welcome, &raw->answer);
    dwcp_welcome_tag(raw->welcome, raw->hello, NULL);
    raw_send(raw->fd, raw->welcome, sizeof(raw->welcome));
    return true;
}

static void serve(Raw *raw, int listen_fd, const uint8_t *session,
                  uint64_t features)
{
    uint8_t confirm[DWCP_CONFIRM_BYTES];
    DwcpError err = { 0 };

    raw->fd = raw_accept(listen_fd);
    g_assert_true(raw_welcome(raw, session, features));
    g_assert_true(raw_read(raw->fd, confirm, sizeof(confirm)));
    g_assert_cmpint(dwcp_confirm_check(confirm, raw->hello, raw->welcome, NULL,
                                       &err),
                    ==, 0);
}

void raw_serve(Raw *raw, int listen_fd, const uint8_t *session)
{
    serve(raw, listen_fd, session, DWCP_PROFILE_V1);
}

void raw_serve_resuming(Raw *raw, int listen_fd)
{
    static const uint8_t session[DWCP_SESSION_BYTES] = { 1 };

    serve(raw, listen_fd, session, DWCP_PROFILE_V1 | DWCP_FEATURE_RESUME);
}

void raw_record(int fd, DwcpRecordType type, const void *body, uint32_t length)
{
    uint8_t header[DWCP_RECORD_HEADER];

    dwcp_record_encode(header, type, length);
    raw_send(fd, header, sizeof(header));
    if (length) {
        raw_send(fd, body, length);
    }
}

void raw_record_u64(int fd, DwcpRecordType type, uint64_t value)
{
    uint8_t body[8];

    dwcp_put_le64(body, value);
    raw_record(fd, type, body, sizeof(body));
}

void raw_pages(int fd, const DwcpPages *pages, const void *payload,
               uint32_t length)
{
    uint32_t head_length = dwcp_pages_head_bytes(pages->count);
    uint8_t head[DWCP_RECORD_HEADER + DWCP_PAGES_HEADER +
                 DWCP_FRAME_CHUNKS_MAX * DWCP_PAGES_CHUNK];

    dwcp_record_encode(head, DWCP_RECORD_PAGES, head_length + length);
    dwcp_pages_encode(head + DWCP_RECORD_HEADER, pages);
    raw_send(fd, head, DWCP_RECORD_HEADER + head_length);
    if (length) {
        raw_send(fd, payload, length);
    }
}

bool raw_next(int fd, DwcpRecord *record, uint8_t *body)
{
    uint8_t header[DWCP_RECORD_HEADER];
    DwcpError err = { 0 };

    do {
        if (!raw_read(fd, header, sizeof(header))) {
            return false;
        }
        if (dwcp_record_decode(header, PAGE, record, &err) < 0) {
            g_error("%s", err.text);
        }
        if (!raw_read(fd, body, record->length)) {
            return false;
        }
        if (record->type == DWCP_RECORD_PING) {
            raw_record(fd, DWCP_RECORD_PONG, body, record->length);
        }
    } while (record->type == DWCP_RECORD_PING ||
             record->type == DWCP_RECORD_PONG);
    return true;
}

void raw_expect(int fd, DwcpRecordType type, uint8_t *body)
{
    DwcpRecord record;

    do {
        g_assert_true(raw_next(fd, &record, body));
    } while (record.type != type);
}
