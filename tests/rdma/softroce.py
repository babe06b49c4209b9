# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine with an RDMA device, for one command.

Many kernels have no InfiniBand support, and a namespace cannot add it. So a
small virtual machine boots Debian's full kernel with Soft-RoCE (rdma_rxe), an
RDMA device of software alone above a dummy network interface: rxe0, at
10.9.0.1. Its root is an initramfs made of this system's own programs, so that
what was built here runs there: a command, what it is linked with, and the
files that it is given. Only the kernel is kept in the cache, since the rest is
read in less than a second.
"""

import contextlib
import os
import pathlib
import selectors
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / 'lab')]

from guests import cache, initramfs, machine  # noqa: E402
from guests.initramfs import GuestError, run  # noqa: E402
from payload import Payload  # noqa: E402

KERNEL_PACKAGE = 'linux-image-amd64'
# crc32 is what rxe asks the kernel's crypto for when it starts.
MODULES = ('crc32_generic', 'dummy', 'ib_uverbs', 'rdma_ucm', 'rdma_rxe')
PROGRAMS = ('ip', 'rdma', 'ibv_devices', 'ibv_devinfo', 'ibv_rc_pingpong',
            'rping')
# What libraries load by themselves: libibverbs its drivers, from a list, and
# libc what ends a thread.
LIBRARIES = '/usr/lib/x86_64-linux-gnu'
LOADED = ('/etc/libibverbs.d', f'{LIBRARIES}/libibverbs',
          f'{LIBRARIES}/libgcc_s.so.1')
QEMU = pathlib.Path(os.environ.get('DWCP_QEMU') or machine.DEFAULT_QEMU)
ADDRESS = '10.9.0.1'
LIMIT_S = 600
# The shell's own codes for a command that was not run, or took too long.
NOT_RUN, TOO_LONG = 125, 124


def _kernel_make(work):
    initramfs.fetch_kernel(KERNEL_PACKAGE, work)
    version = next((work / 'x/lib/modules').iterdir()).name
    run('depmod', '-b', work / 'x', version)
    (work / 'modules').mkdir()
    order = []
    for name in MODULES:
        for line in run('modprobe', '-S', version, '-d', work / 'x',
                        '--ignore-install', '--show-depends',
                        name).splitlines():
            # "insmod PATH OPTIONS", or "builtin NAME"
            kind, path, *_ = line.split()
            found = pathlib.Path(path)
            plain = found.name.partition('.')[0]
            if kind == 'insmod' and plain not in order:
                order.append(plain)
                initramfs.copy_module(found, work / 'modules' / f'{plain}.ko')
    (work / 'modules/order').write_text('\n'.join(order) + '\n', 'ascii')
    shutil.rmtree(work / 'x')


def kernel():
    """Directory with vmlinuz and modules/, whose file order names them."""
    return cache.entry('rdma-kernel', [KERNEL_PACKAGE, *MODULES],
                       _kernel_make)


def _command(argv, directory, environment):
    lines = [f'export {name}={shlex.quote(value)}'
             for name, value in environment.items()]
    return '\n'.join([*lines, f'cd {shlex.quote(directory)} || exit',
                      f'exec {shlex.join(argv)}', '']).encode()


def _initramfs(base, argv, files, environment, python):
    content = Payload()
    content.write('/init', (HERE / 'init').read_bytes(), 0o755)
    content.file('/bin/sh')
    content.file(initramfs.busybox())
    for path in sorted((base / 'modules').iterdir()):
        content.write(f'/modules/{path.name}', path.read_bytes())
    for name in PROGRAMS:
        content.program(name)
    for path in [*LOADED, *files]:
        content.tree(path)
    if python:
        content.python()
    directory = os.getcwd()
    # So that it is there, even if nothing in it is.
    content.write(f'{directory}/.in-guest', b'')
    content.write('/command', _command(argv, directory, environment))
    return content.finish()


class _Ended:
    """What the machine told of its end."""

    def __init__(self, scratch):
        word, _, rest = (scratch / 'status').read_text('ascii').strip() \
            .partition(' ')
        self.code = int(rest) if word == 'ended' else NOT_RUN
        self.reason = None
        if word != 'ended':
            said = (scratch / 'console').read_text(errors='replace')
            tail = '\n'.join(said.strip().splitlines()[-20:])
            self.reason = f'{rest or "the machine ended early"}\n{tail}'


def _pump(process, output, limit_s):
    """Hands the command's output on until QEMU ends; whether it did so."""
    deadline = time.monotonic() + limit_s
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                return False
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                return True
            output(data)
    return False


def execute(argv, files=(), *, environment=None, python=False, memory_mib=1024,
            output=None, limit_s=LIMIT_S):
    """Runs argv in a new machine and returns its exit code, as a shell would
    tell it; 124 if it did not end in limit_s seconds.

    files are put in beside argv[0], directories whole; environment are its
    variables, python gives it Debian's Python. output is called with the bytes
    that it writes, to both outputs, while it does; without it they go to
    ours. Raises GuestError where the machine or its device did not come up.
    """
    if not QEMU.exists():
        raise GuestError(f'there is no {QEMU}: ./run build qemu')
    output = output or (lambda data: (sys.stdout.buffer.write(data),
                                      sys.stdout.flush()))
    base = kernel()
    files = [*([argv[0]] if '/' in argv[0] else []), *files]
    with tempfile.TemporaryDirectory(prefix='dwcp-rdma-') as name:
        scratch = pathlib.Path(name)
        (scratch / 'initramfs').write_bytes(_initramfs(
            base, argv, files, environment or {}, python))
        (scratch / 'status').touch()
        # When we are killed, so is it.
        process = subprocess.Popen(
            ['setpriv', '--pdeathsig', 'KILL', str(QEMU), *machine.FIRMWARE,
             '-machine', 'pc', '-accel', 'tcg,thread=multi', '-cpu',
             'max,la57=off', '-smp', '2', '-m', f'{memory_mib}M', '-nodefaults',
             '-no-user-config', '-display', 'none', '-no-reboot',
             '-kernel', str(base / 'vmlinuz'),
             '-initrd', str(scratch / 'initramfs'), '-append',
             'console=ttyS0 quiet panic=-1 mitigations=off '
             # A busy host's timer may be late: no reason to panic.
             'no_timer_check '
             'random.trust_cpu=on',
             '-serial', f'file:{scratch}/console', '-serial', 'stdio',
             '-serial', f'file:{scratch}/status'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            if not _pump(process, output, limit_s):
                return TOO_LONG
            process.wait(timeout=30)
            ended = _Ended(scratch)
            if ended.reason:
                raise GuestError(ended.reason)
            return ended.code
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            process.stdout.close()
