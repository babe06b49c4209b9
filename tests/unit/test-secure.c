/*
 * Keyed sessions with somebody in the middle
 *
 * Proves that who changes, swaps, replays or reflects a message, answers with
 * another key, or guesses a session to join, gets nothing: no end connects on
 * what he said, the target goes on listening and a rightful source then gets
 * through; that bytes changed later end the session and never reach the guest
 * or the byte channel; and that what passes does not show the plain text.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/keys.h"
#include "middle.h"
#include "move.h"

#define HANDSHAKE_OUT (DWCP_HELLO_BYTES + DWCP_CONFIRM_BYTES)
#define PAGES 8u

static uint8_t own[3][DWCP_KEY_BYTES], shown[3][DWCP_KEY_BYTES];

/* Who has which key: the third is a stranger. */
enum { SOURCE, TARGET, STRANGER };

static DwcpKeys keys_of(unsigned who, unsigned peer)
{
    return (DwcpKeys){ .own_key = own[who], .peer_key = shown[peer] };
}

static DwcpSourceOptions source_options(const char *port)
{
    DwcpSourceOptions options = end_source_options(port);

    options.security = DWCP_SECURITY_KEYS;
    options.keys = keys_of(SOURCE, TARGET);
    options.streams = 1;
    return options;
}

static DwcpTargetOptions target_options(void)
{
    DwcpTargetOptions options = end_target_options();

    options.security = DWCP_SECURITY_KEYS;
    options.keys = keys_of(TARGET, SOURCE);
    return options;
}

static void fill(uint8_t *ram)
{
    unsigned i;

    for (i = 0; i < PAGES * PAGE; i += 8) {
        memcpy(ram + i, "SECRETS", 8);
    }
}

/* A rightful source gets through to a target that others have tried. */
static void rightful(End *target, const char *port)
{
    DwcpSourceOptions options = source_options(port);
    DwcpError err;
    End source;

    options.streams = 3;
    options.level = 0;
    end_source(&source, &options);
    end_ram(&source, PAGES);
    fill(source.ram);
    end_connect(&source);
    end_wait_connected(&source);
    end_wait_connected(target);
    end_take(&source);
    end_take(target);
    end_ram(target, PAGES);
    g_assert_cmpint(dwcp_target_begin(target->target), ==, 0);
    g_assert_cmpint(dwcp_source_put(source.source, 0, 0, PAGES), ==, 0);
    g_assert_cmpint(dwcp_source_end(source.source), ==, 0);
    g_assert_cmpint(end_wait_complete(target), ==, 1);
    g_assert_cmpint(dwcp_target_ready(target->target), ==, 0);
    g_assert_cmpint(dwcp_source_finish(source.source, &err), ==, 0);
    g_assert_cmpint(memcmp(source.ram, target->ram, PAGES * PAGE), ==, 0);
    end_free(&source);
}

static void test_handshake_changed(void)
{
    DwcpTargetOptions for_target = target_options();
    DwcpSourceOptions for_source;
    size_t length[2] = { HANDSHAKE_OUT, DWCP_WELCOME_BYTES }, at;
    Middle middle;
    End target, source;
    char port[8];
    int dir;

    end_target(&target, &for_target, port);
    for (dir = 0; dir < 2; dir++) {
        for (at = 0; at < length[dir]; at++) {
            middle_start(&middle, port, dir, at);
            for_source = source_options(middle.port);
            end_source(&source, &for_source);
            end_connect(&source);
            end_wait_failed(&source);
            g_assert_false(dwcp_source_gone(source.source));
            end_free(&source);
            middle_end(&middle);
        }
    }
    g_assert_cmpuint(target.connected, ==, 0);
    g_assert_cmpuint(target.failed, ==, 0);
    rightful(&target, port);
    end_free(&target);
}

/* After the handshake: whatever byte is changed, the session ends, and nothing
 * comes out of the channel that was not put in. */
static void later_changed(int dir, size_t at)
{
    DwcpTargetOptions for_target = target_options();
    DwcpSourceOptions for_source;
    char port[8], got[16];
    Middle middle;
    End target, source;
    ssize_t n;

    end_target(&target, &for_target, port);
    middle_start(&middle, port, dir,
                 (dir ? DWCP_WELCOME_BYTES : HANDSHAKE_OUT) + at);
    for_source = source_options(middle.port);
    end_source(&source, &for_source);
    end_connect(&source);
    end_wait_connected(&source);
    end_wait_connected(&target);
    end_take(&source);
    end_take(&target);
    g_assert_cmpint(write(dir ? target.channel : source.channel, "SECRETS", 8),
                    ==, 8);
    /* A PING a second and its answer bring the rest of the bytes. */
    do {
        n = read(dir ? source.channel : target.channel, got, sizeof(got));
        g_assert_true(n <= 0 || (n == 8 && memcmp(got, "SECRETS", 8) == 0));
    } while (n > 0);
    end_wait_failed(dir ? &source : &target);
    g_test_message("dir %d at %zu: %s", dir, at, (dir ? &source : &target)->error.text);
    g_assert_cmpint((dir ? &source : &target)->error.code, ==, -EBADMSG);
    end_wait_failed(dir ? &target : &source);
    end_free(&source);
    end_free(&target);
    middle_end(&middle);
}

