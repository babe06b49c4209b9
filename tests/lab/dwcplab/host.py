# SPDX-License-Identifier: LGPL-2.1-or-later
"""One host: starting it, and running programs in it."""

import dataclasses
import os
import select
import shutil
import subprocess

from . import process
from .errors import LabError

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOP = os.path.dirname(os.path.dirname(HERE))
START_TIMEOUT_S = 30

# $1 is covered; then pairs: where a folder is kept meanwhile, and the folder.
OPEN = """
cover=$1; shift; set -- "$@" end
while [ "$1" != end ]; do
    mkdir "$1"; mount --rbind "$2" "$1"; set -- "$@" "$1" "$2"; shift 2
done
shift
mount -t tmpfs -o mode=755 tmpfs "$cover"
while [ $# -gt 0 ]; do
    mkdir -p "$2"; mount --rbind "$1" "$2"; shift 2
done
"""


def closed_above(folder):
    """The topmost folder on the way that others may not enter, or None."""
    path = ""
    for name in folder.strip("/").split("/"):
        path += "/" + name
        if not os.stat(path).st_mode & 0o001:
            return path
    return None


@dataclasses.dataclass
class HostSpec:
    """What a host should be; hosts of one lab may differ.

    qemu is the emulator binary that libvirt's domains use, prefix where
    libvirt is installed, qemu_conf more lines for its qemu.conf. qemu_env is
    added to the environment of the domains' emulator (docs/HACKING.md, "Faults
    on demand"), with libvirt, which passes on nothing of its own. qemu_user is
    who the domains run as, without privileges if it is not root; it can reach
    the tree, qemu, and the folders in open_folders.
    """

    name: str
    qemu: str = os.path.join(TOP, "build/qemu/qemu-system-x86_64")
    qemu_options: tuple = ("-L", "/usr/share/seabios", "-L", "/usr/share/qemu",
                           "-L", "/usr/lib/ipxe/qemu")
    prefix: str = os.path.join(TOP, "build/libvirt-prefix")
    qemu_conf: str = ""
    qemu_env: dict = dataclasses.field(default_factory=dict)
    qemu_user: str = "root"
    open_folders: tuple = ()


