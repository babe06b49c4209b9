#!/usr/bin/python3
"""Runs the test groups in order and counts what they report.

A group is an executable: each tests/groups/NN-name, then each
tests/integration/test-*. It reports TAP on stdout, or nothing but its exit
code (0 passed, 77 skipped, its last line being the reason). Its output goes to
build/log/test-NAME.log whole. The last line of this program is exactly
"N passed, N failed, N skipped"; it exits with 1 if anything failed.
"""

import glob
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(TOP, 'build', 'log')
SKIP_EXIT_CODE = 77
SOAK = os.environ.get('DWCP_SOAK') == '1'
# A group that hangs must not take the other groups' results with it.
GROUP_LIMIT_S = 8 * 3600 if SOAK else 45 * 60

RESULT = re.compile(r'(not )?ok\b\s*(\d+)?\s*(?:-\s*)?(.*?)\s*$')
DIRECTIVE = re.compile(r'\s*#\s*(SKIP)\S*\s*(.*)$', re.I)
PLAN = re.compile(r'1\.\.(\d+)(?:\s*#\s*SKIP\S*\s*(.*))?$', re.I)


@dataclass
class Result:
    """A test that failed or was skipped, and what it said about that."""
    name: str
    notes: list[str] = field(default_factory=list)

    def reason(self) -> str:
        # Later notes may be what the next test says before its own result.
        return self.notes[0] if self.notes else 'see the log'


@dataclass
class Group:
    """What one group has reported so far."""
    name: str
    path: str
    passed: int = 0
    failed: list[Result] = field(default_factory=list)
    skipped: list[Result] = field(default_factory=list)
    planned: int | None = None
    skip_all: str = ''
    last_line: str = ''
    # Where diagnostics go: they follow the result that they explain.
    notes: list[str] = field(default_factory=list)

    def results(self) -> int:
        return self.passed + len(self.failed) + len(self.skipped)

    def fail(self, why: str) -> None:
        """Counts a failure of the group as such."""
        self.failed.append(Result(self.name, [why]))

    def take_line(self, line: str) -> None:
        """Counts a line of TAP."""
        self.last_line = line.strip() or self.last_line
        if plan := PLAN.match(line):
            self.planned = int(plan.group(1))
            self.skip_all = plan.group(2) or ''
        elif line.startswith('Bail out!'):
            self.fail(line)
        elif result := RESULT.match(line):
            self.take_result(bool(result.group(1)), result.group(3))
        elif line.startswith('#'):
            self.notes.append(line[1:].strip())

    def take_result(self, bad: bool, text: str) -> None:
        result = Result(text)
        self.notes = result.notes
        if directive := DIRECTIVE.search(text):
            result.name = text[:directive.start()]
            result.notes.append(directive.group(2) or 'no reason given')
            self.skipped.append(result)
        elif bad:
            self.failed.append(result)
        else:
            self.passed += 1

    def finish(self, code: int, ended_because: str | None) -> None:
        """Turns the exit code into results where TAP did not say enough."""
        said = f'exit code {code}: {self.last_line}'
        if ended_because:
            self.fail(ended_because)
        elif self.planned is not None and self.results() < self.planned:
            self.fail(f'only {self.results()} of {self.planned} tests reported, {said}')
        elif self.results() > 0:
            if code != 0 and not self.failed:
                self.fail(said)
        elif self.planned == 0 or code == SKIP_EXIT_CODE:
            reason = self.skip_all or self.last_line or 'no reason given'
            self.skipped.append(Result(self.name, [reason]))
        elif code == 0:
            self.passed += 1
        else:
            self.fail(said)


def counts(groups: list[Group]) -> tuple[int, int, int]:
    return (sum(g.passed for g in groups), sum(len(g.failed) for g in groups),
            sum(len(g.skipped) for g in groups))


