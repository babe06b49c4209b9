/*
 * How a filter works: it lets pass what comes before the rule's beginning, and
 * no byte more; then it claims one of the rule's `times` and acts, until `for`
 * is over, and is transparent afterwards.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "io/fault-filter.h"

#include <errno.h>
#include <stdlib.h>

#include "core/pacer.h"
#include "io/fault-delay.h"
#include "io/fault-parts.h"

/* How often a stream that is held back looks whether the others have moved. */
#define HOLD_GLANCE_NS 1000000ull
/* Of a rate, what may pass at once. */
#define RATE_BURSTS_PER_S 100u
#define RATE_BURST_MIN 1024u

typedef enum State {
    WAITS,
    ACTS,
    OVER,
} State;

typedef struct Fault {
    DwcpTransport base;
    DwcpTransport *below;
    DwcpFaults *faults;
    const DwcpFaultRule *rule;
    unsigned number;
    State state;
    uint64_t random;
    uint64_t passed;  /* bytes, the rule's way */
    uint64_t after;   /* the beginning, if it is in bytes */
    uint64_t since_ns; /* it acts */
    uint64_t others_bytes; /* hold: when it began */
    DwcpFollow follow;
    DwcpPacer pacer;
    DwcpDelay *delay;
    bool dropped;
} Fault;

/* --------------------------------------------------------- beginning -- */

static bool claim(Fault *fault)
{
    atomic_uint *hits = &fault->faults->hits[fault->number];
    unsigned so_far = atomic_load(hits);

    while (so_far < fault->rule->times) {
        if (atomic_compare_exchange_weak(hits, &so_far, so_far + 1)) {
            return true;
        }
    }
    return false;
}

static void begin(Fault *fault, uint64_t now_ns)
{
    if (!claim(fault)) {
        fault->state = OVER;
        return;
    }
    fault->state = ACTS;
    fault->since_ns = now_ns;
    fault->others_bytes =
        atomic_load(&fault->faults->others_bytes[fault->number]);
    if (fault->rule->kind == DWCP_FAULT_DROP) {
        fault->dropped = true;
        fault->below->ops->shutdown(fault->below, !fault->rule->closes);
    }
}

/*
 * @parts: of a call the rule's way, else none
 *
 * Returns: bytes that may pass before the rule begins; 0: it has.
 */
static size_t before_begin(Fault *fault, const struct iovec *parts,
                           size_t count, uint64_t now_ns)
{
    const DwcpFaultRule *rule = fault->rule;
    DwcpFollow copy = fault->follow;

    if (rule->at_ns != UINT64_MAX) {
        return now_ns - fault->faults->began_ns >= rule->at_ns ? 0 : SIZE_MAX;
    }
    if (!count) {
        return SIZE_MAX;
    }
    if (rule->record) {
        return dwcp_follow(&copy, parts, count, SIZE_MAX, rule->record);
    }
    return (size_t)(fault->after - fault->passed);
}

/* Where does the filter stand now?  Returns: bytes that may pass until that
 * changes. */
static size_t look(Fault *fault, const struct iovec *parts, size_t count,
                   uint64_t now_ns)
{
    size_t most = SIZE_MAX;

    if (fault->state == WAITS) {
        most = before_begin(fault, parts, count, now_ns);
        if (!most) {
            begin(fault, now_ns);
            most = SIZE_MAX;
        }
    }
    if (fault->state == ACTS && !fault->dropped &&
        now_ns - fault->since_ns >= fault->rule->for_ns) {
        fault->state = OVER;
    }
    return most;
}

/* Returns: how long nothing passes; 0: something may. */
static uint64_t shut_ns(Fault *fault, uint64_t now_ns)
{
    const DwcpFaultRule *rule = fault->rule;
    uint64_t left_ns = rule->for_ns - (now_ns - fault->since_ns);
    uint64_t moved;

    if (fault->state != ACTS) {
        return 0;
    }
    switch (rule->kind) {
    case DWCP_FAULT_STALL:
        return left_ns;
    case DWCP_FAULT_HOLD:
        moved = atomic_load(&fault->faults->others_bytes[fault->number]) -
                fault->others_bytes;
        if (moved >= rule->amount) {
            fault->state = OVER;
            return 0;
        }
        return left_ns < HOLD_GLANCE_NS ? left_ns : HOLD_GLANCE_NS;
    case DWCP_FAULT_RATE:
        return dwcp_pacer_wait_ns(&fault->pacer, now_ns);
    default:
        return 0;
    }
}

