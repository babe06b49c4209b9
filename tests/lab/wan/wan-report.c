/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-report.h"
#include "wan-kill.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

typedef struct Text {
    char *out;
    size_t bytes;
    size_t used;
} Text;

static void __attribute__((format(printf, 2, 3)))
add(Text *text, const char *format, ...)
{
    va_list arguments;
    int wanted;

    va_start(arguments, format);
    wanted = vsnprintf(text->out + text->used, text->bytes - text->used, format,
                       arguments);
    va_end(arguments);
    if (wanted > 0) {
        text->used += (size_t)wanted;
    }
    if (text->used >= text->bytes) {
        text->used = text->bytes - 1;
    }
}

static void add_config(Text *text, const WanLinkConfig *config)
{
    const WanLossConfig *loss = &config->loss;

    add(text,
        "\"config\":{\"rate_bits_per_s\":%" PRIu64 ",\"delay_ns\":%" PRIu64
        ",\"jitter_ns\":%" PRIu64 ",\"queue_bytes\":%" PRIu64
        ",\"queue_ns\":%" PRIu64 ",\"loss\":%g,\"burst\":%g,"
        "\"burst_packets\":%g,\"burst_density\":%g,\"reorder\":%g}",
        config->rate_bits_per_s, config->delay_ns, config->jitter_ns,
        config->queue_bytes, config->queue_ns, loss->random, loss->burst,
        loss->burst_packets, loss->burst_density, config->reorder);
}

static void add_count(Text *text, const char *name, const WanCount *counter)
{
    add(text, ",\"%s\":{\"packets\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", name,
        counter->packets, counter->bytes);
}

static void add_direction(Text *text, const WanLink *link,
                          uint64_t write_errors)
{
    const WanCounters *counters = &link->counters;

    add_config(text, &link->config);
    add(text, ",\"cut\":%s", link->cut ? "true" : "false");
    add_count(text, "offered", &counters->offered);
    add_count(text, "queue_drops", &counters->queue_drops);
    add_count(text, "cut_drops", &counters->cut_drops);
    add_count(text, "killed_drops", &counters->killed_drops);
    add_count(text, "buffer_drops", &counters->buffer_drops);
    add_count(text, "bad_frames", &counters->bad_frames);
    add_count(text, "sent", &counters->sent);
    add_count(text, "lost", &counters->lost);
    add_count(text, "delivered", &counters->delivered);
    add_count(text, "first", &link->flows.first);
    add_count(text, "again", &link->flows.again);
    add(text,
        ",\"queue_bytes\":%" PRIu64 ",\"queue_high_bytes\":%" PRIu64
        ",\"write_errors\":%" PRIu64,
        link->queued_bytes, counters->queue_high_bytes, write_errors);
}

void wan_report(Wan *wan, char *out, size_t bytes)
{
    static const char *const names[WAN_DIRECTIONS] = {"ab", "ba"};
    Text text = {out, bytes, 0};
    int d;

    add(&text, "{\"now_ns\":%" PRIu64, wan_now_ns());
    for (d = 0; d < WAN_DIRECTIONS; d++) {
        WanPump *pump = &wan->pumps[d];

        add(&text, ",\"%s\":{", names[d]);
        wan_pump_lock(pump);
        add_direction(&text, &pump->link, pump->write_errors);
        wan_pump_unlock(pump);
        add(&text, "}");
    }
    add(&text, "}");
}

static void add_end(Text *text, const char *name, const WanTcpKey *key,
                    const uint8_t *address, uint16_t port)
{
    char words[INET6_ADDRSTRLEN] = "";

    (void)inet_ntop(key->version == 6 ? AF_INET6 : AF_INET, address, words,
                    sizeof(words));
    add(text, ",\"%s\":[\"%s\",%u]", name, words, ntohs(port));
}

static void add_flow(Text *text, const char *name, const WanFlow *flow)
{
    add(text, ",\"%s\":{\"first\":%" PRIu64 ",\"again\":%" PRIu64 "}", name,
        flow ? flow->first.bytes : 0, flow ? flow->again.bytes : 0);
}

static void add_pair(Text *text, const WanPair *pair)
{
    static const char *const fates[] = {"none", "drop", "reset"};
    const WanTcpKey *key = &pair->ab->key;

    add(text, "{\"number\":%" PRIu32 ",\"open\":%s,\"fate\":\"%s\"",
        pair->ab->number, wan_pair_is_open(pair) ? "true" : "false",
        fates[pair->ab->fate]);
    add_end(text, "a", key, key->source, key->source_port);
    add_end(text, "b", key, key->target, key->target_port);
    add_flow(text, "ab", pair->ab);
    add_flow(text, "ba", pair->ba);
    add(text, "}");
}

void wan_report_flows(Wan *wan, uint16_t port, char *out, size_t bytes)
{
    Text text = {out, bytes, 0};
    WanPair pair = {NULL, NULL};
    uint32_t count = 0, skip;

    wan_pump_lock(&wan->pumps[WAN_AB]);
    wan_pump_lock(&wan->pumps[WAN_BA]);
    while ((pair = wan_pair_next(wan, pair, port)).ab) {
        count++;
    }
    skip = count > WAN_LIST_MAX ? count - WAN_LIST_MAX : 0;
    add(&text, "{\"older\":%" PRIu32 ",\"flows\":[", skip);
    for (count = 0; (pair = wan_pair_next(wan, pair, port)).ab; count++) {
        if (count >= skip) {
            add(&text, count > skip ? "," : "");
            add_pair(&text, &pair);
        }
    }
    add(&text, "]}");
    wan_pump_unlock(&wan->pumps[WAN_BA]);
    wan_pump_unlock(&wan->pumps[WAN_AB]);
}
