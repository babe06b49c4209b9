/*
 * A sample fills the window; a full window is judged once and emptied.  First
 * it says what the path RTT is, then which of near, far and slow it counts
 * for; a window that does not count ends its row of three.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "core/mode.h"

#include <assert.h>
#include <string.h>

#define NS_PER_MS 1000000ull
/* Samples of a window, limited by the network, that make it a loaded one. */
#define LOADED_SAMPLES 3u

static const char *const names[DWCP_MODE_COUNT] = {
    [DWCP_MODE_MEASURED] = "measured",
    [DWCP_MODE_HYBRID] = "hybrid",
    [DWCP_MODE_DATACENTER] = "datacenter",
    [DWCP_MODE_INTERNET] = "internet",
};

static const char *const texts[DWCP_MODE_REASON_COUNT] = {
    [DWCP_MODE_REASON_START] = "nothing is known yet",
    [DWCP_MODE_REASON_PINNED] = "pinned",
    [DWCP_MODE_REASON_NEAR] = "round trip below 10 ms",
    [DWCP_MODE_REASON_NEAR_FAST] = "round trip below 10 ms, 1 Gbit/s or more",
    [DWCP_MODE_REASON_FAR] = "round trip above 50 ms",
    [DWCP_MODE_REASON_SLOW] = "the loaded link gives less than 600 Mbit/s",
};

void dwcp_mode_init(DwcpModeState *state, uint64_t now_ns)
{
    memset(state, 0, sizeof(*state));
    state->mode = DWCP_MODE_HYBRID;
    state->since_ns = now_ns;
}

static bool set_mode(DwcpModeState *state, DwcpMode mode, DwcpModeReason reason,
                     uint64_t now_ns)
{
    if (state->mode == mode || state->pinned) {
        return false;
    }
    state->mode = mode;
    state->reason = reason;
    state->since_ns = now_ns;
    return true;
}

/* The lower median of @count values at @values; O(count^2), count <= 10. */
static uint64_t median(const uint64_t *values, unsigned count)
{
    uint64_t sorted[DWCP_MODE_WINDOW];
    unsigned i, j;

    assert(count > 0 && count <= DWCP_MODE_WINDOW);
    for (i = 0; i < count; i++) {
        for (j = i; j > 0 && sorted[j - 1] > values[i]; j--) {
            sorted[j] = sorted[j - 1];
        }
        sorted[j] = values[i];
    }
    return sorted[(count - 1) / 2];
}

typedef struct Window {
    uint32_t rtt_us;
    uint64_t rate_bytes_per_s;   /* of all samples */
    uint64_t loaded_bytes_per_s; /* of those limited by the network */
    bool loaded;
} Window;

static Window window_take(DwcpModeState *state)
{
    uint64_t rtts[DWCP_MODE_WINDOW], loaded[DWCP_MODE_WINDOW];
    Window window = { 0 };
    unsigned i, n = 0;

    for (i = 0; i < DWCP_MODE_WINDOW; i++) {
        rtts[i] = state->rtt_us[i];
        if (state->limited[i]) {
            loaded[n++] = state->rate_bytes_per_s[i];
        }
    }
    window.rtt_us = (uint32_t)median(rtts, DWCP_MODE_WINDOW);
    window.rate_bytes_per_s = median(state->rate_bytes_per_s, DWCP_MODE_WINDOW);
    window.loaded = n >= LOADED_SAMPLES;
    if (window.loaded) {
        window.loaded_bytes_per_s = median(loaded, n);
    }
    state->count = 0;
    return window;
}

static void path_update(DwcpModeState *state, const Window *window)
{
    if (window->rtt_us < state->path_us || (!window->loaded && !state->fell)) {
        state->path_us = window->rtt_us;
    }
    state->fell = false;
}

static void link_update(DwcpModeState *state, const Window *window)
{
    if (state->path_us > DWCP_MODE_FAR_US) {
        state->link = DWCP_LINK_UNKNOWN; /* the path that was slow is gone */
    } else if (window->rate_bytes_per_s >= DWCP_MODE_FAST_BYTES_PER_S) {
        state->link = DWCP_LINK_FAST;
    } else if (window->loaded &&
               window->loaded_bytes_per_s < DWCP_MODE_FAST_BYTES_PER_S) {
        state->link = DWCP_LINK_SLOW;
    }
}

static void row(unsigned *windows, bool counts)
{
    *windows = counts ? *windows + 1 : 0;
}

/* Three in a row.  What a probe has said since holds for all of them. */
static bool decide(DwcpModeState *state, uint64_t now_ns)
{
    if (state->far_windows >= DWCP_MODE_WINDOWS &&
        state->path_us > DWCP_MODE_FAR_US) {
        return set_mode(state, DWCP_MODE_INTERNET, DWCP_MODE_REASON_FAR,
                        now_ns);
    }
    if (state->mode == DWCP_MODE_DATACENTER) {
        return state->slow_windows >= DWCP_MODE_WINDOWS &&
               set_mode(state, DWCP_MODE_HYBRID, DWCP_MODE_REASON_SLOW, now_ns);
    }
    return state->near_windows >= DWCP_MODE_WINDOWS && !state->doubtful &&
           state->path_us < DWCP_MODE_NEAR_US &&
           set_mode(state, DWCP_MODE_DATACENTER,
                    state->link == DWCP_LINK_FAST ? DWCP_MODE_REASON_NEAR_FAST
                                                  : DWCP_MODE_REASON_NEAR,
                    now_ns);
}

