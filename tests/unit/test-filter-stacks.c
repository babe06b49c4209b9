/*
 * Whole sessions with faults on their connections
 *
 * Proves that a session survives each kind, plain and keyed, as it promises: what
 * only makes it wait changes nothing, a lost connection is made again, a byte
 * that was changed on the way ends its connection where there are keys; and, for
 * random stacks of faults on both ends, that never may both run, that a target
 * that may run has the source's memory, and that a source that may not hand over
 * may run.  Each case is run without its faults as well, where it must not show.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

#include "io/fault.h"
#include "io/source.h"
#include "io/target.h"
#include "move.h"
#include "resumecase.h"

static DwcpSourceOptions source_options(const char *port, bool keyed)
{
    DwcpSourceOptions options = resume_source_options(keyed);

    options.port = port;
    options.level = 0;
    options.switchover_ms_max = 3000;
    return options;
}

static void set(DwcpSession *session, const char *spec)
{
    DwcpError err = { 0 };

    if (spec) {
        g_assert_cmpint(dwcp_faults_set(session, spec, &err), ==, 0);
    }
}

/* ---------------------------------------------------------- one kind -- */

#define PAGES 3000u

typedef struct Case {
    End source, target;
    DwcpStats stats;
    uint64_t different; /* bits of the target's memory */
} Case;

/* Both ends connected, and the source's memory filled. */
static void up(End *source, End *target)
{
    GRand *rnd = g_rand_new_with_seed(3);

    ends_up(source, target, PAGES);
    kit_fill(rnd, source->ram, PAGES);
    g_rand_free(rnd);
}

/* A session from its beginning until all is applied. */
static void case_run(Case *c, bool keyed, const char *at_source,
                     const char *at_target)
{
    DwcpTargetOptions for_target = resume_target_options(keyed);
    DwcpSourceOptions for_source;
    char port[8];
    size_t i;

    end_target(&c->target, &for_target, port);
    set(&c->target.target->session, at_target);
    for_source = source_options(port, keyed);
    end_source(&c->source, &for_source);
    set(&c->source.source->session, at_source);
    up(&c->source, &c->target);
    do { /* all of them may carry something */
        (void)poll(NULL, 0, 1);
        c->stats = end_stats(&c->source);
    } while (c->stats.streams < 4);
    g_assert_cmpint(dwcp_target_begin(c->target.target), ==, 0);
    g_assert_cmpint(dwcp_source_put(c->source.source, 0, 0, PAGES), ==, 0);
    dwcp_source_flush(c->source.source);
    while (dwcp_source_pending_bytes(c->source.source)) {
        g_assert_cmpint(dwcp_source_wait(c->source.source, 50), >=, 0);
    }
    c->stats = end_stats(&c->source);
    c->different = 0;
    for (i = 0; i < PAGES * (size_t)PAGE; i++) {
        c->different +=
            (unsigned)__builtin_popcount(c->source.ram[i] ^ c->target.ram[i]);
    }
}

static unsigned source_hits(const Case *c, unsigned rule)
{
    return dwcp_faults_hits(&c->source.source->session, rule);
}

static void case_end(Case *c)
{
    end_free(&c->source);
    end_free(&c->target);
}

/* Its end; what was lost is known then. */
static void case_finish(Case *c, unsigned lost_min, unsigned lost_max)
{
    g_assert_cmpuint(c->different, ==, 0);
    ends_finish(&c->source, &c->target);
    c->stats = end_stats(&c->source);
    g_assert_cmpuint(c->stats.streams_lost, >=, lost_min);
    g_assert_cmpuint(c->stats.streams_lost, <=, lost_max);
    case_end(c);
}

static void test_none(gconstpointer opaque)
{
    Case c;

    case_run(&c, GPOINTER_TO_INT(opaque), NULL, NULL);
    case_finish(&c, 0, 0);
}

/* What is only late, slow, or in pieces is nothing that a session sees. */
static void test_slow(gconstpointer opaque)
{
    static const char *const specs[] = {
        "delay:by=20ms",
        "rate:limit=20M",
        "stall:after=100K,for=100ms,times=2",
        "stall:for=100ms,way=receive,times=4",
        "short:most=5000",
        "hold:after=64K,until=2M",
        "delay:by=5ms;short:most=9000,way=receive;short:most=20000;"
        "rate:limit=30M;hold:until=1M",
    };
    bool keyed = GPOINTER_TO_INT(opaque);
    unsigned i;
    Case c;

    for (i = 0; i < G_N_ELEMENTS(specs); i++) {
        g_test_message("%s", specs[i]);
        case_run(&c, keyed, specs[i], NULL);
        g_assert_cmpuint(source_hits(&c, 0), >=, 1);
        case_finish(&c, 0, 0);
        case_run(&c, keyed, NULL, specs[i]);
        case_finish(&c, 0, 0);
    }
}

