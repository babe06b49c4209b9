/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wan-series.h"

#include <errno.h>
#include <inttypes.h>

int wan_series_start(WanSeries *series, const char *path)
{
    FILE *file = fopen(path, "we");

    if (!file) {
        return -errno;
    }
    wan_series_stop(series);
    series->file = file;
    series->started = false;
    series->next_ns = 0;
    (void)fprintf(file, "ms ab_bytes ba_bytes\n");
    return 0;
}

void wan_series_stop(WanSeries *series)
{
    if (series->file) {
        (void)fclose(series->file); /* a plot's data: nothing to be done */
        series->file = NULL;
    }
}

uint64_t wan_series_deadline_ns(const WanSeries *series)
{
    return series->file ? series->next_ns : UINT64_MAX;
}

/* The bytes since the last sample; a counter that was reset starts anew. */
static uint64_t since(uint64_t now, uint64_t last)
{
    return now >= last ? now - last : now;
}

void wan_series_sample(WanSeries *series, const uint64_t bytes[2],
                       uint64_t now_ns)
{
    if (!series->file || now_ns < series->next_ns) {
        return;
    }
    if (!series->started) {
        series->started = true;
        series->start_ns = now_ns;
        series->next_ns = now_ns;
    } else {
        (void)fprintf(series->file, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                      (now_ns - series->start_ns) / 1000000,
                      since(bytes[0], series->last_bytes[0]),
                      since(bytes[1], series->last_bytes[1]));
        (void)fflush(series->file);
    }
    series->last_bytes[0] = bytes[0];
    series->last_bytes[1] = bytes[1];
    while (series->next_ns <= now_ns) {
        series->next_ns += WAN_SERIES_STEP_NS;
    }
}
