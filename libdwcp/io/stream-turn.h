/*
 * The parts of a stream's turn, for the stream's own files alone
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

/* dwcp_stream_error: the connection is broken: "stream N: @what:
 * strerror(@code)"; Returns: -@code */
int dwcp_stream_error(DwcpStream *stream, const char *what, int code,
                      DwcpError *err);

/* dwcp_stream_wake_clear: wake-ups so far are heard; what was held is tried */
void dwcp_stream_wake_clear(DwcpStream *stream);

/*
 * dwcp_stream_ended: the loop has, with an error unless it was time; says why
 * to the peer, if the session has failed of something that is ours to tell
 *
 * Returns: whether the session goes on without this connection.
 */
bool dwcp_stream_ended(DwcpStream *stream, int rc, DwcpError *err);

/*
 * dwcp_stream_output: send until the socket is full or nothing is left
 *
 * Sets want_out and wait_ns.  Returns: 0 or an error.
 */
int dwcp_stream_output(DwcpStream *stream, DwcpError *err) DWCP_CHECKED;

/*
 * dwcp_stream_output_once: one send
 *
 * @frames: pull a new frame if there is none; else only one that has begun goes
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

/* ---- stream-seal.c: of a keyed stream ---- */

/* dwcp_sealed_new: buffers; *@bytes as the session counts them; NULL: out of
 * memory */
DwcpSealed *dwcp_sealed_new(bool source, size_t *bytes);
void dwcp_sealed_free(DwcpSealed *sealed);

/*
 * dwcp_sealed_fill: encrypt as much of @parts as the empty buffer holds
 *
 * @parts: changed
 * @taken: plain bytes off their front
 *
 * Returns: 0 or -EIO.
 */
int dwcp_sealed_fill(DwcpStream *stream, struct iovec *parts, int count,
                     size_t *taken, DwcpError *err) DWCP_CHECKED;

/* dwcp_sealed_waits: is something encrypted and not sent? */
bool dwcp_sealed_waits(const DwcpStream *stream);

/* dwcp_sealed_send, dwcp_sealed_receive: as a transport's */
ssize_t dwcp_sealed_send(DwcpStream *stream);
ssize_t dwcp_sealed_receive(DwcpStream *stream);

/*
 * dwcp_sealed_open: decrypt the next segment into stream->in
 *
 * Returns: 1; 0 none has come whole, or it finds no room; or -EBADMSG.
 */
int dwcp_sealed_open(DwcpStream *stream, DwcpError *err) DWCP_CHECKED;

#endif
