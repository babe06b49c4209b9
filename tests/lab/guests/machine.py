# SPDX-License-Identifier: LGPL-2.1-or-later
"""One QEMU with a guest in it, run directly and spoken to by QMP."""

import os
import pathlib
import re
import signal
import subprocess
import time

import qmp
from guests.initramfs import GuestError

TOP = pathlib.Path(__file__).resolve().parents[3]
DEFAULT_QEMU = TOP / 'build/qemu/qemu-system-x86_64'
# Debian's source tarball of QEMU has no firmware; the packages' serves.
FIRMWARE = ('-L', '/usr/share/seabios', '-L', '/usr/share/qemu',
            '-L', '/usr/lib/ipxe/qemu')


def version(qemu):
    """The version that a QEMU binary tells, e.g. "10.0.13"."""
    try:
        out = subprocess.run([qemu, '--version'], check=True, text=True,
                             capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as err:
        raise GuestError(f'{qemu}: {err}; build it with ./run build qemu') \
            from None
    return re.search(r'version (\S+)', out).group(1)


def cpu_seconds(pid):
    """User and system time of a process with all its threads, in seconds."""
    with open(f'/proc/{pid}/stat', encoding='ascii', errors='replace') as file:
        fields = file.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


class Machine:
    """Starts QEMU with the guest; stop() (or the with statement) ends it.

    Its files NAME.* lie in directory: NAME.qmp and NAME.beat are sockets, the
    guest's console goes to NAME.console, QEMU's messages to NAME.log.
    host is a host of the lab, or None for this one. launcher is a command
    line that is put before QEMU's. With incoming, QEMU waits for
    migrate-incoming; files are passed as fd sets 1, 2, ... for it.
    """

    def __init__(self, guest, directory, name, *, qemu=DEFAULT_QEMU, host=None,
                 overlay=None, incoming=False, launcher=(), options=(),
                 files=()):
        self.name = name
        self.directory = pathlib.Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        for suffix in ('qmp', 'beat', 'console', 'log'):
            self.path(suffix).unlink(missing_ok=True)
        argv = [*launcher, str(qemu), *FIRMWARE, *guest.qemu_options(overlay),
                '-qmp', f'unix:{name}.qmp,server=on,wait=off',
                '-serial', f'file:{name}.console',
                '-serial', f'unix:{name}.beat,server=on,wait=off', *options]
        descriptors = [file.fileno() for file in files]
        for number, fd in enumerate(descriptors, 1):
            argv += ['-add-fd', f'fd={fd},set={number}']
        if incoming:
            argv += ['-incoming', 'defer']
        self.is_frozen = False
        self._log = open(self.path('log'), 'wb')
        common = {'stdin': subprocess.DEVNULL, 'stdout': self._log,
                  'stderr': self._log, 'pass_fds': descriptors,
                  'cwd': self.directory}
        if host:
            common.pop('cwd')
            self._popen = host.popen(argv, cwd=str(self.directory), **common)
        else:
            # In no host that would end it: when we are killed, so is it.
            self._popen = subprocess.Popen(
                ['setpriv', '--pdeathsig', 'KILL', *argv], **common)
        self.qmp = None
        try:
            self.qmp = self._monitor()
            self.pid = host.program_pid(self._popen) if host \
                else self._popen.pid
            self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            self._popen.kill()
            self._end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def path(self, suffix):
        return self.directory / f'{self.name}.{suffix}'

    def _monitor(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                return qmp.QMP(self.path('qmp'), timeout=0.5)
            except qmp.QMPError as err:
                if self._popen.poll() is not None:
                    raise GuestError(f'QEMU {self.name} ended: '
                                     + self.messages()) from None
                if time.monotonic() > deadline:
                    raise GuestError(f'QEMU {self.name}: {err}') from None

    def messages(self):
        """What QEMU has printed, at most its end."""
        text = self.path('log').read_text(encoding='utf-8', errors='replace')
        return text.strip()[-2000:] or 'no message'

    def console(self):
        """What the guest has printed on its console."""
        try:
            return self.path('console').read_text(encoding='utf-8',
                                                  errors='replace')
        except FileNotFoundError:
            return ''

    def wait_console(self, text, timeout):
        deadline = time.monotonic() + timeout
        while text not in self.console():
            if self._popen.poll() is not None:
                raise GuestError(f'QEMU {self.name} ended: {self.messages()}')
            if time.monotonic() > deadline:
                raise GuestError(f'guest {self.name} did not say "{text}" in '
                                 f'{timeout} s; see {self.path("console")}')
            time.sleep(0.05)

    def is_running(self):
        return self._popen.poll() is None

    @property
    def returncode(self):
        """As subprocess tells it: None while QEMU runs, negative a signal."""
        return self._popen.poll()

    def cpu_seconds(self):
        return cpu_seconds(self.pid)

    def freeze(self):
        """Stops the process, as a host that hangs would."""
        self.is_frozen = True
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self):
        # Whoever started it in a host stops with it, but goes on alone.
        for pid in (self.pid, self._popen.pid):
            os.kill(pid, signal.SIGCONT)
        self.is_frozen = False

    def _end(self):
        if self.qmp:
            self.qmp.close()
        self._popen.wait()
        self._log.close()

    def stop(self):
        """Ends QEMU at once."""
        if self._popen.poll() is None:
            # By descriptor: a number may already be another process's.
            try:
                if self.is_frozen:
                    self.thaw()
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._end()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
