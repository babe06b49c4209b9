/*
 * Faults on demand: what core/faultspec.h describes, put on a session's
 * connections
 *
 * A filter is a transport that holds the one below it.  Each rule that is for a
 * connection puts one on it, the first rule's next to the socket, once the
 * handshake is done; of a keyed session that is where bytes are encrypted.  A
 * filter that keeps something back lowers what its `poll` is given, so the
 * stream's loop comes back in time.
 *
 * For tests, and for what ./run build makes (docs/HACKING.md): a library that is
 * built without the option `faults` does not have this.
 *
 * Threads: a filter is its stream's; what rules count in a session is atomic.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_FAULT_H
#define DWCP_IO_FAULT_H

#include "core/faultspec.h"
#include "io/session.h"

/*
 * dwcp_faults_set: all of the session's connections from now on
 *
 * @text: as core/faultspec.h; once in a session, and before it connects or
 *        listens
 *
 * Returns: 0; -EINVAL the text is no good, or names records and the session is
 * encrypted; -ENOMEM.
 */
int dwcp_faults_set(DwcpSession *session, const char *text,
                    DwcpError *err) DWCP_CHECKED;

/* dwcp_faults_set_from_environment: DWCP_FAULTS, if that is set; the same */
int dwcp_faults_set_from_environment(DwcpSession *session,
                                     DwcpError *err) DWCP_CHECKED;

/* dwcp_faults_hits: connections that rule @rule, from 0, has acted on; any
 * thread */
unsigned dwcp_faults_hits(const DwcpSession *session, unsigned rule);

#endif
