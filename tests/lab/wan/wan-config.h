/*
 * What can be set about a link, as text: the command line and the control
 * socket share these names and units.
 *
 *   rate MBIT          per second; 0 is unlimited
 *   rtt MS             sets the delay to half of it
 *   delay MS           one way
 *   jitter MS          delay varies evenly by up to this, up and down; a frame
 *                      also waits for the one before it, so that close together
 *                      they come nearer to the longest delay
 *   loss PERCENT       random, each packet by itself
 *   burst PERCENT,PACKETS[,DENSITY]   mean loss, in bursts of that mean
 *                      length, in which DENSITY percent (100) are lost; or 0
 *   reorder PERCENT    of frames that overtake the one before
 *   queue SIZE         50ms, 256kB, 1500B; 0 is unlimited
 *
 * Threads: no state, any thread.
 */
/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WAN_CONFIG_H
#define WAN_CONFIG_H

#include "wan-link.h"

#include <stdint.h>

#define WAN_RATE_MAX_MBIT 100000.0
#define WAN_DELAY_MAX_MS 10000.0

/* 1 Gbit/s, no delay, no loss, a queue of 100 ms. */
void wan_config_init(WanLinkConfig *config);

/*
 * Sets one item.
 *
 * @error: receives a text without a newline, static memory, on failure
 *
 * Returns: 0, or -EINVAL with *config unchanged.
 */
int wan_config_set(WanLinkConfig *config, const char *name, const char *value,
                   const char **error) __attribute__((warn_unused_result));

/* Parses an integer of decimal digits, at most @max. Returns 0 or -EINVAL. */
int wan_parse_u64(const char *text, uint64_t max, uint64_t *out)
    __attribute__((warn_unused_result));

#endif
