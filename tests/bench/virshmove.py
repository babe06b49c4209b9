# SPDX-License-Identifier: LGPL-2.1-or-later
"""Moves a guest between two hosts of the lab by virsh, again and again from
the same saved state, and proves that it lived on."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time

import domain
import faults
import heartbeat
from dwcplab import HostSpec, LabError
from guests import cache

WARM_S = 3.0
BEATS_AFTER = 100       # a second of life at the target
LIFE_TIMEOUT_S = 60
RESENT = ('dwcp_resent_bytes',)


def specs(qemu, libvirt, directory, user='root', envs=({}, {})):
    """Both hosts; they see the folder of the guest's disk as they would see
    shared storage. envs are added to what their emulators see."""
    shared = f'shared_filesystems = [ "{directory}" ]'
    return [HostSpec(name, qemu=str(qemu), qemu_conf=shared,
                     prefix=str(libvirt), qemu_user=user, qemu_env=env,
                     open_folders=(str(directory), str(cache.root())))
            for name, env in zip('ab', envs)]


def relay(pipe, log, shown):
    """Keeps virsh's progress, and shows it as it comes."""
    with open(log, 'wb') as file:
        while data := os.read(pipe.fileno(), 4096):
            file.write(data)
            if shown and sys.stdout.isatty():
                sys.stdout.buffer.write(data)
                sys.stdout.flush()


class Life:
    """What proves that the guest lives: rows in its database and uptime, as
    its console tells them."""

    def __init__(self, text):
        found = re.findall(r'^DEMO rows (\d+) uptime ([\d.]+)\r?$', text,
                           re.MULTILINE)
        self.rows, self.uptime_s = (int(found[-1][0]), float(found[-1][1])) \
            if found else (None, None)
        self.first = (int(found[0][0]), float(found[0][1])) if found else None