/* One way or the other, at either end, any stream and all of them. */
static void test_drop(gconstpointer opaque)
{
    static const struct {
        const char *source, *target;
        unsigned lost;
    } cases[] = {
        { "drop:after=200K", NULL, 1 },
        { "drop:stream=0,after=10", NULL, 1 },
        { "drop:after=100K-200K,times=4,how=close", NULL, 1 },
        { NULL, "drop:after=100K-200K,way=receive", 1 },
        { "drop:after=200K,times=3;short:most=9000", "drop:after=10", 3 },
    };
    bool keyed = GPOINTER_TO_INT(opaque);
    unsigned i;
    Case c;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s and %s", cases[i].source, cases[i].target);
        case_run(&c, keyed, cases[i].source, cases[i].target);
        case_finish(&c, cases[i].lost, UINT_MAX);
    }
}

/*
 * With keys a changed bit costs a connection.  Without, TCP's checksum is what
 * there is, and this is behind it: in the middle of a raw page it lands.
 */
static void test_corrupt(gconstpointer opaque)
{
    bool keyed = GPOINTER_TO_INT(opaque);
    Case c;

    case_run(&c, keyed, "corrupt:after=300K", NULL);
    g_assert_cmpuint(source_hits(&c, 0), ==, 1);
    g_assert_cmpuint(c.different, ==, !keyed);
    if (!keyed) {
        case_end(&c);
        return;
    }
    case_finish(&c, 1, 1);
    /* What the target says is checked as well. */
    case_run(&c, keyed, NULL, "corrupt:after=20");
    case_finish(&c, 1, 1);
}

/* Bytes that are no page's are what the protocol is strict about. */
static void test_corrupt_header(void)
{
    DwcpTargetOptions for_target = resume_target_options(false);
    DwcpSourceOptions for_source;
    char port[8];
    Case c;

    end_target(&c.target, &for_target, port);
    for_source = source_options(port, false);
    end_source(&c.source, &for_source);
    /* Reserved bits behind the type of the first record of any stream. */
    set(&c.source.source->session, "corrupt:after=2");
    up(&c.source, &c.target);
    g_assert_cmpint(dwcp_target_begin(c.target.target), ==, 0);
    /* It may have failed before all is handed over. */
    (void)!dwcp_source_put(c.source.source, 0, 0, PAGES);
    (void)dwcp_source_flush(c.source.source);
    end_failed_with(&c.target, -EPROTO, "");
    end_wait_failed(&c.source);
    g_assert_false(dwcp_source_gone(c.source.source));
    case_end(&c);
}

/* At a record: GO is said to nobody, and comes to the next connection. */
static void test_drop_record(void)
{
    static const char *const specs[] = {
        "drop:record=END", "drop:record=GO", "drop:record=END;drop:record=GO",
    };
    unsigned i;
    Case c;

    for (i = 0; i < G_N_ELEMENTS(specs); i++) {
        case_run(&c, false, specs[i], i ? "drop:record=READY" : NULL);
        g_assert_cmpuint(source_hits(&c, 0), ==, 0);
        ends_finish(&c.source, &c.target);
        g_assert_cmpuint(source_hits(&c, 0), ==, 1);
        case_end(&c);
    }
}

/* ------------------------------------------------------------- random -- */

