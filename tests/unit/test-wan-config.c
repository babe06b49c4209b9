/*
 * wan-config: what a person types is understood exactly or refused, and a
 * refused value changes nothing.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static WanLinkConfig set(const char *name, const char *value)
{
    WanLinkConfig config;
    const char *error;

    wan_config_init(&config);
    assert(wan_config_set(&config, name, value, &error) == 0);
    return config;
}

static void refuse(const char *name, const char *value)
{
    WanLinkConfig config, before;
    const char *error = NULL;

    wan_config_init(&config);
    before = config;
    assert(wan_config_set(&config, name, value, &error) == -EINVAL);
    assert(error != NULL && strchr(error, '\n') == NULL);
    assert(memcmp(&config, &before, sizeof(config)) == 0);
}

static void test_taken(void)
{
    WanLinkConfig config;

    assert(set("rate", "0").rate_bits_per_s == 0);
    assert(set("rate", "2.5").rate_bits_per_s == 2500000);
    assert(set("rtt", "50").delay_ns == 25000000);
    assert(set("delay", "0.001").delay_ns == 1000);
    assert(set("jitter", "10000").jitter_ns == 10000000000);
    assert(set("loss", "100").loss.random == 1);
    assert(set("reorder", "50").reorder == 0.5);
    config = set("queue", "20ms");
    assert(config.queue_ns == 20000000 && config.queue_bytes == 0);
    config = set("queue", "256kB");
    assert(config.queue_ns == 0 && config.queue_bytes == 256000);
    assert(set("queue", "1500B").queue_bytes == 1500);
    config = set("queue", "0");
    assert(config.queue_ns == 0 && config.queue_bytes == 0);
    config = set("burst", "1,10");
    assert(config.loss.burst == 0.01 && config.loss.burst_packets == 10 &&
           config.loss.burst_density == 1);
    assert(set("burst", "1,10,50").loss.burst_density == 0.5);
    assert(set("burst", "0").loss.burst == 0);
}

static void test_refused(void)
{
    static const char *const never[] = {"",    " 1",  "1 ",    "-1",
                                        "+1",  "0x1", "1e1",   "inf",
                                        "nan", ".5",  "1.2.3", "1,"};
    static const char *const names[] = {"rate", "rtt",   "delay",   "jitter",
                                        "loss", "burst", "reorder", "queue"};
    size_t i, j;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        for (j = 0; j < sizeof(never) / sizeof(never[0]); j++) {
            refuse(names[i], never[j]);
        }
    }
    refuse("rate", "100001");
    refuse("rate", "0.0001");
    refuse("rtt", "10001");
    refuse("loss", "100.1");
    refuse("burst", "1");
    refuse("burst", "1,0.5");
    refuse("burst", "1,10,1");
    refuse("burst", "1,10,101");
    refuse("burst", "1,10,50,1");
    refuse("burst", "0,1");
    refuse("queue", "5");
    refuse("queue", "5MB");
    refuse("queue", "10001ms");
    refuse("speed", "1");
}

static void test_integers(void)
{
    uint64_t value = 5;

    assert(wan_parse_u64("0", 0, &value) == 0 && value == 0);
    assert(wan_parse_u64("18446744073709551615", UINT64_MAX, &value) == 0);
    assert(value == UINT64_MAX);
    assert(wan_parse_u64("18446744073709551616", UINT64_MAX, &value) ==
           -EINVAL);
    assert(wan_parse_u64("10", 9, &value) == -EINVAL);
    assert(wan_parse_u64("7", 5, &value) == -EINVAL);
    assert(wan_parse_u64("", 9, &value) == -EINVAL);
    assert(wan_parse_u64("-1", 9, &value) == -EINVAL);
    assert(wan_parse_u64("1x", 9, &value) == -EINVAL);
    assert(value == UINT64_MAX);
}

int main(void)
{
    test_taken();
    test_refused();
    test_integers();
    return 0;
}
