# SPDX-License-Identifier: LGPL-2.1-or-later
"""A synchronous QMP client: one command at a time, every wait has a limit.

Events are kept with the time (time.monotonic()) at which they were read.
"""

import contextlib
import json
import os
import socket
import time


class QMPError(Exception):
    """A command failed, QEMU went away, or an answer took too long."""


class QMPTimeout(QMPError):
    """An answer or event did not come in time."""


@contextlib.contextmanager
def unix_address(path):
    """An address for a Unix socket's path, which may be longer than the 107
    bytes that fit into one: its folder is named by a descriptor."""
    folder, name = os.path.split(os.path.abspath(path))
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f'/proc/self/fd/{fd}/{name}'
    finally:
        os.close(fd)


class QMP:
    def __init__(self, path, timeout=30.0):
        """Connects to QEMU's monitor socket, waiting up to timeout seconds
        for it to appear and greet."""
        self.path = str(path)
        self.events = []
        self._buffer = b''
        self._id = 0
        deadline = time.monotonic() + timeout
        self._sock = self._connect(deadline)
        try:
            greeting = self._read(deadline)
            if 'QMP' not in greeting:
                raise QMPError(f'{self.path}: no QMP greeting')
            self.version = greeting['QMP']['version']['qemu']
            self.cmd('qmp_capabilities')
        except BaseException:
            self._sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._sock.close()

    def _connect(self, deadline):
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                with unix_address(self.path) as address:
                    sock.connect(address)
                return sock
            except (FileNotFoundError, ConnectionRefusedError) as err:
                sock.close()
                if time.monotonic() >= deadline:
                    raise QMPTimeout(f'{self.path}: {err.strerror}') from None
                time.sleep(0.02)

    def _read(self, deadline):
        """Returns the next message; the deadline is time.monotonic()'s."""
        while b'\n' not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise QMPTimeout(f'{self.path}: no answer in time')
            self._sock.settimeout(left)
            try:
                data = self._sock.recv(65536)
            except TimeoutError:
                raise QMPTimeout(f'{self.path}: no answer in time') from None
            except OSError as err:
                raise QMPError(f'{self.path}: {err}') from None
            if not data:
                raise QMPError(f'{self.path}: QEMU closed the monitor')
            self._buffer += data
        line, self._buffer = self._buffer.split(b'\n', 1)
        return json.loads(line)

    def _keep(self, message):
        message['time'] = time.monotonic()
        self.events.append(message)

    def cmd(self, name, timeout=30.0, **arguments):
        """Runs a command and returns its answer. In argument names '_'
        stands for '-'."""
        self._id += 1
        request = {'execute': name, 'id': self._id}
        if arguments:
            request['arguments'] = {key.replace('_', '-'): value
                                    for key, value in arguments.items()
                                    if value is not None}
        deadline = time.monotonic() + timeout
        try:
            self._sock.settimeout(timeout)
            self._sock.sendall(json.dumps(request).encode() + b'\n')
        except OSError as err:
            raise QMPError(f'{self.path}: {err}') from None
        while True:
            message = self._read(deadline)
            if 'event' in message:
                self._keep(message)
            elif message.get('id') == self._id:
                if 'error' in message:
                    raise QMPError(f"{name}: {message['error']['desc']}")
                return message['return']

    def poll(self, timeout=0.0):
        """Reads events for at most timeout seconds; returns after the
        first."""
        try:
            message = self._read(time.monotonic() + max(timeout, 1e-6))
        except QMPTimeout:
            return None
        if 'event' in message:
            self._keep(message)
            return message
        return None

    def wait_event(self, test, timeout, since=0):
        """Returns the first event, from number since on, that test(event)
        accepts."""
        deadline = time.monotonic() + timeout
        seen = since
        while True:
            for event in self.events[seen:]:
                if test(event):
                    return event
            seen = len(self.events)
            left = deadline - time.monotonic()
            if left <= 0:
                raise QMPTimeout(f'{self.path}: no such event in {timeout} s')
            self.poll(left)

    def wait_migration(self, timeout, states=('completed',), since=0):
        """Waits for a MIGRATION event with one of the states; a failed or
        cancelled migration raises. Needs the "events" capability."""
        ends = set(states) | {'failed', 'cancelled', 'completed'}
        event = self.wait_event(
            lambda e: e['event'] == 'MIGRATION'
            and e['data']['status'] in ends, timeout, since)
        if event['data']['status'] not in states:
            info = self.cmd('query-migrate')
            raise QMPError(f"migration {event['data']['status']}: "
                           f"{info.get('error-desc', 'no reason given')}")
        return event
