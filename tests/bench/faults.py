# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done to a link while a migration runs: one stream ended each second,
or everything cut for a while. The choice of streams is seeded.

What is done to connections from inside is QEMU's environment."""

import dataclasses
import random
import threading
import time

from dwcplab import LabError

# Where QEMU listens: the bench's own port, and libvirt's range.
MIGRATION_PORTS = (4444, *range(49152, 49216))


@dataclasses.dataclass(frozen=True)
class Plan:
    """Seconds; kill_every_s and cut_s are None where nothing is to happen."""

    kill_every_s: float = None
    cut_s: float = None
    cut_at_s: float = 0
    seed: int = 1

    def is_empty(self):
        return self.kill_every_s is None and self.cut_s is None


def environment(spec):
    """What makes a QEMU break its connections as the text says, which
    libdwcp/core/faultspec.h explains."""
    return {'DWCP_FAULTS': spec} if spec else {}


def streams(link):
    """The open connections that carry a migration."""
    return [flow for flow in link.flows() if flow['open']
            and flow['b'][1] in MIGRATION_PORTS]


class Faults(threading.Thread):
    """As a context: faults happen while it lasts, and are mended then.

    events are pairs: seconds since the beginning, and what was done.
    """

    def __init__(self, link, plan):
        super().__init__(daemon=True, name='faults')
        self._link, self._plan = link, plan
        self._choose = random.Random(plan.seed)
        self._end = threading.Event()
        self._begin = None
        self.events = []

    def __enter__(self):
        self._begin = time.monotonic()
        if not self._plan.is_empty():
            self.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        if self.is_alive():
            self.join()
        if self._plan.cut_s is not None:
            self._link.mend()

    def _note(self, text):
        self.events.append((round(time.monotonic() - self._begin, 3), text))

    def _actions(self):
        """When something is to be done, in order, and what."""
        plan = self._plan
        once = []
        if plan.cut_s is not None:
            once = [(plan.cut_at_s, self._cut),
                    (plan.cut_at_s + plan.cut_s, self._mend)]
        turn = 1
        while once or plan.kill_every_s is not None:
            at_s = plan.kill_every_s and turn * plan.kill_every_s
            if once and (at_s is None or once[0][0] <= at_s):
                yield once.pop(0)
            else:
                yield at_s, self._kill
                turn += 1

    def _cut(self):
        self._link.cut()
        self._note('cut')

    def _mend(self):
        self._link.mend()
        self._note('mended')

    def _kill(self):
        open_ = streams(self._link)
        if not open_:
            self._note('no stream to end')
            return
        number = self._choose.choice(open_)['number']
        try:
            self._link.reset_flow(number)
            self._note(f'stream {number} ended, {len(open_) - 1} left')
        except LabError as err:
            # It may have ended by itself meanwhile.
            self._note(str(err))

    def run(self):
        for at_s, action in self._actions():
            if self._end.wait(max(0, self._begin + at_s - time.monotonic())):
                return
            action()
