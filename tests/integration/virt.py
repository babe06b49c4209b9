# SPDX-License-Identifier: LGPL-2.1-or-later
"""A libvirt guest on one of two hosts of the lab, and ways to move it.

DWCP_LIBVIRT is where the libvirt to test is installed, build/libvirt-prefix
unless it is set.
"""

import contextlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
import types

import pair
from pair import TOP

sys.path.append(str(TOP / "tests/bench"))

import domain  # noqa: E402
from dwcplab import HostSpec, Lab, Link  # noqa: E402
from guests import cache  # noqa: E402
from guests import guest as guests  # noqa: E402
from tap import check, equal, skip_all  # noqa: E402

PREFIX = pathlib.Path(os.environ.get("DWCP_LIBVIRT")
                      or TOP / "build/libvirt-prefix")
LINK = {"rate_mbit": 400, "rtt_ms": 20}
# In /run, so that each host has its own at the same path.
LOCAL_DISK = """\
    <disk type='file'>
      <driver name='qemu' type='raw'/>
      <source file='/run/dwcp/disk'/><target dev='vda' bus='virtio'/>
      <alias name='ua-disk'/>
    </disk>
"""


def require():
    pair.require()
    if not (PREFIX / "sbin/libvirtd").exists():
        skip_all(f"there is no libvirt in {PREFIX}: ./run build libvirt")


class Site:
    """Two hosts with libvirt and a guest that runs on the first.

    conf are lines for both hosts' qemu.conf, qemu_b the other host's QEMU,
    user is who QEMU runs as: one without privileges has CUBIC, where others
    have Reno unless they choose.
    disk is what a disk of the guest's holds on the first host; on the other
    one it is there, and empty.
    """

    def __init__(self, conf="", qemu_b=pair.QEMU, machine="pc", disk=None,
                 user="root"):
        self._conf, self._qemu_b, self._machine = conf, qemu_b, machine
        self._disk, self._user = disk, user
        self._stack = contextlib.ExitStack()
        self.guest = guests.small()
        self.virsh_options = ()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _start(self):
        top = pathlib.Path(tempfile.mkdtemp(prefix="dwcp-test-"))
        self._stack.callback(shutil.rmtree, top)
        specs = [HostSpec(name, qemu=str(qemu), prefix=str(PREFIX),
                          qemu_conf=self._conf, qemu_user=self._user,
                          open_folders=(str(cache.root()),))
                 for name, qemu in (("a", pair.QEMU), ("b", self._qemu_b))]
        link = Link(**LINK)
        if self._user != "root":
            link.cc, link.cc_user = "cubic", self._user
        self.lab = self._stack.enter_context(Lab(
            str(top / "lab"), hosts=specs, link=link))
        self.here, self.there = self.lab.host("a"), self.lab.host("b")
        if link.cc:
            for host in self.lab.hosts:
                host.sysctl("net.ipv4.tcp_congestion_control", "reno")
        self.path = top / "domain.xml"
        text = domain.xml(self.guest, None).replace(
            "machine='pc'", f"machine='{self._machine}'")
        if self._disk:
            disk_file(self.here).write_bytes(self._disk)
            disk_file(self.there).write_bytes(bytes(len(self._disk)))
            text = text.replace("  </devices>", LOCAL_DISK + "  </devices>")
        self.path.write_text(text, "utf-8")
        self.here.virsh("define", self.path)
        self.here.virsh("start", self.guest.name)
        pair.wait_for(lambda: self.guest.ready in domain.console(
            self.here, self.guest), "the guest is up")

    def state(self, host):
        """domstate on a host; None where the domain is unknown."""
        result = host.virsh("domstate", self.guest.name, check=False)
        return result.stdout.strip() if result.returncode == 0 else None

    def query_migrate(self, host):
        """What QEMU itself says of the migration."""
        said = host.virsh("qemu-monitor-command", self.guest.name,
                          '{"execute": "query-migrate"}').stdout
        return json.loads(said)["return"]

    def beats(self, host):
        one = types.SimpleNamespace(
            name=f"host {host.name}",
            path=lambda kind: domain.port(host, self.guest, kind))
        return pair.beats(one)

    def check_here(self):
        """The guest runs where it was, and nowhere else."""
        equal(self.state(self.here), "running", "the domain at the source")
        there = self.state(self.there)
        check(there in (None, "shut off"), f"it is {there} at the destination")
        numbers = self.beats(self.here)
        check("CORRUPT" not in domain.console(self.here, self.guest),
              "the guest's memory is damaged")
        return numbers[-1]

    def moved(self, last):
        """Checks that the guest has moved and goes on after beat `last`; the
        hosts change their parts."""
        state = self.state(self.here)
        check(state in (None, "shut off"), f"it is {state} at the source")
        self.here, self.there = self.there, self.here
        check(self.check_here() > last, f"beats after {last}")

    def destination(self, scheme="qemu+tcp"):
        return f"{scheme}://{self.there.hostname}/system"

    def command(self, *words):
        return ["virsh", *self.virsh_options, "migrate", "--live", *words,
                self.guest.name, self.destination()]

    def migrate(self, *words):
        """Moves the guest by virsh; returns what that printed, and what the
        job was like as the destination tells it."""
        last = self.check_here()
        result = self.here.run(self.command(*words), check=False,
                               timeout=pair.WAIT_S)
        equal(result.returncode, 0, f"virsh: {result.stderr}")
        self.moved(last)
        return result.stdout + result.stderr, self.job(self.here)

    def job(self, host, *words):
        """domjobinfo's raw numbers, by name."""
        words = words or ("--completed",)
        result = host.virsh("domjobinfo", self.guest.name, *words,
                            "--rawstats", check=False)
        return {name.strip(): value.strip() for name, _, value in
                (line.partition(":") for line in result.stdout.splitlines())}

    def refused(self, *words, command=None):
        """A move that must fail in the beginning; returns the error."""
        result = self.here.run(command or self.command(*words), check=False,
                               timeout=pair.WAIT_S)
        check(result.returncode != 0, f"{words} was taken")
        said = result.stderr.strip()
        lines = [line for line in said.splitlines() if line]
        equal(len(lines), 1, f"lines of {said!r}")
        self.check_here()
        return said

    @contextlib.contextmanager
    def moving(self, *words, sent=3 << 20):
        """While virsh moves the guest, and so many bytes have been sent;
        yields the process, and waits for its end: it is virsh that clears the
        destination up when a direct move is given up."""
        run = self.here.popen(self.command(*words), stdout=-1, stderr=-2,
                              text=True)
        try:
            pair.wait_for(lambda: run.poll() is not None or int(self.job(
                self.here, "--anystats").get("dwcp_wire_bytes", 0)) > sent,
                f"{sent} bytes are sent")
            check(run.poll() is None, "virsh ended: " + str(
                run.stdout.read() if run.poll() is not None else ""))
            yield run
            pair.wait_for(lambda: run.poll() is not None, "virsh ends")
        finally:
            if run.poll() is None:
                run.kill()
            run.wait()
            run.stdout.close()


def disk_file(host):
    """A host's file of the guest's local disk, as seen from outside."""
    return pathlib.Path(host.directory) / "run/dwcp/disk"


def abort(site):
    """domjobabort; how long it took to answer."""
    begin = time.monotonic()
    site.here.virsh("domjobabort", site.guest.name)
    return time.monotonic() - begin
