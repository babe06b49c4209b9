/*
 * The target's records about RDMA
 *
 * Threads: stream 0's.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include <errno.h>

#include "core/fail.h"
#include "io/lane-end.h"
#include "io/rdma.h"

static int record_ask(DwcpStream *stream, DwcpError *err)
{
    DwcpTarget *target = stream->role;
    DwcpSession *session = &target->session;
    DwcpError why;

    if (session->lane.asked) {
        return dwcp_fail(err, -EPROTO, "RDMA_ASK for the second time");
    }
    session->lane.asked = true;
    if (dwcp_lane_target_start(target, stream->tcp.fd, &why) < 0) {
        dwcp_rdma_set(session, DWCP_RDMA_UNUSED, "%s", why.text);
        dwcp_lane_say_down(session, 0, why.text);
    }
    return 0;
}

int dwcp_target_rdma_record(DwcpStream *stream, const DwcpRecord *record,
                            const uint8_t *body, DwcpError *err)
{
    DwcpSession *session = stream->session;

    if (!atomic_load(&session->rdma_agreed) ||
        (record->type == DWCP_RECORD_RDMA_DOWN && !session->lane.asked)) {
        return dwcp_fail(err, -EPROTO, "record type %u and no RDMA was agreed on",
                         (unsigned)record->type);
    }
    return record->type == DWCP_RECORD_RDMA_ASK
               ? record_ask(stream, err)
               : dwcp_lane_heard_down(stream, record, body, err);
}
