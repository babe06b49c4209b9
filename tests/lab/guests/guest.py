# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guests: what each is made of, and their saved states.

    small   kernel and busybox; writes memory at a chosen rate and checks it
    demo    a Debian root with PostgreSQL, redis and nginx at work, 2 GiB
    IMAGE   any bootable disk image, which has no heartbeat
"""

import dataclasses
import inspect
import json
import pathlib
import shutil
import tempfile
import time

from guests import cache, image, initramfs, machine, qcow2
from guests.initramfs import GuestError

HERE = pathlib.Path(__file__).resolve().parent
# A restored machine has to be the one that was saved.
MACHINE = ('-machine', 'pc', '-accel', 'tcg', '-nodefaults', '-no-user-config',
           '-display', 'none', '-no-reboot')
SERIAL_TTY = 'ttyS0'
# Below this, memory is one piece from address 0 on (type "pc").
FLAT_MEMORY_MIB = 3072


@dataclasses.dataclass
class Guest:
    """What QEMU is started with. disk is a raw image that is never written:
    each run has a qcow2 overlay over it, seen by both hosts."""

    name: str
    memory_mib: int
    kernel: pathlib.Path = None
    initrd: pathlib.Path = None
    append: str = ''
    disk: pathlib.Path = None
    disk_format: str = 'raw'
    has_beat: bool = True
    boot_timeout_s: int = 120
    settle_s: float = 1.0
    ready: str = 'GUEST READY'
    vcpus: int = 1

    def qemu_options(self, overlay=None):
        options = [*MACHINE, '-m', f'{self.memory_mib}M',
                   '-smp', str(self.vcpus)]
        if self.kernel:
            options += ['-kernel', str(self.kernel), '-initrd',
                        str(self.initrd), '-append', self.append]
        if self.disk:
            node = {'driver': 'qcow2', 'node-name': 'disk0',
                    'file': {'driver': 'file', 'filename': str(overlay)},
                    'backing': {'driver': self.disk_format, 'read-only': True,
                                'file': {'driver': 'file',
                                         'filename': str(self.disk)}}}
            options += ['-blockdev', json.dumps(node),
                        '-device', 'virtio-blk-pci,drive=disk0']
        return options

    def parts(self):
        """What its saved state depends on, besides QEMU."""
        files = [path for path in (self.kernel, self.initrd) if path]
        stat = self.disk.stat() if self.disk else None
        return [*files, repr((self.name, self.memory_mib, self.vcpus,
                              self.append, self.settle_s, MACHINE,
                              str(self.disk), stat and stat.st_size,
                              stat and stat.st_mtime_ns))]

    def new_overlay(self, path):
        """An empty overlay for a guest that boots."""
        if not self.disk:
            return None
        return qcow2.new(path, self.disk, self.disk_format,
                         qcow2.virtual_size(self.disk, self.disk_format))


def _initrd(name, init, programs, modules=()):
    content = initramfs.make(HERE / init, programs, modules)

    def make(work):
        (work / 'initrd').write_bytes(content)
    return cache.entry(f'initrd-{name}', [content], make) / 'initrd'


def small(memory_mib=256, rate_mib=20, dirty_mib=None, static_mib=None):
    """The small guest, writing rate_mib MiB a second over dirty_mib MiB and
    checking static_mib MiB besides; what is not said is 3/8 and 3/16 of the
    memory, and at most 96 and 48 MiB."""
    dirty_mib = min(96, memory_mib * 3 // 8) if dirty_mib is None \
        else dirty_mib
    static_mib = min(48, memory_mib * 3 // 16) if static_mib is None \
        else static_mib
    if memory_mib < 64 or dirty_mib + static_mib > memory_mib * 3 // 4:
        raise GuestError(f'small guest: {dirty_mib} + {static_mib} MiB do not '
                         f'fit into {memory_mib} MiB beside the kernel')
    initrd = _initrd('small', 'init-small',
                     [initramfs.tool('beat'), initramfs.tool('churn')])
    return Guest('small', memory_mib, initramfs.kernel() / 'vmlinuz', initrd,
                 f'console={SERIAL_TTY} quiet panic=-1 '
                 f'CHURN={rate_mib},{dirty_mib},{static_mib}')


def demo(memory_mib=2048):
    modules = [initramfs.kernel() / 'modules' / f'{name}.ko'
               for name in initramfs.DISK_MODULES]
    initrd = _initrd('demo', 'init-demo', [], modules)
    return Guest('demo', memory_mib, initramfs.kernel() / 'vmlinuz', initrd,
                 f'console={SERIAL_TTY} quiet panic=-1 '
                 f'MODULES="{" ".join(initramfs.DISK_MODULES)}"',
                 image.demo_disk(), boot_timeout_s=900, settle_s=5)


def from_image(path, memory_mib=2048, settle_s=90.0):
    path = pathlib.Path(path).resolve()
    if not path.is_file():
        raise GuestError(f'{path} is no file; the guests are demo, small, or '
                         'a disk image')
    return Guest(path.name, memory_mib, disk=path,
                 disk_format=qcow2.probe_format(path), has_beat=False,
                 settle_s=settle_s, ready='')


def by_name(name, memory_mib=None, **options):
    """A guest as the command line names it."""
    if memory_mib is not None:
        options['memory_mib'] = memory_mib
    makers = {'small': (small, {'memory_mib', 'rate_mib'}),
              'demo': (demo, {'memory_mib'})}
    maker, known = makers.get(name, (lambda **o: from_image(name, **o),
                                     {'memory_mib', 'settle_s'}))
    if options.keys() - known:
        raise GuestError(f'guest {name} takes {", ".join(sorted(known))}, not '
                         + ', '.join(sorted(options.keys() - known)))
    return maker(**options)


def memory_stat(memory, images):
    """What memstat.c says of a dump."""
    out = initramfs.run(initramfs.tool('memstat'), memory, *images)
    return json.loads(out)


def _dump_stat(guest, running, overlay, work):
    if guest.memory_mib > FLAT_MEMORY_MIB:
        return None
    dump = work / 'memory'
    running.qmp.cmd('pmemsave', timeout=120, val=0,
                    size=guest.memory_mib << 20, filename=str(dump))
    images = [guest.disk, overlay] if guest.disk else []
    stat = memory_stat(dump, images)
    dump.unlink()
    return stat


@dataclasses.dataclass
class State:
    """A guest that was saved while it worked: start machines from it."""

    guest: Guest
    directory: pathlib.Path

    @property
    def info(self):
        return json.loads((self.directory / 'info.json').read_text('ascii'))

    def overlay(self, path):
        """Copies the disk's overlay as it was saved; both hosts use it."""
        if not self.guest.disk:
            return None
        return shutil.copy(self.directory / 'overlay.qcow2', path)

    def restore(self, directory, name, overlay=None, **options):
        """A Machine that stands where the saved one was stopped."""
        with open(self.directory / 'state', 'rb') as file:
            running = machine.Machine(self.guest, directory, name,
                                      overlay=overlay, incoming=True,
                                      files=[file], **options)
        try:
            migration_events(running.qmp)
            running.qmp.cmd('migrate-incoming', uri='file:/dev/fdset/1')
            running.qmp.wait_migration(300)
            return running
        except BaseException:
            running.stop()
            raise


