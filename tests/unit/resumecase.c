/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <glib.h>
#include <string.h>

#include "resumecase.h"

static const uint8_t psk[] = "sixteen bytes or more";

DwcpSourceOptions resume_source_options(const char *port, bool keyed)
{
    DwcpSourceOptions options = end_source_options(port);

    options.resume_ms_max = 0;
    options.streams = 4;
    if (keyed) {
        options.security = DWCP_SECURITY_PSK;
        options.keys = (DwcpKeys){ .psk = psk, .psk_bytes = sizeof(psk) };
    }
    return options;
}

DwcpTargetOptions resume_target_options(bool keyed)
{
    DwcpTargetOptions options = end_target_options();

    options.resume_ms_max = 0;
    if (keyed) {
        options.security = DWCP_SECURITY_PSK;
        options.keys = (DwcpKeys){ .psk = psk, .psk_bytes = sizeof(psk) };
    }
    return options;
}

void case_new(ResumeCase *c, uint64_t pages, bool keyed, int level)
{
    DwcpTargetOptions for_target = resume_target_options(keyed);
    DwcpSourceOptions for_source;
    char target_port[8], port[8];

    end_target(&c->target, &for_target, target_port);
    c->breaker = breaker_new(target_port, port);
    for_source = resume_source_options(port, keyed);
    for_source.level = level;
    end_source(&c->source, &for_source);
    end_ram(&c->source, pages);
    end_ram(&c->target, pages);
    end_connect(&c->source);
    end_wait_connected(&c->source);
    end_wait_connected(&c->target);
    end_take(&c->source);
    end_take(&c->target);
}

void case_free(ResumeCase *c)
{
    end_free(&c->source);
    end_free(&c->target);
    breaker_free(c->breaker);
}

DwcpStats case_stats(ResumeCase *c)
{
    DwcpStats stats = { .size = sizeof(stats) };

    dwcp_source_stats(c->source.source, &stats);
    return stats;
}

void case_fill(GRand *rnd, uint8_t *ram, uint64_t pages)
{
    uint64_t i;

    for (i = 0; i < pages * PAGE; i += 4) {
        guint32 word = g_rand_int(rnd);

        memcpy(ram + i, &word, 4);
    }
}
