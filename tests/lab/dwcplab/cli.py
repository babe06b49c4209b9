# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands of ./run lab."""

import argparse
import json
import os
import signal
import subprocess
import sys
import traceback

from . import process
from .errors import LabError
from .lab import DEFAULT_STATE, Lab, clean_leftovers, default_hosts
from .link import Link
from .state import State

LINK_OPTIONS = (
    ("rate", "rate_mbit", float, "MBIT", "Mbit/s, 0 is unlimited (500)"),
    ("rtt", "rtt_ms", float, "MS", "round trip (50)"),
    ("jitter", "jitter_ms", float, "MS", "delay varies by this, up and down"),
    ("loss", "loss", float, "PERCENT", "random loss"),
    ("burst", "burst", str, "PERCENT,PACKETS[,DENSITY]",
     "loss in bursts: mean loss, mean length, percent lost in a burst (100)"),
    ("reorder", "reorder", float, "PERCENT", "frames that overtake one"),
    ("queue", "queue", str, "SIZE", "100ms, 256kB; 0 is unlimited (100ms)"),
    ("seed", "seed", int, "N", "of loss and jitter (1)"),
    ("buffer", "buffer_mib", int, "MIB",
     "memory for packets in one direction (64, or as needed)"),
)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        prog="./run lab", description="Hosts on this machine with a wide area "
        "link between them. Needs root.")
    parser.add_argument("--state", default=DEFAULT_STATE, metavar="DIR",
                        help="the lab's directory; labs in different "
                        "directories run side by side (build/lab)")
    commands = parser.add_subparsers(dest="command", required=True)

    up = commands.add_parser("up", help="start hosts a, b, ...")
    up.add_argument("--hosts", type=int, default=2, metavar="N")
    up.add_argument("--link", choices=("wan", "veth"), default="wan",
                    help="the emulator, or a plain pair of devices")
    for name, field, kind, metavar, text in LINK_OPTIONS:
        up.add_argument(f"--{name}", dest=field, type=kind, metavar=metavar,
                        help=text)
    up.add_argument("--cc", metavar="NAME", help="congestion control that "
                    "every TCP connection between the hosts uses")
    up.add_argument("--mtu", type=int, metavar="BYTES", help="(1500)")
    up.add_argument("--no-libvirt", action="store_true",
                    help="hosts without daemons")
    for name, metavar, text in (
            ("qemu", "HOST=BINARY", "another QEMU on a host"),
            ("prefix", "HOST=DIR", "another libvirt on a host"),
            ("qemu-conf", "HOST=LINE", "another line in its qemu.conf")):
        up.add_argument(f"--{name}", action="append", default=[],
                        metavar=metavar, help=text)

    commands.add_parser("down", help="end it, and what a crash has left")
    commands.add_parser("status", help="hosts and link counters")

    shell = commands.add_parser("shell", help="run a shell or command in a "
                                "host")
    shell.add_argument("host")
    shell.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND")

    link = commands.add_parser(
        "link", help="set [ab|ba] NAME VALUE..., cut [ab|ba], mend [ab|ba], "
        "stats, flows, reset (the counters), reset --flow FLOW (ends "
        "connections), blackhole FLOW, series FILE|off; a FLOW is random, "
        "all, or a number of flows")
    link.add_argument("--pair", default="a-b", metavar="A-B")
    link.add_argument("--flow", metavar="FLOW")
    link.add_argument("--port", type=int,
                      help="only connections with this port at either end")
    link.add_argument("action", choices=("set", "cut", "mend", "stats",
                                         "flows", "reset", "blackhole",
                                         "series"))
    link.add_argument("words", nargs="*")
    return parser.parse_args(argv)


def link_of(arguments):
    given = {field: getattr(arguments, field)
             for _name, field, *_rest in LINK_OPTIONS
             if getattr(arguments, field) is not None}
    if arguments.link == "veth" and given:
        raise LabError("a veth link is as fast as the machine: it takes no "
                       f"{', '.join(given)}")
    settings = {"rate_mbit": 500, "rtt_ms": 50, **given}
    if arguments.mtu is not None:
        settings["mtu"] = arguments.mtu
    return Link(kind=arguments.link, cc=arguments.cc, **settings)


def specs_of(arguments):
    specs = {spec.name: spec for spec in default_hosts(arguments.hosts)}

    def each(option, words):
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or not value or name not in specs:
                raise LabError(f"--{option}: HOST=... expected, with HOST one "
                               f"of {', '.join(specs)}, not '{word}'")
            yield specs[name], value

    for spec, value in each("qemu", arguments.qemu):
        spec.qemu = os.path.abspath(value)
    for spec, value in each("prefix", arguments.prefix):
        spec.prefix = os.path.abspath(value)
    for spec, value in each("qemu-conf", arguments.qemu_conf):
        spec.qemu_conf += value + "\n"
    return list(specs.values())


