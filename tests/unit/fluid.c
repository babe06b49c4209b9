/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "fluid.h"

#include <glib.h>
#include <math.h>

#define CUBIC_C 0.4
#define CUBIC_BETA 0.7
#define START_WINDOW 10.0

double fluid_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return (double)((*seed * 0x2545f4914f6cdd1dull) >> 11) / 0x1p53;
}

static double rtt_now(const Fluid *fluid)
{
    return fluid->rtt_s + fluid->queue / fluid->capacity;
}

void fluid_join(Fluid *fluid, unsigned count)
{
    g_assert_cmpuint(count, <=, DWCP_STREAMS_MAX);
    while (fluid->count < count) {
        fluid->flows[fluid->count++] = (FluidFlow){
            .id = ++fluid->next_id,
            .kind = fluid->kind,
            .begin_s = fluid->now_s + 2 * rtt_now(fluid),
            .window = START_WINDOW,
            .slow_threshold = 1e18,
            .peer_window = fluid->peer_window,
            .startup = true,
            .srtt_s = rtt_now(fluid),
            .min_rtt_s = rtt_now(fluid),
        };
    }
}

void fluid_leave(Fluid *fluid, unsigned count)
{
    fluid->count = MIN(fluid->count, count);
}

/* What the flow has on its way: its window, or less. */
static double flow_flight(Fluid *fluid, FluidFlow *flow, double rtt_s)
{
    double flight = flow->window * FLUID_MSS, demand = flow->demand * rtt_s;

    flow->idle = flow->held = false;
    if (fluid->now_s < flow->begin_s) {
        return 0;
    }
    if (flow->peer_window && flow->peer_window < flight) {
        flight = flow->peer_window;
        flow->held = true;
    }
    if (flow->demand && demand < flight) {
        flight = demand;
        flow->idle = true;
        flow->held = false;
    }
    return flight;
}

static void cubic_grow(Fluid *fluid, FluidFlow *flow, double dt, double rtt_s)
{
    double t, k, target;

    if (flow->window < flow->slow_threshold) {
        /* HyStart leaves slow start when delay grows, or early. */
        if ((rtt_s - flow->min_rtt_s > MAX(0.004, flow->min_rtt_s / 8) ||
             (fluid->early &&
              fluid->starting > fluid->early * (fluid->capacity * fluid->rtt_s -
                                                fluid->others))) &&
            flow->window > 16) {
            flow->slow_threshold = flow->window;
        }
        flow->window *= exp2(dt / rtt_s);
        return;
    }
    if (flow->epoch_s == 0) {
        flow->epoch_s = fluid->now_s;
        flow->window_max = MAX(flow->window_max, flow->window);
        flow->reno = flow->window;
    }
    t = fluid->now_s - flow->epoch_s + rtt_s;
    k = cbrt(flow->window_max * (1 - CUBIC_BETA) / CUBIC_C);
    target = CUBIC_C * pow(t - k, 3) + flow->window_max;
    flow->reno += 3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA) * dt / rtt_s;
    target = MAX(target, flow->reno);
    if (target > flow->window) { /* at most half more each RTT */
        flow->window = MIN(target, flow->window * (1 + 0.5 * dt / rtt_s));
    }
}

static void cubic_lose(Fluid *fluid, FluidFlow *flow, double rtt_s)
{
    if (fluid->now_s < flow->recover_s) {
        return;
    }
    flow->recover_s = fluid->now_s + rtt_s;
    /* Fast convergence. */
    flow->window_max = flow->window < flow->window_max
                           ? flow->window * (1 + CUBIC_BETA) / 2
                           : flow->window;
    flow->window = MAX(2, flow->window * CUBIC_BETA);
    flow->slow_threshold = flow->window;
    flow->epoch_s = fluid->now_s;
    flow->reno = flow->window;
}

static void bbr_follow(Fluid *fluid, FluidFlow *flow, double dt, double rtt_s)
{
    if (flow->delivered > flow->best * 1.02) {
        flow->plain_s = fluid->now_s;
        flow->best = flow->delivered;
    } else {
        flow->best *= 1 - 0.01 * dt / rtt_s; /* old samples leave */
    }
    if (flow->startup && fluid->now_s - flow->plain_s > 3 * rtt_s &&
        fluid->now_s - flow->begin_s > 4 * rtt_s) {
        flow->startup = false;
    }
    if (flow->startup) {
        flow->window *= exp2(dt / rtt_s);
    }
    if (!flow->startup ||
        flow->window * FLUID_MSS >
            2.9 * flow->best * fluid->rtt_s + 20 * FLUID_MSS) {
        flow->window = MAX(4, (flow->startup ? 2.9 : 1.25) * flow->best *
                                  fluid->rtt_s / FLUID_MSS);
    }
}