static void test_later_changed(void)
{
    /* length, cipher text, tag of the first segment; the next one */
    static const size_t places[] = { 0, 2, 4, 10, 25, 37 };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(places); i++) {
        later_changed(0, places[i]);
        later_changed(1, places[i]);
    }
}

/* What passes by. */
static void test_hidden(void)
{
    DwcpTargetOptions for_target = target_options();
    DwcpSourceOptions for_source;
    char port[8];
    Middle middle;
    End target, source;
    unsigned dir;

    end_target(&target, &for_target, port);
    middle_start(&middle, port, -1, 0);
    for_source = source_options(middle.port);
    for_source.level = 0;
    end_source(&source, &for_source);
    end_ram(&source, PAGES);
    fill(source.ram);
    end_connect(&source);
    end_wait_connected(&source);
    end_wait_connected(&target);
    end_take(&source);
    end_take(&target);
    end_ram(&target, PAGES);
    g_assert_cmpint(write(source.channel, "SECRETS", 8), ==, 8);
    g_assert_cmpint(dwcp_target_begin(target.target), ==, 0);
    g_assert_cmpint(dwcp_source_put(source.source, 0, 0, PAGES), ==, 0);
    g_assert_cmpint(dwcp_source_end(source.source), ==, 0);
    g_assert_cmpint(end_wait_complete(&target), ==, 1);
    g_assert_cmpint(memcmp(source.ram, target.ram, PAGES * PAGE), ==, 0);
    end_free(&source);
    end_free(&target);
    middle_wait(&middle);
    for (dir = 0; dir < 2; dir++) {
        g_assert_cmpuint(middle.seen[dir]->len, >, 300);
        g_assert_null(memmem(middle.seen[dir]->data, middle.seen[dir]->len,
                             "SECRETS", 7));
    }
    g_assert_cmpuint(middle.seen[0]->len, >, PAGES * PAGE);
    middle_end(&middle);
}

static void test_wrong_key(void)
{
    DwcpTargetOptions for_target = target_options();
    DwcpSourceOptions for_source;
    char port[8];
    End target, source;
    unsigned i;

    end_target(&target, &for_target, port);
    for (i = 0; i < 3; i++) {
        for_source = source_options(port);
        if (i == 0) { /* a stranger in the source's place */
            for_source.keys = keys_of(STRANGER, TARGET);
        } else if (i == 1) { /* a source that is looking for somebody else */
            for_source.keys = keys_of(SOURCE, STRANGER);
        } else { /* the target's own role */
            for_source.keys = keys_of(TARGET, SOURCE);
        }
        end_source(&source, &for_source);
        end_connect(&source);
        end_failed_with(&source, -EACCES, "the target has another key");
        end_free(&source);
    }
    for_source = source_options(port);
    for_source.security = DWCP_SECURITY_NONE;
    for_source.keys = (DwcpKeys){ 0 };
    end_source(&source, &for_source);
    end_connect(&source);
    end_failed_with(&source, -ENOTSUP,
                    "the source wants security=none, the target security=keys");
    end_free(&source);
    g_assert_cmpuint(target.connected, ==, 0);
    rightful(&target, port);
    end_free(&target);
}

/* All that a source said, said again. */
static void test_replay(void)
{
    DwcpTargetOptions for_target = target_options();
    DwcpSourceOptions for_source;
    uint8_t welcome[DWCP_WELCOME_BYTES];
    char port[8], again[8];
    End target, source, second;
    Middle middle;
    int fd;

    end_target(&target, &for_target, port);
    middle_start(&middle, port, -1, 0);
    for_source = source_options(middle.port);
    end_source(&source, &for_source);
    end_connect(&source);
    end_wait_connected(&source);
    end_wait_connected(&target);
    end_free(&source);
    end_free(&target);
    middle_wait(&middle);
    end_target(&second, &for_target, again); /* the same keys */
    fd = raw_connect(again);
    raw_send(fd, middle.seen[0]->data, middle.seen[0]->len);
    g_assert_true(raw_read(fd, welcome, sizeof(welcome)));
    raw_until_closed(fd);
    close(fd);
    end_wait_warned(&second, 1);
    g_assert_nonnull(strstr(second.warning.text, "another key"));
    g_assert_cmpuint(second.connected, ==, 0);
    rightful(&second, again);
    end_free(&second);
    middle_end(&middle);
}

