/*
 * What kind of path a source has, how many streams it needs and, if its priority
 * is low, how fast it may send, judged from what its connections tell
 *
 * Each stream's thread samples its own connection; stream 0's, when it samples
 * its own, collects what the others have found last and asks the modules of
 * core/.  While stream 0 has no connection nothing is judged.
 *
 * Adding: stream 0's thread starts the threads of streams that never were; those
 * of streams that rest wake up and connect.  Retiring: the feed gives a stream no
 * more frames, what it has is sent and acknowledged, then its thread closes the
 * connection and rests.  The target sees a connection that ends between records
 * with nothing left to acknowledge, which RESUME makes harmless.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/source.h"

#include <assert.h>

#include "io/lane-end.h"

/* Those that stand and are wanted, the oldest first.  Returns: how many are at
 * @infos. */
static unsigned collect(DwcpSource *source,
                        DwcpFlowInfo infos[DWCP_STREAMS_MAX])
{
    DwcpSession *session = &source->session;
    unsigned wanted = atomic_load(&source->feed.streams_wanted);
    const DwcpFlowInfo *info;
    unsigned i, at, count = 0;

    pthread_mutex_lock(&session->lock);
    for (i = 0; i < wanted; i++) {
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
    const DwcpFlowRound *round = &source->count.round;
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
                                 round->limit == DWCP_FLOW_ROOM ||
                                 round->limit == DWCP_FLOW_LOSS,
                         })) {
        atomic_store(&source->mode, source->path.mode);
    }
    atomic_store(&source->feed.raw_fits, dwcp_mode_near(&source->path));
}

static void judge_count(DwcpSource *source, const DwcpFlowInfo *infos,
                        unsigned count, uint64_t now_ns)
{
    DwcpStreamsTick tick = {
        .now_ns = now_ns,
        .infos = infos,
        .count = count,
        .mode = source->path.mode,
    };

    dwcp_feed_pressure(&source->feed, &tick.paced, &tick.backlog);
    /* More streams are no way around the pace. */
    tick.paced |= source->yields && source->ledbat.holds;
    if (dwcp_streams_tick(&source->count, &tick)) {
        dwcp_source_steer_to(source, source->count.wanted);
    }
}

static void judge_pace(DwcpSource *source, const DwcpFlowInfo *infos,
                       unsigned count, uint64_t now_ns)
{
    (void)dwcp_ledbat_tick(&source->ledbat, infos, count,
                           source->path.mode == DWCP_MODE_DATACENTER, now_ns);
    atomic_store(&source->pace, source->ledbat.rate_bytes_per_s);
}

/*
 * The stream's part of what the session may send.  The kernel keeps it, so it
 * holds for what is in the socket already, and packets leave one by one: a
 * token bucket for frames would make each a burst, and a queue.  From END on
 * the guest stands still, and waits for nobody.
 */
static void follow_pace(DwcpSource *source, DwcpStream *stream)
{
    uint64_t pace = atomic_load(&source->pace);

    if (atomic_load(&source->ended_ns)) {
        pace = UINT64_MAX;
    } else {
        pace /= atomic_load(&source->feed.streams_wanted);
    }
    if (pace != stream->pace) {
        stream->pace = pace;
        stream->transport->ops->set_pace(stream->transport, pace);
    }
}

void dwcp_source_sample(DwcpStream *stream, uint64_t now_ns)
{
    DwcpSource *source = dwcp_source_of(stream);
    DwcpSession *session = &source->session;
    DwcpFlowInfo infos[DWCP_STREAMS_MAX];
    DwcpSocketState state;
    unsigned count;

    stream->transport->ops->measure(stream->transport, &state);
    pthread_mutex_lock(&session->lock);
    state.flow.id = stream->flow.id;
    stream->flow = state.flow;
    pthread_mutex_unlock(&session->lock);
    if (stream->index == 0) {
        count = collect(source, infos);
        judge_count(source, infos, count, now_ns);
        judge_mode(source, infos, count, now_ns);
        if (source->yields) {
            judge_pace(source, infos, count, now_ns);
        }
        if (dwcp_source_start_streams(source, NULL) < 0) {
            /* The session goes on with those that there are. */
            dwcp_source_steer_to(source, source->streams_started);
        }
        dwcp_source_rdma_ask(stream);
    }
    if (source->yields) {
        follow_pace(source, stream);
    }
}

void dwcp_source_steer_to(DwcpSource *source, unsigned streams)
{
    assert(streams >= 1 && streams <= DWCP_STREAMS_MAX);
    if (!source->adaptive || !atomic_load(&source->session.resume) ||
        atomic_load(&source->ended_ns)) {
        return;
    }
    dwcp_feed_set_streams(&source->feed, streams);
    dwcp_session_wake(&source->session);
}

bool dwcp_source_wants(DwcpStream *stream)
{
    DwcpFeed *feed = stream->role;

    return stream->index < atomic_load(&feed->streams_wanted);
}

void dwcp_source_steer_init(DwcpSource *source,
                            const DwcpSourceOptions *options)
{
    uint64_t now_ns = dwcp_now_ns();

    dwcp_ledbat_init(&source->ledbat);
    if (source->yields) {
        atomic_store(&source->pace, source->ledbat.rate_bytes_per_s);
    }
    dwcp_mode_init(&source->path, now_ns);
    if (options->mode != DWCP_MODE_MEASURED) {
        dwcp_mode_pin(&source->path, options->mode, now_ns);
    }
    atomic_store(&source->mode, source->path.mode);
    dwcp_streams_init(&source->count,
                      source->adaptive ? DWCP_STREAMS_DEFAULT
                                       : options->streams,
                      !source->adaptive, now_ns);
}