static void flow_step(Fluid *fluid, FluidFlow *flow, double flight,
                      double share, double dropped, double dt, double rtt_s)
{
    double segments, lost;

    if (flight <= 0) {
        return;
    }
    flow->delivered = share * (1 - fluid->loss);
    flow->acked += flow->delivered * dt;
    flow->busy_s += dt;
    flow->rwnd_s += flow->held ? dt : 0;
    flow->acks += flow->delivered * dt / FLUID_MSS / 2;
    flow->srtt_s +=
        (rtt_s - flow->srtt_s) *
        (fluid->per_ack ? 1 - pow(7.0 / 8, flow->delivered * dt / FLUID_MSS / 2)
                        : MIN(1, dt / rtt_s * 4));
    flow->min_rtt_s = MIN(flow->min_rtt_s, rtt_s);
    segments = share * dt / FLUID_MSS;
    lost = segments * fluid->loss + dropped / FLUID_MSS;
    flow->retrans += lost;
    if (flow->kind == FLUID_BBR) {
        bbr_follow(fluid, flow, dt, rtt_s);
        return;
    }
    if (fluid_random(&fluid->seed) < 1 - exp(-lost * FLUID_BURST)) {
        cubic_lose(fluid, flow, rtt_s);
    } else if (!flow->idle && !flow->held) {
        cubic_grow(fluid, flow, dt, rtt_s);
    }
}

static void step(Fluid *fluid, double dt)
{
    double flights[DWCP_STREAMS_MAX] = { 0 }, rtt_s = rtt_now(fluid), total = 0;
    double offered, served, dropped;
    unsigned i, begun = 0;

    for (i = 0; i < fluid->count; i++) {
        begun += fluid->now_s >= fluid->flows[i].begin_s;
    }
    fluid->starting = fluid->others = 0;
    for (i = 0; i < fluid->count; i++) {
        fluid->flows[i].demand =
            fluid->demand_each ? fluid->demand_each
                               : fluid->demand_total / (begun ? begun : 1);
        if (i < fluid->paced_count) {
            fluid->flows[i].demand = fluid->paced_total / fluid->paced_count;
        }
        if (fluid->flows[i].pace) {
            fluid->flows[i].demand = fluid->flows[i].pace;
        }
        flights[i] = flow_flight(fluid, &fluid->flows[i], rtt_s);
        total += flights[i];
        if (fluid->flows[i].window < fluid->flows[i].slow_threshold) {
            fluid->starting += flights[i];
        } else {
            fluid->others += flights[i];
        }
    }
    offered = total / rtt_s;
    served = fluid->queue > 0 || offered > fluid->capacity ? fluid->capacity
                                                           : offered;
    fluid->queue += (offered - served) * dt;
    fluid->queue = MAX(0, fluid->queue);
    dropped = MAX(0, fluid->queue - fluid->queue_max);
    fluid->queue -= dropped;
    for (i = 0; i < fluid->count && total > 0; i++) {
        flow_step(fluid, &fluid->flows[i], flights[i],
                  served * flights[i] / total, dropped * flights[i] / total, dt,
                  rtt_s);
    }
    fluid->now_s += dt;
}

void fluid_run(Fluid *fluid, double time_s)
{
    const double end_s = fluid->now_s + time_s;
    double dt = CLAMP(fluid->rtt_s / 10, 0.0005, 0.02);

    while (fluid->now_s < end_s - 1e-9) {
        step(fluid, MIN(dt, end_s - fluid->now_s));
    }
}

unsigned fluid_infos(const Fluid *fluid, DwcpFlowInfo infos[DWCP_STREAMS_MAX])
{
    unsigned i, n = 0;

    for (i = 0; i < fluid->count; i++) {
        const FluidFlow *flow = &fluid->flows[i];

        if (fluid->now_s < flow->begin_s) {
            continue;
        }
        infos[n++] = (DwcpFlowInfo){
            .id = flow->id,
            .acked_bytes = (uint64_t)flow->acked,
            .busy_us = (uint64_t)(flow->busy_s * 1e6),
            .rwnd_limited_us = (uint64_t)(flow->rwnd_s * 1e6),
            .retrans_segs = (uint32_t)flow->retrans,
            .acks = (uint32_t)flow->acks,
            .srtt_us = (uint32_t)(flow->srtt_s * 1e6),
            .min_rtt_us = (uint32_t)(flow->min_rtt_s * 1e6),
            .peer_window_bytes =
                flow->peer_window ? (uint32_t)flow->peer_window : 64u << 20,
            .unsent_bytes = flow->idle && !fluid->hidden ? 0 : 262144,
            .loss_blind = flow->kind == FLUID_BBR,
        };
    }
    return n;
}

double fluid_acked(const Fluid *fluid)
{
    double acked = 0;
    unsigned i;

    for (i = 0; i < fluid->count; i++) {
        acked += fluid->flows[i].acked;
    }
    return acked;
}
