/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "steercase.h"

#include <glib.h>
#include <poll.h>

#include "io/source.h"

void steer_case_new(ResumeCase *c, uint64_t pages, SteerHow how)
{
    DwcpSourceOptions for_source = resume_source_options(how.keyed);
    DwcpTargetOptions for_target = resume_target_options(how.keyed);

    for_target.resume_ms_max = how.never ? DWCP_RESUME_NEVER : 0;
    for_source.streams = how.streams;
    for_source.mode = how.mode;
    for_source.priority = how.priority;
    for_source.level = how.level;
    case_make(c, for_source, for_target);
    c->source.source->count.pinned |= !how.steered;
    case_up(c, pages);
}

void steer_await(ResumeCase *c, unsigned streams)
{
    while (end_stats(&c->source).streams != streams) {
        g_assert_cmpint(dwcp_source_error(c->source.source, NULL), ==, 0);
        (void)poll(NULL, 0, 1);
    }
}

void steer_case_begin(ResumeCase *c)
{
    g_assert_cmpint(dwcp_target_begin(c->target.target), ==, 0);
}

void steer_case_finish(ResumeCase *c)
{
    ends_finish(&c->source, &c->target);
}

void steer_put_all(ResumeCase *c)
{
    uint64_t passed = breaker_passed(c->breaker);

    dwcp_source_round(c->source.source);
    g_assert_cmpint(dwcp_source_put(c->source.source, 0, 0, STEER_LARGE), ==, 0);
    dwcp_source_flush(c->source.source);
    while (breaker_passed(c->breaker) < passed + (1u << 20)) {
        (void)poll(NULL, 0, 1);
    }
}
