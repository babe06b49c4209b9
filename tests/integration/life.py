# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which of two QEMUs runs the guest: never both, and the guest goes on.

The guest's heartbeat is watched on both sides all the time, so that two
guests that run only for a moment are seen as well.
"""

import heartbeat
import pair
from tap import check, equal

BEATS = 10
NAMES = ("source", "target")


class Life:
    """Watches a pair from before its migration on; as a context."""

    def __init__(self, both):
        self._machines = (both.source, both.target)
        self._observer = heartbeat.Observer(
            [one.path("beat") for one in self._machines])

    def __enter__(self):
        check(self._observer.wait(lambda seen: len(seen) >= BEATS, 60),
              "the guest has no heartbeat before its migration")
        return self

    def __exit__(self, *_):
        self._observer.close()

    def runner(self, ordered=True):
        """Checks that exactly one runs and, if ordered, that no other has run
        meanwhile; returns which: 0 is the source, 1 the target."""
        states = [pair.status(one) for one in self._machines]
        running = [port for port in (0, 1) if states[port] == "running"]
        equal(len(running), 1, f"guests that run, the states being {states}")
        port = running[0]
        known = len(self._observer.beats())
        check(self._observer.wait(
            lambda seen: sum(beat.port == port for beat in seen[known:])
            >= BEATS, 60), f"the guest is silent at the {NAMES[port]}")
        if ordered:
            self._check_order(port)
        check("CORRUPT" not in self._machines[port].console(),
              self._machines[port].console()[-500:])
        return port

    def _check_order(self, port):
        """The source never beats after the target has; the target not at
        all where the source goes on; numbers only grow."""
        seen = self._observer.beats()
        there = [at for at, beat in enumerate(seen) if beat.port == 1]
        if port == 0:
            equal(len(there), 0, "beats at the target, the source going on")
        else:
            # What is read in one go from both sockets has no order.
            late = [beat.number for beat in seen[there[0]:]
                    if beat.port == 0
                    and beat.number >= seen[there[0]].number]
            equal(late, [], "beats at the source after the target's first")
        for side in (0, 1):
            numbers = [beat.number for beat in seen if beat.port == side]
            equal(numbers, sorted(set(numbers)), f"beats on side {side}")
        if port == 1:
            first = seen[there[0]].number
            last = [beat.number for beat in seen if beat.port == 0][-1]
            check(first > last, f"beat {first} at the target after {last}")

    def silent(self):
        """Checks that neither runs."""
        states = [pair.status(one) for one in self._machines]
        check("running" not in states, f"states {states}")
