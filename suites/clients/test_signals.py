"""Stock clients that a signal ends: at the prompt, in mid-apply, and while they are ending already."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lockproof.driver import LockInfo
from lockproof.driver.recorder import RecordedScope
from lockproof.spec import requirement, tier
from lockproof.spec.bugs import reported
from lockproof.suites.clients.stock_clients import (
    APPLY,
    HeldApply,
    Stock,
    Workshop,
    family,
    finish,
    read_until,
)

LONGEST = 1.0
"""Seconds that a client has before it is killed: about what it needs to save and to release."""


@pytest.fixture
def workshop(scope: RecordedScope, tmp_path: Path) -> Iterator[Workshop]:
    with Workshop(scope, tmp_path) as opened:
        yield opened


@requirement("CLI-INT-002")
def test_a_terminated_apply_saves_and_releases(workshop: Workshop) -> None:
    """SIGTERM in mid-apply, as from a CI that cancels, saves what was done and releases the lock."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    with alice.held_apply("1") as held:
        os.killpg(held.process.pid, signal.SIGTERM)
        outcome = finish(held.process)
    assert outcome.code != 0, outcome.text
    assert workshop.holder() is None, outcome.text
    assert "a" in {resource["name"] for resource in bob.pull()["resources"]}
    bob.succeed("apply", *APPLY, "-var=v=2")


@reported("opentofu#3624", "opentofu#3661", "opentofu#3669", "opentofu#4017")
@requirement("CLI-INT-002")
def test_a_client_interrupted_at_its_prompt_releases(workshop: Workshop) -> None:
    """Ctrl-C while a client asks for approval, the lock in hand, releases it."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    asking = alice.start("apply", "-var=v=1", stdin=subprocess.PIPE)
    seen = read_until(asking, "Enter a value")
    holder = workshop.holder()
    assert holder is not None
    os.killpg(asking.pid, signal.SIGINT)
    outcome = finish(asking, seen)
    assert outcome.code == 1, outcome.text
    assert workshop.holder() is None, outcome.text
    bob.succeed("apply", *APPLY, "-var=v=2")


@reported("sighup-leaves-lock")
@requirement("CLI-CRASH-002")
def test_an_apply_that_is_hung_up_can_be_recovered(workshop: Workshop) -> None:
    """SIGHUP in mid-apply, as when the terminal is closed, leaves the lock free or names the run."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    alice.succeed("apply", *APPLY, "-var=v=1")
    with alice.held_apply("2") as held:
        taken = workshop.holder()
        end(held, signal.SIGHUP, LONGEST)
    require_recovery(workshop, bob, taken)


@reported("terragrunt#5167", "terragrunt#4839")
@pytest.mark.parametrize("round_", [1, 2, *(pytest.param(n, marks=tier("full")) for n in range(3, 13))])
@requirement("CLI-CRASH-002")
def test_an_apply_killed_while_it_ends_can_be_recovered(
    workshop: Workshop, rng: random.Random, round_: int
) -> None:
    """Interrupted, and killed a moment later by a wrapper, it leaves the lock free or names the run."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    alice.succeed("apply", *APPLY, "-var=v=1")
    with alice.held_apply("2") as held:
        taken = workshop.holder()
        end(held, signal.SIGINT, rng.uniform(0, LONGEST))
    require_recovery(workshop, bob, taken)


def end(held: HeldApply, number: int, seconds: float) -> None:
    """Sends the signal to all of the client's processes; kills those that are left so many seconds later,
    also who survived its parent."""
    processes = [os.pidfd_open(pid) for pid in family(held.process.pid)]
    os.killpg(held.process.pid, number)
    with suppress(subprocess.TimeoutExpired):
        held.process.wait(seconds)
    for process in processes:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        os.close(process)
    finish(held.process)


def require_recovery(workshop: Workshop, bob: Stock, taken: LockInfo | None) -> None:
    """The lock is free, or held by the run that was and shown to the next client; then all goes on."""
    assert taken is not None
    holder = workshop.holder()
    if holder is not None:
        assert holder == taken
        refused = bob.apply("3")
        assert refused.code == 1
        assert holder.ID in refused.text
        bob.succeed("force-unlock", "-force", holder.ID)
    bob.succeed("apply", *APPLY, "-var=v=3")
    assert bob.pull()["outputs"]["v"]["value"] == "3"
    assert workshop.holder() is None
