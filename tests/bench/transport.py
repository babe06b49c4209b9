# SPDX-License-Identifier: LGPL-2.1-or-later
"""./run bench transport: how full the transport alone holds the link.

A paused guest whose memory is random moves from an unprivileged QEMU to
another. What counts is what the link carries for the first time, headers
included: the emulator sees the sequence numbers and tells it from what is
carried again. The share is measured from 10 round trips after the first
connection on, for --seconds or to the end. iperf3 is measured in the same way,
once its streams are connected.
"""

import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
import types

import cells as celllib
import domain
import faults
import qmp
import report
import settings
import virshmove
from dwcplab import LabError
from guests import guest as guests
from guests import machine
from guests.initramfs import GuestError
from testbed import UNPRIVILEGED_USER, Testbed

sys.path.append(str(machine.TOP / 'tests/integration'))

import ram  # noqa: E402

START_RTTS = 10
SAMPLE_S = 0.05
# What is in memory lasts a little longer than the window.
SPARE_S = 1.0
MEMORY_MIN_MIB = 128
DATA_BYTES = 20000      # more than a program says before its data
CONNECT_S = 60
WATCH_S = 0.1
DRAIN_STEPS = 20
FILL_BYTES = 8 << 20
MIB = 1 << 20
IPERF_PORT = 5201
IPERF_STREAMS = (1, 8, 16)
IPERF_ENOUGH = 0.97
DOWNTIME_MS = 300
XML = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""


class CellError(Exception):
    """A run that says nothing about the transport."""


class Meter(threading.Thread):
    """Reads the link's counters every 50 ms until it is closed."""

    def __init__(self, link):
        super().__init__(daemon=True, name='meter')
        self._link = link
        self._end = threading.Event()
        self.samples = []       # (seconds, counters of a to b)
        self._read()
        self.start()

    def _read(self):
        stats = self._link.stats()
        self.samples.append((stats['now_ns'] / 1e9, stats['ab']))

    def run(self):
        while not self._end.wait(SAMPLE_S):
            self._read()

    def close(self):
        self._end.set()
        self.join()
        self._read()

    def first_data(self):
        """When the link had carried some data, None before that."""
        idle = self.samples[0][1]['first']['bytes']
        return next((when for when, counters in self.samples
                     if counters['first']['bytes'] > idle + DATA_BYTES), None)

    def at(self, when, name):
        """A counter's bytes at a time, between two samples in proportion."""
        before = self.samples[0]
        for sample in self.samples:
            if sample[0] >= when:
                break
            before = sample
        else:
            return before[1][name]['bytes']
        low, high = (one[1][name]['bytes'] for one in (before, sample))
        part = (when - before[0]) / max(sample[0] - before[0], 1e-9)
        return low + (high - low) * min(max(part, 0), 1)

    def between(self, start, end, name):
        return self.at(end, name) - self.at(start, name)


def measure(meter, cell, begin, end, seconds):
    """The figures of a run that began and ended at these times."""
    rate = cell.rate_mbit * 1e6 / 8
    start = begin + START_RTTS * cell.rtt_ms / 1e3
    stop = min(end, start + seconds)
    if stop <= start:
        raise CellError('it ended within the first 10 round trips')
    length = stop - start
    figures = {'window_s': length, 'whole_window': length >= seconds - 0.1}
    for name, counter in (('share', 'first'), ('again_share', 'again'),
                          ('sent_share', 'sent'), ('lost_share', 'lost'),
                          ('drop_share', 'queue_drops')):
        figures[name] = meter.between(start, stop, counter) / rate / length
    figures['start_share'] = meter.between(begin, start, 'first') / rate / \
        (start - begin)
    figures['steps'] = [round(meter.between(begin + at, begin + at + 1,
                                            'first') / rate, 3)
                        for at in range(int(stop - begin))]
    return figures


