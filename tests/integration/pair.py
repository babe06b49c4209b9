# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two QEMUs on two hosts of the lab, a guest at the source, and what must be
true of them before and after a migration.

DWCP_QEMU is the QEMU to test, build/qemu's unless it is set.
"""

import contextlib
import os
import pathlib
import random
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP / "tests/lab")]

import qmp  # noqa: E402
from dwcplab import Lab, Link  # noqa: E402
from guests import guest as guests  # noqa: E402
from guests import machine  # noqa: E402
from tap import check, equal, skip_all  # noqa: E402

QEMU = pathlib.Path(os.environ.get("DWCP_QEMU") or machine.DEFAULT_QEMU)
SOAK = os.environ.get("DWCP_SOAK") == "1"
WAIT_S = 120
# How long a session looks for a lost connection: the tests have seen enough.
RESUME_S = 5
# What both sides of a migration know.
SECRET = {"id": "dwcp-secret", "data": "only between namespaces here"}
BEATS = 10
ENDED = ("completed", "failed", "cancelled")
# A wide area link on which the small guest takes some seconds.
WAN = {"rate_mbit": 400, "rtt_ms": 40}


def require():
    """Ends the program where its tests cannot run."""
    if os.geteuid() != 0:
        skip_all("needs root, to make the hosts of the lab")
    if not QEMU.exists():
        skip_all(f"there is no {QEMU}: ./run build qemu")


def seeded():
    """A generator of random choices whose seed is shown: DWCP_SEED repeats
    them."""
    seed = int(os.environ.get("DWCP_SEED") or random.SystemRandom()
               .randrange(1 << 32))
    print(f"# DWCP_SEED={seed} repeats these choices", flush=True)
    return random.Random(seed)


def say(text):
    """A diagnostic: what was seen, for whoever reads the log."""
    print(f"# {text}", flush=True)


@contextlib.contextmanager
def hosts(**link):
    """A lab of two hosts, and a directory for QEMU's files."""
    top = tempfile.mkdtemp(prefix="dwcp-test-")
    try:
        with Lab(os.path.join(top, "lab"), link=Link(**link),
                 libvirt=False) as lab:
            lab.files = pathlib.Path(top)
            yield lab
    finally:
        shutil.rmtree(top)


def wait_for(test, what, timeout_s=WAIT_S):
    """Waits until test() is true, and returns what it said."""
    deadline = time.monotonic() + timeout_s
    # Nothing is ever written to it: waiting on it is a pause.
    quiet, _other = socket.socketpair()
    with quiet, _other:
        while not (answer := test()):
            check(time.monotonic() < deadline,
                  f"{what}: not within {timeout_s} s")
            quiet.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                quiet.recv(1)
    return answer


def beats(one, count=BEATS, timeout_s=30):
    """The numbers of beats that a machine's guest sends from now on."""
    numbers = []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        with qmp.unix_address(one.path("beat")) as address:
            sock.connect(address)
        with sock.makefile("rb") as lines:
            # The first line may be the rest of one.
            lines.readline()
            while len(numbers) < count:
                words = lines.readline().split()
                check(len(words) == 4 and words[0] == b"B",
                      f"{one.name}: a beat {words}")
                numbers.append(int(words[1]))
    equal(numbers, list(range(numbers[0], numbers[0] + count)),
          f"{one.name}'s beats")
    return numbers


def pause(seconds):
    """Lets a chosen time pass: for moments, never to wait for anything."""
    with contextlib.suppress(AssertionError):
        wait_for(lambda: False, "nothing", seconds)


def is_alive(one):
    return one is not None and one.is_running()


def status(one):
    """What query-status says, "frozen", or None where there is no QEMU."""
    if one.is_frozen:
        return "frozen"
    try:
        return one.qmp.cmd("query-status")["status"] if is_alive(one) else None
    except qmp.QMPTimeout:
        raise
    except qmp.QMPError:
        return None


def migration(one):
    """What query-migrate says; of a QEMU that ended, nothing."""
    try:
        return one.qmp.cmd("query-migrate")
    except qmp.QMPTimeout:
        raise
    except qmp.QMPError:
        return {}


def address(host, port, **options):
    """The channels argument for a dwcp address."""
    where = {"transport": "dwcp", "host": host, "port": str(port),
             "security": "psk", "secret": SECRET["id"],
             "resume-limit": RESUME_S, **options}
    if options.get("security") == "none":
        del where["secret"]
    return [{"channel-type": "main", "addr": where}]


def settle(one, timeout_s=WAIT_S):
    """Waits for the source's migration to end; returns its last state."""
    def ended():
        info = migration(one)
        return info if info.get("status") in ENDED else None
    return wait_for(ended, f"{one.name}'s migration ends", timeout_s)