class Mover:
    """say is called with each step's text; timeout_s, if given, ends a move
    that takes longer."""

    def __init__(self, lab, guest, directory, say, *, rate_mbit=0,
                 timeout_s=None):
        self.lab, self.guest, self.directory = lab, guest, directory
        self._say, self._rate, self._timeout_s = say, rate_mbit, timeout_s
        self.source, self.target = lab.host('a'), lab.host('b')
        self.overlay = self.directory / 'disk.qcow2' if guest.disk else None
        self.kept = self.directory / 'kept.qcow2'
        self.saved = self.directory / 'saved'
        domain.log_monitor(self.source)

    def boot(self):
        """Starts the guest on host a and keeps its state, so that every
        transport moves the same memory."""
        self._say(f'booting the guest ({self.guest.memory_mib} MiB) on host a '
                  'under libvirt')
        start = time.monotonic()
        if self.overlay:
            self.guest.new_overlay(self.overlay)
        path = self.directory / 'domain.xml'
        path.write_text(domain.xml(self.guest, self.overlay), 'utf-8')
        self.source.virsh('define', path)
        self.source.virsh('start', self.guest.name)
        domain.wait_for(lambda: self.guest.ready in domain.console(
            self.source, self.guest), self.guest.boot_timeout_s,
            'the guest is up and loaded')
        self._say(f'it is up and loaded after {time.monotonic() - start:.0f} '
                  's; keeping its state, so that each transport moves the '
                  'same memory')
        time.sleep(self.guest.settle_s)
        self.source.virsh('save', self.guest.name, self.saved)
        if self.overlay:
            shutil.copy(self.overlay, self.kept)

    def restore(self):
        self.source.virsh('destroy', self.guest.name, check=False)
        self.target.virsh('destroy', self.guest.name, check=False)
        # A libvirt that has never seen this QEMU asks it first what it can,
        # for seconds; whichever transport comes first must not pay for that.
        self.target.virsh('domcapabilities', '--emulatorbin', domain.EMULATOR,
                          '--virttype', 'qemu', '--machine', 'pc')
        if self.overlay:
            shutil.copy(self.kept, self.overlay)
        for host in (self.source, self.target):
            domain.port(host, self.guest, 'console').unlink(missing_ok=True)
        self.source.virsh('restore', self.saved)

    def move(self, name, words, plan=faults.Plan()):
        """Migrates by virsh with these options; returns the run's record."""
        record = {'transport': name.partition(':')[0], 'label': name,
                  'ok': False}
        argv = ['virsh', 'migrate', *words, '--live', '--verbose',
                self.guest.name, f'qemu+tcp://{self.target.hostname}/system']
        record['command'] = ' '.join(argv)
        self.restore()
        self._say('host a$ ' + record['command'])
        ports = [domain.port(host, self.guest, 'beat')
                 for host in (self.source, self.target)]
        with heartbeat.Observer(ports) as observer:
            if not observer.wait(lambda b: len(b) > 20, LIFE_TIMEOUT_S):
                raise LabError('the guest has no heartbeat on host a')
            time.sleep(WARM_S)
            self._migrate(name, argv, record, plan)
            if record['ok']:
                self._prove(observer, record)
        return record

    def _migrate(self, name, argv, record, plan):
        link = self.lab.link()
        stem = name.replace(':', '-')
        series = self.directory / f'series-{stem}.txt'
        log = self.directory / f'virsh-{stem}.log'
        meter = domain.CpuMeter(domain.qemu_pid(self.source, self.guest))
        mark = domain.LogMark(self.source)
        link.reset()
        link.series(series)
        start = time.monotonic()
        with faults.Faults(link, plan) as fault:
            code = self._virsh(argv, log)
        total_s = time.monotonic() - start
        record['source_cpu_s'] = meter.seconds()
        link.series(None)
        stats = link.stats()
        sent = stats['ab']['sent']['bytes']
        record.update(total_s=total_s, wire_bytes=sent, faults=fault.events,
                      wire_bytes_back=stats['ba']['sent']['bytes'],
                      link_share=sent * 8 / (self._rate * 1e6) / total_s
                      if self._rate else None, series=series.name)
        record['job'] = domain.job_info(self.source, self.guest)
        record['again_bytes'] = stats['ab']['again']['bytes'] + sum(
            int(record['job'].get(key, 0)) for key in RESENT)
        record['downtime_ms'] = mark.qemu_downtime_ms()
        if code != 0:
            text = log.read_text('utf-8', 'replace').strip()
            record['error'] = text.splitlines()[-1] if text else \
                f'virsh: exit {code}'
        record['ok'] = code == 0

    def _virsh(self, argv, log):
        run = self.source.popen(argv, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)
        reader = threading.Thread(target=relay, args=(run.stdout, log, True))
        reader.start()
        try:
            return run.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            run.kill()
            return f'not done after {self._timeout_s:.0f} s'
        finally:
            reader.join()
            run.stdout.close()
            run.wait()

    def _prove(self, observer, record):
        """Sees the guest live at the target, or marks the run as failed."""
        before = Life(domain.console(self.source, self.guest))

        def lives(beats):
            return sum(beat.port == 1 for beat in beats) >= BEATS_AFTER
        if not observer.wait(lives, LIFE_TIMEOUT_S):
            record.update(ok=False, error='the guest is silent on host b')
            return
        seen = heartbeat.gap(observer.beats())
        record.update(gap_ms=seen['gap_ms'], gap_lost_beats=seen['lost'],
                      beat_steady_max_ms=seen['steady_max_ms'])
        self._say(f"the guest lives on host b: its heartbeat paused for "
                  f"{seen['gap_ms']:.0f} ms ({seen['lost']} beats unseen)")
        if before.rows is None:
            return
        domain.wait_for(lambda: Life(domain.console(
            self.target, self.guest)).first, LIFE_TIMEOUT_S,
            'the database goes on')
        after = Life(domain.console(self.target, self.guest))
        record['life'] = {'rows_before': before.rows,
                          'uptime_before_s': before.uptime_s,
                          'rows_after': after.rows,
                          'uptime_after_s': after.uptime_s}
        if after.rows <= before.rows or after.uptime_s <= before.uptime_s:
            record.update(ok=False, error='the guest did not go on: '
                          f'{record["life"]}')
            return
        self._say(f'its database went on from row {before.rows} to '
                  f'{after.rows}, its uptime from {before.uptime_s:.1f} to '
                  f'{after.uptime_s:.1f} s')

    def clean(self):
        for path in (self.saved, self.kept, self.overlay):
            if path:
                path.unlink(missing_ok=True)
