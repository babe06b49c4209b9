/*
 * Control records on their way to a stream's thread
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/stream.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "core/fail.h"
#include "io/pump.h"

static int queue_locked(DwcpStream *stream, DwcpRecordType type,
                        const void *first, uint32_t first_length,
                        const void *second, uint32_t second_length)
{
    uint32_t length = first_length + second_length;
    uint8_t *at;
    int rc = -ENOBUFS;

    if (DWCP_CONTROL_QUEUE_MAX - stream->out_end >=
        length + DWCP_RECORD_HEADER) {
        at = stream->out + stream->out_end;
        dwcp_record_encode(at, type, length);
        at += DWCP_RECORD_HEADER;
        if (first_length) {
            memcpy(at, first, first_length);
        }
        if (second_length) {
            memcpy(at + first_length, second, second_length);
        }
        stream->out_end += length + DWCP_RECORD_HEADER;
        rc = 0;
    }
    return rc;
}

int dwcp_stream_queue(DwcpStream *stream, DwcpRecordType type,
                      const void *first, uint32_t first_length,
                      const void *second, uint32_t second_length)
{
    int rc;

    pthread_mutex_lock(&stream->out_lock);
    rc = queue_locked(stream, type, first, first_length, second,
                      second_length);
    pthread_mutex_unlock(&stream->out_lock);
    return rc;
}

/*
 * RESUME goes before all else.  What others have queued while no connection
 * stood is dropped: `resumed` says again what the phase asks for.
 */
static void queue_resume(DwcpStream *stream, const DwcpResume *resume)
{
    uint8_t body[DWCP_RESUME_BODY];

    dwcp_resume_encode(body, resume);
    pthread_mutex_lock(&stream->out_lock);
    stream->out_end = 0;
    (void)!queue_locked(stream, DWCP_RECORD_RESUME, body, sizeof(body), NULL,
                        0);
    pthread_mutex_unlock(&stream->out_lock);
}

int dwcp_stream_take_pump(DwcpStream *stream, DwcpError *err)
{
    DwcpSession *session = stream->session;
    DwcpResume resume;

    if (!session->pump) {
        if (!dwcp_pump_new(session)) {
            return dwcp_fail(err, -ENOMEM, "no memory or descriptor for a "
                                           "byte channel");
        }
        atomic_fetch_add(&session->memory_bytes, dwcp_pump_bytes());
    }
    stream->pump = session->pump;
    dwcp_pump_attach(stream->pump, stream, stream->again ? &resume : NULL);
    if (stream->again) {
        queue_resume(stream, &resume);
    }
    return 0;
}

int dwcp_stream_queue_u64(DwcpStream *stream, DwcpRecordType type,
                          uint64_t value)
{
    uint8_t body[8];

    dwcp_put_le64(body, value);
    return dwcp_stream_queue(stream, type, body, sizeof(body), NULL, 0);
}

bool dwcp_stream_queue_busy(DwcpStream *stream)
{
    bool busy;

    pthread_mutex_lock(&stream->out_lock);
    busy = stream->out_end > DWCP_CONTROL_QUEUE_MAX / 4;
    pthread_mutex_unlock(&stream->out_lock);
    return busy;
}
