# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guest RAM of two QEMUs, compared byte by byte from outside.

Every RAM block is looked at where QEMU says it is mapped, ROMs and device
memory too, through /proc/PID/mem. Pages that neither process has touched are
left alone, so that comparing a sparse guest does not populate it.
"""

import array
import re

from tap import check, equal

PAGE = 4096
STEP = 2 << 20
# "pc.ram  4 KiB  0x0 0x10000000 0x10000000 0x00007f4cbfe00000  rw"
LINE = re.compile(r"^\s*(\S.*?)\s+\d+ [KMG]?i?B\s+0x[0-9a-f]+\s+(0x[0-9a-f]+)"
                  r"\s+0x[0-9a-f]+\s+(0x[0-9a-f]+)\s+r[ow]\s*$", re.MULTILINE)


def blocks(one):
    """The RAM blocks in use: name -> (address in QEMU, used bytes)."""
    text = one.qmp.cmd("human-monitor-command",
                       **{"command-line": "info ramblock"})
    found = {name: (int(host, 16), int(used, 16))
             for name, used, host in LINE.findall(text)}
    check("pc.ram" in found or len(found) > 2, f"RAM blocks: {text}")
    return found


class Memory:
    """A process's memory."""

    def __init__(self, pid):
        self._memory = open(f"/proc/{pid}/mem", "r+b", buffering=0)
        self._map = open(f"/proc/{pid}/pagemap", "rb", buffering=0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._memory.close()
        self._map.close()

    def read(self, address, size):
        self._memory.seek(address)
        data = self._memory.read(size)
        equal(len(data), size, f"bytes read at {address:#x}")
        return data

    def write(self, address, data):
        self._memory.seek(address)
        equal(self._memory.write(data), len(data), "bytes written")

    def populated(self, address, size):
        """How many pages are there, in memory or swapped out."""
        self._map.seek(address // PAGE * 8)
        entries = array.array("Q", self._map.read(size // PAGE * 8))
        return sum(entry >> 62 != 0 for entry in entries)


def compare(source, target):
    """Raises unless all RAM blocks of two stopped QEMUs are equal; returns
    how many bytes were looked at."""
    mine, other = blocks(source), blocks(target)
    equal({name: size for name, (_, size) in mine.items()},
          {name: size for name, (_, size) in other.items()}, "RAM blocks")
    looked = 0
    bad = []
    with Memory(source.pid) as first, Memory(target.pid) as second:
        for name, (here, size) in mine.items():
            there = other[name][0]
            for offset in range(0, size, STEP):
                length = min(STEP, size - offset)
                if not first.populated(here + offset, length) and \
                        not second.populated(there + offset, length):
                    continue
                looked += length
                left = first.read(here + offset, length)
                right = second.read(there + offset, length)
                if left != right:
                    bad += [(name, offset + at)
                            for at in range(0, length, PAGE)
                            if left[at:at + PAGE] != right[at:at + PAGE]]
    check(not bad, f"{len(bad)} pages differ, the first are " + ", ".join(
        f"{name} at {offset:#x}" for name, offset in bad[:8]))
    check(looked > 64 << 20, f"only {looked} bytes are there to compare")
    return looked


def fill(one, name, data, offset=0):
    """Writes into a block, as a device would."""
    address, size = blocks(one)[name]
    check(offset + len(data) <= size, f"{name} has {size} bytes")
    with Memory(one.pid) as memory:
        memory.write(address + offset, data)


def resident_bytes(one):
    """The anonymous memory that a QEMU has; shared zero pages are none."""
    with open(f"/proc/{one.pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    raise AssertionError("no RssAnon")
