/*
 * core/phase: the moves of a session, all of them
 *
 * The table below is written from the header's description, not from the
 * code: every pair that it does not name must be refused.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <glib.h>

#include "core/phase.h"

typedef struct Move {
    DwcpRole role;
    DwcpPhase from, to;
} Move;

#define SOURCE(from, to)                                                       \
    { DWCP_ROLE_SOURCE, DWCP_PHASE_##from, DWCP_PHASE_##to }
#define TARGET(from, to)                                                       \
    { DWCP_ROLE_TARGET, DWCP_PHASE_##from, DWCP_PHASE_##to }

static const Move lawful[] = {
    SOURCE(CONNECTING, UP),     SOURCE(UP, ENDED),
    SOURCE(ENDED, READY),       SOURCE(READY, GONE),
    SOURCE(GONE, SEALED),       SOURCE(CONNECTING, FAILED),
    SOURCE(UP, FAILED),         SOURCE(ENDED, FAILED),
    SOURCE(READY, FAILED),      TARGET(CONNECTING, UP),
    TARGET(UP, BEGUN),          TARGET(BEGUN, COMPLETE),
    TARGET(COMPLETE, READY),    TARGET(READY, SEALED),
    TARGET(CONNECTING, FAILED), TARGET(UP, FAILED),
    TARGET(BEGUN, FAILED),      TARGET(COMPLETE, FAILED),
    TARGET(READY, FAILED),
};

static void test_moves(void)
{
    unsigned role, from, to, i;
    gboolean allowed;

    for (role = 0; role < 2; role++) {
        for (from = 0; from < DWCP_PHASE_COUNT; from++) {
            for (to = 0; to < DWCP_PHASE_COUNT; to++) {
                allowed = FALSE;
                for (i = 0; i < G_N_ELEMENTS(lawful); i++) {
                    allowed |= lawful[i].role == role &&
                               lawful[i].from == from && lawful[i].to == to;
                }
                g_assert_cmpint(dwcp_phase_allowed((DwcpRole)role,
                                                   (DwcpPhase)from,
                                                   (DwcpPhase)to),
                                ==, allowed);
            }
        }
    }
}

/* Switchover is one way: nothing leads back from where the other may run. */
static void test_final(void)
{
    unsigned to;

    for (to = 0; to < DWCP_PHASE_COUNT; to++) {
        g_assert_false(dwcp_phase_allowed(DWCP_ROLE_SOURCE, DWCP_PHASE_FAILED,
                                          (DwcpPhase)to));
        g_assert_false(dwcp_phase_allowed(DWCP_ROLE_TARGET, DWCP_PHASE_FAILED,
                                          (DwcpPhase)to));
        g_assert_false(dwcp_phase_allowed(DWCP_ROLE_SOURCE, DWCP_PHASE_SEALED,
                                          (DwcpPhase)to));
        g_assert_false(dwcp_phase_allowed(DWCP_ROLE_TARGET, DWCP_PHASE_SEALED,
                                          (DwcpPhase)to));
        g_assert_cmpint(dwcp_phase_allowed(DWCP_ROLE_SOURCE, DWCP_PHASE_GONE,
                                           (DwcpPhase)to),
                        ==, to == DWCP_PHASE_SEALED);
    }
}

static void test_names(void)
{
    unsigned phase;

    for (phase = 0; phase < DWCP_PHASE_COUNT; phase++) {
        g_assert_nonnull(dwcp_phase_name((DwcpPhase)phase));
    }
    g_assert_cmpstr(dwcp_phase_name(DWCP_PHASE_GONE), ==, "gone");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/phase/moves", test_moves);
    g_test_add_func("/phase/final", test_final);
    g_test_add_func("/phase/names", test_names);
    return g_test_run();
}
