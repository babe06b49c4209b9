# SPDX-License-Identifier: LGPL-2.1-or-later
"""Joins hosts: a link, with a device in each, for every pair.

A host has one IPv4 and one IPv6 address on all its devices, and a route to
each peer through the pair's device, named after the peer.
"""

import os
import pwd
import select
import subprocess

from .errors import LabError
from .host import START_TIMEOUT_S, TOP
from .link import VethControl, WanControl

# The routing table of those who are bound to a congestion control.
CC_TABLE = 77


def emulator_path():
    path = os.environ.get(
        "DWCP_WAN", os.path.join(TOP, "build/dwcp/tests/lab/wan/dwcp-wan"))
    if not os.access(path, os.X_OK):
        raise LabError(f"the emulator {path} is not built: ./run build dwcp")
    return path


def device_name(peer):
    return f"to-{peer.name}"


def network_tool(host, *words):
    """Runs ip(8) or tc(8) with its machine's own files in the host's network."""
    result = subprocess.run(
        ["nsenter", "-t", str(host.init_pid), "--net", "--",
         *map(str, words)], text=True, capture_output=True, check=False)
    if result.returncode != 0:
        raise LabError(f"host {host.name}: {' '.join(map(str, words))}: "
                       f"{result.stderr.strip()}")


def ip(host, *words):
    network_tool(host, "ip", *words)


def start_emulator(ends, link, state):
    """Starts dwcp-wan between two hosts; returns its process id.

    It runs in the first host's pid namespace, so that it ends with it.
    """
    stem = "wan-" + "-".join(host.name for host in ends)
    with open(state.file(stem + ".log"), "wb") as log:
        emulator = subprocess.Popen(
            ["nsenter", "-t", str(ends[0].init_pid), "--pid", "--",
             emulator_path(),
             "--a-netns", ends[0].netns, "--a-device", device_name(ends[1]),
             "--b-netns", ends[1].netns, "--b-device", device_name(ends[0]),
             "--control", state.file(stem + ".sock"),
             *link.emulator_options()],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            start_new_session=True)
    with emulator.stdout:
        ready = select.select([emulator.stdout], [], [], START_TIMEOUT_S)[0]
        if not ready or emulator.stdout.readline() != b"ready\n":
            emulator.kill()
            emulator.wait()
            with open(state.file(stem + ".log"), encoding="utf-8",
                      errors="replace") as log:
                raise LabError(f"the emulator did not start: "
                               f"{log.read().strip()}")
    return emulator, WanControl(state.file(stem + ".sock"),
                                tuple(host.name for host in ends))


def make_veth(ends, link):
    ip(ends[0], "link", "add", device_name(ends[1]), "mtu", link.mtu,
       "type", "veth", "peer", "name", device_name(ends[0]), "mtu", link.mtu,
       "netns", ends[1].init_pid)
    devices = (device_name(ends[1]), device_name(ends[0]))
    for host, device in zip(ends, devices):
        ip(host, "link", "set", device, "up")
        if link.veth_mbit:
            network_tool(host, "tc", "qdisc", "add", "dev", device, "root",
                         "tbf", "rate", f"{link.veth_mbit:f}mbit",
                         "burst", "512kb", "latency", "20ms")
    return VethControl(ends, devices)


def add_route(host, device, link, family, source, target):
    """A route to a peer. The congestion control is its property, or that of
    another route, which only one user's connections take."""
    def add(*more):
        ip(host, family, "route", "add", target, "dev", device,
           "src", source, *more)

    bound = ["congctl", "lock", link.cc] if link.cc else []
    if link.cc and link.cc_user:
        uid = pwd.getpwnam(link.cc_user).pw_uid
        add()
        add(*bound, "table", CC_TABLE)
        ip(host, family, "rule", "add", "to", target,
           "uidrange", f"{uid}-{uid}", "lookup", CC_TABLE)
    else:
        add(*bound)


def add_addresses(host, peer, link):
    device = device_name(peer)
    ip(host, "addr", "add", f"{host.address}/32", "dev", device)
    add_route(host, device, link, "-4", host.address, f"{peer.address}/32")
    if os.path.exists(f"/proc/{host.init_pid}/net/if_inet6"):
        ip(host, "addr", "add", f"{host.address6}/128", "dev", device,
           "nodad")
        add_route(host, device, link, "-6", host.address6,
                  f"{peer.address6}/128")


def join(ends, link, state):
    """Joins two hosts.

    Returns the emulator's Popen object, or None, and the link's control.
    """
    if link.kind == "veth":
        emulator, control = None, make_veth(ends, link)
    elif link.kind == "wan":
        emulator, control = start_emulator(ends, link, state)
    else:
        raise LabError(f"link kind '{link.kind}': there are wan and veth")
    add_addresses(ends[0], ends[1], link)
    add_addresses(ends[1], ends[0], link)
    return emulator, control
