# SPDX-License-Identifier: LGPL-2.1-or-later
"""./run bench beside: what a migration takes from others on its link.

A paused guest whose memory is random moves alone for a while; then iperf3
sends over the same link, and leaves again. Before that iperf3 is alone. What
the link carries is the emulator's word, what the migration sent of it is
QEMU's; the rest is iperf3's. Shares are of the link, measured once what joined
has had time to grow; back is the time until the migration has 0.85 of the link again.
"""

import statistics
import subprocess
import sys
import threading
import time

import cells as celllib
import qmp
import report
import settings
import transport
from dwcplab import LabError
from guests import guest as guests
from guests import machine
from guests.initramfs import GuestError
from testbed import Testbed

SAMPLE_S = 0.1
SETTLE_S = 10
BACK_SHARE = 0.85
BACK_S = 30


class Sent(threading.Thread):
    """Reads what a migration has sent, until it is closed."""

    def __init__(self, source):
        super().__init__(daemon=True, name='sent')
        self._source = source
        self._end = threading.Event()
        self.samples = []
        self.start()

    def run(self):
        while not self._end.wait(SAMPLE_S):
            try:
                info = self._source.qmp.cmd('query-migrate')
            except (qmp.QMPError, OSError):
                return
            self.samples.append((time.monotonic(),
                                 info['dwcp']['wire-bytes']))

    def close(self):
        self._end.set()
        self.join()

    def between(self, start, end):
        """Bytes a second."""
        inside = [one for one in self.samples if start <= one[0] <= end]
        if len(inside) < 2:
            raise transport.CellError('the migration ended too early')
        return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])

    def back(self, since, rate):
        """When three samples in a row carried so much; None: never."""
        late = [one for one in self.samples if one[0] >= since]
        for first, last in zip(late, late[3:]):
            if (last[1] - first[1]) / (last[0] - first[0]) >= rate:
                return first[0] - since
        return None


class Iperf:
    """iperf3 from the source to the target until it is closed."""

    def __init__(self, bed, flows):
        self._server = bed.target.popen(transport.unprivileged(
            ['iperf3', '-s', '-1', '-p', str(transport.IPERF_PORT),
             '--forceflush']), stdout=subprocess.PIPE, text=True)
        while 'listening' not in (line := self._server.stdout.readline()):
            if not line:
                raise transport.CellError('iperf3 does not listen')
        self._client = bed.source.popen(transport.unprivileged(
            ['iperf3', '-c', bed.target.address, '-P', str(flows), '-p',
             str(transport.IPERF_PORT), '-t', '3600']),
            stdout=subprocess.DEVNULL)

    def close(self):
        for one in (self._client, self._server):
            one.kill()
            one.wait()
        self._server.stdout.close()


def alone(bed, cell, flows, seconds):
    """iperf3's share without anybody else."""
    transport.quiet(bed)
    meter = transport.Meter(bed.link)
    iperf = Iperf(bed, flows)
    try:
        begin = time.monotonic() + SETTLE_S
        time.sleep(SETTLE_S + seconds)
    finally:
        iperf.close()
        meter.close()
    return meter.between(begin, begin + seconds, 'first') / seconds / \
        (cell.rate_mbit * 1e6 / 8)


def beside(bed, cell, setting, args, source, target):
    """The migration alone, with iperf3, alone again."""
    rate = cell.rate_mbit * 1e6 / 8
    target.qmp.cmd('migrate-incoming', channels=setting.channels(
        '0.0.0.0', False))
    channels = setting.channels(bed.target.address, True)
    channels[0]['addr']['priority'] = args.priority
    transport.quiet(bed)
    meter = transport.Meter(bed.link)
    source.qmp.cmd('migrate', channels=channels)
    sent = Sent(source)
    record = {}
    try:
        begin = time.monotonic() + SETTLE_S
        time.sleep(SETTLE_S + args.seconds)
        record['alone'] = sent.between(begin, time.monotonic()) / rate
        iperf = Iperf(bed, args.flows)
        try:
            begin = time.monotonic() + args.settle
            time.sleep(args.settle + args.seconds)
            end = time.monotonic()
        finally:
            iperf.close()
        left = time.monotonic()
        record['beside'] = sent.between(begin, end) / rate
        while time.monotonic() < left + BACK_S and \
                sent.back(left, BACK_SHARE * rate) is None:
            time.sleep(SAMPLE_S)
    finally:
        sent.close()
        meter.close()
    record['iperf'] = meter.between(begin, end, 'first') / (end - begin) / \
        rate - record['beside']
    record['back_s'] = sent.back(left, BACK_SHARE * rate)
    if args.verbose:
        record['steps'] = [
            round((last[1] - first[1]) / (last[0] - first[0]) / rate, 2)
            for first, last in zip(sent.samples[::5], sent.samples[5::5])]
    return record


