/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/fail.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

int dwcp_fail(DwcpError *err, int code, const char *format, ...)
{
    va_list ap;

    assert(code < 0);
    if (err) {
        err->code = code;
        va_start(ap, format);
        vsnprintf(err->text, sizeof(err->text), format, ap);
        va_end(ap);
    }
    return code;
}