/* Returns: bytes that may pass at once, of a filter that acts. */
static size_t acting_most(Fault *fault)
{
    uint64_t most;

    switch (fault->rule->kind) {
    case DWCP_FAULT_RATE:
        most = fault->rule->amount / RATE_BURSTS_PER_S;
        return most > RATE_BURST_MIN ? (size_t)most : RATE_BURST_MIN;
    case DWCP_FAULT_SHORT:
        return 1 + (size_t)(dwcp_fault_random(&fault->random) %
                            fault->rule->amount);
    case DWCP_FAULT_CORRUPT:
        return 1;
    default:
        return SIZE_MAX;
    }
}

/* ------------------------------------------------------------- bytes -- */

/* The rule's way, a filter that neither delays nor keeps everything back. */
static ssize_t pass(Fault *fault, bool receive, const struct iovec *parts,
                    size_t count, uint64_t now_ns)
{
    const DwcpTransportOps *ops = fault->below->ops;
    bool corrupts = fault->state == ACTS &&
                    fault->rule->kind == DWCP_FAULT_CORRUPT;
    struct iovec one;
    uint8_t byte = 0, bit = 0;
    ssize_t n;

    if (corrupts) {
        bit = (uint8_t)(1u << dwcp_fault_random(&fault->random) % 8);
        one = parts[count - 1];
        if (!receive) {
            byte = *(uint8_t *)one.iov_base ^ bit;
            one.iov_base = &byte;
        }
        parts = &one;
        count = 1;
    }
    n = receive ? ops->receive(fault->below, parts, count)
                : ops->send(fault->below, parts, count);
    if (n <= 0) {
        return n;
    }
    if (corrupts) {
        fault->state = OVER;
        *(uint8_t *)one.iov_base ^= receive ? bit : 0;
    }
    fault->passed += (size_t)n;
    if (fault->rule->record) {
        (void)dwcp_follow(&fault->follow, parts, count, (size_t)n, 0);
    }
    if (fault->state == ACTS && fault->rule->kind == DWCP_FAULT_RATE) {
        dwcp_pacer_take(&fault->pacer, (uint64_t)n, now_ns);
    }
    if (fault->rule->kind == DWCP_FAULT_HOLD) {
        atomic_fetch_add(&fault->faults->others_bytes[fault->number],
                         (size_t)n);
    }
    return n;
}

static ssize_t refuse(int code)
{
    errno = code;
    return -1;
}

static ssize_t move(Fault *fault, bool receive, const struct iovec *parts,
                    size_t count)
{
    const DwcpTransportOps *ops = fault->below->ops;
    struct iovec clipped[DWCP_TRANSPORT_PARTS_MAX];
    uint64_t now_ns = dwcp_now_ns();
    bool ours = fault->rule->receive == receive;
    size_t most = look(fault, parts, ours ? count : 0, now_ns), acting;

    if (fault->dropped) {
        return receive && fault->rule->closes ? 0 : refuse(ECONNRESET);
    }
    if (!ours) {
        return receive ? ops->receive(fault->below, parts, count)
                       : ops->send(fault->below, parts, count);
    }
    if (fault->delay && (fault->state == ACTS ||
                         !dwcp_delay_empty(fault->delay))) {
        return dwcp_delay_receive(fault->delay, fault->below, parts, count,
                                  fault->state == ACTS ? fault->rule->amount
                                                       : 0,
                                  now_ns);
    }
    if (shut_ns(fault, now_ns)) {
        return refuse(EAGAIN);
    }
    acting = fault->state == ACTS ? acting_most(fault) : SIZE_MAX;
    most = acting < most ? acting : most;
    count = dwcp_parts_clip(parts, count, most, clipped);
    return pass(fault, receive, clipped, count, now_ns);
}

/* --------------------------------------------------------- transport -- */

static ssize_t fault_send(DwcpTransport *transport, const struct iovec *parts,
                          size_t count)
{
    return move((Fault *)transport, false, parts, count);
}

