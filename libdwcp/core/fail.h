/*
 * Filling in a DwcpError: one printf-like call that returns the code
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_FAIL_H
#define DWCP_CORE_FAIL_H

#include "dwcp/dwcp.h"

/*
 * dwcp_fail: set @err (may be NULL) and return @code
 *
 * @code: negative errno
 */
int dwcp_fail(DwcpError *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
