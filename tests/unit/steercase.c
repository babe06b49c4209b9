/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "steercase.h"

#include <glib.h>
#include <poll.h>
#include <string.h>

#include "io/source.h"

static const uint8_t psk[] = "sixteen bytes or more";

DwcpStats steer_stats(SteerCase *c)
{
    DwcpStats stats = { .size = sizeof(stats) };

    dwcp_source_stats(c->source.source, &stats);
    return stats;
}

void steer_case_new(SteerCase *c, uint64_t pages, SteerHow how)
{
    DwcpTargetOptions for_target = end_target_options();
    DwcpSourceOptions for_source;
    char target_port[8], port[8];

    for_target.resume_ms_max = how.never ? DWCP_RESUME_NEVER : 0;
    if (how.keyed) {
        for_target.security = DWCP_SECURITY_PSK;
        for_target.keys = (DwcpKeys){ .psk = psk, .psk_bytes = sizeof(psk) };
    }
    end_target(&c->target, &for_target, target_port);
    c->breaker = breaker_new(target_port, port);
    for_source = end_source_options(port);
    for_source.resume_ms_max = 0;
    for_source.security = for_target.security;
    for_source.keys = for_target.keys;
    for_source.streams = how.streams;
    for_source.mode = how.mode;
    for_source.priority = how.priority;
    for_source.level = how.level;
    end_source(&c->source, &for_source);
    c->source.source->count.pinned |= !how.steered;
    end_ram(&c->source, pages);
    end_ram(&c->target, pages);
    end_connect(&c->source);
    end_wait_connected(&c->source);
    end_wait_connected(&c->target);
    end_take(&c->source);
    end_take(&c->target);
}

void steer_case_free(SteerCase *c)
{
    end_free(&c->source);
    end_free(&c->target);
    breaker_free(c->breaker);
}

void steer_await(SteerCase *c, unsigned streams)
{
    while (steer_stats(c).streams != streams) {
        g_assert_cmpint(dwcp_source_error(c->source.source, NULL), ==, 0);
        (void)poll(NULL, 0, 1);
    }
}

void steer_case_begin(SteerCase *c)
{
    g_assert_cmpint(dwcp_target_begin(c->target.target), ==, 0);
}

void steer_case_finish(SteerCase *c)
{
    ends_finish(&c->source, &c->target);
}

void steer_fill(GRand *rnd, uint8_t *ram, uint64_t pages)
{
    uint64_t i;

    for (i = 0; i < pages * PAGE; i += 4) {
        guint32 word = g_rand_int(rnd);

        memcpy(ram + i, &word, 4);
    }
}

void steer_put_all(SteerCase *c)
{
    uint64_t passed = breaker_passed(c->breaker);

    dwcp_source_round(c->source.source);
    g_assert_cmpint(dwcp_source_put(c->source.source, 0, 0, STEER_LARGE), ==, 0);
    dwcp_source_flush(c->source.source);
    while (breaker_passed(c->breaker) < passed + (1u << 20)) {
        (void)poll(NULL, 0, 1);
    }
}
