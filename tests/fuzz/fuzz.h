/*
 * What a fuzz target is: one function that takes bytes and must survive them
 *
 * Linked with libFuzzer it explores; linked with replay.c it runs the
 * committed corpus, as an ordinary test.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_FUZZ_H
#define DWCP_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* fuzz_require: a property that must hold; ends the process if it does not */
#define fuzz_require(what)                                                     \
    do {                                                                       \
        if (!(what)) {                                                         \
            fuzz_broken(#what, __FILE__, __LINE__);                            \
        }                                                                      \
    } while (0)

static inline void fuzz_broken(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: %s does not hold\n", file, line, what);
    __builtin_trap();
}

#endif