def migration_events(monitor):
    monitor.cmd('migrate-set-capabilities', capabilities=[
        {'capability': 'events', 'state': True}])


def _save(guest, qemu, work):
    image.say(f'booting the guest "{guest.name}" once, to save its state')
    overlay = guest.new_overlay(work / 'overlay.qcow2')
    # Sockets and logs are not part of what is kept.
    with tempfile.TemporaryDirectory(prefix='dwcp-') as scratch, \
            machine.Machine(guest, scratch, 'save', qemu=qemu,
                            overlay=overlay) as running:
        start = time.monotonic()
        try:
            if guest.ready:
                running.wait_console(guest.ready, guest.boot_timeout_s)
        except GuestError as err:
            raise GuestError(f'{err}\n{running.console()[-2000:]}') from None
        boot_s = time.monotonic() - start
        time.sleep(guest.settle_s)
        monitor = running.qmp
        monitor.cmd('stop')
        stat = _dump_stat(guest, running, overlay, work)
        migration_events(monitor)
        monitor.cmd('migrate-set-parameters', max_bandwidth=1 << 40)
        monitor.cmd('migrate', uri=f'file:{work / "state"}')
        monitor.wait_migration(600)
    info = {'name': guest.name, 'memory_mib': guest.memory_mib,
            'vcpus': guest.vcpus, 'boot_s': round(boot_s, 1), 'memory': stat}
    (work / 'info.json').write_text(json.dumps(info, indent=1), 'ascii')


def saved(guest, qemu=machine.DEFAULT_QEMU):
    """The guest's saved state for this QEMU, made when it is not there."""
    parts = [*guest.parts(), inspect.getsource(_save), machine.version(qemu)]
    directory = cache.entry(f'state-{guest.name}', parts,
                            lambda work: _save(guest, qemu, work))
    return State(guest, directory)
