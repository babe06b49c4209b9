/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/faultspec.h"

#include <errno.h>
#include <string.h>

#include "core/fail.h"

#define HOLD_NS 1000000000ull

/* A piece of the text. */
typedef struct Slice {
    const char *at;
    size_t length;
} Slice;

typedef struct Unit {
    const char *name;
    uint64_t worth;
} Unit;

static const Unit bytes_units[] = {
    { "", 1 }, { "K", 1ull << 10 }, { "M", 1ull << 20 }, { "G", 1ull << 30 },
};
static const Unit time_units[] = {
    { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 },
};

/* What a kind may be given beside stream, way, the beginning and times. */
static const struct {
    const char *name;
    const char *amount; /* its key, NULL = none */
    bool amount_is_time;
    bool must;          /* be given */
    bool lasts;         /* takes `for` */
    bool everywhere;    /* times: no limit */
} kinds[DWCP_FAULT_KINDS] = {
    [DWCP_FAULT_DELAY] = { "delay", "by", true, true, true, true },
    [DWCP_FAULT_RATE] = { "rate", "limit", false, true, true, true },
    [DWCP_FAULT_DROP] = { "drop", NULL, false, false, false, false },
    [DWCP_FAULT_CORRUPT] = { "corrupt", NULL, false, false, false, false },
    [DWCP_FAULT_STALL] = { "stall", NULL, false, false, true, false },
    [DWCP_FAULT_SHORT] = { "short", "most", false, false, true, true },
    [DWCP_FAULT_HOLD] = { "hold", "until", false, false, true, false },
};

/* A rule while it is read, and what was given of it. */
typedef struct Reading {
    DwcpFaultRule rule;
    unsigned number; /* from 1 */
    bool amount;
    unsigned begins; /* of after, at, record */
} Reading;

const char *dwcp_fault_name(DwcpFaultKind kind)
{
    return kinds[kind].name;
}

static bool is(Slice slice, const char *text)
{
    return strlen(text) == slice.length &&
           memcmp(slice.at, text, slice.length) == 0;
}

/* Cuts the piece before @mark off @text; all of it if there is none. */
static Slice cut(Slice *text, char mark, bool *found)
{
    const char *at = memchr(text->at, mark, text->length);
    Slice piece = { text->at, at ? (size_t)(at - text->at) : text->length };

    *found = at != NULL;
    text->at += piece.length + *found;
    text->length -= piece.length + *found;
    return piece;
}

/* Returns: digits at the front of @text, and their value if it is at most
 * @max. */
