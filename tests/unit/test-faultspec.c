/*
 * core/faultspec: what is to go wrong, as a text
 *
 * Proves that each kind and setting is read as documented, with its default,
 * that units and their limits are exact, and that each way to be wrong is
 * refused with the rule's number and the words that are wrong.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "core/faultspec.h"

static DwcpFaultSpec parsed(const char *text)
{
    DwcpFaultSpec spec;
    DwcpError err = { 0 };

    g_assert_cmpint(dwcp_faultspec_parse(text, &spec, &err), ==, 0);
    return spec;
}

static void test_kinds(void)
{
    static const struct {
        const char *text;
        DwcpFaultRule rule;
    } cases[] = {
        { "delay:by=30ms",
          { DWCP_FAULT_DELAY, -1, true, false, 30000000, 0, 0, UINT64_MAX, 0,
            UINT64_MAX, UINT32_MAX } },
        { "rate:limit=10M",
          { DWCP_FAULT_RATE, -1, false, false, 10 << 20, 0, 0, UINT64_MAX, 0,
            UINT64_MAX, UINT32_MAX } },
        { "drop",
          { DWCP_FAULT_DROP, -1, false, false, UINT64_MAX, 0, 0, UINT64_MAX, 0,
            UINT64_MAX, 1 } },
        { "drop:how=close,record=GO,stream=0",
          { DWCP_FAULT_DROP, 0, false, true, UINT64_MAX, 0, 0, UINT64_MAX,
            DWCP_RECORD_GO, UINT64_MAX, 1 } },
        { "drop:how=reset,at=1500us,times=4",
          { DWCP_FAULT_DROP, -1, false, false, UINT64_MAX, 0, 0, 1500000, 0,
            UINT64_MAX, 4 } },
        { "corrupt:way=receive,after=1K-2K",
          { DWCP_FAULT_CORRUPT, -1, true, false, UINT64_MAX, 1024, 2048,
            UINT64_MAX, 0, UINT64_MAX, 1 } },
        { "stall:stream=63,after=1G,for=2s",
          { DWCP_FAULT_STALL, 63, false, false, UINT64_MAX, 1 << 30, 1 << 30,
            UINT64_MAX, 0, 2000000000, 1 } },
        { "short",
          { DWCP_FAULT_SHORT, -1, false, false, 1, 0, 0, UINT64_MAX, 0,
            UINT64_MAX, UINT32_MAX } },
        { "short:most=9,times=2,way=send",
          { DWCP_FAULT_SHORT, -1, false, false, 9, 0, 0, UINT64_MAX, 0,
            UINT64_MAX, 2 } },
        { "hold:until=4096",
          { DWCP_FAULT_HOLD, -1, false, false, 4096, 0, 0, UINT64_MAX, 0,
            1000000000, 1 } },
    };
    const DwcpFaultRule *rule, *want;
    DwcpFaultSpec spec;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        spec = parsed(cases[i].text);
        rule = &spec.rules[0];
        want = &cases[i].rule;
        g_test_message("%s", cases[i].text);
        g_assert_cmpuint(spec.count, ==, 1);
        g_assert_cmpuint(spec.seed, ==, 1);
        g_assert_cmpuint(rule->kind, ==, want->kind);
        g_assert_cmpint(rule->stream, ==, want->stream);
        g_assert_cmpint(rule->receive, ==, want->receive);
        g_assert_cmpint(rule->closes, ==, want->closes);
        g_assert_cmpuint(rule->amount, ==, want->amount);
        g_assert_cmpuint(rule->after_min, ==, want->after_min);
        g_assert_cmpuint(rule->after_max, ==, want->after_max);
        g_assert_cmpuint(rule->at_ns, ==, want->at_ns);
        g_assert_cmpuint(rule->record, ==, want->record);
        g_assert_cmpuint(rule->for_ns, ==, want->for_ns);
        g_assert_cmpuint(rule->times, ==, want->times);
    }
}

static void test_several(void)
{
    DwcpFaultSpec spec =
        parsed("stall:stream=1,after=1M,for=500ms;seed=18446744073709551615;"
               "corrupt:after=3M");
    GString *text = g_string_new("drop");
    DwcpError err;
    unsigned i;

    g_assert_cmpuint(spec.count, ==, 2);
    g_assert_cmpuint(spec.seed, ==, UINT64_MAX);
    g_assert_cmpuint(spec.rules[0].kind, ==, DWCP_FAULT_STALL);
    g_assert_cmpuint(spec.rules[1].kind, ==, DWCP_FAULT_CORRUPT);
    g_assert_cmpuint(spec.rules[1].after_min, ==, 3 << 20);
    for (i = 1; i < DWCP_FAULT_RULES_MAX; i++) {
        g_string_append(text, ";drop");
    }
    g_assert_cmpuint(parsed(text->str).count, ==, DWCP_FAULT_RULES_MAX);
    g_string_append(text, ";drop");
    g_assert_cmpint(dwcp_faultspec_parse(text->str, &spec, &err), ==, -EINVAL);
    g_assert_cmpstr(err.text, ==, "faults: rule 17: drop: too many rules");
    g_string_free(text, true);
}

static void test_names(void)
{
    unsigned i;

    for (i = 0; i < DWCP_FAULT_KINDS; i++) {
        g_assert_cmpstr(dwcp_fault_name((DwcpFaultKind)i), !=, "");
    }
    for (i = DWCP_RECORD_PAGES; i <= DWCP_RECORD_RESUME; i++) {
        char *text = g_strdup_printf("drop:record=%s",
                                     dwcp_record_name((DwcpRecordType)i));

        g_assert_cmpuint(parsed(text).rules[0].record, ==, i);
        g_free(text);
    }
}

static void test_bad(void)
{
    static const struct {
        const char *text, *said;
    } cases[] = {
        { "", "rule 1: : no such kind of fault" },
        { "drop;", "rule 2: : no such kind of fault" },
        { "drip", "rule 1: drip: no such kind of fault" },
        { "Drop", "rule 1: Drop: no such kind of fault" },
        { "drop:", "rule 1: : is not KEY=VALUE" },
        { "drop:after", "rule 1: after: is not KEY=VALUE" },
        { "drop:after=1,", "rule 1: : is not KEY=VALUE" },
        { "drop:after=", "rule 1: after=: bad value" },
        { "drop:after=x", "bad value" },
        { "drop:after=-1", "bad value" },
        { "drop:after=1 ", "bad value" },
        { "drop:after=1k", "bad value" },
        { "drop:after=1KK", "bad value" },
        { "drop:after=1-", "bad value" },
        { "drop:after=2-1", "bad value" },
        { "drop:after=1-2-3", "bad value" },
        { "drop:after=1125899906842625", "bad value" },
        { "drop:after=1048577G", "bad value" },
        { "drop:after=99999999999999999999", "bad value" },
        { "drop;stall:for=1", "rule 2: for=1: bad value" },
        { "stall:for=1m", "bad value" },
        { "stall:for=86401s", "bad value" },
        { "drop:at=1", "bad value" },
        { "drop:stream=64", "bad value" },
        { "drop:stream=-1", "bad value" },
        { "drop:times=0", "bad value" },
        { "drop:times=4294967295", "bad value" },
        { "drop:way=up", "bad value" },
        { "drop:how=soon", "bad value" },
        { "drop:record=go", "bad value" },
        { "drop:for=1s", "for=1s: no such setting of this kind" },
        { "corrupt:for=1s", "for=1s: no such setting of this kind" },
        { "stall:how=reset", "how=reset: no such setting of this kind" },
        { "stall:by=1s", "by=1s: no such setting of this kind" },
        { "drop:colour=red", "colour=red: no such setting of this kind" },
        { "delay", "delay: needs by=TIME" },
        { "delay:by=0s", "bad value" },
        { "delay:by=1s,way=send", "only what is received can be late" },
        { "rate", "rate: needs limit=BYTES" },
        { "rate:limit=1s", "bad value" },
        { "short:most=0", "bad value" },
        { "drop:after=1,at=1s", "more than one of after, at, record" },
        { "drop:after=1,after=2", "more than one of after, at, record" },
        { "drop:record=ACK,way=receive", "record is for way=send" },
        { "seed=", "rule 1: seed=: bad value" },
        { "seed=1x", "bad value" },
        { "seed=18446744073709551616", "bad value" },
    };
    DwcpFaultSpec spec = { .seed = 77 };
    DwcpError err;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("'%s'", cases[i].text);
        g_assert_cmpint(dwcp_faultspec_parse(cases[i].text, &spec, &err), ==,
                        -EINVAL);
        g_assert_true(g_str_has_prefix(err.text, "faults: rule "));
        g_assert_nonnull(strstr(err.text, cases[i].said));
        g_assert_cmpuint(spec.seed, ==, 77); /* nothing written */
        g_assert_cmpuint(spec.count, ==, 0);
    }
}