class Host:
    """A host that is up. run() and popen() start programs in it.

    address and address6 are its addresses, the same on all its links;
    hostname resolves to address on every host of the lab. init_pid is its
    PID 1 and netns its network namespace, both as seen from outside. directory
    is its own, and directory/run is its /run.
    """

    def __init__(self, name, index, directory):
        self.name = name
        self.index = index
        self.hostname = f"host-{name}"
        self.address = f"10.77.0.{index + 1}"
        self.address6 = f"fd77::{index + 1:x}"
        self.directory = directory
        self.init_pid = None
        self.prefix = None
        self._unshare = None
        self._lifeline = None

    @property
    def netns(self):
        return f"/proc/{self.init_pid}/ns/net"

    def make_directory(self, names):
        """Makes the host's directory anew; names are lines for /etc/hosts."""
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(os.path.join(self.directory, "run/lock"))
        with open(os.path.join(self.directory, "hosts"), "w",
                  encoding="ascii") as file:
            file.write(names)

    def start(self, binds, record):
        """Starts PID 1.

        binds are pairs of directories to lay one over the other, record() is
        told of each process as it starts.
        """
        for bind in binds:
            for path in bind:
                os.makedirs(path, exist_ok=True)
        log_path = os.path.join(self.directory, "init.log")
        with open(log_path, "wb") as log:
            self._unshare = subprocess.Popen(
                ["unshare", "--net", "--mount", "--uts", "--pid", "--ipc",
                 "--fork", "--kill-child=KILL", "--mount-proc",
                 "--propagation", "private",
                 os.path.join(HERE, "host-init"), self.hostname,
                 self.directory, *[path for bind in binds for path in bind]],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True)
        record("unshare", self._unshare.pid)
        self._lifeline = self._unshare.stdin
        ready = select.select([self._unshare.stdout], [], [],
                              START_TIMEOUT_S)[0]
        if not ready or self._unshare.stdout.readline() != b"ready\n":
            self.stop()
            with open(log_path, encoding="utf-8", errors="replace") as log:
                text = log.read().strip() or "no message"
            raise LabError(f"host {self.name} did not start: {text}")
        self.init_pid = process.children(self._unshare.pid)[0]
        record("init", self.init_pid)

    def stop(self):
        """Ends everything in the host and waits for it to be gone."""
        if self._unshare is None:
            return
        self._lifeline.close()
        try:
            self._unshare.wait(10)
        except subprocess.TimeoutExpired:
            self._unshare.kill()
            self._unshare.wait()
        self._unshare.stdout.close()
        self._unshare = None

    def environment(self):
        env = dict(os.environ)
        if self.prefix:
            env["PATH"] = f"{self.prefix}/bin:{self.prefix}/sbin:" \
                          + env.get("PATH", os.defpath)
            env["LIBVIRT_DEFAULT_URI"] = "qemu:///system"
        return env

    def command(self, argv, cwd=None):
        """The command line that runs argv in this host."""
        if self.init_pid is None:
            raise LabError(f"host {self.name} is not up")
        return ["nsenter", "-t", str(self.init_pid), "--net", "--mount",
                "--uts", "--pid", "--ipc", "--",
                # nsenter waits outside; what it started goes with it.
                "setpriv", "--pdeathsig", "KILL",
                "env", "-C", cwd or os.getcwd(), *map(str, argv)]

    def popen(self, argv, cwd=None, **options):
        """subprocess.Popen in the host.

        The Popen object is nsenter's: killing it kills the program, and
        program_pid() tells the program's own process id.
        """
        options.setdefault("env", self.environment())
        return subprocess.Popen(self.command(argv, cwd), **options)

    def program_pid(self, popen):
        """The process id, seen from outside, of what popen() started."""
        pids = process.children(popen.pid)
        if not pids:
            raise LabError(f"host {self.name}: the program has ended, or not "
                           "started yet")
        return pids[0]

    def run(self, argv, check=True, cwd=None, **options):
        """subprocess.run in the host, as text; check raises LabError."""
        options.setdefault("env", self.environment())
        options.setdefault("text", True)
        if "stdout" not in options and "stderr" not in options:
            options.setdefault("capture_output", True)
        result = subprocess.run(self.command(argv, cwd), check=False,
                                **options)
        if check and result.returncode != 0:
            said = (result.stderr or result.stdout or "").strip()
            raise LabError(f"host {self.name}: {' '.join(map(str, argv))}: "
                           f"exit {result.returncode}: {said}")
        return result

    def pids(self, name=None):
        """The process ids, seen from outside, of what runs in the host.

        name is the kernel's short one (/proc/PID/comm); PID 1 is included.
        """
        def namespace(pid):
            try:
                return os.readlink(f"/proc/{pid}/ns/pid")
            except OSError:
                return None

        own = namespace(self.init_pid)
        found = [int(entry) for entry in os.listdir("/proc")
                 if entry.isdigit() and namespace(entry) == own]
        return [pid for pid in found
                if name is None or process.short_name(pid) == name]

    def open(self, folders):
        """Lets every user of this host reach folders.

        What lies above them and is closed to others, somebody's home say, is
        covered by an empty file system here, with only these in it.
        """
        covers = {}
        for folder in map(os.path.realpath, folders):
            if cover := closed_above(folder):
                covers.setdefault(cover, []).append(folder)
        number = 0
        for cover, kept in covers.items():
            words = []
            for folder in sorted(set(kept)):
                words += [f"/run/open{number}", folder]
                number += 1
            self.run(["sh", "-ec", OPEN, "sh", cover, *words])

    def virsh(self, *words, **options):
        """run() of virsh, connected to this host's libvirt."""
        return self.run(["virsh", "-q", *words], **options)

    def sysctl(self, name, value):
        """Sets a variable of this host's network namespace (net.*)."""
        if not name.startswith("net."):
            raise LabError(f"sysctl {name} is not the host's own")
        path = "/proc/sys/" + name.replace(".", "/")
        self.run(["sh", "-c", 'printf %s "$1" >"$2"', "sh", value, path])

    def device_counters(self):
        """Packets and bytes of each network device."""
        counters = {}
        with open(f"/proc/{self.init_pid}/net/dev", encoding="ascii") as file:
            for line in file.readlines()[2:]:
                name, values = line.split(":")
                words = [int(word) for word in values.split()]
                counters[name.strip()] = {
                    "received": {"packets": words[1], "bytes": words[0]},
                    "sent": {"packets": words[9], "bytes": words[8]}}
        return counters
