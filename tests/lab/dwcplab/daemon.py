# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host's libvirt: private directories, configuration, and the daemon."""

import grp
import os
import pwd
import shlex
import subprocess

from .errors import LabError
from .host import START_TIMEOUT_S, TOP

# Where a host's programs find the QEMU that libvirt starts: the same path on
# every host, as domain XML travels, with another binary behind it perhaps.
EMULATOR = "/run/dwcp/qemu-system-x86_64"
TCP_PORT = 16509
# sockaddr_un's path with its final zero.
SOCKET_PATH_BYTES = 108

LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 1
tcp_port = "{port}"
listen_addr = "{address}"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
unix_sock_dir = "/run/libvirt"
host_uuid = "{uuid}"
log_filters = "2:qemu.qemu_migration 2:qemu.qemu_process 3:*"
log_outputs = "2:file:{prefix}/var/log/libvirt/libvirtd.log"
"""

# The hosts share the machine's files and have no control groups, virtlogd or
# udev of their own; the chowning and labelling of one must not meet the other,
# unless QEMU's user could not work without.
QEMU_CONF = """\
security_driver = "none"
user = "{user}"
group = "{group}"
dynamic_ownership = {ownership}
remember_owner = 0
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = "file"
migration_host = "{address}"
migration_port_min = 49152
migration_port_max = 49215
"""


def check(spec):
    """Says early what is missing or cannot work."""
    if not os.access(os.path.join(spec.prefix, "sbin/libvirtd"), os.X_OK):
        raise LabError(f"host {spec.name}: no libvirt in {spec.prefix}: "
                       "./run build libvirt")
    if not os.access(spec.qemu, os.X_OK):
        raise LabError(f"host {spec.name}: no QEMU at {spec.qemu}: "
                       "./run build qemu")
    # The longest socket that libvirt makes, for a domain of a short name.
    longest = f"{spec.prefix}/var/lib/libvirt/qemu/domain-10-demo/monitor.sock"
    if len(longest.encode()) >= SOCKET_PATH_BYTES:
        raise LabError(
            f"host {spec.name}: {longest} is too long for a socket "
            f"({len(longest.encode())} bytes, at most "
            f"{SOCKET_PATH_BYTES - 1}): use a shorter path for the tree")
    if os.path.realpath(spec.prefix).startswith("/run/"):
        raise LabError(f"host {spec.name}: {spec.prefix} lies in /run, which "
                       "the hosts do not share")


def binds(spec, directory):
    """What lies over the prefix's own directories in the host."""
    return [(os.path.join(directory, own), os.path.join(spec.prefix, target))
            for own, target in (("etc", "etc/libvirt"),
                                ("lib", "var/lib/libvirt"),
                                ("log", "var/log/libvirt"),
                                ("cache", "var/cache/libvirt"),
                                ("run", "var/run"))]


def configure(spec, host):
    """Writes the host's configuration; its directory exists."""
    def write(path, text, mode=0o644):
        path = os.path.join(host.directory, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)

    # Without udev or DMI to differ in, libvirt tells hosts apart by this alone.
    uuid = f"11111111-2222-4333-8444-{host.index + 1:012x}"
    write("etc/libvirtd.conf", LIBVIRTD_CONF.format(
        port=TCP_PORT, address=host.address, uuid=uuid, prefix=spec.prefix))
    extra = spec.qemu_conf and spec.qemu_conf.rstrip("\n") + "\n"
    # A setting that is given replaces ours: libvirt refuses to see it twice.
    given = {line.split("=")[0].strip() for line in extra.splitlines()}
    ours = "".join(
        line + "\n"
        for line in QEMU_CONF.format(
            address=host.address, user=spec.qemu_user, group=group_of(spec),
            ownership=int(spec.qemu_user != "root")).splitlines()
        if line.split("=")[0].strip() not in given)
    write("etc/qemu.conf", ours + extra)
    # The TPM, network and other folders libvirtd makes itself.
    options = " ".join(spec.qemu_options)
    env = "".join(f"export {name}={shlex.quote(value)}\n"
                  for name, value in spec.qemu_env.items())
    write("run" + EMULATOR.removeprefix("/run"),
          f'#!/bin/sh\n{env}exec {spec.qemu} {options} "$@"\n', 0o755)
    if spec.qemu_user != "root":
        # Domains have sockets and consoles there.
        os.chmod(os.path.join(host.directory, "run/dwcp"), 0o777)


def group_of(spec):
    return grp.getgrgid(pwd.getpwnam(spec.qemu_user).pw_gid).gr_name


def open_folders(spec, host):
    """Lets QEMU's user reach what it needs."""
    if spec.qemu_user != "root":
        host.open([TOP, os.path.dirname(spec.qemu), spec.prefix,
                   *spec.open_folders])


def last_error(host):
    """The newest error in the daemon's log, without its time and place."""
    path = os.path.join(host.directory, "log/libvirtd.log")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            errors = [line for line in file if ": error : vir" in line]
    except FileNotFoundError:
        errors = []
    if not errors:
        return f"see {path}"
    return errors[-1].split(": error : ")[1].split(" : ", 1)[1].strip()


def start(host):
    """Starts libvirtd; its QEMU driver answers when this returns."""
    try:
        # This returns when the daemon listens, which is before its drivers
        # have started; a connection waits for them, for ever if they failed.
        host.run([f"{host.prefix}/sbin/libvirtd", "--daemon", "--listen"],
                 timeout=START_TIMEOUT_S)
        host.virsh("uri", timeout=START_TIMEOUT_S)
    except (LabError, subprocess.TimeoutExpired):
        raise LabError(f"host {host.name}: libvirtd did not start: "
                       f"{last_error(host)}") from None
