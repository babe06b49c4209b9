# SPDX-License-Identifier: LGPL-2.1-or-later
"""One migration, measured: the source's CPU time from the kernel, bytes from
the link, the visible gap from the heartbeat, downtime from QEMU."""

import dataclasses
import time

import faults
import heartbeat
import qmp
from dwcplab import LabError
from guests import machine
from guests.initramfs import GuestError

WARM_S = 2.0        # a running guest works so long before it moves
BEATS_AFTER = 10    # seen at the target before the run counts as done
BEAT_TIMEOUT_S = 30
SLICE_S = 0.5       # between looks at the progress


@dataclasses.dataclass
class Plan:
    """What is the same for all runs of a bench."""

    testbed: object
    state: object
    qemu: str
    directory: object
    paused: bool = False
    downtime_ms: int = 300
    timeout_s: float = 600
    progress: object = None     # called with a line of text
    faults: object = faults.Plan()
    envs: tuple = ({}, {})      # added to what the source's and target's QEMU
                                # see


class RunError(Exception):
    """The migration went through, but the guest or the bench is not right."""


def _event_time(event):
    return event['timestamp']['seconds'] + \
        event['timestamp']['microseconds'] * 1e-6


class Run:
    """One run of a setting; execute() returns its record."""

    def __init__(self, plan, setting):
        self.plan = plan
        self.setting = setting
        self.congestion = set()
        self.record = {'transport': setting.family, 'label': setting.label,
                       'settings': dict(setting.values), 'ok': False}

    def execute(self):
        plan = self.plan
        started = time.time()
        source = target = observer = None
        try:
            overlay = plan.state.overlay(plan.directory / 'disk.qcow2')
            source = plan.state.restore(plan.directory, 'source',
                                        host=plan.testbed.source,
                                        overlay=overlay, **self._options(0))
            target = machine.Machine(plan.state.guest, plan.directory,
                                     'target', host=plan.testbed.target,
                                     overlay=overlay, incoming=True,
                                     **self._options(1))
            for one in (source, target):
                plan.testbed.assert_restricted(one.pid)
                self.setting.apply(one.qmp, plan.downtime_ms)
            if plan.state.guest.has_beat and not plan.paused:
                observer = heartbeat.Observer([source.path('beat'),
                                               target.path('beat')])
            self._migrate(source, target, observer)
            self._check_guest(target)
            self.record['ok'] = True
        except (qmp.QMPError, GuestError, LabError, RunError, OSError) as err:
            self.record['error'] = str(err)
            self._after_failure(source)
        finally:
            if observer:
                observer.close()
            for one in (source, target):
                if one:
                    one.stop()
        self.record['started'] = round(started, 3)
        return self.record

    def _options(self, end):
        """How the QEMU of an end is started."""
        options = dict(self.plan.testbed.machine_options())
        words = [f'{name}={value}' for name, value
                 in self.plan.envs[end].items()]
        if words:
            options['launcher'] = ['env', *words,
                                   *options.get('launcher', ())]
        return {'qemu': self.plan.qemu, **options}

    def _migrate(self, source, target, observer):
        plan = self.plan
        target.qmp.cmd('migrate-incoming', channels=self.setting.channels(
            '0.0.0.0', False))
        if not plan.paused:
            source.qmp.cmd('cont')
        if observer and not observer.wait(lambda b: len(b) > 20,
                                          BEAT_TIMEOUT_S):
            raise RunError('the guest has no heartbeat')
        if not plan.paused:
            time.sleep(WARM_S)
        events = len(source.qmp.events)
        plan.testbed.link.reset()
        cpu = (source.cpu_seconds(), target.cpu_seconds())
        start = time.time()
        with faults.Faults(plan.testbed.link, plan.faults) as fault:
            self.record['faults'] = fault.events
            source.qmp.cmd('migrate', channels=self.setting.channels(
                plan.testbed.target.address, True))
            ended = self._wait(source, events)
        self.record['source_cpu_s'] = source.cpu_seconds() - cpu[0]
        arrived = target.qmp.wait_migration(60)
        self.record['target_cpu_s'] = target.cpu_seconds() - cpu[1]
        self._counters(max(_event_time(ended), _event_time(arrived)) - start)
        self._statistics(source)
        if observer:
            self._gap(observer)

    def _wait(self, source, since):
        """Waits for the source's end, shows progress, and looks at what the
        connections use."""
        deadline = time.monotonic() + self.plan.timeout_s
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                self._counters(self.plan.timeout_s)
                raise RunError(f'not done after {self.plan.timeout_s:.0f} s')
            try:
                event = source.qmp.wait_migration(min(SLICE_S, left),
                                                  since=since)
                break
            except qmp.QMPTimeout:
                self.congestion |= self.plan.testbed.congestion_controls()
                self._progress()
        # Connections are still to be seen for a while after their close; one
        # of a migration shorter than a slice is only seen here.
        self.congestion |= self.plan.testbed.congestion_controls()
        wanted = self.plan.testbed.config['cc']
        self.record['congestion'] = sorted(self.congestion)
        if self.congestion - {wanted} or \
                (self.plan.testbed.is_restricted and not self.congestion):
            raise RunError(f'connections used {sorted(self.congestion)}, not '
                           f'{wanted}')
        return event

    def _progress(self):
        if self.plan.progress:
            sent = self.plan.testbed.link.stats()['ab']['sent']['bytes']
            self.plan.progress(f'{self.setting.label}: {sent / 1e6:.0f} MB')

    def _counters(self, total_s):
        stats = self.plan.testbed.link.stats()
        rate = self.plan.testbed.config['rate_mbit'] * 1e6
        sent = stats['ab']['sent']
        self.record.update(
            total_s=total_s, wire_bytes=sent['bytes'],
            wire_packets=sent['packets'],
            wire_bytes_back=stats['ba']['sent']['bytes'],
            link_share=sent['bytes'] * 8 / rate / total_s if rate else None)
        if 'again' in stats['ab']:
            self.record['again_bytes'] = stats['ab']['again']['bytes']
        for name in ('lost', 'queue_drops'):
            if name in stats['ab']:
                self.record[f'{name}_packets'] = stats['ab'][name]['packets']

    def _statistics(self, source):
        info = source.qmp.cmd('query-migrate')
        ram = info.get('ram', {})
        self.record.update(
            downtime_ms=info.get('downtime'), setup_ms=info.get('setup-time'),
            qemu_total_ms=info.get('total-time'),
            rounds=ram.get('dirty-sync-count'),
            qemu_transferred=ram.get('transferred'))
        if 'dwcp' in info:
            self.record['dwcp'] = info['dwcp']
            self.record['again_bytes'] = self.record.get('again_bytes', 0) + \
                info['dwcp'].get('resent-bytes', 0)
        size = self.plan.state.guest.memory_mib << 20
        self.record['source_cpu_s_per_gb'] = \
            self.record['source_cpu_s'] / (size / 1e9)

    def _gap(self, observer):
        def is_back(beats):
            return sum(beat.port == 1 for beat in beats) >= BEATS_AFTER
        if not observer.wait(is_back, BEAT_TIMEOUT_S):
            raise RunError('the guest does not beat at the target')
        seen = heartbeat.gap(observer.beats())
        self.record.update(gap_ms=seen['gap_ms'], gap_lost_beats=seen['lost'],
                           gap_guest_ms=seen['guest_ms'],
                           beat_steady_max_ms=seen['steady_max_ms'])

    def _check_guest(self, target):
        if 'CORRUPT' in target.console():
            raise RunError('the guest found its memory damaged: '
                           + target.console()[-300:])
        wanted = 'paused' if self.plan.paused else 'running'
        status = target.qmp.cmd('query-status')['status']
        if status != wanted:
            raise RunError(f'the guest is {status} at the target')

    def _after_failure(self, source):
        """Notes what became of the source: a healthy guest goes on there."""
        try:
            self.record['source_status'] = \
                source.qmp.cmd('query-status', timeout=5)['status']
        except (qmp.QMPError, AttributeError):
            self.record['source_status'] = None
