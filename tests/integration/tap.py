# SPDX-License-Identifier: LGPL-2.1-or-later
"""TAP for the integration tests: each test is a function.

    tests = Tests()

    @tests.add("hosts reach each other")
    def _():
        ...

    tests.main()

A test fails when it raises, and is skipped when it raises Skip. Its name may
be chosen by a pattern on the command line.
"""

import sys
import traceback


class Skip(Exception):
    """Raised with the reason why a test cannot run here."""


class Tests:
    def __init__(self):
        self._tests = []

    def add(self, name):
        def keep(function):
            self._tests.append((name, function))
            return function
        return keep

    def main(self):
        pattern = sys.argv[1] if len(sys.argv) > 1 else ""
        chosen = [test for test in self._tests if pattern in test[0]]
        failed = 0
        print(f"1..{len(chosen)}", flush=True)
        for number, (name, function) in enumerate(chosen, 1):
            try:
                function()
            except Skip as reason:
                print(f"ok {number} - {name} # SKIP {reason}", flush=True)
            except Exception as error:  # pylint: disable=broad-except
                failed += 1
                print(f"not ok {number} - {name}")
                said = str(error).splitlines() or ["no message"]
                print(f"# {type(error).__name__}: {said[0]}", flush=True)
                traceback.print_exc()
            else:
                print(f"ok {number} - {name}", flush=True)
        sys.exit(1 if failed else 0)


def skip_all(reason):
    """Ends the program: none of its tests can run here."""
    print(f"1..0 # SKIP {reason}")
    sys.exit(0)


def check(condition, message):
    """An assertion that says what it saw."""
    if not condition:
        raise AssertionError(message)


def equal(seen, wanted, what):
    check(seen == wanted, f"{what}: {seen!r}, not {wanted!r}")
