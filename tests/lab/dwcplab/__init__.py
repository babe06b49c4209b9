# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts on one machine, with a wide area link between them.

    from dwcplab import Lab, Link

    with Lab(state="build/lab", link=Link(rate_mbit=500, rtt_ms=50)) as lab:
        lab.host("a").run(["ping", "-c1", lab.host("b").address])
        print(lab.link().stats()["ab"]["sent"]["bytes"])

A host is a set of namespaces (net, mount, uts, pid, ipc) under a PID 1 of its
own. It lives as long as the process that made the Lab: PID 1 holds the reading
end of a pipe and goes when the pipe closes, and the kernel then kills
everything in the namespace, the emulator included.
"""

from .errors import LabError
from .host import Host, HostSpec
from .lab import Lab
from .link import Link

__all__ = ["Host", "HostSpec", "Lab", "LabError", "Link"]
