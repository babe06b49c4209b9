/*
 * What a source makes of its path
 *
 * Proves that the mode of a real session is measured from its own connections,
 * and that a pin holds.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>
#include <poll.h>

#include "kit.h"

typedef struct Case {
    End source, target;
} Case;

static DwcpStats stats_of(Case *c)
{
    DwcpStats stats = { .size = sizeof(stats) };

    dwcp_source_stats(c->source.source, &stats);
    return stats;
}

static void case_new(Case *c, DwcpMode mode)
{
    DwcpTargetOptions for_target = end_target_options();
    DwcpSourceOptions for_source;
    char port[8];

    end_target(&c->target, &for_target, port);
    for_source = end_source_options(port);
    for_source.mode = mode;
    end_source(&c->source, &for_source);
    end_connect(&c->source);
    end_wait_connected(&c->source);
    end_wait_connected(&c->target);
}

static void case_free(Case *c)
{
    end_free(&c->source);
    end_free(&c->target);
}

static void test_measured(void)
{
    DwcpStats stats = { .size = sizeof(stats) };
    Case c;

    case_new(&c, DWCP_MODE_MEASURED);
    g_assert_cmpint(stats_of(&c).mode, !=, DWCP_MODE_INTERNET);
    while (stats_of(&c).mode != DWCP_MODE_DATACENTER) {
        (void)poll(NULL, 0, 1);
    }
    dwcp_target_stats(c.target.target, &stats);
    g_assert_cmpint(stats.mode, ==, 0);
    case_free(&c);
}

/* Long enough for a source that measures to come to another answer. */
static void test_pinned(void)
{
    Case measured, pinned;

    case_new(&pinned, DWCP_MODE_INTERNET);
    case_new(&measured, DWCP_MODE_MEASURED);
    while (stats_of(&measured).mode != DWCP_MODE_DATACENTER) {
        g_assert_cmpint(stats_of(&pinned).mode, ==, DWCP_MODE_INTERNET);
        (void)poll(NULL, 0, 1);
    }
    g_assert_cmpint(stats_of(&pinned).mode, ==, DWCP_MODE_INTERNET);
    case_free(&pinned);
    case_free(&measured);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/source-steer/mode/measured", test_measured);
    g_test_add_func("/source-steer/mode/pinned", test_pinned);
    return g_test_run();
}