SS_FIELDS = {
    'cwnd': r'\bcwnd:(\d+)', 'ssthresh': r'\bssthresh:(\d+)',
    'mss': r'\bmss:(\d+)', 'rtt_ms': r'\brtt:([\d.]+)',
    'retrans_total': r'\bretrans:\d+/(\d+)',
    'unacked': r'\bunacked:(\d+)', 'notsent': r'\bnotsent:(\d+)',
    'rwnd_limited': r'\brwnd_limited:\d+ms\(([\d.]+)%\)',
    'sndbuf_limited': r'\bsndbuf_limited:\d+ms\(([\d.]+)%\)',
    'snd_wnd': r'\bsnd_wnd:(\d+)', 'bytes_sent': r'\bbytes_sent:(\d+)',
    'busy_ms': r'\bbusy:(\d+)ms', 'sndbuf': r'\btb(\d+)',
}


def sockets(host, address):
    """What ss(8) says of a host's connections to an address."""
    text = host.run(['ss', '-tinmH', 'dst', address], env=dict(os.environ),
                    check=False).stdout
    found = []
    port = None
    for line in text.splitlines():
        if not line[:1].isspace():
            port = int(line.split()[4].rpartition(':')[2])
        if not line[:1].isspace() or 'cwnd' not in line:
            continue
        one = {'port': port, 'app_limited': 'app_limited' in line,
               'algorithm': next((word for word in line.split() if word in
                                  ('bbr', 'cubic', 'reno')), None)}
        for name, pattern in SS_FIELDS.items():
            match = re.search(pattern, line)
            if match:
                one[name] = float(match.group(1))
        found.append(one)
    return found


def limits(seen, cell):
    """One line about what held the connections back."""
    if not seen:
        return 'no connections'

    def total(name):
        return sum(one.get(name, 0) for one in seen)

    def mean(name):
        return total(name) / len(seen)
    flight = sum(one.get('unacked', 0) * one.get('mss', 0) for one in seen)
    windows = sum(one.get('cwnd', 0) * one.get('mss', 0) for one in seen)
    return (f"{len(seen)} {seen[0]['algorithm']}, in flight "
            f'{flight / 1e6:.1f} MB, cwnd {windows / 1e6:.1f} MB, product '
            f'{cell.product_bytes / 1e6:.1f} MB, '
            f"not sent {total('notsent') / 1e6:.1f} MB, rtt "
            f"{mean('rtt_ms'):.0f} ms, limited by receiver "
            f"{mean('rwnd_limited'):.0f} %, by send buffer "
            f"{mean('sndbuf_limited'):.0f} %, "
            f"{sum(one['app_limited'] for one in seen)} by the program, "
            f"resent {total('retrans_total'):.0f} packets")


def memory_mib(cell, seconds):
    """How much of it takes so long, and no less than a machine needs."""
    wanted = cell.rate_mbit * 1e6 / 8 * (
        START_RTTS * cell.rtt_ms / 1e3 + seconds + SPARE_S) / MIB
    have = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / MIB
    return int(max(MEMORY_MIN_MIB, min(wanted, have * 0.4)))


def fill_random(one, seed=1):
    """Fills a machine's memory with what no level makes smaller."""
    address, size = ram.blocks(one)['pc.ram']
    source = random.Random(seed)
    with ram.Memory(one.pid) as memory:
        for offset in range(0, size, FILL_BYTES):
            memory.write(address + offset, source.randbytes(
                min(FILL_BYTES, size - offset)))


def quiet(bed):
    """Waits until nothing of an earlier run is under way."""
    with contextlib.suppress(LabError):
        bed.link.reset_flow('all')
    step_s = 0.2 + 2 * bed.config['rtt_ms'] / 1e3
    for _ in range(DRAIN_STEPS):
        before = bed.link.stats()
        time.sleep(step_s)
        after = bed.link.stats()
        if all(before[way]['offered'] == after[way]['offered']
               for way in ('ab', 'ba')):
            return
    raise CellError('the link does not get quiet')


