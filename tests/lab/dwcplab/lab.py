# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole lab: hosts, links, and what must be cleaned up."""

import itertools
import os

from . import daemon, network, process
from .errors import LabError
from .host import Host, HostSpec, TOP
from .link import Link, VethControl, WanControl
from .state import State

HOSTS_MAX = 16
DEFAULT_STATE = os.path.join(TOP, "build/lab")


def default_hosts(count):
    """Specifications of hosts a, b, ..."""
    if not 2 <= count <= HOSTS_MAX:
        raise LabError(f"2 to {HOSTS_MAX} hosts, not {count}")
    return [HostSpec("abcdefghijklmnop"[index]) for index in range(count)]


class Lab:
    """Hosts that live from up() to down(), or for a with block.

    hosts is a number (they are named a, b, ...) or a list of HostSpec. With
    libvirt=False they run no daemons.
    """

    def __init__(self, state=DEFAULT_STATE, hosts=2, link=None, libvirt=True,
                 keeper=False):
        self._specs = default_hosts(hosts) if isinstance(hosts, int) else hosts
        self._link = link or Link()
        self._libvirt = libvirt
        self._keeper = keeper
        self._state = State(state)
        self._hosts = []
        self._links = {}
        self._emulators = []

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_exception):
        self.down()

    @property
    def state_path(self):
        return self._state.path

    @property
    def hosts(self):
        return list(self._hosts)

    def host(self, name):
        for host in self._hosts:
            if host.name == name:
                return host
        names = ", ".join(host.name for host in self._hosts)
        raise LabError(f"no host '{name}'; there are {names}")

    def link(self, first="a", second="b"):
        """The control of the link between two hosts."""
        try:
            return self._links[(first, second)]
        except KeyError:
            pairs = ", ".join("-".join(pair) for pair in self._links)
            raise LabError(f"no link {first}-{second}; there are "
                           f"{pairs}") from None

    def links(self):
        return list(self._links.values())

    def up(self):
        if os.geteuid() != 0:
            raise LabError("the lab makes namespaces and needs root: "
                           "use sudo")
        if self._libvirt:
            for spec in self._specs:
                daemon.check(spec)
        if self._link.kind == "wan":
            network.emulator_path()
        self._state.lock()
        try:
            clean_leftovers(self._state)
            self._start()
        except BaseException:
            self.down()
            raise

    def _record(self, kind, name, pid):
        self._state.record["processes"].append(
            {"kind": kind, "of": name, **process.identify(pid)})
        self._state.save()

    def _start(self):
        self._state.record = {
            "owner": process.identify(os.getpid()), "keeper": self._keeper,
            "processes": [],
            "link": self._link.kind, "libvirt": self._libvirt,
            "hosts": [], "pairs": []}
        self._state.save()
        for index, spec in enumerate(self._specs):
            self._hosts.append(
                Host(spec.name, index, self._state.file("hosts", spec.name)))
        names = "127.0.0.1 localhost\n::1 localhost\n" + "".join(
            f"{host.address} {host.hostname}\n" for host in self._hosts)
        for host, spec in zip(self._hosts, self._specs):
            self._start_host(host, spec, names)
        for ends in itertools.combinations(self._hosts, 2):
            emulator, control = network.join(ends, self._link, self._state)
            self._links[control.pair] = control
            self._state.record["pairs"].append(control.pair)
            if emulator:
                self._emulators.append(emulator)
                self._record("emulator", "-".join(control.pair), emulator.pid)
        self._state.save()
        if self._libvirt:
            for host in self._hosts:
                daemon.start(host)

    def _start_host(self, host, spec, names):
        def record(kind, pid):
            self._record(kind, spec.name, pid)

        host.make_directory(names)
        if self._libvirt:
            host.prefix = spec.prefix
            daemon.configure(spec, host)
            host.start(daemon.binds(spec, host.directory), record)
            daemon.open_folders(spec, host)
        else:
            host.start([], record)
        self._state.record["hosts"].append(
            {"name": host.name, "init_pid": host.init_pid,
             "prefix": host.prefix})
        self._state.save()

    def down(self):
        """Ends everything; harmless when nothing is up."""
        for host in self._hosts:
            host.stop()
        for emulator in self._emulators:
            emulator.wait()
        self._hosts, self._links, self._emulators = [], {}, []
        if self._state.is_locked():
            self._state.forget()
        self._state.unlock()

    @classmethod
    def attach(cls, state=DEFAULT_STATE):
        """A view of a lab that another process keeps up."""
        lab = cls(state)
        record = lab._state.load()
        if not record or not lab._state.is_locked():
            raise LabError(f"no lab is up in {lab._state.path}")
        for index, entry in enumerate(record["hosts"]):
            host = Host(entry["name"], index,
                        lab._state.file("hosts", entry["name"]))
            host.init_pid = entry["init_pid"]
            host.prefix = entry["prefix"]
            lab._hosts.append(host)
        for first, second in record["pairs"]:
            ends = (lab.host(first), lab.host(second))
            if record["link"] == "veth":
                control = VethControl(ends, (network.device_name(ends[1]),
                                             network.device_name(ends[0])))
            else:
                control = WanControl(
                    lab._state.file(f"wan-{first}-{second}.sock"),
                    (first, second))
            lab._links[(first, second)] = control
        return lab


def clean_leftovers(state):
    """Ends what a lab that crashed has left; returns how many processes.

    Only what is recorded and still is the same process is touched. Namespaces,
    mounts and devices go with the processes.
    """
    ended = 0
    for entry in state.load().get("processes", []):
        if process.is_alive(entry):
            ended += 1
            if not process.kill(entry):
                raise LabError(f"process {entry['pid']} ({entry['kind']}) of "
                               "an earlier lab does not end")
    state.forget()
    for name in os.listdir(state.path):
        if name.startswith("wan-") and name.endswith(".sock"):
            os.unlink(state.file(name))
    return ended
