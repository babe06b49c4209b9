# SPDX-License-Identifier: LGPL-2.1-or-later
"""Schedules of faults, drawn by a seed: what happens to a migration, and when.

    rate      the link gets slower or faster
    loss      it loses packets
    cut       it carries nothing for a while, both ways or one
    reset     one connection, or all of them, are ended by resets
    silence   one connection is dropped without a word
    stop      a QEMU stands still for a while, as on a host that hangs

The first fault of every third schedule comes around switchover. What a fault
takes away is given back before the next, or at the end.
"""

import dataclasses
import math

import pair
from dwcplab import LabError
from ending import at_share, at_switchover

KINDS = ("rate", "loss", "cut", "reset", "silence", "stop")
FAULTS_MAX = 3
CUT_S = (0.1, 50)       # most are short
CUT_QUICK_S = (0.1, 6)  # without DWCP_SOAK
STOP_S = (0.05, 3)
RATES_MBIT = (100, 150, 300, 800)
LOSSES = (0.1, 0.5, 1, 3)


@dataclasses.dataclass(frozen=True)
class Fault:
    """moment is "share" or "switchover", at the share or delay in seconds."""

    kind: str
    moment: str
    at: float
    value: object = None
    seconds: float = 0

    def __str__(self):
        text = self.kind
        if self.value is not None:
            text += f" {self.value}"
        if self.seconds:
            text += f" for {self.seconds:.2f} s"
        if self.moment == "share":
            return f"{text} at {self.at:.2f} of the memory"
        return f"{text} {self.at * 1e3:.0f} ms after the stop"


def _log_uniform(choose, bounds):
    return math.exp(choose.uniform(*map(math.log, bounds)))


def _fault(choose, moment, at):
    kind = choose.choice(KINDS)
    value, seconds = None, 0
    if kind == "rate":
        value = choose.choice(RATES_MBIT)
    elif kind == "loss":
        value = choose.choice(LOSSES)
    elif kind == "cut":
        value = choose.choice(("both ways", "both ways", "ab", "ba"))
        seconds = _log_uniform(choose, CUT_S if pair.SOAK else CUT_QUICK_S)
    elif kind == "reset":
        value = choose.choice(("random", "random", "all"))
    elif kind == "silence":
        value = "random"
    else:
        value = choose.choice(("source", "target"))
        seconds = choose.uniform(*STOP_S)
    return Fault(kind, moment, at, value, seconds)


def draw(choose, number):
    """The faults of a schedule, in the order in which they come."""
    moments = sorted(choose.uniform(0, 1.1)
                     for _ in range(choose.randint(1, FAULTS_MAX)))
    if number % 3 == 0:
        # Most of a switchover's messages pass soon after the stop.
        late = [("switchover", 0.25 * choose.random() ** 2)]
        return [_fault(choose, *one) for one in late + [
            ("switchover", 0)] * (len(moments) - 1)]
    return [_fault(choose, "share", at) for at in moments]


def _apply(both, fault, port):
    link = both.lab.link()
    if fault.kind == "rate":
        link.set(rate_mbit=fault.value)
    elif fault.kind == "loss":
        link.set(loss=fault.value)
    elif fault.kind == "cut":
        link.cut(None if fault.value == "both ways" else fault.value)
        pair.pause(fault.seconds)
        link.mend()
    elif fault.kind in ("reset", "silence"):
        how = link.reset_flow if fault.kind == "reset" else link.blackhole
        try:
            pair.say(f"connections {how(fault.value, port)}")
        except LabError as error:
            pair.say(str(error))
    else:
        one = getattr(both, fault.value)
        if one.is_running():
            one.freeze()
            pair.pause(fault.seconds)
            one.thaw()


def run(both, faults, port, link):
    """Lets everything happen; link is what the link is like without it."""
    for fault in faults:
        wait = at_share(fault.at) if fault.moment == "share" \
            else at_switchover(fault.at)
        wait(both)
        _apply(both, fault, port)
    both.lab.link().set(loss=0, **link)
