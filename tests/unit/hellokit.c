/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "hellokit.h"

#include <glib.h>
#include <string.h>

DwcpHello good_hello(void)
{
    DwcpHello hello = {
        .version = 1,
        .version_min = 1,
        .features = DWCP_PROFILE_V1,
        .required = DWCP_PROFILE_V1 & ~DWCP_FEATURE_ZSTD,
        .security = DWCP_SECURITY_NONE,
        .kind = DWCP_HELLO_JOIN,
        .stream = 3,
        .streams = 8,
        .page_size = HELLO_PAGE,
    };
    unsigned i;

    for (i = 0; i < DWCP_SESSION_BYTES; i++) {
        hello.session[i] = (uint8_t)(0x60 + i);
    }
    for (i = 0; i < DWCP_RANDOM_BYTES; i++) {
        hello.random[i] = (uint8_t)(0x80 + i);
    }
    return hello;
}

DwcpWelcome good_welcome(const DwcpHello *hello)
{
    DwcpWelcome welcome;

    g_assert_cmpint(dwcp_hello_judge(hello, DWCP_SECURITY_NONE, DWCP_PROFILE_V1, HELLO_PAGE,
                                     &welcome),
                    ==, DWCP_REFUSAL_NONE);
    memcpy(welcome.session, hello->session, DWCP_SESSION_BYTES);
    memset(welcome.random, 0xc3, DWCP_RANDOM_BYTES);
    return welcome;
}
