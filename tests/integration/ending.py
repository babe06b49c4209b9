# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a migration ends that something happened to: where the guest is then,
and that nothing is left where it is not."""

import signal

import pair
from life import Life
from pair import migration, status
from tap import check, equal

MIB = 1 << 20


def at_share(share):
    """When so much of the guest's memory is described."""
    def wait(both):
        wanted = share * both.guest.memory_mib * MIB

        def there():
            info = migration(both.source)
            return info.get("status") in pair.ENDED or \
                info.get("dwcp", {}).get("page-bytes", 0) >= wanted
        pair.wait_for(there, f"{share} of the memory is described")
    return wait


def at_switchover(delay_s=0.0):
    """So long after the source's guest has stopped."""
    def wait(both):
        both.reached("device", *pair.ENDED)
        pair.pause(delay_s)
    return wait


def source_goes_on(both, life, before, states=("failed",)):
    """The source's guest runs, and nothing is left there."""
    info = pair.settle(both.source)
    check(info["status"] in states, f"migration {info}")
    if "failed" in states:
        check(info.get("error-desc"), f"no reason given: {info}")
        pair.say(f"source: {info['error-desc']}")
    pair.wait_for(lambda: status(both.source) == "running",
                  "the source runs again")
    equal(life.runner(), 0, "who runs")
    before.check_back()


def target_ends(both):
    """A target that did not get its guest ends by itself, by no signal but
    ours; one that nobody has finished greeting may go on listening."""
    def decided():
        return not both.target.is_running() or \
            migration(both.target).get("status") == "setup"
    pair.wait_for(decided, "the target ends")
    if both.target.is_running():
        pair.say("target: listens")
        equal(status(both.target), "inmigrate", "the target")
        return
    pair.say("target: " + both.target.messages().splitlines()[-1])
    check(both.target.returncode in (0, 1, -signal.SIGKILL),
          f"the target's exit code: {both.target.returncode}")


def outcome(both, life, before, states=("failed",), undo=lambda: None,
            arrived=lambda: None):
    """Checks that one guest has come out of a fault, and returns where it is:
    0 the source, 1 the target. undo() ends the fault, once the source has
    done all it does about it. arrived() looks at a guest that has moved; one
    that is held at the target goes on then."""
    if pair.settle(both.source)["status"] != "completed":
        source_goes_on(both, life, before, states)
        undo()
        target_ends(both)
        return 0
    undo()
    pair.wait_for(lambda: not both.target.is_running()
                  or status(both.target) in ("running", "paused"),
                  "the target has the guest, or has ended")
    if both.target.is_running():
        arrived()
        if status(both.target) == "paused":
            both.target.qmp.cmd("cont")
        equal(life.runner(), 1, "who runs")
        return 1
    # GO was sent, and lost or answered by nobody. The source never runs a
    # guest again that may have gone on elsewhere, but it still has it, for an
    # administrator who sees that the target has ended.
    pair.say("the target has ended after GO")
    equal(status(both.source), "postmigrate", "the source")
    check(migration(both.source).get("error-desc"),
          "the source does not say that nobody has confirmed")
    both.source.qmp.cmd("cont")
    equal(life.runner(ordered=False), 0, "who runs")
    return 0


def moves_now(both):
    """The next migration of the same source succeeds."""
    both.start_target()
    with Life(both) as life:
        both.migrate()
        equal(life.runner(), 1, "who runs")
