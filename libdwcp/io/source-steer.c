/*
 * What kind of path a source has, judged from what its connections tell
 *
 * Each stream's thread samples its own connection; stream 0's, when it samples
 * its own, collects what the others have found last and asks the modules of
 * core/.  While stream 0 has no connection nothing is judged.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/source.h"

/* Those that stand, the oldest first.  Returns: how many are at @infos. */
static unsigned collect(DwcpSession *session,
                        DwcpFlowInfo infos[DWCP_STREAMS_MAX])
{
    const DwcpFlowInfo *info;
    unsigned i, at, count = 0;

    pthread_mutex_lock(&session->lock);
    for (i = 0; i < DWCP_STREAMS_MAX; i++) {
        if (!session->streams[i]) {
            continue;
        }
        info = &session->streams[i]->flow;
        for (at = count++; at && infos[at - 1].id > info->id; at--) {
            infos[at] = infos[at - 1];
        }
        infos[at] = *info;
    }
    pthread_mutex_unlock(&session->lock);
    return count;
}

static void judge_mode(DwcpSource *source, const DwcpFlowInfo *infos,
                       unsigned count, uint64_t now_ns)
{
    const DwcpFlowRound *round = &source->round;
    uint32_t min_rtt_us = dwcp_flows_min_rtt_us(infos, count);

    if (dwcp_mode_sample(&source->path,
                         &(DwcpModeSample){
                             .now_ns = now_ns,
                             .rtt_us = dwcp_flows_rtt_us(infos, count),
                             .min_rtt_us =
                                 min_rtt_us == UINT32_MAX ? 0 : min_rtt_us,
                             .rate_bytes_per_s = round->rate_bytes_per_s,
                             .network_limited =
                                 round->limit == DWCP_FLOW_NETWORK ||
                                 round->limit == DWCP_FLOW_LOSS,
                         })) {
        atomic_store(&source->mode, source->path.mode);
    }
}

void dwcp_source_sample(DwcpStream *stream, uint64_t now_ns)
{
    DwcpSource *source = dwcp_source_of(stream);
    DwcpSession *session = &source->session;
    DwcpFlowInfo infos[DWCP_STREAMS_MAX];
    DwcpSocketState state;
    unsigned count;

    dwcp_socket_measure(stream->fd, &state);
    pthread_mutex_lock(&session->lock);
    state.flow.id = stream->flow.id;
    stream->flow = state.flow;
    pthread_mutex_unlock(&session->lock);
    if (stream->index == 0) {
        count = collect(session, infos);
        (void)dwcp_flows_tick(&source->flows, infos, count, now_ns,
                              &source->round);
        judge_mode(source, infos, count, now_ns);
    }
}

void dwcp_source_steer_init(DwcpSource *source, DwcpMode mode)
{
    uint64_t now_ns = dwcp_now_ns();

    dwcp_mode_init(&source->path, now_ns);
    if (mode != DWCP_MODE_MEASURED) {
        dwcp_mode_pin(&source->path, mode, now_ns);
    }
    atomic_store(&source->mode, source->path.mode);
    dwcp_flows_init(&source->flows);
}
