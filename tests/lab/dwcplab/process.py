# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes, named so that a number used again is never taken for another.

A process is recorded as its id and its start time in clock ticks since boot:
together they are unique until the machine restarts, and the boot id guards
against that.
"""

import os
import select
import signal


def boot_id():
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def start_time(pid):
    """The process's start in ticks since boot; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii",
                  errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may itself hold any character.
    return int(text[text.rindex(")") + 2:].split()[19])


def identify(pid):
    """What to record about a process that runs now."""
    return {"pid": pid, "start": start_time(pid)}


def is_alive(identity):
    return (identity.get("start") is not None
            and start_time(identity["pid"]) == identity["start"])


def kill(identity, signum=signal.SIGKILL, wait_s=10):
    """Ends a recorded process and waits for it to be gone.

    Returns whether it is gone. Never touches another process that got the
    number: the descriptor is opened first and the start time checked through
    the number while it is held.
    """
    try:
        fd = os.pidfd_open(identity["pid"])
    except ProcessLookupError:
        return True
    try:
        if not is_alive(identity):
            return True
        signal.pidfd_send_signal(fd, signum)
        return bool(select.select([fd], [], [], wait_s)[0])
    except ProcessLookupError:
        return True
    finally:
        os.close(fd)


def short_name(pid):
    """The command's name as the kernel keeps it, 15 characters; or None."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8",
                  errors="replace") as file:
            return file.read().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return None


def children(pid):
    """The process ids of a single-threaded process's children."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children",
                  encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
