# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guests need of the qcow2 format."""

MAGIC = b'QFI\xfb'


def probe_format(path):
    """raw or qcow2."""
    with open(path, 'rb') as file:
        return 'qcow2' if file.read(4) == MAGIC else 'raw'


def virtual_size(path, disk_format):
    """The size of the disk that a guest sees, in bytes."""
    if disk_format == 'raw':
        return path.stat().st_size
    with open(path, 'rb') as file:
        return int.from_bytes(file.read(32)[24:32], 'big')


def new(path, backing, backing_format, size):
    """Writes an empty qcow2 image over a backing file of size bytes.

    QEMU's own qemu-img is not part of our build; an empty image is a header,
    a reference count table with one block, and an L1 table of zeros."""
    cluster = 1 << 16
    l1_entries = -(-size // (cluster * (cluster // 8)))
    name = str(backing).encode()
    header = bytearray(cluster)
    kind = backing_format.encode()
    fields = ((0, MAGIC), (4, (3).to_bytes(4, 'big')),
              (8, (512).to_bytes(8, 'big')),          # backing file's name
              (16, len(name).to_bytes(4, 'big')),
              (20, (16).to_bytes(4, 'big')),          # cluster bits
              (24, size.to_bytes(8, 'big')),
              (36, l1_entries.to_bytes(4, 'big')),
              (40, (3 * cluster).to_bytes(8, 'big')),  # L1 table
              (48, cluster.to_bytes(8, 'big')),       # reference counts
              (56, (1).to_bytes(4, 'big')),
              (96, (4).to_bytes(4, 'big')),           # 16-bit counts
              (100, (112).to_bytes(4, 'big')),        # header's length
              # The format of the backing file, so that nobody guesses it.
              (112, (0xE2792ACA).to_bytes(4, 'big')),
              (116, len(kind).to_bytes(4, 'big')), (120, kind),
              (512, name))
    for offset, value in fields:
        header[offset:offset + len(value)] = value
    counts = (2 * cluster).to_bytes(8, 'big').ljust(cluster, b'\0')
    block = b''.join((1).to_bytes(2, 'big') for _ in range(4))
    with open(path, 'wb') as out:
        out.write(header)
        out.write(counts)
        out.write(block.ljust(cluster, b'\0'))
        out.write(bytes(cluster))
    return path