/* Faults that a session survives if it has keys, and as many as come. */
static char *random_spec(GRand *rnd, bool keyed)
{
    GString *text = g_string_new(NULL);
    unsigned rules = (unsigned)g_rand_int_range(rnd, 1, 5);
    unsigned after, i;
    int kind;

    g_string_append_printf(text, "seed=%u", g_rand_int(rnd));
    for (i = 0; i < rules; i++) {
        after = (unsigned)g_rand_int_range(rnd, 0, 200000);
        kind = g_rand_int_range(rnd, 0, keyed ? 7 : 6);
        switch (kind) {
        case 0:
            g_string_append_printf(text, ";delay:by=%dus",
                                   g_rand_int_range(rnd, 1, 3000));
            break;
        case 1:
            g_string_append_printf(text, ";rate:limit=%dK",
                                   g_rand_int_range(rnd, 2000, 40000));
            break;
        case 2:
            g_string_append_printf(text, ";drop:after=0-%u,times=%d,how=%s",
                                   after + 1, g_rand_int_range(rnd, 1, 4),
                                   g_rand_boolean(rnd) ? "close" : "reset");
            break;
        case 3:
            g_string_append_printf(text, ";stall:after=0-%u,for=%dms", after,
                                   g_rand_int_range(rnd, 1, 60));
            break;
        case 4:
            g_string_append_printf(text, ";short:most=%d,for=100ms",
                                   g_rand_int_range(rnd, 100, 9000));
            break;
        case 5:
            g_string_append_printf(text,
                                   ";hold:after=%u,until=%dK,for=60ms", after,
                                   g_rand_int_range(rnd, 1, 500));
            break;
        default:
            g_string_append_printf(text, ";corrupt:after=0-%u,times=%d",
                                   after, g_rand_int_range(rnd, 1, 3));
            break;
        }
        if (kind != 0) {
            if (g_rand_int_range(rnd, 0, 3) == 0) {
                g_string_append(text, ",way=receive");
            }
            if (kind != 2 && g_rand_boolean(rnd)) {
                g_string_append_printf(text, ",stream=%d",
                                       g_rand_int_range(rnd, 0, 4));
            }
        }
    }
    return g_string_free(text, false);
}

/* Both ends have faults of their own; move_end() knows what must hold. */
static void test_random(gconstpointer opaque)
{
    bool keyed = GPOINTER_TO_INT(opaque);
    DwcpTargetOptions for_target = resume_target_options(keyed);
    DwcpSourceOptions for_source = source_options("1", keyed);
    unsigned seeds = kit_soak(40, 2000), seed, went = 0, lost = 0;
    DwcpStats stats = { .size = sizeof(stats) };
    char *at_source, *at_target;
    MoveOutcome out;
    GRand *rnd;
    Move move;

    for (seed = 0; seed < seeds; seed++) {
        rnd = g_rand_new_with_seed(seed);
        at_source = random_spec(rnd, keyed);
        at_target = random_spec(rnd, keyed);
        g_test_message("seed %u: %s and %s", seed, at_source, at_target);
        for_source.level = g_rand_int_range(rnd, 0, 2);
        move_new(&move, &for_target);
        set(&move.target.target->session, at_target);
        for_source.port = move.port;
        end_source(&move.source, &for_source);
        set(&move.source.source->session, at_source);
        end_ram(&move.source, MOVE_PAGES);
        move_run(&move);
        end_connect(&move.source);
        out = move_end(&move);
        if (!out.go) {
            g_test_message("step %d: source: %s; target: %s",
                           atomic_load(&move.step), move.source.error.text,
                           move.target.error.text);
        }
        g_assert_cmpint(out.go, ==, out.gone);
        g_assert_true(out.go || dwcp_source_error(move.source.source, NULL));
        went += out.go;
        dwcp_source_stats(move.source.source, &stats);
        lost += stats.streams_lost;
        move_free(&move);
        g_free(at_source);
        g_free(at_target);
        g_rand_free(rnd);
    }
    g_test_message("%u of %u moves went through, %u streams were lost", went,
                   seeds, lost);
    g_assert_cmpuint(went, >=, seeds * 3 / 4);
    g_assert_cmpuint(lost, >=, seeds / 4);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        GTestDataFunc run;
    } cases[] = {
        { "none", test_none }, { "slow", test_slow }, { "drop", test_drop },
        { "corrupt", test_corrupt }, { "random", test_random },
    };
    unsigned i, keyed;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (keyed = 0; keyed < 2; keyed++) {
            char *path = g_strdup_printf("/filter-stacks/%s/%s", cases[i].name,
                                         keyed ? "keyed" : "plain");

            g_test_add_data_func(path, GINT_TO_POINTER(keyed), cases[i].run);
            g_free(path);
        }
    }
    g_test_add_func("/filter-stacks/corrupt/header", test_corrupt_header);
    g_test_add_func("/filter-stacks/drop/record", test_drop_record);
    return g_test_run();
}