class Progress:
    """The running count: in place on a terminal, else a line a minute."""

    def __init__(self, groups: list[Group]):
        self.groups = groups
        self.terminal = sys.stdout.isatty()
        self.said_at = time.monotonic()

    def show(self, group: Group, start: float) -> None:
        now = time.monotonic()
        if now - self.said_at < (0.2 if self.terminal else 60):
            return
        self.said_at = now
        passed, failed, skipped = counts(self.groups)
        text = (f'    {group.name}: {group.results()} done, {now - start:.0f} s; in all '
                f'{passed} passed, {failed} failed, {skipped} skipped')
        print(f'\r{text}\033[K' if self.terminal else text,
              end='' if self.terminal else '\n', flush=True)

    def clear(self) -> None:
        if self.terminal:
            print('\r\033[K', end='')


def stop(child: subprocess.Popen) -> None:
    """Ends a group's processes: those of its own process group alone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(timeout=30)
        except subprocess.TimeoutExpired:
            continue


def run_group(group: Group, progress: Progress) -> None:
    log_path = os.path.join(LOGS, f'test-{group.name}.log')
    start = time.monotonic()
    ended_because = None
    with open(log_path, 'w', encoding='utf-8') as log:
        child = subprocess.Popen(
            [group.path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=log, start_new_session=True, cwd=TOP, bufsize=0)
        try:
            ended_because = follow(child, group, log, progress, start)
        finally:
            if child.poll() is None and (ended_because or sys.exc_info()[0]):
                stop(child)
            code = child.wait()
    group.finish(code, ended_because)
    progress.clear()
    print(f'    {group.name}: {group.passed} passed, {len(group.failed)} failed, '
          f'{len(group.skipped)} skipped in {time.monotonic() - start:.0f} s')
    for result in group.failed:
        print(f'        failed: {result.name}: {result.reason()}')
    if group.failed:
        print(f'        log: {log_path}')
    sys.stdout.flush()


def follow(child: subprocess.Popen, group: Group, log, progress: Progress,
           start: float) -> str | None:
    """Reads the group's output until it ends; why it was given up, if it was."""
    rest = b''
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=1):
                data = os.read(child.stdout.fileno(), 65536)
                *lines, rest = (rest + data).split(b'\n')
                if not data and rest:
                    lines, rest = [rest], b''
                for line in lines:
                    text = line.decode(errors='replace')
                    log.write(text + '\n')
                    log.flush()
                    group.take_line(text)
                if not data:
                    return None
            elif child.poll() is not None:
                # A daemon that it left behind may hold the pipe open.
                return None
            progress.show(group, start)
            if time.monotonic() - start > GROUP_LIMIT_S:
                return f'not finished after {GROUP_LIMIT_S // 60} minutes'


def find_groups(pattern: str) -> list[Group]:
    paths = sorted(glob.glob(os.path.join(TOP, 'tests/groups/[0-9]*')))
    paths += sorted(glob.glob(os.path.join(TOP, 'tests/integration/test-*')))
    groups = [Group(re.sub(r'^(\d+-|test-)', '', os.path.basename(p)), p)
              for p in paths if os.access(p, os.X_OK) and os.path.isfile(p)]
    return [g for g in groups if pattern in g.name]


def interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    # Being told to end is like Ctrl-C: the group that runs gets to clean up.
    signal.signal(signal.SIGTERM, interrupt)
    pattern = sys.argv[1] if len(sys.argv) > 1 else ''
    groups = find_groups(pattern)
    if not groups:
        names = ', '.join(g.name for g in find_groups(''))
        print(f"run: no test group's name contains '{pattern}'; there are: {names}",
              file=sys.stderr)
        return 2
    os.makedirs(LOGS, exist_ok=True)
    print(f'==> testing: {len(groups)} groups', flush=True)
    progress = Progress(groups)
    interrupted = False
    for group in groups:
        try:
            run_group(group, progress)
        except KeyboardInterrupt:
            group.fail('interrupted')
            interrupted = True
            break
    passed, failed, skipped = counts(groups)
    for group in groups:
        for word, results in (('skipped', group.skipped), ('failed', group.failed)):
            for result in results:
                where = '' if result.name == group.name else f'{group.name}: '
                print(f'{word}: {where}{result.name}: {result.reason()}')
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    return 130 if interrupted else int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
