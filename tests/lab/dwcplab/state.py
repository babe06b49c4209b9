# SPDX-License-Identifier: LGPL-2.1-or-later
"""A lab's directory: its lock, and the record of what it started.

The lock says that a lab is up; the kernel drops it with its holder. The record
outlives a crash, so that the next lab, or `lab down`, finds what is left.
"""

import fcntl
import json
import os

from . import process
from .errors import LabError


class State:
    def __init__(self, path):
        self.path = os.path.abspath(path)
        self.record = {}
        self._lock_fd = None

    def file(self, *names):
        return os.path.join(self.path, *names)

    def lock(self):
        """Takes the directory for this process, or says who has it."""
        os.makedirs(self.path, exist_ok=True)
        fd = os.open(self.file("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
                     0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            owner = self.load().get("owner", {}).get("pid", "unknown")
            raise LabError(
                f"a lab is up in {self.path} (process {owner}): end it with "
                "'./run lab down' or use another --state directory") from None
        self._lock_fd = fd

    def unlock(self):
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def load(self):
        """The record as last saved; empty if there is none of this boot."""
        try:
            with open(self.file("state.json"), encoding="utf-8") as file:
                record = json.load(file)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except ValueError as error:
            raise LabError(
                f"{self.file('state.json')} is damaged: {error}") from None
        return record if record.get("boot") == process.boot_id() else {}

    def save(self):
        self.record["boot"] = process.boot_id()
        part = self.file("state.json.part")
        with open(part, "w", encoding="utf-8") as file:
            json.dump(self.record, file, indent=1)
        os.replace(part, self.file("state.json"))

    def forget(self):
        self.record = {}
        for name in ("state.json", "state.json.part"):
            try:
                os.unlink(self.file(name))
            except FileNotFoundError:
                pass

    def is_locked(self):
        """Whether some process, this one included, holds the lock."""
        if self._lock_fd is not None:
            return True
        try:
            fd = os.open(self.file("lock"), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