def run_one(bed, cell, setting, args):
    """One turn; returns a record."""
    record = {'cell': cell.name, 'label': setting.label, 'ok': False}
    # Beside iperf3 it should send little.
    seconds = 1.4 * args.seconds + 0.4 * args.settle + SETTLE_S + BACK_S
    if args.priority != 'low':
        seconds += args.seconds + args.settle
    guest = guests.Guest('random', transport.memory_mib(cell, seconds),
                         has_beat=False)
    more = bed.machine_options()
    more['options'] = [*more.get('options', ()), '-S']
    source = target = None
    try:
        record['iperf_alone'] = alone(bed, cell, args.flows, args.seconds)
        source = machine.Machine(guest, args.directory, 'source',
                                 qemu=args.qemu, host=bed.source, **more)
        target = machine.Machine(guest, args.directory, 'target',
                                 qemu=args.qemu, incoming=True,
                                 host=bed.target, **more)
        for one in (source, target):
            setting.apply(one.qmp, transport.DOWNTIME_MS)
        transport.fill_random(source)
        record.update(beside(bed, cell, setting, args, source, target))
        record['ok'] = True
    except (qmp.QMPError, GuestError, LabError, transport.CellError,
            OSError) as err:
        record['error'] = str(err)
    finally:
        for one in (source, target):
            if one:
                one.stop()
    return record


def add_arguments(one):
    one.add_argument('--cells', default='100:20,100:80', metavar='LIST',
                     help='as in bench transport')
    one.add_argument('--priority', choices=('low', 'normal'), default='low')
    one.add_argument('--flows', type=int, default=1, metavar='N',
                     help="iperf3's")
    one.add_argument('--seconds', type=float, default=20, metavar='S',
                     help='how long each share is measured')
    one.add_argument('--verbose', action='store_true',
                     help='what the migration sent, each half second')
    one.add_argument('--settle', type=float, default=30, metavar='S',
                     help='how long iperf3 has before it is measured; CUBIC '
                     'needs long on long links')
    one.add_argument('--repeat', type=int, default=1, metavar='N')


def run(args, work):
    """Measures; returns what the JSON file holds, and the table."""
    setting = settings.parse_list('dwcp::0')[0]
    args.directory = work
    records = []
    rows = [['cell', 'priority', 'alone', 'beside', 'back s', 'iperf3 alone',
             'beside', 'keeps']]
    for cell in celllib.parse_list(args.cells):
        mine = []
        with Testbed(work / 'lab', unprivileged=True, **cell.link()) as bed:
            for _ in range(args.repeat):
                mine.append(run_one(bed, cell, setting, args))
                print(mine[-1], file=sys.stderr, flush=True)
        records += mine
        good = [one for one in mine if one['ok']]

        def middle(name, good=good):
            values = [one[name] for one in good if one[name] is not None]
            return statistics.median(values) if values else None

        if good:
            rows.append([cell.name, args.priority] + [
                '-' if middle(name) is None else f'{middle(name):.3f}'
                for name in ('alone', 'beside', 'back_s', 'iperf_alone',
                             'iperf')] +
                [f"{middle('iperf') / middle('iperf_alone'):.3f}"])
    return {'seconds': args.seconds, 'complete': True,
            'runs': records}, report.rows_text(rows)
