/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "resumecase.h"

static const uint8_t psk[] = "sixteen bytes or more";
static const DwcpKeys keys = { .psk = psk, .psk_bytes = sizeof(psk) };

DwcpSourceOptions resume_source_options(bool keyed)
{
    DwcpSourceOptions options = end_source_options(NULL);

    options.resume_ms_max = 0;
    options.streams = 4;
    if (keyed) {
        options.security = DWCP_SECURITY_PSK;
        options.keys = keys;
    }
    return options;
}

DwcpTargetOptions resume_target_options(bool keyed)
{
    DwcpTargetOptions options = end_target_options();

    options.resume_ms_max = 0;
    if (keyed) {
        options.security = DWCP_SECURITY_PSK;
        options.keys = keys;
    }
    return options;
}

void case_make(ResumeCase *c, DwcpSourceOptions for_source,
               DwcpTargetOptions for_target)
{
    char target_port[8], port[8];

    end_target(&c->target, &for_target, target_port);
    c->breaker = breaker_new(target_port, port);
    for_source.port = port;
    end_source(&c->source, &for_source);
}

void case_up(ResumeCase *c, uint64_t pages)
{
    ends_up(&c->source, &c->target, pages);
    end_take(&c->source);
    end_take(&c->target);
}

void case_new(ResumeCase *c, uint64_t pages, bool keyed, int level)
{
    DwcpSourceOptions for_source = resume_source_options(keyed);

    for_source.level = level;
    case_make(c, for_source, resume_target_options(keyed));
    case_up(c, pages);
}

void case_free(ResumeCase *c)
{
    end_free(&c->source);
    end_free(&c->target);
    breaker_free(c->breaker);
}