static ssize_t fault_receive(DwcpTransport *transport,
                             const struct iovec *parts, size_t count)
{
    return move((Fault *)transport, true, parts, count);
}

static void sooner(uint64_t *wait_ns, uint64_t ns)
{
    *wait_ns = ns < *wait_ns ? ns : *wait_ns;
}

static void fault_poll(DwcpTransport *transport, struct pollfd *fd,
                       uint64_t *wait_ns)
{
    Fault *fault = (Fault *)transport;
    const DwcpFaultRule *rule = fault->rule;
    const short event = rule->receive ? POLLIN : POLLOUT;
    uint64_t now_ns = dwcp_now_ns(), ns;
    State before = fault->state;

    (void)look(fault, NULL, 0, now_ns);
    if (fault->state != before) {
        sooner(wait_ns, 0);
    }
    if (fault->state == WAITS && rule->at_ns != UINT64_MAX) {
        sooner(wait_ns, rule->at_ns - (now_ns - fault->faults->began_ns));
    }
    if (fault->delay) {
        dwcp_delay_poll(fault->delay, fd, wait_ns, now_ns);
    }
    ns = fd->events & event ? shut_ns(fault, now_ns) : 0;
    if (ns) {
        fd->events &= (short)~event;
        sooner(wait_ns, ns);
    }
    fault->below->ops->poll(fault->below, fd, wait_ns);
}

static void fault_measure(DwcpTransport *transport, DwcpSocketState *state)
{
    DwcpTransport *below = ((Fault *)transport)->below;

    below->ops->measure(below, state);
}

static void fault_set_unsent(DwcpTransport *transport, uint32_t bytes)
{
    DwcpTransport *below = ((Fault *)transport)->below;

    below->ops->set_unsent(below, bytes);
}

static void fault_set_pace(DwcpTransport *transport, uint64_t bytes_per_s)
{
    DwcpTransport *below = ((Fault *)transport)->below;

    below->ops->set_pace(below, bytes_per_s);
}

static void fault_set_enough(DwcpTransport *transport, uint32_t bytes)
{
    DwcpTransport *below = ((Fault *)transport)->below;

    below->ops->set_enough(below, bytes);
}

static void fault_shutdown(DwcpTransport *transport, bool reset)
{
    DwcpTransport *below = ((Fault *)transport)->below;

    below->ops->shutdown(below, reset);
}

static void fault_free(Fault *fault)
{
    dwcp_delay_free(fault->delay);
    free(fault);
}

static void fault_close(DwcpTransport *transport)
{
    Fault *fault = (Fault *)transport;

    fault->below->ops->close(fault->below);
    fault_free(fault);
}

DwcpTransport *dwcp_fault_drop(DwcpTransport *transport)
{
    Fault *fault = (Fault *)transport;
    DwcpTransport *below = fault->below;

    fault_free(fault);
    return below;
}

DwcpTransport *dwcp_fault_new(DwcpFaults *faults, unsigned number,
                              DwcpTransport *below, uint64_t seed, bool acts)
{
    static const DwcpTransportOps ops = {
        .send = fault_send,
        .receive = fault_receive,
        .poll = fault_poll,
        .measure = fault_measure,
        .set_unsent = fault_set_unsent,
        .set_pace = fault_set_pace,
        .set_enough = fault_set_enough,
        .shutdown = fault_shutdown,
        .close = fault_close,
    };
    const DwcpFaultRule *rule = &faults->spec.rules[number];
    Fault *fault = calloc(1, sizeof(*fault));

    if (!fault) {
        return NULL;
    }
    *fault = (Fault){
        .base.ops = &ops,
        .below = below,
        .faults = faults,
        .rule = rule,
        .number = number,
        .state = acts ? WAITS : OVER,
        .random = seed,
    };
    fault->after = rule->after_min +
                   dwcp_fault_random(&fault->random) %
                       (rule->after_max - rule->after_min + 1);
    if (rule->kind == DWCP_FAULT_RATE) {
        fault->pacer.rate_bytes_per_s = rule->amount;
    }
    if (rule->kind == DWCP_FAULT_DELAY) {
        fault->delay = dwcp_delay_new();
        if (!fault->delay) {
            free(fault);
            return NULL;
        }
    }
    return &fault->base;
}
