# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of this system in an initramfs, where programs find them: under the
same path as here, with the shared libraries that they are linked with."""

import os
import re
import shutil
import subprocess
import sys

from guests import initramfs
from guests.initramfs import GuestError

# "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)", "/lib64/ld-... (0x...)"
LIBRARY = re.compile(r'^\s*(?:\S+ => )?(/\S+) \(0x', re.MULTILINE)
MISSING = re.compile(r'^\s*(\S+) => not found', re.MULTILINE)


def libraries(path):
    """The shared libraries of a program or library, as the loader finds them
    here. None where it is linked statically or is no program at all."""
    with open(path, 'rb') as file:
        if file.read(4) != b'\x7fELF':
            return []
    said = subprocess.run(['ldd', path], capture_output=True, text=True,
                          check=False).stdout
    if missing := MISSING.findall(said):
        raise GuestError(f'{path}: {", ".join(missing)} is not found')
    return LIBRARY.findall(said)


class Payload:
    """An archive that is being filled. Nothing is put in twice."""

    def __init__(self):
        self._archive = initramfs.Archive()
        self._there = set()

    def _parents(self, path):
        """Makes the directories above path; links stay links."""
        parent = os.path.dirname(path)
        if parent in self._there or parent == '/':
            return
        self._there.add(parent)
        self._parents(parent)
        if os.path.islink(parent):
            target = os.readlink(parent)
            whole = os.path.normpath(
                os.path.join(os.path.dirname(parent), target))
            self._parents(whole + '/x')
            self._archive.symlink(parent[1:], target)
        else:
            self._archive.directory(parent[1:])

    def write(self, path, body, mode=0o644):
        """A file that is none here."""
        self._parents(path)
        self._archive.file(path[1:], body, mode)

    def file(self, path):
        """A file with its libraries; where path is a link, what it leads to."""
        path = os.path.abspath(path)
        place = os.path.join(os.path.realpath(os.path.dirname(path)),
                             os.path.basename(path))
        if place in self._there:
            return
        self._there.add(place)
        self._parents(path)
        with open(path, 'rb') as file:
            self._archive.file(path[1:], file.read(),
                               os.fstat(file.fileno()).st_mode & 0o777)
        for library in libraries(path):
            self.file(library)

    def tree(self, path, skip=()):
        """A file, or a directory with what is below it, but for the names in
        skip. Below it, links to directories are left out."""
        if not os.path.isdir(path):
            self.file(path)
            return
        for root, dirs, names in os.walk(os.path.abspath(path)):
            dirs[:] = sorted(set(dirs) - set(skip))
            self._parents(root + '/x')
            for name in sorted(names):
                # Links that lead nowhere, and sockets.
                if os.path.isfile(os.path.join(root, name)):
                    self.file(os.path.join(root, name))

    def program(self, name):
        """A program that the shell would find here."""
        path = shutil.which(name, path='/usr/sbin:/usr/bin:/sbin:/bin')
        if not path:
            raise GuestError(f'{name} is missing; ./run build installs what '
                             'is needed')
        self.file(path)

    def python(self):
        """Debian's Python with its own modules."""
        self.program('python3')
        here = f'python{sys.version_info[0]}.{sys.version_info[1]}'
        self.tree(f'/usr/lib/{here}',
                  skip=('__pycache__', 'test', 'idlelib', 'ensurepip',
                        'lib2to3', 'pydoc_data', 'dist-packages'))

    def finish(self):
        return self._archive.finish()