/* Was the last probe so long ago, or the RTT then so low, that it says nothing
 * about the RTT of now? */
static bool probe_stale(const DwcpModeState *state, uint64_t then_ns,
                        uint64_t now_ns)
{
    uint64_t limit_ms = state->window_us / 5 * 4 > state->asked_us
                            ? DWCP_MODE_PROBE_AGAIN_MS
                            : DWCP_MODE_PROBE_MS;

    return !then_ns || now_ns - then_ns >= limit_ms * NS_PER_MS;
}

/* Would the mode be another, were the RTT all path or all queue? */
static bool queue_matters(const DwcpModeState *state)
{
    return (state->mode != DWCP_MODE_INTERNET &&
            state->window_us > DWCP_MODE_FAR_US &&
            state->path_us <= DWCP_MODE_FAR_US) ||
           (state->mode != DWCP_MODE_DATACENTER &&
            state->link != DWCP_LINK_SLOW &&
            state->window_us >= DWCP_MODE_NEAR_US &&
            state->path_us < DWCP_MODE_NEAR_US);
}

static bool window_judge(DwcpModeState *state, uint64_t now_ns)
{
    Window window = window_take(state);

    state->window_us = window.rtt_us;
    path_update(state, &window);
    link_update(state, &window);
    state->doubtful =
        queue_matters(state) && probe_stale(state, state->proved_ns, now_ns);
    row(&state->near_windows,
        state->path_us < DWCP_MODE_NEAR_US && state->link != DWCP_LINK_SLOW);
    row(&state->far_windows, window.rtt_us > DWCP_MODE_FAR_US);
    row(&state->slow_windows,
        window.loaded && window.rate_bytes_per_s < DWCP_MODE_FAST_BYTES_PER_S &&
            window.loaded_bytes_per_s < DWCP_MODE_SLOW_BYTES_PER_S);
    return decide(state, now_ns);
}

/* A fall of the kernel's minimum is news; that it stays low is not. */
static void kernel_minimum(DwcpModeState *state, const DwcpModeSample *sample)
{
    uint32_t min_us = sample->min_rtt_us ? sample->min_rtt_us : sample->rtt_us;

    if (!state->path_us ||
        (min_us < state->min_rtt_us && min_us < state->path_us)) {
        state->path_us = min_us;
        state->fell = true;
    }
    state->min_rtt_us = min_us;
}

bool dwcp_mode_sample(DwcpModeState *state, const DwcpModeSample *sample)
{
    const uint64_t spent_ns = sample->now_ns - state->sampled_ns;

    assert(sample->now_ns >= state->sampled_ns);
    if (!sample->rtt_us ||
        (state->sampled_ns &&
         spent_ns < DWCP_MODE_SAMPLE_MS * NS_PER_MS * 4 / 5)) {
        return false;
    }
    if (state->sampled_ns && spent_ns > DWCP_MODE_GAP_MS * NS_PER_MS) {
        state->count = 0;
        state->near_windows = state->far_windows = state->slow_windows = 0;
    }
    state->sampled_ns = sample->now_ns;
    kernel_minimum(state, sample);
    state->rtt_us[state->count] = sample->rtt_us;
    state->rate_bytes_per_s[state->count] = sample->rate_bytes_per_s;
    state->limited[state->count] = sample->network_limited;
    return ++state->count == DWCP_MODE_WINDOW &&
           window_judge(state, sample->now_ns);
}

bool dwcp_mode_doubt(DwcpModeState *state, uint64_t now_ns)
{
    if (!state->doubtful || state->pinned ||
        !probe_stale(state, state->asked_ns, now_ns)) {
        return false;
    }
    state->asked_ns = now_ns;
    state->asked_us = state->window_us;
    return true;
}

bool dwcp_mode_probe(DwcpModeState *state, uint32_t rtt_us, uint64_t now_ns)
{
    if (!rtt_us) {
        return false;
    }
    state->path_us = rtt_us;
    state->proved_ns = now_ns;
    state->doubtful = false;
    return decide(state, now_ns);
}

bool dwcp_mode_near(const DwcpModeState *state)
{
    if (state->pinned) {
        return state->mode == DWCP_MODE_DATACENTER;
    }
    return state->mode != DWCP_MODE_INTERNET && state->min_rtt_us &&
           state->min_rtt_us < DWCP_MODE_NEAR_US;
}

void dwcp_mode_pin(DwcpModeState *state, DwcpMode mode, uint64_t now_ns)
{
    assert(mode != DWCP_MODE_MEASURED && mode < DWCP_MODE_COUNT);
    if (!state->pinned || state->mode != mode) {
        state->since_ns = now_ns;
    }
    state->mode = mode;
    state->reason = DWCP_MODE_REASON_PINNED;
    state->pinned = true;
}

void dwcp_mode_unpin(DwcpModeState *state)
{
    state->pinned = false;
    state->near_windows = state->far_windows = state->slow_windows = 0;
}

const char *dwcp_mode_name(DwcpMode mode)
{
    assert(mode < DWCP_MODE_COUNT);
    return names[mode];
}

const char *dwcp_mode_reason_text(DwcpModeReason reason)
{
    assert(reason < DWCP_MODE_REASON_COUNT);
    return texts[reason];
}