class Run:
    """Moves random memory over a cell's link."""

    def __init__(self, bed, cell, setting, options):
        self.bed, self.cell, self.setting = bed, cell, setting
        self.options = options
        self.record = {'cell': cell.name, 'label': setting.label, 'ok': False}

    def execute(self):
        try:
            self._run(guests.Guest('random', memory_mib(
                self.cell, self.options.seconds), has_beat=False))
            self.record['ok'] = True
        except (qmp.QMPError, GuestError, LabError, CellError,
                OSError) as err:
            self.record['error'] = str(err)
        return self.record

    def _run(self, guest):
        source = target = None
        directory = self.options.directory
        try:
            more = self.bed.machine_options()
            more['options'] = [*more.get('options', ()), '-S']
            source = machine.Machine(guest, directory, 'source',
                                     qemu=self.options.qemu,
                                     host=self.bed.source, **more)
            target = machine.Machine(guest, directory, 'target',
                                     qemu=self.options.qemu, incoming=True,
                                     host=self.bed.target, **more)
            for one in (source, target):
                self.bed.assert_restricted(one.pid)
                self.setting.apply(one.qmp, DOWNTIME_MS)
            fill_random(source)
            self._move(source, target)
        finally:
            for one in (source, target):
                if one:
                    one.stop()

    def _move(self, source, target):
        target.qmp.cmd('migrate-incoming', channels=self.setting.channels(
            '0.0.0.0', False))
        address = self.bed.target.address
        quiet(self.bed)
        cpu = source.cpu_seconds(), target.cpu_seconds()
        meter = Meter(self.bed.link)
        try:
            begin = time.monotonic()
            source.qmp.cmd('migrate', channels=self.setting.channels(
                address, True))
            until = START_RTTS * self.cell.rtt_ms / 1e3 + self.options.seconds
            seen = self._wait(source, begin + until, address)
            end = time.monotonic()
        finally:
            meter.close()
        self.record.update(source_cpu_s=source.cpu_seconds() - cpu[0],
                           target_cpu_s=target.cpu_seconds() - cpu[1],
                           dwcp=source.qmp.cmd('query-migrate').get('dwcp'))
        self._figures(meter, begin, end, seen)
        used = {one['algorithm'] for one in seen}
        if used - {self.cell.cc}:
            raise CellError(f'connections used {sorted(used)}')

    def _figures(self, meter, begin, end, seen):
        self.record.update(measure(meter, self.cell, begin, end,
                                   self.options.seconds))
        self.record.update(sockets=seen, limits=limits(seen, self.cell))

    def _wait(self, source, until, address):
        """Waits for the window's end or the migration's; returns what the
        connections were like shortly before."""
        seen = []
        while (left := until - time.monotonic()) > 0:
            try:
                source.qmp.wait_migration(min(left, 1.0))
                break
            except qmp.QMPTimeout:
                seen = sockets(self.bed.source, address) or seen
        return seen


def watch(program, limit_s, test, look=lambda: None):
    """Waits until test() is something, at most so long, while a program must
    run; returns that, or else the last thing that look() returned."""
    last = None
    deadline = time.monotonic() + limit_s
    while (left := deadline - time.monotonic()) > 0:
        if program.poll() is not None:
            raise CellError('it ended: ' + program.stderr.read().strip())
        if found := test():
            return found
        time.sleep(min(left, WATCH_S))
        last = look() or last
    return last


class Monitor:
    """A domain's monitor, through virsh."""

    def __init__(self, host, name):
        self._host, self._name = host, name

    def cmd(self, command, **arguments):
        line = json.dumps({'execute': command, 'arguments': arguments})
        return json.loads(self._host.virsh(
            'qemu-monitor-command', self._name, line).stdout)['return']