/* A source that gets its own words back, and one that gets an old answer. */
static void test_reflect(void)
{
    uint8_t said[DWCP_WELCOME_BYTES];
    DwcpSourceOptions options;
    char port[8];
    int listen_fd = kit_listen(port), fd;
    End source;

    memset(said, 0, sizeof(said));
    options = source_options(port);
    end_source(&source, &options);
    end_connect(&source);
    fd = raw_accept(listen_fd);
    g_assert_true(raw_read(fd, said, DWCP_HELLO_BYTES));
    raw_send(fd, said, sizeof(said));
    end_wait_failed(&source);
    g_assert_cmpint(source.error.code, ==, -EPROTO);
    end_free(&source);
    close(fd);
    close(listen_fd);
}

/* CONFIRM of one who has the keys, but not this session's: another source with
 * the same pre-shared key, say. */
static void confirm_by_base(Raw *raw, uint8_t *confirm)
{
    DwcpKeys keys = keys_of(SOURCE, TARGET);
    uint8_t base[DWCP_KEY_BYTES], root[DWCP_KEY_BYTES];
    DwcpEphemeral ephemeral;
    DwcpError err;

    memcpy(ephemeral.secret, own[STRANGER], DWCP_KEY_BYTES);
    memcpy(ephemeral.public, shown[STRANGER], DWCP_KEY_BYTES);
    g_assert_cmpint(dwcp_keys_base(base, DWCP_SECURITY_KEYS, DWCP_ROLE_SOURCE,
                                   &keys, &err),
                    ==, 0);
    g_assert_cmpint(dwcp_keys_root(root, base, &ephemeral, DWCP_ROLE_SOURCE,
                                   raw->hello, raw->welcome, &err),
                    ==, 0);
    g_assert_cmpint(dwcp_welcome_check(raw->welcome, raw->hello, root, &err),
                    ==, -EACCES);
    dwcp_confirm_encode(confirm, raw->hello, raw->welcome, root);
}

/* The session's id is no secret; it opens nothing, with the keys neither. */
static void test_guessed_join(void)
{
    DwcpTargetOptions for_target = target_options();
    DwcpSourceOptions for_source;
    uint8_t confirm[DWCP_CONFIRM_BYTES] = { 0 };
    char port[8];
    End target, source;
    DwcpHello hello;
    Middle middle;
    unsigned i;
    Raw raw;

    end_target(&target, &for_target, port);
    middle_start(&middle, port, -1, 0);
    for_source = source_options(middle.port);
    for_source.streams = 2; /* the middle does not answer the second */
    end_source(&source, &for_source);
    end_connect(&source);
    end_wait_connected(&source);
    end_wait_connected(&target);
    hello = raw_hello(1, 2, middle.seen[1]->data + 40);
    hello.security = DWCP_SECURITY_KEYS;
    (void)crypto_scalarmult_base(hello.random, own[STRANGER]);
    for (i = 0; i < 2; i++) {
        g_assert_true(raw_welcomed(&raw, port, &hello));
        g_assert_cmpuint(raw.welcome[10], ==, DWCP_REFUSAL_NONE);
        if (i) {
            confirm_by_base(&raw, confirm);
        }
        raw_send(raw.fd, confirm, sizeof(confirm));
        raw_until_closed(raw.fd);
        close(raw.fd);
        end_wait_warned(&target, i + 1);
        g_assert_nonnull(strstr(target.warning.text, "another key"));
    }
    /* The session is not impressed. */
    end_take(&source);
    end_take(&target);
    g_assert_cmpint(write(source.channel, "on", 2), ==, 2);
    g_assert_cmpint(read(target.channel, confirm, 2), ==, 2);
    end_free(&source);
    end_free(&target);
    middle_end(&middle);
}

int main(int argc, char **argv)
{
    unsigned i;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sodium_init(), >=, 0);
    for (i = 0; i < 3; i++) {
        randombytes_buf(own[i], DWCP_KEY_BYTES);
        (void)crypto_scalarmult_base(shown[i], own[i]);
    }
    g_test_add_func("/secure/handshake-changed", test_handshake_changed);
    g_test_add_func("/secure/later-changed", test_later_changed);
    g_test_add_func("/secure/hidden", test_hidden);
    g_test_add_func("/secure/wrong-key", test_wrong_key);
    g_test_add_func("/secure/replay", test_replay);
    g_test_add_func("/secure/reflect", test_reflect);
    g_test_add_func("/secure/guessed-join", test_guessed_join);
    return g_test_run();
}
