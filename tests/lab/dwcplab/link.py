# SPDX-License-Identifier: LGPL-2.1-or-later
"""A link between two hosts: what it should be, and control of one that runs."""

import dataclasses
import json
import math
import os
import re
import socket

from .errors import LabError


@dataclasses.dataclass
class Link:
    """What a link should be.

    kind is "wan" (the emulator) or "veth" (a plain pair of devices, as fast as
    the machine). rate_mbit 0 is unlimited. loss and reorder are percent, burst
    is the emulator's "PERCENT,PACKETS[,DENSITY]", queue "100ms" or "256kB".
    cc binds every TCP connection over the link to a congestion control: it is
    a property of the route, locked, so that no program can choose another,
    whatever its privileges. With cc_user only what this user's programs open
    is bound to it; others have the congestion control that they choose, or the
    host's own.
    """

    rate_mbit: float = 1000
    rtt_ms: float = 0
    jitter_ms: float = 0
    loss: float = 0
    burst: str = "0"
    reorder: float = 0
    queue: str = "100ms"
    kind: str = "wan"
    veth_mbit: float = 0
    cc: str = None
    cc_user: str = None
    mtu: int = 1500
    seed: int = 1
    buffer_mib: int = None

    def _buffer_mib(self):
        """Memory for what is under way in one direction: what the path and a
        queue of a time hold at the rate, and some more; a link that gets
        faster or longer while it runs may need more and can say so."""
        if self.buffer_mib is not None:
            return self.buffer_mib
        held_ms = self.rtt_ms / 2 + self.jitter_ms
        # What is not a time is the emulator's to understand or refuse.
        if queue := re.fullmatch(r"(\d+\.?\d*)ms", self.queue):
            held_ms += float(queue.group(1))
        held_mib = self.rate_mbit * 1e6 / 8 * held_ms / 1e3 / 2**20
        if not math.isfinite(held_mib):
            return 64
        return min(max(64, round(1.25 * held_mib)), 2048)

    def emulator_options(self):
        return ["--rate", f"{self.rate_mbit:f}", "--rtt", f"{self.rtt_ms:f}",
                "--jitter", f"{self.jitter_ms:f}", "--loss", f"{self.loss:f}",
                "--burst", self.burst, "--reorder", f"{self.reorder:f}",
                "--queue", self.queue, "--mtu", str(self.mtu),
                "--seed", str(self.seed), "--buffer", str(self._buffer_mib())]


# Settings of a running link: the API's names and the emulator's.
SETTINGS = {"rate_mbit": "rate", "rtt_ms": "rtt", "delay_ms": "delay",
            "jitter_ms": "jitter", "loss": "loss", "burst": "burst",
            "reorder": "reorder", "queue": "queue"}


def _given(port):
    return () if port is None else (port,)


class WanControl:
    """A running emulator, through its control socket.

    Directions are "ab", from the first host of the pair to the second, "ba",
    or None for both.
    """

    def __init__(self, socket_path, pair):
        self.pair = pair
        self._path = socket_path

    def command(self, *words):
        """Sends a command and returns the answer's line."""
        folder, name = os.path.split(self._path)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            try:
                # The address holds 107 bytes: name the folder by descriptor.
                fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
                try:
                    client.connect(f"/proc/self/fd/{fd}/{name}")
                finally:
                    os.close(fd)
                line = " ".join(str(word) for word in words)
                client.sendall(line.encode() + b"\n")
                with client.makefile(encoding="utf-8") as answers:
                    answer = answers.readline().rstrip("\n")
            except OSError as error:
                raise LabError(f"the emulator of link {'-'.join(self.pair)} "
                               f"does not answer: {error}") from None
        if answer.startswith("error: ") or not answer:
            raise LabError(f"link: {answer.removeprefix('error: ')}")
        return answer

    def _about(self, name, direction):
        return (name, direction) if direction else (name,)

    def set(self, direction=None, **settings):
        """set(rate_mbit=100, loss=1): changes the link while it runs."""
        words = []
        for name, value in settings.items():
            if name not in SETTINGS:
                raise LabError(f"link: no setting {name}; there are "
                               f"{', '.join(SETTINGS)}")
            words += [SETTINGS[name], value]
        self.command(*self._about("set", direction), *words)

    def cut(self, direction=None):
        self.command(*self._about("cut", direction))

    def mend(self, direction=None):
        self.command(*self._about("mend", direction))

    def flows(self, port=None):
        """The TCP connections, of a port at either end; see wan-report.h."""
        return json.loads(self.command("flows", *_given(port)))["flows"]

    def reset_flow(self, which="random", port=None):
        """Ends connections by resets to both ends: "random" (one), "all", or
        the number of one in flows(). Returns the numbers."""
        return self._kill("reset", which, port)

    def blackhole(self, which, port=None):
        """The same, but drops all their packets from now on."""
        return self._kill("drop", which, port)

    def _kill(self, how, which, port):
        return json.loads(self.command("kill", how, which,
                                       *_given(port)))["killed"]

    def stats(self):
        """Configuration and counters of both directions; see wan-link.h."""
        return json.loads(self.command("stats"))

    def reset(self):
        """Sets all counters to 0."""
        self.command("reset")

    def series(self, path):
        """Writes bytes per 100 ms to a file from now on; None ends it."""
        if path is not None and (set(str(path)) & set(" \t\r\n")):
            raise LabError(f"series: a path without spaces, not {path!r}")
        self.command("series", os.path.abspath(path) if path else "off")


class VethControl:
    """A plain pair of devices, which can only count.

    Its counters are the devices': super-packets count once, and each with an
    Ethernet header of 14 bytes.
    """

    def __init__(self, hosts, devices):
        self.pair = tuple(host.name for host in hosts)
        self._hosts = hosts
        self._devices = devices
        self._base = [{"packets": 0, "bytes": 0} for _ in hosts]

    def _sent(self, end):
        return self._hosts[end].device_counters()[self._devices[end]]["sent"]

    def stats(self):
        directions = {}
        for end, direction in enumerate(("ab", "ba")):
            sent = self._sent(end)
            counts = {key: sent[key] - self._base[end][key] for key in sent}
            directions[direction] = {"sent": counts, "delivered": counts}
        return directions

    def reset(self):
        self._base = [self._sent(end) for end in range(2)]

    def _refuse(self, *_arguments, **_settings):
        raise LabError("a plain veth link cannot do this: use the emulator "
                       "(--rate, --rtt, ...)")

    command = set = cut = mend = series = _refuse
    flows = reset_flow = blackhole = _refuse
