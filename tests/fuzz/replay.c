/*
 * Runs a fuzz target over files, and over what lies close to them
 *
 * replay COUNT FILE-OR-FOLDER...: each file as it is, and COUNT times cut
 * somewhere and with a byte changed somewhere, which follows from a seed that
 * is printed.  DWCP_SOAK=1 means a hundred times as often.  Reports TAP.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <string.h>

#include "fuzz.h"

#define SEED 20260101u

/* A copy of exactly that size: a sanitizer sees any step beyond it. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = g_malloc(size + !size);

    memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    g_free(copy);
}

static void run_neighbours(uint8_t *data, size_t size, unsigned count)
{
    GRand *rnd = g_rand_new_with_seed(SEED);
    unsigned i;
    size_t at;
    uint8_t was;

    for (i = 0; i < count && size; i++) {
        run(data, (size_t)g_rand_int_range(rnd, 0, (gint32)size));
        at = (size_t)g_rand_int_range(rnd, 0, (gint32)size);
        /* Most of the meaning stands at the front. */
        at = i % 2 ? at : at % 128;
        was = data[at];
        data[at] = (uint8_t)g_rand_int(rnd);
        run(data, size);
        data[at] = was;
    }
    g_rand_free(rnd);
}

static void run_file(const char *path, unsigned count, unsigned number)
{
    GError *error = NULL;
    gchar *data;
    gsize size;

    if (!g_file_get_contents(path, &data, &size, &error)) {
        g_error("%s", error->message);
    }
    run((uint8_t *)data, size);
    run_neighbours((uint8_t *)data, size, count);
    g_free(data);
    g_print("ok %u - %s\n", number, path);
}

int main(int argc, char **argv)
{
    unsigned number = 0, count;
    const char *name;
    char *path;
    GDir *dir;
    int i;

    g_assert_cmpint(argc, >, 2);
    count = (unsigned)g_ascii_strtoull(argv[1], NULL, 10);
    if (g_strcmp0(g_getenv("DWCP_SOAK"), "1") == 0) {
        count *= 100;
    }
    g_print("# seed %u\n", SEED);
    for (i = 2; i < argc; i++) {
        dir = g_dir_open(argv[i], 0, NULL);
        if (!dir) {
            run_file(argv[i], count, ++number);
            continue;
        }
        while ((name = g_dir_read_name(dir))) {
            path = g_build_filename(argv[i], name, NULL);
            run_file(path, count, ++number);
            g_free(path);
        }
        g_dir_close(dir);
    }
    g_print("1..%u\n", number);
    return number ? 0 : 1;
}
