# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two hosts and the link between them, as a bench wants them: congestion
control and buffers chosen for these hosts alone.

The congestion control is the route's: a namespace's own default may only be
one that the machine permits to all."""

import os
import pathlib
import pwd

from dwcplab import Lab, LabError, Link
from guests import initramfs, cache

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
BUFFER_MIN = 4096
# The kernel's own: first size, and the largest that it grows to by itself.
BUFFER_DEFAULTS = {'net.ipv4.tcp_wmem': (16384, 4 << 20),
                   'net.ipv4.tcp_rmem': (131072, 6 << 20)}
UNPRIVILEGED_USER = 'nobody'


def launcher():
    """The program that takes the choice of congestion control away."""
    source = HERE / 'no-congestion-choice.c'
    flags = ['-std=gnu11', '-D_GNU_SOURCE', '-O2', '-Wall', '-Wextra',
             '-Werror', '-static']

    def make(work):
        initramfs.run('cc', *flags, '-o', work / source.stem, source)
    return cache.entry('tool-no-congestion-choice', [source, *flags],
                       make) / source.stem


class Testbed:
    """kind is "wan" or "veth"; cc is bbr or cubic; buffers "default" or
    "tuned" (two bandwidth-delay products, where that is more).

    With cubic, QEMU is unprivileged and has no choice; with unprivileged it
    has only what the host permits to all. hosts are HostSpecs with libvirt,
    which chooses for itself. As a context it is up."""

    def __init__(self, state, *, kind='wan', rate_mbit=0, rtt_ms=0, loss=0,
                 burst='0', jitter_ms=0, queue='100ms', veth_mbit=0, cc='bbr',
                 buffers='default', unprivileged=False, hosts=None):
        self.config = {'kind': kind, 'rate_mbit': rate_mbit, 'rtt_ms': rtt_ms,
                       'loss_percent': loss, 'jitter_ms': jitter_ms,
                       'burst': burst, 'queue': queue,
                       'veth_mbit': veth_mbit, 'cc': cc,
                       'buffers': buffers,
                       'unprivileged': unprivileged or cc == 'cubic'}
        if kind == 'veth':
            link = Link(kind='veth', veth_mbit=veth_mbit)
        else:
            link = Link(rate_mbit=rate_mbit, rtt_ms=rtt_ms, loss=loss,
                        burst=burst, jitter_ms=jitter_ms, queue=queue)
        link.cc = cc
        if hosts:
            # What libvirt opens is libvirt's choice.
            link.cc_user = UNPRIVILEGED_USER
        self.lab = Lab(state=state, hosts=hosts or 2, link=link,
                       libvirt=hosts is not None)

    def __enter__(self):
        self.lab.up()
        try:
            self._prepare()
        except BaseException:
            self.lab.down()
            raise
        return self

    def __exit__(self, *_):
        self.lab.down()

    @property
    def source(self):
        return self.lab.host('a')

    @property
    def target(self):
        return self.lab.host('b')

    @property
    def link(self):
        return self.lab.link()

    @property
    def is_restricted(self):
        """Whether QEMU runs without privileges and without a choice."""
        return self.config['cc'] == 'cubic'

    def _buffers(self):
        product = self.config['rate_mbit'] * 1e6 / 8 * \
            self.config['rtt_ms'] / 1e3
        limits = {}
        for name, (first, largest) in BUFFER_DEFAULTS.items():
            if self.config['buffers'] == 'tuned':
                largest = max(largest, int(2 * product))
            limits[name] = (BUFFER_MIN, first, largest)
        return limits

    def _prepare(self):
        self.config['buffer_bytes'] = {name: values[2] for name, values
                                       in self._buffers().items()}
        for host in (self.source, self.target):
            # What one run learns of the path must not help the next.
            host.sysctl('net.ipv4.tcp_no_metrics_save', 1)
            for name, values in self._buffers().items():
                host.sysctl(name, '\t'.join(map(str, values)))
            self._default(host)
        if self.is_restricted:
            test = self.source.run([launcher(), '--self-test'], check=False)
            if test.returncode != 0:
                raise LabError('the seccomp filter lets QEMU choose its '
                               f'congestion control: {test.stderr}')

    def _default(self, host):
        """The congestion control of those who choose none and are not bound
        to one: reno stands for one that the machine does not permit to all,
        so that nobody takes it for the machine's own."""
        try:
            host.sysctl('net.ipv4.tcp_congestion_control', self.config['cc'])
        except LabError:
            host.sysctl('net.ipv4.tcp_congestion_control', 'reno')

    def machine_options(self):
        """How a QEMU is started so that it has what the bench says it has."""
        if not self.config['unprivileged']:
            return {}
        user = ['-run-with', f'user={UNPRIVILEGED_USER}']
        if not self.is_restricted:
            return {'options': user}
        return {'launcher': [str(launcher())], 'options': user}

    def assert_restricted(self, pid):
        """Reads from the kernel that a QEMU is what was promised."""
        if self.config['unprivileged']:
            self.assert_unprivileged(pid, self.is_restricted)

    @staticmethod
    def assert_unprivileged(pid, is_filtered=False):
        with open(f'/proc/{pid}/status', encoding='ascii') as file:
            status = dict(line.rstrip('\n').split(':\t', 1) for line in file
                          if ':\t' in line)
        uid = pwd.getpwnam(UNPRIVILEGED_USER).pw_uid
        if set(status['Uid'].split()) != {str(uid)} or \
                int(status['CapEff'], 16) or int(status['CapPrm'], 16) or \
                (is_filtered and status['Seccomp'] != '2'):
            raise LabError(f'QEMU (process {pid}) is not restricted: user '
                           f"{status['Uid']}, CapEff {status['CapEff']}, "
                           f"Seccomp {status['Seccomp']}")

    def congestion_controls(self):
        """The congestion controls of the source's connections to the
        target, as ss(8) shows them."""
        out = self.source.run(['ss', '-tinH', 'dst', self.target.address],
                              env=dict(os.environ)).stdout
        names = set()
        for line in out.splitlines():
            # The details of a connection are an indented line that starts
            # with options and the algorithm's name.
            words = line.split()
            if line[:1].isspace():
                names |= {w for w in words if w in ('bbr', 'cubic', 'reno')}
        return names
