/*
 * Datacenter, internet or something between: what kind of path is this?
 *
 * The mode chooses a codec budget and the bounds of the stream count.  It is
 * judged from the session's own samples, one each DWCP_MODE_SAMPLE_MS, in
 * windows of ten:
 *
 *   to datacenter  path RTT below 10 ms, and the link not known to be slow
 *   to internet    median RTT above 50 ms, and path RTT above it as well
 *   to hybrid      from datacenter alone: the loaded link is slow
 *   else           the mode is kept; a session begins as hybrid, which takes
 *                  internet's codec budget and datacenter's streams
 *
 * each after three windows in a row that say so.  A change of the path shows
 * after 1.4 s at most (half a window that still has the old median, and three),
 * and what the kernel needs to smooth its RTT anew.
 *
 * Slow and fast.  A link is known to be fast when a window's median rate is
 * 1 Gbit/s or more, whatever limits it: a link delivers no more than it can.
 * It is known to be slow when the samples of a window that were limited by
 * the network had less (to stop an established datacenter: less than
 * 600 Mbit/s; noise would have to halve a rate twice to make it flap).  A
 * sender that waits for its encoders or for the receiver says nothing about
 * the link.  What is known is kept until a window knows better or the path
 * becomes an internet path; or hybrid, which compresses and may leave the
 * link idle, would forget why it is not datacenter.
 *
 * Path RTT is the RTT without the queue that this session itself builds.  A
 * queue only adds, so a low RTT is always true, but a high one on a loaded
 * link may be our own doing: 5 ms become 105 behind a queue of 100 ms.  A
 * minimum over the window does not help: CUBIC keeps such a queue half full.
 * The kernel's min_rtt does not either: it looks back for five minutes, and
 * a path that became longer would go unseen.  Nor does it tell that the rate
 * fell when the RTT grew: so it does when the link became slower, and what is
 * in flight stands in its queue.  So the path RTT
 *   begins as the kernel's min_rtt, which has the handshake in it,
 *   falls with it, and to each window's median that is lower,
 *   rises to the median of a window that was not loaded (less than three of
 *     its ten samples limited by the network), and
 *   is what a probe says: dwcp_mode_doubt() asks for one where a loaded
 *     link's RTT and the path RTT stand on two sides of a threshold that
 *     matters.  Only draining can tell then.  It asks at once, again when the
 *     RTT has grown by a quarter, else after 10 s: so long a path that became
 *     longer may hide, where the queue became shorter by as much.
 *
 * Threads: none of its own; the owner locks.  Time comes in with each call.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef DWCP_CORE_MODE_H
#define DWCP_CORE_MODE_H

#include <stdbool.h>
#include <stdint.h>

#include "dwcp/dwcp.h"

#define DWCP_MODE_SAMPLE_MS 40u
#define DWCP_MODE_WINDOW 10u /* samples */
#define DWCP_MODE_WINDOWS 3u /* in a row before a change */
#define DWCP_MODE_NEAR_US 10000u
#define DWCP_MODE_FAR_US 50000u
#define DWCP_MODE_FAST_BYTES_PER_S 125000000ull
#define DWCP_MODE_SLOW_BYTES_PER_S 75000000ull
/* A window without samples for this long begins anew, and so do the three. */
#define DWCP_MODE_GAP_MS 200u
/* A probe is asked for once in this time and believed for so long, */
#define DWCP_MODE_PROBE_MS 10000u
/* but for this long only when the RTT has grown by a quarter since. */
#define DWCP_MODE_PROBE_AGAIN_MS 1000u

#define DWCP_MODE_COUNT 4u

/* DwcpModeReason: of the last change */
typedef enum DwcpModeReason {
    DWCP_MODE_REASON_START,
    DWCP_MODE_REASON_PINNED,
    DWCP_MODE_REASON_NEAR,      /* low RTT; never loaded enough to know more */
    DWCP_MODE_REASON_NEAR_FAST, /* low RTT and a rate that proves it */
    DWCP_MODE_REASON_FAR,
    DWCP_MODE_REASON_SLOW,
    DWCP_MODE_REASON_COUNT,
} DwcpModeReason;

