/*
 * A HELLO and a WELCOME that are right, for tests that make them wrong
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_TESTS_HELLOKIT_H
#define DWCP_TESTS_HELLOKIT_H

#include "core/hello.h"

#define HELLO_PAGE 4096u

DwcpHello good_hello(void); /* JOIN of stream 3 of 8 */
DwcpWelcome good_welcome(const DwcpHello *hello);

#endif
