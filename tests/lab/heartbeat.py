# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watches a guest's heartbeat (guests/beat.c) from outside, on both hosts.

Each QEMU has the guest's second serial port on a Unix socket of its own; one
observer is connected to all of them and stamps every line as it arrives, so
that the gap is what anybody outside saw of the switchover. It is the same way
for every transport and does not touch the network that is measured.
"""

import collections
import selectors
import socket
import threading
import time

import qmp

Beat = collections.namedtuple('Beat', 'time port number mono_ns real_ns')


class Observer(threading.Thread):
    """Connects to each path as soon as a QEMU listens there."""

    def __init__(self, paths):
        super().__init__(daemon=True, name='heartbeat')
        self._paths = [str(path) for path in paths]
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._beats = []
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._ended.set()
        self.join()

    def beats(self):
        with self._lock:
            return list(self._beats)

    def wait(self, test, timeout):
        """Waits until test(beats) is true; False when it takes longer."""
        deadline = time.monotonic() + timeout
        while not test(self.beats()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def run(self):
        selector = selectors.DefaultSelector()
        missing = list(range(len(self._paths)))
        rest = {}
        while not self._ended.is_set():
            for port in list(missing):
                sock = self._connect(self._paths[port])
                if sock:
                    missing.remove(port)
                    rest[port] = b''
                    selector.register(sock, selectors.EVENT_READ, port)
            for key, _ in selector.select(0.05):
                now = time.monotonic()
                data = self._receive(key.fileobj)
                if not data:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    continue
                *lines, rest[key.data] = (rest[key.data] + data).split(b'\n')
                self._store(now, key.data, lines)
        for key in list(selector.get_map().values()):
            key.fileobj.close()
        selector.close()

    @staticmethod
    def _receive(sock):
        try:
            return sock.recv(65536)
        except OSError:
            return b''

    @staticmethod
    def _connect(path):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with qmp.unix_address(path) as address:
                sock.connect(address)
        except OSError:
            sock.close()
            return None
        return sock

    def _store(self, now, port, lines):
        parsed = []
        for line in lines:
            words = line.split()
            # The first line after connecting may be the rest of one.
            if len(words) == 4 and words[0] == b'B':
                parsed.append(Beat(now, port, *map(int, words[1:])))
        with self._lock:
            self._beats += parsed


def gap(beats, source=0, target=1):
    """What was seen of the move from one port to the other: a dict with
    gap_ms (last beat at the source to first at the target), lost (beats that
    nobody saw), guest_ms (how far the guest's own clock went meanwhile) and
    steady_max_ms (longest silence at the source before the last second).
    None when the guest has not been seen on both sides."""
    before = [beat for beat in beats if beat.port == source]
    after = [beat for beat in beats if beat.port == target]
    if not before or not after:
        return None
    last, first = before[-1], after[0]
    steady = [b.time - a.time for a, b in zip(before, before[1:])
              if b.time < last.time - 1.0]
    return {
        'gap_ms': (first.time - last.time) * 1e3,
        'lost': first.number - last.number - 1,
        'guest_ms': (first.mono_ns - last.mono_ns) / 1e6,
        'steady_max_ms': max(steady) * 1e3 if steady else None,
    }