/*
 * DwcpModeSample: all streams of a session at one moment
 *
 * @rtt_us: the median stream's smoothed RTT; 0 = unknown, the sample is void
 * @min_rtt_us: the least that the kernel remembers of any; 0 = unknown
 * @rate_bytes_per_s: delivered by all together, since the sample before
 * @network_limited: congestion windows were what the sender waited for; not
 *                   encoders, pacing, send buffers or the receiver's window
 */
typedef struct DwcpModeSample {
    uint64_t now_ns;
    uint32_t rtt_us;
    uint32_t min_rtt_us;
    uint64_t rate_bytes_per_s;
    bool network_limited;
} DwcpModeSample;

typedef struct DwcpModeState {
    DwcpMode mode;
    DwcpModeReason reason;
    uint64_t since_ns;
    bool pinned;

    /* the window that fills; emptied when it is full */
    uint32_t rtt_us[DWCP_MODE_WINDOW];
    uint64_t rate_bytes_per_s[DWCP_MODE_WINDOW];
    bool limited[DWCP_MODE_WINDOW];
    unsigned count;
    uint64_t sampled_ns; /* 0 = never */

    uint32_t path_us;    /* 0 = not known yet */
    uint32_t min_rtt_us; /* the kernel's, at the last sample */
    bool fell; /* in this window: half of its RTTs may be of the old path */
    enum { DWCP_LINK_UNKNOWN, DWCP_LINK_SLOW, DWCP_LINK_FAST } link;
    bool doubtful;      /* whether the RTT is path or queue matters */
    uint64_t asked_ns;  /* for a probe; 0 = never */
    uint32_t asked_us;  /* the window's RTT then */
    uint64_t proved_ns; /* by a probe; 0 = never */
    uint32_t window_us; /* the last window's RTT */

    unsigned near_windows, far_windows, slow_windows; /* in a row */
} DwcpModeState;

void dwcp_mode_init(DwcpModeState *state, uint64_t now_ns);

/*
 * dwcp_mode_sample: look at the session
 *
 * Samples that come sooner than 4/5 of DWCP_MODE_SAMPLE_MS after the last are
 * dropped, so that a window is never shorter than 0.4 s.
 *
 * Returns: did the mode change?
 */
bool dwcp_mode_sample(DwcpModeState *state, const DwcpModeSample *sample);

/*
 * dwcp_mode_doubt: should the owner drain its streams and probe?
 *
 * To probe: send no frame until all are acknowledged, then measure one round
 * trip and tell dwcp_mode_probe.  It costs an RTT or two of sending.
 *
 * Returns: true once in DWCP_MODE_PROBE_MS at most, or once in
 * DWCP_MODE_PROBE_AGAIN_MS if the RTT has grown by a quarter each time.
 */
bool dwcp_mode_doubt(DwcpModeState *state, uint64_t now_ns);

/* dwcp_mode_probe: a round trip on drained streams took @rtt_us; Returns: did
 * the mode change? */
bool dwcp_mode_probe(DwcpModeState *state, uint32_t rtt_us, uint64_t now_ns);

/*
 * dwcp_mode_near: is the path a short one, as far as is known?
 *
 * At once, unlike the mode itself, and whatever the link carries: by the least
 * RTT of any, to which queues and busy processors only add.  But not in internet
 * mode: then the path became longer.
 */
bool dwcp_mode_near(const DwcpModeState *state);

/* dwcp_mode_pin: @mode whatever is measured, until dwcp_mode_unpin, which
 * keeps it until three windows say otherwise */
void dwcp_mode_pin(DwcpModeState *state, DwcpMode mode, uint64_t now_ns);
void dwcp_mode_unpin(DwcpModeState *state);

const char *dwcp_mode_name(DwcpMode mode);
const char *dwcp_mode_reason_text(DwcpModeReason reason);

#endif
