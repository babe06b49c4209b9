/*
 * The two halves of a stream's turn, for stream.c alone
 *
 * Threads: the stream's own.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_IO_STREAM_TURN_H
#define DWCP_IO_STREAM_TURN_H

#include "io/stream.h"

/* Bytes that are read beyond the record that is being read: what has to be
 * moved to the front of the buffer later. */
#define DWCP_READ_AHEAD (64u << 10)

/* dwcp_stream_error: "stream N: @what: strerror(@code)"; Returns: -@code */
int dwcp_stream_error(DwcpStream *stream, const char *what, int code,
                      DwcpError *err);

/*
 * dwcp_stream_output: send until the socket is full or nothing is left
 *
 * Sets want_out and wait_ns.  Returns: 0 or an error.
 */
int dwcp_stream_output(DwcpStream *stream, DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_stream_output_once: one sendmsg()
 *
 * @frames: pull a new frame if there is none
 *
 * Returns: 1 something went out, 0 nothing to send or the socket is full
 * (want_out), or an error.
 */
int dwcp_stream_output_once(DwcpStream *stream, bool frames,
                            DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_stream_input: read what has come and hand on whole records
 *
 * Returns: 0; 1 the peer closed, or the session ended; or an error.
 */
int dwcp_stream_input(DwcpStream *stream, DwcpError *err) DWCP_CHECKED;

#endif
