/*
 * A session that may replace its connections, through a breaker
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_RESUMECASE_H
#define DWCP_TESTS_RESUMECASE_H

#include "breaker.h"

/* Pages of a session whose frames are on their way for a while. */
#define LARGE 6000u

/* Four streams; @keyed: PSK, else plain text */
DwcpSourceOptions resume_source_options(const char *port, bool keyed);
DwcpTargetOptions resume_target_options(bool keyed);

typedef struct ResumeCase {
    End source, target;
    Breaker *breaker;
} ResumeCase;

/* case_new: connected, with @pages on both sides and channel 0 taken */
void case_new(ResumeCase *c, uint64_t pages, bool keyed, int level);
void case_free(ResumeCase *c);

DwcpStats case_stats(ResumeCase *c); /* of the source */

/* case_fill: with what does not compress */
struct _GRand;
void case_fill(struct _GRand *rnd, uint8_t *ram, uint64_t pages);

#endif
