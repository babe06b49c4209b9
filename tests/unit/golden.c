/*
 * A file has 16 bytes a line; "#" begins a comment.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "golden.h"

#include <glib.h>
#include <string.h>

static char *path_of(const char *name)
{
    return g_strdup_printf("%s/%s.hex", GOLDEN_DIR, name);
}

static char *text_of(const char *name, const uint8_t *bytes, size_t length)
{
    GString *text = g_string_new(NULL);
    size_t i;

    g_string_append_printf(text, "# %s, %zu bytes\n", name, length);
    for (i = 0; i < length; i++) {
        g_string_append_printf(text, "%02x%s", bytes[i],
                               i % 16 == 15 || i + 1 == length ? "\n" : " ");
    }
    return g_string_free(text, FALSE);
}

uint8_t *golden_load(const char *name, size_t *length)
{
    char *path = path_of(name), *text = NULL, **words;
    GByteArray *bytes = g_byte_array_new();
    GError *error = NULL;
    uint8_t byte;
    char *rest;
    size_t i;

    if (!g_file_get_contents(path, &text, NULL, &error)) {
        g_error("%s: make it with DWCP_REGENERATE=1", error->message);
    }
    rest = strchr(text, '\n');
    words = g_strsplit_set(rest ? rest : "", " \n", -1);
    for (i = 0; words[i]; i++) {
        if (*words[i]) {
            byte = (uint8_t)g_ascii_strtoull(words[i], NULL, 16);
            g_byte_array_append(bytes, &byte, 1);
        }
    }
    g_strfreev(words);
    g_free(text);
    g_free(path);
    *length = bytes->len;
    return g_byte_array_free(bytes, FALSE);
}

void golden_check(const char *name, const uint8_t *bytes, size_t length)
{
    char *path = path_of(name), *text = text_of(name, bytes, length);
    char *golden = NULL;
    GError *error = NULL;

    if (g_strcmp0(g_getenv("DWCP_REGENERATE"), "1") == 0) {
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
    }
    if (!g_file_get_contents(path, &golden, NULL, &error)) {
        g_error("%s: make it with DWCP_REGENERATE=1", error->message);
    }
    g_assert_cmpstr(text, ==, golden);
    g_free(golden);
    g_free(text);
    g_free(path);
}
