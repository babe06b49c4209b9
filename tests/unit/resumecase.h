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
DwcpSourceOptions resume_source_options(bool keyed);
DwcpTargetOptions resume_target_options(bool keyed);

typedef struct ResumeCase {
    End source, target;
    Breaker *breaker;
} ResumeCase;

/* case_make: both ends and the breaker, not connected */
void case_make(ResumeCase *c, DwcpSourceOptions for_source,
               DwcpTargetOptions for_target);
/* case_up: connected, with @pages on both sides and channel 0 taken */
void case_up(ResumeCase *c, uint64_t pages);
/* case_new: both of it, with the options above */
void case_new(ResumeCase *c, uint64_t pages, bool keyed, int level);
void case_free(ResumeCase *c);

#endif