class LibvirtRun(Run):
    """The same by virsh."""

    def _run(self, guest):
        source, target = self.bed.source, self.bed.target
        path = self.options.directory / 'domain.xml'
        path.write_text(XML.format(name=guest.name, memory=guest.memory_mib,
                                   emulator=domain.EMULATOR), 'ascii')
        source.virsh('create', path, '--paused')
        try:
            pid = domain.qemu_pid(source, guest)
            self.bed.assert_unprivileged(pid)
            fill_random(types.SimpleNamespace(
                pid=pid, qmp=Monitor(source, guest.name)))
            self._migrate(guest, pid)
        finally:
            for host in (source, target):
                host.virsh('destroy', guest.name, check=False)

    def _migrate(self, guest, pid):
        source, target = self.bed.source, self.bed.target
        quiet(self.bed)
        virsh = meter = None
        cpu = domain.CpuMeter(pid)
        try:
            meter = Meter(self.bed.link)
            virsh = source.popen(
                ['virsh', 'migrate', *self.setting.virsh(), '--live',
                 guest.name, f'qemu+tcp://{target.hostname}/system'],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            # libvirt talks and starts the other QEMU before that connects.
            begin = watch(virsh, CONNECT_S, lambda: faults.streams(
                self.bed.link) and time.monotonic())
            if not begin:
                raise CellError('libvirt connects nothing')
            until = START_RTTS * self.cell.rtt_ms / 1e3 + self.options.seconds
            seen = watch(virsh, begin + until - time.monotonic(),
                         lambda: None, lambda: [
                             one for one in sockets(source, target.address)
                             if one['port'] in faults.MIGRATION_PORTS])
            end = time.monotonic()
        finally:
            if meter:
                meter.close()
            self.record['source_cpu_s'] = cpu.seconds()
            if virsh:
                virsh.kill()
                virsh.wait()
                virsh.stderr.close()
        self._figures(meter, begin, end, seen or [])


def unprivileged(argv):
    # Another user's program would outlive whoever started it.
    return ['setpriv', f'--reuid={UNPRIVILEGED_USER}', '--regid=nogroup',
            '--clear-groups', '--pdeathsig', 'KILL', '--', *argv]


def iperf(bed, cell, streams, seconds):
    """iperf3 over the same link; returns a record."""
    record = {'cell': cell.name, 'label': f'iperf3:{streams}', 'ok': False}
    until = START_RTTS * cell.rtt_ms / 1e3 + seconds
    server = bed.target.popen(
        unprivileged(['iperf3', '-s', '-1', '-p', str(IPERF_PORT),
                      '--forceflush']), stdout=subprocess.PIPE, text=True)
    client = meter = None
    try:
        while 'listening' not in (line := server.stdout.readline()):
            if not line:
                raise CellError('iperf3 does not listen')
        quiet(bed)
        meter = Meter(bed.link)
        client = bed.source.popen(
            unprivileged(['iperf3', '-c', bed.target.address, '-P',
                          str(streams), '-p', str(IPERF_PORT), '-t',
                          str(int(until + 10))]),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        # It opens one stream after another; what counts begins after that.
        begin = watch(client, CONNECT_S, meter.first_data)
        if not begin:
            raise CellError('iperf3 sends nothing')
        seen = watch(client, begin + until - time.monotonic(), lambda: None,
                      lambda: sockets(bed.source, bed.target.address))
        end = time.monotonic()
        meter.close()
        record.update(measure(meter, cell, begin, end, seconds))
        record.update(limits=limits(seen or [], cell), ok=True)
    except (CellError, LabError, OSError) as err:
        record['error'] = str(err)
    finally:
        if meter and meter.is_alive():
            meter.close()
        for one in (client, server):
            if one:
                one.kill()
                one.wait()
                for pipe in (one.stdout, one.stderr):
                    if pipe:
                        pipe.close()
    return record


def text_of(record):
    text = f"{record['cell']} {record['label']}: "
    if not record['ok']:
        return text + 'FAILED: ' + record['error']
    text += f"{record['share']:.3f} of the link"
    if not record['whole_window']:
        text += f" in {record['window_s']:.1f} s"
    text += (f", again {record['again_share']:.3f}, "
             f"dropped {record['drop_share']:.3f}, start "
             f"{record['start_share']:.3f}")
    return text


def run_cell(cell, wanted, options, turns):
    """All runs of one cell in turns; a lab of its own."""
    records = []
    hosts, kind = None, Run
    if options.driver == 'virsh':
        hosts = virshmove.specs(options.qemu, options.libvirt.resolve(),
                                options.directory, UNPRIVILEGED_USER)
        kind = LibvirtRun
    with Testbed(options.directory / 'lab', buffers=options.buffers,
                 unprivileged=True, hosts=hosts, **cell.link()) as bed:
        for turn in range(turns):
            jobs = [lambda s=s: kind(bed, cell, s, options).execute()
                    for s in wanted]
            jobs += [lambda n=n: iperf(bed, cell, n, options.seconds)
                     for n in options.iperf]
            for job in jobs:
                record = job()
                record['turn'] = turn
                records.append(record)
                print(text_of(record), flush=True)
                if options.verbose and 'limits' in record:
                    print('    ' + record['limits'])
                    print(f"    each second {record['steps']}", flush=True)
    return records


def summary(cell, records):
    """Medians, and whether what was asked is there."""
    shares = {}
    for record in records:
        if record['ok']:
            shares.setdefault(record['label'], []).append(record['share'])
    medians = {label: statistics.median(values)
               for label, values in shares.items()}
    best = max((value for label, value in medians.items()
                if label.startswith('iperf3')), default=None)
    rows = {}
    for label in dict.fromkeys(record['label'] for record in records):
        mine = [record for record in records if record['label'] == label]
        got = report.spread(shares.get(label, []))
        is_met = None
        if cell.asked is not None and not label.startswith('iperf3'):
            is_met = bool(got) and all(r['ok'] for r in mine) and (
                got['median'] >= cell.asked or
                best is not None and cell.loss == 0 and cell.burst == '0' and
                got['median'] >= IPERF_ENOUGH * best)
        rows[label] = {'runs': len(mine), 'share': got, 'is_met': is_met}
    return {'cell': cell.name, 'asked': cell.asked, 'iperf_best': best,
            'settings': rows}


def table(summaries):
    rows = [['cell', 'setting', 'runs', 'asked', 'got', 'iperf3', '']]
    for entry in summaries:
        for label, row in entry['settings'].items():
            if label.startswith('iperf3'):
                continue
            got = row['share']
            rows.append([
                entry['cell'], label, str(row['runs']),
                f"{entry['asked']:.2f}" if entry['asked'] else '-',
                '-' if not got else f"{got['median']:.3f}" if got['n'] == 1
                else '{median:.3f} ({min:.3f}..{max:.3f})'.format(**got),
                f"{entry['iperf_best']:.3f}" if entry['iperf_best'] else '-',
                {None: '', True: 'met', False: 'SHORT'}[row['is_met']]])
    return report.rows_text(rows)


def add_arguments(one):
    one.add_argument('--cells', default='gating', metavar='LIST',
                     help='cells, or lists of them: '
                     + ', '.join(celllib.LISTS))
    one.add_argument('--against', default='dwcp::0,dwcp', metavar='LIST',
                     help='transports, as in bench migrate')
    one.add_argument('--streams', type=int, help="dwcp's")
    one.add_argument('--driver', choices=('virsh', 'qmp'), default='virsh',
                     help='who migrates: libvirt, or the bench itself')
    one.add_argument('--iperf', default=','.join(map(str, IPERF_STREAMS)),
                     metavar='LIST', help='streams of iperf3; empty is none')
    one.add_argument('--seconds', type=float, default=20, metavar='S',
                     help='how long the share is measured')
    one.add_argument('--buffers', choices=('default', 'tuned'),
                     default='default')
    one.add_argument('--repeat', type=int, default=3, metavar='N')
    one.add_argument('--verbose', action='store_true',
                     help='what held the connections back, and each second')


def run(args, work):
    """Measures; returns what the JSON file holds, and the table."""
    wanted = settings.parse_list(args.against, args.streams, None)
    chosen = celllib.parse_list(args.cells)
    args.directory = work
    args.iperf = [int(word) for word in args.iperf.split(',') if word]
    records, summaries = [], []
    is_complete = False
    try:
        for cell in chosen:
            mine = run_cell(cell, wanted, args, args.repeat)
            records += mine
            summaries.append(summary(cell, mine))
        is_complete = True
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
    return {'seconds': args.seconds, 'buffers': args.buffers,
            'complete': is_complete, 'runs': records,
            'summary': summaries}, table(summaries)