def keep(lab, ready_fd):
    """The keeper: holds a lab up until it is told to end."""
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        with lab:
            os.write(ready_fd, b"ready")
            os.close(ready_fd)
            signal.sigwait(signals)
    except LabError as error:
        os.write(ready_fd, str(error).encode())
    except Exception:  # pylint: disable=broad-except
        # Nobody else would see it: standard error is /dev/null here.
        os.write(ready_fd, traceback.format_exc().encode())


def up(arguments):
    """Starts a keeper in the background and waits until the lab is up."""
    lab = Lab(arguments.state, specs_of(arguments), link_of(arguments),
              libvirt=not arguments.no_libvirt, keeper=True)
    read_fd, write_fd = os.pipe()
    if os.fork() == 0:
        os.close(read_fd)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        try:
            keep(lab, write_fd)
        finally:
            os._exit(0)
    os.close(write_fd)
    with os.fdopen(read_fd, encoding="utf-8") as answers:
        answer = answers.read()
    if answer != "ready":
        raise LabError(answer or "the lab's keeper died while starting")
    status(arguments)


def down(arguments):
    state = State(arguments.state)
    if not os.path.isdir(state.path):
        print(f"no lab has been in {state.path}")
        return
    record = state.load()
    owner = record.get("owner")
    if owner and state.is_locked():
        if not record.get("keeper"):
            raise LabError(f"the lab in {state.path} belongs to a program "
                           f"that runs, process {owner['pid']}: end that")
        if not process.kill(owner, signal.SIGTERM, wait_s=30):
            process.kill(owner)
    state.lock()
    ended = clean_leftovers(state)
    state.unlock()
    print(f"the lab in {state.path} is down"
          + (f" ({ended} processes were left)" if ended else ""))


def describe(direction, counts):
    config = counts.get("config")
    text = f"  {direction}: {counts['sent']['packets']} packets, " \
           f"{counts['sent']['bytes']} bytes"
    if config:
        text += (f"; {config['rate_bits_per_s'] / 1e6:g} Mbit/s, "
                 f"{config['delay_ns'] / 1e6:g} ms, "
                 f"loss {100 * (config['loss'] + config['burst']):g} %, "
                 f"{counts['queue_drops']['packets']} dropped, "
                 f"{counts['lost']['packets']} lost"
                 + (", CUT" if counts["cut"] else ""))
    return text


def status(arguments):
    lab = Lab.attach(arguments.state)
    for host in lab.hosts:
        print(f"host {host.name}: {host.hostname} {host.address} "
              f"{host.address6} PID 1 is {host.init_pid}")
    for link in lab.links():
        print(f"link {'-'.join(link.pair)}:")
        for direction, counts in link.stats().items():
            if direction in ("ab", "ba"):
                print(describe(direction, counts))


def shell(arguments):
    host = Lab.attach(arguments.state).host(arguments.host)
    argv = arguments.argv or [os.environ.get("SHELL", "/bin/bash")]
    if argv[0] == "--":
        argv = argv[1:]
    sys.exit(subprocess.run(host.command(argv), env=host.environment(),
                            check=False).returncode)


def link_command(arguments):
    first, _dash, second = arguments.pair.partition("-")
    control = Lab.attach(arguments.state).link(first, second)
    if arguments.action == "stats":
        print(json.dumps(control.stats(), indent=1))
    elif arguments.action == "flows":
        print(json.dumps(control.flows(arguments.port), indent=1))
    elif arguments.action == "reset" and arguments.flow:
        print(*control.reset_flow(arguments.flow, arguments.port))
    elif arguments.action == "reset":
        control.reset()
    elif arguments.action == "blackhole":
        if len(arguments.words) != 1:
            raise LabError("blackhole: random, all, or a number of flows")
        print(*control.blackhole(arguments.words[0], arguments.port))
    elif arguments.action == "series":
        if len(arguments.words) != 1:
            raise LabError("series: a file, or off")
        path = arguments.words[0]
        control.series(None if path == "off" else path)
    else:
        control.command(arguments.action, *arguments.words)


def main(argv):
    arguments = parse_arguments(argv)
    run = {"up": up, "down": down, "status": status, "shell": shell,
           "link": link_command}[arguments.command]
    try:
        if os.geteuid() != 0:
            raise LabError("the lab makes namespaces and needs root: use sudo")
        run(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0
