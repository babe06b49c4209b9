/*
 * A whole move, each end driven by a thread that takes failure as it comes
 *
 * For tests that break a session from outside at some moment: whatever
 * happens, move_end() checks what must hold of the two ends afterwards.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_MOVE_H
#define DWCP_TESTS_MOVE_H

#include <stdatomic.h>

#include "kit.h"

/* How far a move has come; each is reached by the end named. */
typedef enum MoveStep {
    MOVE_STARTED,
    MOVE_CONNECTED, /* source */
    MOVE_PUT,       /* source: all pages are handed over once */
    MOVE_ENDED,     /* source */
    MOVE_COMPLETE,  /* target */
    MOVE_READY,     /* target: ready() has returned */
    MOVE_FINISHED,  /* source: finish() has returned */
    MOVE_STEPS,
} MoveStep;

typedef struct Move {
    End source, target;
    char port[8]; /* of the target */
    struct _GThread *source_thread, *target_thread, *watcher;
    atomic_int step; /* MoveStep */
    atomic_bool source_done;
    atomic_bool stop; /* the watcher */
    bool finish_called;
    int finish_rc; /* valid once finish_called */
} Move;

#define MOVE_PAGES 300u

/* move_new: both ends, the target listening, nothing started */
void move_new(Move *move, const DwcpTargetOptions *target_options);

/* move_start: connect to @port (the target's, or a relay's) and go */
void move_start(Move *move, const DwcpSourceOptions *source_options,
                const char *port);

/* move_wait: until @step is reached or the source's driver has ended */
void move_wait(Move *move, MoveStep step);

/* move_run: start the drivers of two ends that have MOVE_PAGES of RAM each;
 * the caller connects them */
void move_run(Move *move);

typedef struct MoveOutcome {
    bool gone; /* the source may not run */
    bool go;   /* the target may run */
} MoveOutcome;

/*
 * move_end: wait for both ends and check
 *
 * Checks that never both may run, that gone() did not revert, that finish()
 * agrees with it, that a target that may run has the source's memory, and
 * that neither end reported more than one error.
 */
MoveOutcome move_end(Move *move);

/* move_free: once nothing else uses the two ends */
void move_free(Move *move);

#endif
