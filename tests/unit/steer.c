/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "steer.h"

#include <glib.h>

#define TICK_S 0.02

Fluid steer_path(double mbit, double rtt_s, double queue_s, double loss,
                 uint64_t seed)
{
    return (Fluid){
        .capacity = mbit * MBIT,
        .rtt_s = rtt_s,
        .queue_max = mbit * MBIT * queue_s,
        .loss = loss,
        .seed = seed * 0x9e3779b97f4a7c15ull,
    };
}

double steer_held(Fluid fluid, unsigned count)
{
    double before;

    fluid_join(&fluid, count);
    fluid_run(&fluid, 10 + 20 * fluid.rtt_s);
    before = fluid_acked(&fluid);
    fluid_run(&fluid, 30);
    return (fluid_acked(&fluid) - before) / 30;
}

void steer_begin(Steer *steer, Fluid fluid, DwcpMode mode, unsigned streams)
{
    *steer = (Steer){ .fluid = fluid, .mode = mode, .most = streams };
    dwcp_streams_init(&steer->streams, streams, false, 1);
    fluid_join(&steer->fluid, streams);
}

double steer_run(Steer *steer, double time_s)
{
    const double end_s = steer->fluid.now_s + time_s;
    DwcpFlowInfo infos[DWCP_STREAMS_MAX];
    double before, acked = 0;

    while (steer->fluid.now_s < end_s - 1e-9) {
        DwcpStreamsTick tick = {
            .infos = infos,
            .mode = steer->mode,
            .paced = steer->paced,
            .backlog = steer->backlog,
        };

        before = fluid_acked(&steer->fluid);
        fluid_run(&steer->fluid, TICK_S);
        acked += fluid_acked(&steer->fluid) - before;
        tick.count = fluid_infos(&steer->fluid, infos);
        tick.now_ns = 1 + (uint64_t)(steer->fluid.now_s * 1e9);
        if (dwcp_streams_tick(&steer->streams, &tick)) {
            if (g_getenv("DWCP_TEST_SHOW")) {
                g_test_message("%.2f s: %u streams: %s (%.0f Mbit/s)",
                               steer->fluid.now_s, steer->streams.wanted,
                               dwcp_streams_reason_text(steer->streams.reason),
                               steer->streams.average / MBIT);
            }
            steer->most = MAX(steer->most, steer->streams.wanted);
            if (!steer->deaf) {
                fluid_leave(&steer->fluid, steer->streams.wanted);
                fluid_join(&steer->fluid, steer->streams.wanted);
            }
        }
    }
    return acked / time_s;
}
