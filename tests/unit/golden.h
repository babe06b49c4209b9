/*
 * Golden bytes: tests/golden/NAME.hex freezes what goes over the wire
 *
 * DWCP_REGENERATE=1 writes the files anew; the diff is then for people to
 * judge: released bytes never change.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_GOLDEN_H
#define DWCP_TESTS_GOLDEN_H

#include <stddef.h>
#include <stdint.h>

/* golden_check: @bytes are what NAME.hex says; fails the test if not */
void golden_check(const char *name, const uint8_t *bytes, size_t length);

/* golden_load: NAME.hex's bytes, to be freed with g_free */
uint8_t *golden_load(const char *name, size_t *length);

#endif
