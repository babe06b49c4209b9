/*
 * A session whose number of streams the test changes, through a breaker
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_STEERCASE_H
#define DWCP_TESTS_STEERCASE_H

#include "resumecase.h"

/* Pages of a session whose frames are on their way for a while. */
#define STEER_LARGE 4000u

/* How a case differs from a plain session whose count is the test's alone. */
typedef struct SteerHow {
    unsigned streams;
    DwcpMode mode;
    int level;
    DwcpPriority priority;
    bool keyed, never; /* never: the target does not know RESUME */
    bool steered;      /* the controller has its say */
} SteerHow;

/* steer_case_new: connected, with @pages on both sides and channel 0 taken */
void steer_case_new(ResumeCase *c, uint64_t pages, SteerHow how);
void steer_case_begin(ResumeCase *c);
void steer_case_finish(ResumeCase *c); /* and the memory is the same */

void steer_await(ResumeCase *c, unsigned streams);

/* steer_put_all: hands over all pages again, and waits until some of them are on
 * their way */
void steer_put_all(ResumeCase *c);

#endif