static void test_limits(void)
{
    g_assert_cmpuint(parsed("drop:after=1125899906842624").rules[0].after_min,
                     ==, DWCP_FAULT_BYTES_MAX);
    g_assert_cmpuint(parsed("drop:after=1048576G").rules[0].after_max, ==,
                     DWCP_FAULT_BYTES_MAX);
    g_assert_cmpuint(parsed("stall:for=86400s").rules[0].for_ns, ==,
                     DWCP_FAULT_NS_MAX);
    g_assert_cmpuint(parsed("drop:times=4294967294").rules[0].times, ==,
                     UINT32_MAX - 1);
}

/* Any bytes are an answer, and the outputs only of good ones are written. */
static void test_any(void)
{
    static const char *const words[] = {
        "drop", "stall", "delay", ":", ";", ",", "=", "after", "for", "by",
        "1", "s", "ms", "M", "-", "stream", "seed", "record", "GO", "\xff",
        "99999999999",
    };
    GRand *rnd = g_rand_new_with_seed(5);
    GString *text = g_string_new(NULL);
    unsigned i, n, good = 0;
    DwcpFaultSpec spec;
    DwcpError err;
    int rc;

    for (i = 0; i < 20000; i++) {
        g_string_truncate(text, 0);
        for (n = (unsigned)g_rand_int_range(rnd, 0, 12); n; n--) {
            g_string_append(text, words[g_rand_int_range(
                                      rnd, 0, G_N_ELEMENTS(words))]);
        }
        rc = dwcp_faultspec_parse(text->str, &spec, &err);
        g_assert_true(rc == 0 || rc == -EINVAL);
        good += rc == 0;
    }
    g_assert_cmpuint(good, >, 10);
    g_string_free(text, true);
    g_rand_free(rnd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/faultspec/kinds", test_kinds);
    g_test_add_func("/faultspec/several", test_several);
    g_test_add_func("/faultspec/names", test_names);
    g_test_add_func("/faultspec/bad", test_bad);
    g_test_add_func("/faultspec/limits", test_limits);
    g_test_add_func("/faultspec/any", test_any);
    return g_test_run();
}
