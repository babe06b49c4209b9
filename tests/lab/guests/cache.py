# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cache of guest images: directories named after a checksum of everything
they are made from, built beside their place and renamed into it, so that what
is there is whole and right, whoever was interrupted."""

import fcntl
import hashlib
import os
import pathlib
import shutil
import time

# What nobody used for so long goes away when something new is built.
KEEP_SECONDS = 30 * 24 * 3600


def root():
    base = os.environ.get('XDG_CACHE_HOME') or \
        os.path.join(os.environ.get('HOME') or '/root', '.cache')
    path = pathlib.Path(base) / 'dwcp' / 'guests'
    path.mkdir(parents=True, exist_ok=True)
    return path


def checksum(parts):
    """SHA-256 over strings, bytes and the contents of files (Path)."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, pathlib.Path):
            part = part.read_bytes()
        elif isinstance(part, str):
            part = part.encode()
        total.update(len(part).to_bytes(8, 'little'))
        total.update(part)
    return total.hexdigest()


def _remove_stale(name):
    limit = time.time() - KEEP_SECONDS
    for path in root().glob(f'{name}-*'):
        if path.stat().st_mtime < limit:
            shutil.rmtree(path, ignore_errors=True)
    # We hold the lock: whatever is half-built was left by a crash.
    for path in root().glob(f'.{name}-*'):
        shutil.rmtree(path, ignore_errors=True)


def entry(name, parts, make):
    """Returns the directory NAME-CHECKSUM of the cache; when it is not there,
    make(directory) fills a new one. Two processes do not build the same."""
    path = root() / f'{name}-{checksum(parts)[:20]}'
    if not path.is_dir():
        with open(root() / f'{name}.lock', 'w', encoding='ascii') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_dir():
                _remove_stale(name)
                work = root() / f'.{path.name}'
                work.mkdir()
                try:
                    make(work)
                    os.sync()
                    work.rename(path)
                finally:
                    shutil.rmtree(work, ignore_errors=True)
    os.utime(path)
    return path
