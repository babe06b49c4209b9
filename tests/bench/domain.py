# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest as a libvirt domain on one of the lab's hosts."""

import os
import pathlib
import re
import threading
import time
import xml.sax.saxutils as sax

from dwcplab import LabError
from guests import machine

# In /run, which each host has for itself: the same path, another socket.
PORTS = '/run/dwcp'
# Found beside every host's own emulator by the lab.
EMULATOR = '/run/dwcp/qemu-system-x86_64'
CPU_SAMPLE_S = 0.02

XML = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{append}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
{disk}    <serial type='file'>
      <source path='{ports}/{name}.console'/><target port='0'/>
    </serial>
    <serial type='unix'>
      <source mode='bind' path='{ports}/{name}.beat'/><target port='1'/>
    </serial>
  </devices>
</domain>
"""
DISK = """\
    <disk type='file'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file='{overlay}'/><target dev='vda' bus='virtio'/>
    </disk>
"""


def xml(guest, overlay):
    disk = DISK.format(overlay=sax.escape(str(overlay))) if overlay else ''
    return XML.format(name=guest.name, memory=guest.memory_mib,
                      vcpus=guest.vcpus, kernel=sax.escape(str(guest.kernel)),
                      initrd=sax.escape(str(guest.initrd)),
                      append=sax.escape(guest.append), emulator=EMULATOR,
                      disk=disk, ports=PORTS)


def port(host, guest, kind):
    """A serial port's file or socket of a host, as seen from outside."""
    return pathlib.Path(host.directory) / \
        f'{PORTS.lstrip("/")}/{guest.name}.{kind}'


def console(host, guest):
    try:
        return port(host, guest, 'console').read_text('utf-8', 'replace')
    except FileNotFoundError:
        return ''


def qemu_pid(host, guest):
    """The process id, seen from outside, of the domain's QEMU."""
    wanted = os.readlink(f'/proc/{host.init_pid}/ns/pid')
    for entry in os.listdir('/proc'):
        if not entry.isdigit():
            continue
        try:
            if os.readlink(f'/proc/{entry}/ns/pid') != wanted:
                continue
            with open(f'/proc/{entry}/cmdline', 'rb') as file:
                words = file.read().split(b'\0')
        except OSError:
            continue
        if f'guest={guest.name},debug-threads=on'.encode() in words:
            return int(entry)
    raise LabError(f'host {host.name} runs no QEMU for {guest.name}')


class CpuMeter(threading.Thread):
    """Reads a process's CPU time until it is gone: libvirt ends the source's
    QEMU at once when the guest has moved."""

    def __init__(self, pid):
        super().__init__(daemon=True, name='cpu')
        self._pid = pid
        self._end = threading.Event()
        self.first = self.last = machine.cpu_seconds(pid)
        self.start()

    def run(self):
        while not self._end.wait(CPU_SAMPLE_S):
            try:
                self.last = max(self.last, machine.cpu_seconds(self._pid))
            except (OSError, IndexError):
                return

    def seconds(self):
        self._end.set()
        self.join()
        return self.last - self.first


def log_monitor(host):
    """Makes libvirtd log what QEMU answers."""
    host.run(['virt-admin', '-q', 'daemon-log-filters',
              '2:qemu.qemu_monitor_json 2:qemu.qemu_migration 3:*'])


class LogMark:
    """What libvirtd has logged since the mark was made; see log_monitor()."""

    def __init__(self, host):
        self._path = pathlib.Path(host.directory) / 'log/libvirtd.log'
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def text(self):
        with open(self._path, 'rb') as file:
            file.seek(self._offset)
            return file.read().decode('utf-8', 'replace')

    def qemu_downtime_ms(self):
        """QEMU's own downtime counter, from its last answer to
        query-migrate: libvirt's job statistics replace it by a time that
        libvirt measures. None when the log has no such answer."""
        found = re.findall(r'"status": ?"completed".*', self.text())
        values = [re.search(r'"downtime": ?(\d+)', line) for line in found]
        values = [int(match.group(1)) for match in values if match]
        return values[-1] if values else None


def job_info(host, guest):
    """The numbers of `virsh domjobinfo --completed --rawstats`-like output:
    its lines as a dict of text."""
    out = host.virsh('domjobinfo', guest.name, '--completed', '--rawstats',
                     check=False).stdout
    return dict(line.split(': ', 1) for line in out.splitlines()
                if ': ' in line)


def wait_for(test, timeout_s, what):
    deadline = time.monotonic() + timeout_s
    while not test():
        if time.monotonic() > deadline:
            raise LabError(f'{what}: not within {timeout_s} s')
        time.sleep(0.05)