static bool digits(Slice *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0, digit;
    size_t n;

    for (n = 0; n < text->length && text->at[n] >= '0' && text->at[n] <= '9';
         n++) {
        digit = (uint64_t)(text->at[n] - '0');
        if (value > (max - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    if (!n) {
        return false;
    }
    text->at += n;
    text->length -= n;
    *out = value;
    return true;
}

static bool number(Slice text, uint64_t max, uint64_t *out)
{
    return digits(&text, max, out) && !text.length;
}

static bool quantity(Slice text, const Unit *units, unsigned count,
                     uint64_t max, uint64_t *out)
{
    uint64_t value;
    unsigned i;

    if (!digits(&text, max, &value)) {
        return false;
    }
    for (i = 0; i < count && !is(text, units[i].name); i++) {
    }
    if (i == count || value > max / units[i].worth) {
        return false;
    }
    *out = value * units[i].worth;
    return true;
}

static bool bytes(Slice text, uint64_t *out)
{
    return quantity(text, bytes_units, 4, DWCP_FAULT_BYTES_MAX, out);
}

static bool duration(Slice text, uint64_t *out)
{
    return quantity(text, time_units, 3, DWCP_FAULT_NS_MAX, out);
}

static bool record_type(Slice text, DwcpRecordType *out)
{
    unsigned type;

    for (type = DWCP_RECORD_PAGES; type <= DWCP_RECORD_RESUME; type++) {
        if (is(text, dwcp_record_name((DwcpRecordType)type))) {
            *out = (DwcpRecordType)type;
            return true;
        }
    }
    return false;
}

static bool range(Slice text, DwcpFaultRule *rule)
{
    bool two;
    Slice first = cut(&text, '-', &two);

    return bytes(first, &rule->after_min) &&
           bytes(two ? text : first, &rule->after_max) &&
           rule->after_min <= rule->after_max;
}

static bool amount(Slice value, DwcpFaultRule *rule)
{
    return (kinds[rule->kind].amount_is_time
                ? duration(value, &rule->amount)
                : bytes(value, &rule->amount)) &&
           rule->amount > 0;
}

/* Returns: 1 taken; 0 a bad value; -1 no such key. */
static int setting(Reading *reading, Slice key, Slice value)
{
    DwcpFaultRule *rule = &reading->rule;
    const char *own = kinds[rule->kind].amount;
    uint64_t n;

    if (own && is(key, own)) {
        reading->amount = true;
        return amount(value, rule);
    }
    if (is(key, "stream")) {
        n = 0;
        if (!number(value, DWCP_STREAMS_MAX - 1, &n)) {
            return 0;
        }
        rule->stream = (int)n;
        return 1;
    }
    if (is(key, "way")) {
        rule->receive = is(value, "receive");
        return rule->receive || is(value, "send");
    }
    if (is(key, "times")) {
        n = 0;
        if (!number(value, UINT32_MAX - 1, &n) || !n) {
            return 0;
        }
        rule->times = (uint32_t)n;
        return 1;
    }
    if (is(key, "for") && kinds[rule->kind].lasts) {
        return duration(value, &rule->for_ns);
    }
    if (is(key, "how") && rule->kind == DWCP_FAULT_DROP) {
        rule->closes = is(value, "close");
        return rule->closes || is(value, "reset");
    }
    reading->begins++;
    if (is(key, "after")) {
        return range(value, rule);
    }
    if (is(key, "at")) {
        return duration(value, &rule->at_ns);
    }
    if (is(key, "record")) {
        return record_type(value, &rule->record);
    }
    return -1;
}

static int complain(const Reading *reading, DwcpError *err, const char *what,
                    Slice about)
{
    return dwcp_fail(err, -EINVAL, "faults: rule %u: %.*s: %s",
                     reading->number,
                     about.length > 60 ? 60 : (int)about.length, about.at,
                     what);
}

static int settings(Reading *reading, Slice text, DwcpError *err)
{
    bool more = true, valued;
    Slice one, key, value;
    int rc;

    while (more) {
        one = cut(&text, ',', &more);
        value = one;
        key = cut(&value, '=', &valued);
        if (!valued) {
            return complain(reading, err, "is not KEY=VALUE", one);
        }
        rc = setting(reading, key, value);
        if (rc <= 0) {
            return complain(reading, err,
                            rc ? "no such setting of this kind" : "bad value",
                            one);
        }
    }
    return 0;
}

/* What no setting alone can tell.  Returns: NULL, or what is wrong. */
static const char *whole(const Reading *reading)
{
    const DwcpFaultRule *rule = &reading->rule;

    if (kinds[rule->kind].must && !reading->amount) {
        return rule->kind == DWCP_FAULT_DELAY ? "needs by=TIME"
                                              : "needs limit=BYTES";
    }
    if (reading->begins > 1) {
        return "has more than one of after, at, record";
    }
    if (rule->kind == DWCP_FAULT_DELAY && !rule->receive) {
        return "only what is received can be late";
    }
    if (rule->record && rule->receive) {
        return "record is for way=send";
    }
    return NULL;
}

static int rule_parse(Reading *reading, Slice text, DwcpError *err)
{
    DwcpFaultRule *rule = &reading->rule;
    unsigned kind;
    const char *wrong;
    bool more;
    Slice name = cut(&text, ':', &more);
    int rc;

    for (kind = 0; kind < DWCP_FAULT_KINDS && !is(name, kinds[kind].name);
         kind++) {
    }
    if (kind == DWCP_FAULT_KINDS) {
        return complain(reading, err, "no such kind of fault", name);
    }
    *rule = (DwcpFaultRule){
        .kind = (DwcpFaultKind)kind,
        .stream = -1,
        .receive = kind == DWCP_FAULT_DELAY,
        .amount = kind == DWCP_FAULT_SHORT ? 1 : UINT64_MAX,
        .at_ns = UINT64_MAX,
        .for_ns = kind == DWCP_FAULT_HOLD ? HOLD_NS : UINT64_MAX,
        .times = kinds[kind].everywhere ? UINT32_MAX : 1,
    };
    rc = more ? settings(reading, text, err) : 0;
    wrong = rc == 0 ? whole(reading) : NULL;
    return wrong ? complain(reading, err, wrong, name) : rc;
}

int dwcp_faultspec_parse(const char *text, DwcpFaultSpec *out, DwcpError *err)
{
    DwcpFaultSpec spec = { .seed = 1 };
    Slice rest = { text, strlen(text) }, one, value;
    Reading reading = { .number = 0 };
    bool more = true;
    int rc = 0;

    while (rc == 0 && more) {
        one = cut(&rest, ';', &more);
        reading = (Reading){ .number = reading.number + 1 };
        if (one.length >= 5 && memcmp(one.at, "seed=", 5) == 0) {
            value = (Slice){ one.at + 5, one.length - 5 };
            rc = number(value, UINT64_MAX, &spec.seed)
                     ? 0
                     : complain(&reading, err, "bad value", one);
        } else if (spec.count == DWCP_FAULT_RULES_MAX) {
            rc = complain(&reading, err, "too many rules", one);
        } else {
            rc = rule_parse(&reading, one, err);
            spec.rules[spec.count++] = reading.rule;
        }
    }
    if (rc == 0) {
        *out = spec;
    }
    return rc;
}
