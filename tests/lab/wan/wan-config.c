/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1e6

void wan_config_init(WanLinkConfig *config)
{
    memset(config, 0, sizeof(*config));
    config->rate_bits_per_s = 1000000000u;
    config->queue_ns = 100000000u;
}

int wan_parse_u64(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (*text == '\0') {
        return -EINVAL;
    }
    for (; *text != '\0'; text++) {
        uint64_t digit;

        if (!isdigit((unsigned char)*text)) {
            return -EINVAL;
        }
        digit = (uint64_t)(*text - '0');
        if (digit > max || value > (max - digit) / 10) {
            return -EINVAL;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return 0;
}

/* A decimal number from 0 to @max at the start of *text; moves *text behind
 * it. strtod() alone would take signs, spaces, "inf" and hexadecimals. */
static int take_number(const char **text, double max, double *out)
{
    size_t length = strspn(*text, "0123456789.");
    char *end;
    double value;

    if (!isdigit((unsigned char)**text)) {
        return -EINVAL;
    }
    value = strtod(*text, &end);
    if (end != *text + length || !(value <= max)) {
        return -EINVAL;
    }
    *text = end;
    *out = value;
    return 0;
}

static int whole_number(const char *text, double max, double *out)
{
    double value;

    if (take_number(&text, max, &value) < 0 || *text != '\0') {
        return -EINVAL;
    }
    *out = value;
    return 0;
}

static int set_rate(WanLinkConfig *config, const char *text)
{
    double mbit;

    if (whole_number(text, WAN_RATE_MAX_MBIT, &mbit) < 0 ||
        (mbit > 0 && mbit < 0.001)) {
        return -EINVAL;
    }
    config->rate_bits_per_s = (uint64_t)(mbit * 1e6);
    return 0;
}

static int set_time(const char *text, double scale, uint64_t *out_ns)
{
    double ms;

    if (whole_number(text, WAN_DELAY_MAX_MS, &ms) < 0) {
        return -EINVAL;
    }
    *out_ns = (uint64_t)(ms * scale * NS_PER_MS);
    return 0;
}

static int set_rtt(WanLinkConfig *config, const char *text)
{
    return set_time(text, 0.5, &config->delay_ns);
}

static int set_delay(WanLinkConfig *config, const char *text)
{
    return set_time(text, 1, &config->delay_ns);
}

static int set_jitter(WanLinkConfig *config, const char *text)
{
    return set_time(text, 1, &config->jitter_ns);
}

static int set_percent(const char *text, double *out)
{
    double percent;

    if (whole_number(text, 100, &percent) < 0) {
        return -EINVAL;
    }
    *out = percent / 100;
    return 0;
}

static int set_loss(WanLinkConfig *config, const char *text)
{
    return set_percent(text, &config->loss.random);
}

static int set_reorder(WanLinkConfig *config, const char *text)
{
    return set_percent(text, &config->reorder);
}

static int set_burst(WanLinkConfig *config, const char *text)
{
    double loss, packets = 1, density = 100;

    if (take_number(&text, 100, &loss) < 0) {
        return -EINVAL;
    }
    if (loss > 0) {
        if (*text++ != ',' || take_number(&text, 1e6, &packets) < 0) {
            return -EINVAL;
        }
        if (*text == ',') {
            text++;
            if (take_number(&text, 100, &density) < 0) {
                return -EINVAL;
            }
        }
        if (packets < 1 || density <= loss) {
            return -EINVAL;
        }
    }
    if (*text != '\0') {
        return -EINVAL;
    }
    config->loss.burst = loss / 100;
    config->loss.burst_packets = packets;
    config->loss.burst_density = density / 100;
    return 0;
}

static int set_queue(WanLinkConfig *config, const char *text)
{
    double value;
    uint64_t bytes = 0, ns = 0;

    if (take_number(&text, 1e9, &value) < 0) {
        return -EINVAL;
    }
    if (strcmp(text, "ms") == 0 && value <= WAN_DELAY_MAX_MS) {
        ns = (uint64_t)(value * NS_PER_MS);
    } else if (strcmp(text, "B") == 0) {
        bytes = (uint64_t)value;
    } else if (strcmp(text, "kB") == 0) {
        bytes = (uint64_t)(value * 1000);
    } else if (value > 0 || *text != '\0') {
        return -EINVAL;
    }
    config->queue_ns = ns;
    config->queue_bytes = bytes;
    return 0;
}

static const struct {
    const char *name;
    int (*set)(WanLinkConfig *config, const char *text);
    const char *error;
} items[] = {
    {"rate", set_rate, "rate: Mbit/s expected, 0.001 to 100000, or 0"},
    {"rtt", set_rtt, "rtt: milliseconds expected, 0 to 10000"},
    {"delay", set_delay, "delay: milliseconds expected, 0 to 10000"},
    {"jitter", set_jitter, "jitter: milliseconds expected, 0 to 10000"},
    {"loss", set_loss, "loss: percent expected, 0 to 100"},
    {"burst", set_burst,
     "burst: PERCENT,PACKETS[,DENSITY] expected, such as 1,10,50, with "
     "PACKETS from 1 and DENSITY above PERCENT; or 0"},
    {"reorder", set_reorder, "reorder: percent expected, 0 to 100"},
    {"queue", set_queue,
     "queue: a number with ms, B or kB expected, such as 100ms; or 0"},
};

int wan_config_set(WanLinkConfig *config, const char *name, const char *value,
                   const char **error)
{
    size_t i;

    for (i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
        WanLinkConfig copy = *config;

        if (strcmp(name, items[i].name) != 0) {
            continue;
        }
        if (items[i].set(&copy, value) < 0) {
            *error = items[i].error;
            return -EINVAL;
        }
        *config = copy;
        return 0;
    }
    *error = "unknown setting; there are rate, rtt, delay, jitter, loss, "
             "burst, reorder and queue";
    return -EINVAL;
}
