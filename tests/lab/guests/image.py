# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demo guest's disk: a Debian 12 root with three services and their data,
as a raw ext4 image. Two steps, each cached: the packages, then the data."""

import inspect
import shutil
import sys

from guests import cache, initramfs
from guests.initramfs import HERE, GuestError, run

SUITE = 'bookworm'
KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
IMAGE_MIB = 2560
DOCUMENTS = 125000
RECORDS = 480000
WEB_PAGES = 1000
# Page cache of programs: files up to here, in the order of their names.
WARM_MIB = 170
WARM_FOLDERS = ('usr/lib', 'usr/bin', 'usr/sbin', 'usr/share')


def packages():
    lines = (HERE / 'demo/packages').read_text(encoding='ascii').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def mirror():
    """The Debian mirror that this system's apt uses. The archive of security
    updates, "bookworm-security", has the same origin and no whole system."""
    out = run('apt-get', 'indextargets', '--format',
              '$(CODENAME) $(ORIGIN) $(REPO_URI)', 'Created-By: Packages')
    for line in out.splitlines():
        codename, _, rest = line.partition(' ')
        origin, _, uri = rest.partition(' ')
        if origin == 'Debian' and '-' not in codename:
            return uri.rstrip('/')
    raise GuestError('apt knows no Debian mirror; run apt-get update')


def say(text):
    print(f'==> {text}', file=sys.stderr, flush=True)


def root_archive():
    """The root with its packages, as a tar archive."""
    names = packages()

    def make(work):
        say(f'making a Debian root ({len(names)} packages and what they need,'
            ' about 2 minutes)')
        run('mmdebstrap', '--mode=root', '--variant=minbase',
            f'--keyring={KEYRING}', '--aptopt=APT::Sandbox::User "root"',
            '--include=' + ','.join(names), SUITE, work / 'root.tar', mirror(),
            cwd='/')
    return cache.entry('demo-root', [SUITE, *names, 'root'], make) / 'root.tar'


def _load(root):
    """Fills root with data; its services run in a process namespace that ends
    with the script."""
    sys.path.insert(0, str(HERE / 'demo'))
    import data
    load = root / 'load'
    load.mkdir()
    data.documents(load / 'documents', DOCUMENTS)
    data.redis_commands(load / 'redis', RECORDS)
    data.web_pages(root / 'var/www/html', WEB_PAGES)
    shutil.copy(HERE / 'demo/setup', root / 'setup')
    script = ('set -e; cd "$1"; ip link set lo up; mount -t proc none proc; '
              'mount --rbind /dev dev; exec chroot . /setup')
    run('unshare', '--mount', '--pid', '--fork', '--kill-child', '--net',
        '--propagation', 'private', 'sh', '-c', script, 'sh', root)
    (root / 'setup').unlink()


def _warm_list(root):
    files, size = [], 0
    for folder in WARM_FOLDERS:
        for path in sorted((root / folder).rglob('*')):
            if not path.is_file() or path.is_symlink() or \
                    any(c in str(path) for c in ' "\'\\'):
                continue
            size += path.stat().st_size
            files.append('/' + str(path.relative_to(root)))
            if size > WARM_MIB << 20:
                return files
    return files


def _image_make(work, archive):
    root = work / 'root'
    root.mkdir()
    say('loading the demo guest\'s data (about 2 minutes)')
    run('tar', '-C', root, '--numeric-owner', '--xattrs', '-xpf', archive)
    _load(root)
    shutil.copy(HERE / 'demo/init', root / 'sbin/demo-init')
    shutil.copy(initramfs.tool('beat'), root / 'usr/local/bin/beat')
    (root / 'etc/demo-warm').write_text('\n'.join(_warm_list(root)) + '\n',
                                        encoding='utf-8')
    image = work / 'disk.raw'
    with open(image, 'wb') as out:
        out.truncate(IMAGE_MIB << 20)
    run('mke2fs', '-q', '-t', 'ext4', '-b', '4096', '-L', 'demo',
        '-E', 'lazy_itable_init=0,lazy_journal_init=0', '-d', root, image)
    shutil.rmtree(root)


def demo_disk():
    """The image's path."""
    archive = root_archive()
    parts = [str(archive), HERE / 'beat.c', HERE / 'demo/data.py',
             HERE / 'demo/setup', HERE / 'demo/init',
             repr((IMAGE_MIB, DOCUMENTS, RECORDS, WEB_PAGES, WARM_MIB,
                   WARM_FOLDERS)),
             *map(inspect.getsource, (_load, _warm_list, _image_make))]
    return cache.entry('demo-image', parts,
                       lambda work: _image_make(work, archive)) / 'disk.raw'