class Pair:
    """A guest at the source, and a target that can be started anew.

    options are more words for both QEMUs; with guest, that one is booted
    instead of the small one being restored.
    """

    def __init__(self, lab, name="vm", guest=None, options=(),
                 capabilities=(), **parameters):
        self.lab, self.name, self.options = lab, name, tuple(options)
        self.capabilities, self.parameters = capabilities, parameters
        self.source = self.target = None
        self._count = self._events = 0
        self._hosts = [lab.host("a"), lab.host("b")]
        self._made = []
        self.guest = guest or guests.small()
        self._boots = guest is not None

    def __enter__(self):
        try:
            self._start_source()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for one in self._made:
            one.stop()
        self._made = []

    def _keep(self, one):
        self._made.append(one)
        self.prepare(one)
        return one

    def _options(self, *more):
        return {"qemu": QEMU, "options": [
            "-name", f"{self.name},debug-threads=on", *self.options, *more]}

    def prepare(self, one, capabilities=None, **parameters):
        one.qmp.cmd("migrate-set-capabilities", capabilities=[
            {"capability": name, "state": True} for name in
            ["events", *(self.capabilities if capabilities is None
                         else capabilities)]])
        one.qmp.cmd("migrate-set-parameters", **{
            "max-bandwidth": 1 << 40, **self.parameters, **parameters})
        one.qmp.cmd("object-add", **{"qom-type": "secret", **SECRET})

    def _start_source(self):
        directory = self.lab.files / self.name
        if self._boots:
            self.source = self._keep(machine.Machine(
                self.guest, directory, "source", host=self._hosts[0],
                **self._options()))
            self.source.wait_console(self.guest.ready, WAIT_S)
        else:
            state = guests.saved(self.guest, QEMU)
            self.source = self._keep(state.restore(
                directory, "source", host=self._hosts[0], **self._options()))

    def run(self):
        """Lets the guest run at the source and waits for its beats."""
        self.source.qmp.cmd("cont")
        beats(self.source)

    def start_target(self, *more, held=False, incoming=True):
        """Starts a QEMU at the other host; held: it stays paused."""
        self._count += 1
        self.target = self._keep(machine.Machine(
            self.guest, self.lab.files / self.name, f"target{self._count}",
            host=self._hosts[1], incoming=incoming,
            **self._options(*(["-S"] if held else []), *more)))
        return self.target

    @property
    def target_host(self):
        return self._hosts[1]

    def listen(self, host=None, port=0, **options):
        """Has the target listen; returns the port."""
        self.target.qmp.cmd("migrate-incoming", channels=address(
            self._hosts[1].address if host is None else host, port, **options))
        return self.port()

    def port(self):
        """Where the target listens."""
        return int(migration(self.target)["socket-address"][0]["port"])

    def connect(self, port, host=None, **options):
        """Has the source migrate."""
        self._events = len(self.source.qmp.events)
        self.source.qmp.cmd("migrate", channels=address(
            host or self._hosts[1].address, port, **options))

    def reached(self, *states, timeout_s=WAIT_S):
        """Waits for the source to tell of one of the states; returns it."""
        return self.source.qmp.wait_event(
            lambda event: event["event"] == "MIGRATION"
            and event["data"]["status"] in states,
            timeout_s, self._events)["data"]["status"]

    def migrate(self, **options):
        """A whole migration to a target that stands; both sides completed."""
        self.connect(self.listen(), **options)
        self.complete()

    def complete(self):
        info = settle(self.source)
        equal(info["status"], "completed",
              f"migration ({info.get('error-desc')})")
        self.target.qmp.wait_migration(WAIT_S)

    def swap(self):
        """The target has the guest now: it is the next source."""
        self.source.stop()
        self._made.remove(self.source)
        self.source, self.target = self.target, None
        self._hosts.reverse()


class Resources:
    """Threads and descriptors of a QEMU, to see whether they come back."""

    def __init__(self, one):
        self._one = one
        self.threads, self.files = self._threads(), self._files()

    def _threads(self):
        names = []
        for task in os.listdir(f"/proc/{self._one.pid}/task"):
            with contextlib.suppress(OSError):
                with open(f"/proc/{self._one.pid}/task/{task}/comm",
                          encoding="ascii") as file:
                    names.append(file.read().strip())
        # QEMU's pool for slow system calls grows and shrinks by itself.
        return sorted(name for name in names if name != "worker")

    def _files(self):
        found = []
        for fd in os.listdir(f"/proc/{self._one.pid}/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/{self._one.pid}/fd/{fd}")
                found.append(link.split(":")[0])
        # This one QEMU opens once, asked for any use of it, and keeps.
        return sorted(name for name in found if name != "/dev/userfaultfd")

    def _more(self):
        """What is there now and was not."""
        return [*(Counter(self._threads()) - Counter(self.threads)).elements(),
                *(Counter(self._files()) - Counter(self.files)).elements()]

    def check_back(self, timeout_s=20):
        """Waits for everything that has come to be gone."""
        try:
            wait_for(lambda: not self._more(), "it is gone", timeout_s)
        except AssertionError:
            equal(self._more(), [], "threads and descriptors left behind")
