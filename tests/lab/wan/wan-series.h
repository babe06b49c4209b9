/*
 * What the link carried over time, for plots: a text file with a line per
 * 100 ms. The first line names the columns: milliseconds since the start, and
 * wire bytes through the bottleneck in each direction since the line before.
 *
 * Threads: the main thread.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_SERIES_H
#define WAN_SERIES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define WAN_SERIES_STEP_NS 100000000u

typedef struct WanSeries {
    FILE *file; /* NULL when off */
    uint64_t start_ns;
    uint64_t next_ns;
    uint64_t last_bytes[2];
    bool started; /* the first sample is only a base */
} WanSeries;

/* Starts a new file, which replaces one of that name. Returns 0 or -errno. */
int wan_series_start(WanSeries *series, const char *path)
    __attribute__((warn_unused_result));
void wan_series_stop(WanSeries *series);

/* When to call wan_series_sample(), or UINT64_MAX. */
uint64_t wan_series_deadline_ns(const WanSeries *series);

/* @bytes: counters of both directions since the emulator's start or reset */
void wan_series_sample(WanSeries *series, const uint64_t bytes[2],
                       uint64_t now_ns);

#endif
