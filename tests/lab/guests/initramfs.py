# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel and initial RAM file system of the guests.

The kernel is Debian's own for cloud machines, unpacked from its package and
not installed. The archive is written here, in cpio's "newc" format, so that
the same files give the same bytes."""

import pathlib
import shutil
import stat
import subprocess

from guests import cache

HERE = pathlib.Path(__file__).resolve().parent
KERNEL_PACKAGE = 'linux-image-cloud-amd64'
# virtio-blk and what it stands on, in the order in which they are loaded.
DISK_MODULES = ('virtio_ring', 'virtio', 'virtio_pci_modern_dev',
                'virtio_pci_legacy_dev', 'virtio_pci', 'virtio_blk')
BUSYBOX = pathlib.Path('/bin/busybox')


class GuestError(Exception):
    """A guest cannot be built or started; the text says what to do."""


def run(*argv, **options):
    """Runs a program; its output is shown only when it fails."""
    argv = [str(word) for word in argv]
    try:
        return subprocess.run(argv, check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True,
                              **options).stdout
    except FileNotFoundError:
        raise GuestError(f'{argv[0]} is missing; ./run build installs '
                         'what is needed') from None
    except subprocess.CalledProcessError as err:
        tail = '\n'.join(err.stdout.splitlines()[-15:])
        raise GuestError(f'{" ".join(argv)} failed:\n{tail}') from None


def kernel_package(name):
    """The package with the kernel itself, which the named one depends on."""
    for line in run('apt-cache', 'depends', name).splitlines():
        words = line.split()
        if words[:1] == ['Depends:'] and words[1].startswith('linux-image-'):
            return words[1]
    raise GuestError(f'apt does not know {name}; run apt-get update')


def fetch_kernel(name, work):
    """Unpacks the kernel that the package name depends on into work/x, and
    leaves vmlinuz and the package's name in work."""
    # apt's download runs as another user, who may not enter our directory.
    run('apt-get', '-q', '-o', 'APT::Sandbox::User=root', 'download',
        kernel_package(name), cwd=work)
    deb = next(work.glob('*.deb'))
    run('dpkg-deb', '-x', deb, work / 'x')
    shutil.copy(next((work / 'x/boot').glob('vmlinuz-*')), work / 'vmlinuz')
    (work / 'package').write_text(deb.name + '\n', encoding='ascii')
    deb.unlink()


def copy_module(source, target):
    """Copies a module, unpacked: what loads it knows no compression."""
    if source.suffix == '.xz':
        with open(target, 'wb') as out:
            subprocess.run(['xz', '-dc', source], stdout=out, check=True)
    elif source.suffix == '.ko':
        shutil.copy(source, target)
    else:
        raise GuestError(f'{source.name}: a compression that is not known')


def _kernel_make(work):
    fetch_kernel(KERNEL_PACKAGE, work)
    (work / 'modules').mkdir()
    for name in DISK_MODULES:
        found = list((work / 'x').glob(f'**/{name}.ko*'))
        if len(found) != 1:
            raise GuestError(f'{KERNEL_PACKAGE} has no module {name}')
        copy_module(found[0], work / 'modules' / f'{name}.ko')
    shutil.rmtree(work / 'x')


def kernel():
    """Directory with vmlinuz and modules/. A kernel that is in the cache
    stays: newer packages do not make all images anew."""
    return cache.entry('kernel', [KERNEL_PACKAGE, *DISK_MODULES,
                                  'unpacked modules'], _kernel_make)


def tool(name):
    """A static program made from NAME.c beside this file."""
    source = HERE / f'{name}.c'
    flags = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-static']

    def make(work):
        run('cc', *flags, '-o', work / name, source)
    return cache.entry(f'tool-{name}', [source, *flags], make) / name


def busybox():
    if not BUSYBOX.exists() or b'/ld-linux' in BUSYBOX.read_bytes():
        raise GuestError(f'{BUSYBOX} is missing or not static; install '
                         'busybox-static')
    return BUSYBOX


class Archive:
    """A cpio archive in the format that Linux takes as initramfs."""

    def __init__(self):
        self._data = bytearray()
        self._inode = 0

    def _add(self, name, mode, body=b'', device=(0, 0)):
        self._inode += 1
        encoded = name.encode() + b'\0'
        fields = (self._inode, mode, 0, 0, 1, 0, len(body), 0, 0, *device,
                  len(encoded), 0)
        self._data += b'070701' + b''.join(b'%08X' % f for f in fields)
        self._data += encoded
        self._pad()
        self._data += body
        self._pad()

    def _pad(self):
        self._data += bytes(-len(self._data) % 4)

    def directory(self, name):
        self._add(name, stat.S_IFDIR | 0o755)

    def file(self, name, body, mode=0o644):
        self._add(name, stat.S_IFREG | mode, body)

    def symlink(self, name, target):
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor):
        self._add(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def finish(self):
        self._add('TRAILER!!!', 0)
        return bytes(self._data)


def make(init, programs, modules=()):
    """Bytes of an initramfs with busybox, the script init as /init, programs
    in /bin and modules in /modules."""
    archive = Archive()
    for name in ('bin', 'dev', 'proc', 'sys', 'modules', 'root'):
        archive.directory(name)
    archive.device('dev/console', 5, 1)
    archive.file('bin/busybox', busybox().read_bytes(), 0o755)
    archive.file('init', init.read_bytes(), 0o755)
    for path in programs:
        archive.file(f'bin/{path.name}', path.read_bytes(), 0o755)
    for path in modules:
        archive.file(f'modules/{path.name}', path.read_bytes())
    return archive.finish()
