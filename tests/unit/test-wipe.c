/*
 * What was secret is wiped before its memory is given back
 *
 * The library's free() is routed through the test, which looks for a guest's
 * page, device state and a pre-shared key in what is freed.  Proves that a
 * keyed move, plain and compressed, with descriptions that come late, leaves
 * none of them behind.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "io/landing.h"
#include "kit.h"

static const uint8_t psk[] = "a pre-shared secret of some bytes";
static const char page_mark[] = "SECRET-OF-A-PAGE";
static const char state_mark[] = "STATE-OF-A-DEVICE";

static atomic_uint found, freed;

void __real_free(void *memory);
void __wrap_free(void *memory);

void __wrap_free(void *memory)
{
    size_t size = memory ? malloc_usable_size(memory) : 0;

    if (size) {
        atomic_fetch_add(&freed, 1);
        if (memmem(memory, size, page_mark, sizeof(page_mark) - 1) ||
            memmem(memory, size, state_mark, sizeof(state_mark) - 1) ||
            memmem(memory, size, psk, sizeof(psk))) {
            atomic_fetch_add(&found, 1);
        }
    }
    __real_free(memory);
}

static void mark(uint8_t *ram, uint64_t pages)
{
    uint64_t i;

    for (i = 0; i + sizeof(page_mark) <= pages * PAGE; i += 64) {
        memcpy(ram + i, page_mark, sizeof(page_mark));
    }
}

static void test_move(gconstpointer opaque)
{
    DwcpTargetOptions for_target = end_target_options();
    DwcpSourceOptions for_source;
    DwcpKeys keys = { .psk = psk, .psk_bytes = sizeof(psk) };
    char port[8], state[sizeof(state_mark)];
    End source, target;
    DwcpError err;

    atomic_store(&found, 0);
    atomic_store(&freed, 0);
    for_target.security = DWCP_SECURITY_PSK;
    for_target.keys = keys;
    end_target(&target, &for_target, port);
    for_source = end_source_options(port);
    for_source.security = DWCP_SECURITY_PSK;
    for_source.keys = keys;
    for_source.level = GPOINTER_TO_INT(opaque);
    for_source.streams = 3;
    end_source(&source, &for_source);
    end_ram(&source, 2000);
    end_ram(&target, 2000);
    mark(source.ram, 2000);
    end_connect(&source);
    end_wait_connected(&source);
    end_wait_connected(&target);
    end_take(&source);
    end_take(&target);
    g_assert_cmpint(dwcp_target_begin(target.target), ==, 0);
    raw_send(source.channel, state_mark, sizeof(state_mark));
    g_assert_true(raw_read(target.channel, state, sizeof(state)));
    raw_send(target.channel, state_mark, sizeof(state_mark));
    g_assert_true(raw_read(source.channel, state, sizeof(state)));
    g_assert_cmpint(dwcp_source_put(source.source, 0, 0, 2000), ==, 0);
    dwcp_source_round(source.source);
    g_assert_cmpint(dwcp_source_put(source.source, 0, 0, 100), ==, 0);
    g_assert_cmpint(dwcp_source_end(source.source), ==, 0);
    g_assert_cmpint(end_wait_complete(&target), ==, 1);
    g_assert_cmpint(dwcp_target_ready(target.target), ==, 0);
    g_assert_cmpint(dwcp_source_finish(source.source, &err), ==, 0);
    end_free(&source);
    end_free(&target);
    g_assert_cmpuint(atomic_load(&freed), >, 10);
    g_assert_cmpuint(atomic_load(&found), ==, 0);
}

/* A page that a newer one has overtaken. */
static void test_scratch(void)
{
    uint8_t *ram = g_malloc0(64 * PAGE), *page = g_malloc(PAGE);
    DwcpPages pages = { .number = 2, .count = 1 };
    DwcpLanding *landing;
    DwcpGuestRam guest;
    DwcpError err;
    uint64_t bytes;

    dwcp_guestram_init(&guest, PAGE);
    g_assert_cmpint(dwcp_guestram_add(&guest, ram, 64 * PAGE, &bytes, &err), ==,
                    0);
    pages.chunks[0] = (DwcpChunk){ .present = 1 };
    mark(page, 1);
    dwcp_guestram_apply(&guest, &pages, page);
    pages.number = 1;
    landing = dwcp_landing_new(&guest);
    dwcp_landing_start(landing, &pages);
    g_assert_cmpuint(dwcp_landing_copy(landing, page, PAGE), ==, PAGE);
    atomic_store(&found, 0);
    dwcp_landing_free(landing);
    g_assert_cmpuint(atomic_load(&found), ==, 0);
    dwcp_guestram_clear(&guest);
    g_free(ram);
    g_free(page);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/wipe/raw", GINT_TO_POINTER(0), test_move);
    g_test_add_data_func("/wipe/zstd", GINT_TO_POINTER(2), test_move);
    g_test_add_func("/wipe/scratch", test_scratch);
    return g_test_run();
}
