/*
 * Modelled flows (fluid.h) whose count core/streams steers, for tests
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_STEER_H
#define DWCP_TESTS_STEER_H

#include "core/streams.h"
#include "fluid.h"

#define MBIT 125e3 /* bytes/s */

typedef struct Steer {
    DwcpStreams streams;
    Fluid fluid;
    DwcpMode mode;
    bool paced, backlog;
    bool deaf;     /* nothing that is asked for is done */
    unsigned most; /* streams, ever */
} Steer;

/* steer_path: a bottleneck without flows; @queue_s in seconds of its rate */
Fluid steer_path(double mbit, double rtt_s, double queue_s, double loss,
                 uint64_t seed);

/* steer_held: bytes/s that @count flows hold for half a minute, after ten
 * seconds and 20 RTT */
double steer_held(Fluid fluid, unsigned count);

/* steer_begin: with @streams flows */
void steer_begin(Steer *steer, Fluid fluid, DwcpMode mode, unsigned streams);

/* steer_run: let @time_s pass; DWCP_TEST_SHOW in the environment shows each
 * change.  Returns: bytes/s */
double steer_run(Steer *steer, double time_s);

#endif
