/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-report.h"

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
