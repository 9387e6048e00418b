"""Stock clients that stand still, are forced and overtaken, and go on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lockproof.driver.recorder import RecordedScope
from lockproof.spec import needs, requirement
from lockproof.suites.clients.stock_clients import APPLY, Outcome, Stock, Workshop, family

HELD = 60.0
"""Seconds for an apply to come to its write."""


@pytest.fixture
def workshop(scope: RecordedScope, tmp_path: Path) -> Iterator[Workshop]:
    with Workshop(scope, tmp_path) as opened:
        yield opened


@contextmanager
def stopped(processes: Sequence[int]) -> Iterator[None]:
    """The processes stand still."""
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def overtake(workshop: Workshop, bob: Stock) -> dict[str, Any]:
    """Forces whatever lock there is, applies, and returns the state then."""
    holder = workshop.holder()
    assert holder is not None
    bob.succeed("force-unlock", "-force", holder.ID)
    bob.succeed("apply", *APPLY, "-var=v=3")
    return bob.pull()


def require_overtaken(alice: Stock, bob: Stock, newer: dict[str, Any], outcome: Outcome) -> None:
    """The client failed and kept what it could not store; the newer state stands, also for the next one."""
    assert bob.pull() == newer
    assert outcome.code == 1, outcome.text
    assert "Failed to save state" in outcome.text
    errored = json.loads((alice.directory / "errored.tfstate").read_text())
    assert errored["outputs"]["v"]["value"] == "2"
    bob.succeed("plan", "-input=false", "-detailed-exitcode", "-var=v=3")


@requirement("CLI-FENCE-001")
def test_a_client_that_stood_still_cannot_overwrite(workshop: Workshop) -> None:
    """An apply that is stopped in mid-course, forced, overtaken and continued fails; what is newer stays."""
    alice, bob = workshop.client("alice"), workshop.client("bob")
    alice.succeed("apply", *APPLY, "-var=v=1")
    with alice.held_apply("2") as held:
        with stopped(family(held.process.pid)):
            newer = overtake(workshop, bob)
        outcome = held.release()
    require_overtaken(alice, bob, newer, outcome)


@needs("test-bed", "databricks")
@pytest.mark.parametrize("first", [0, 1], ids=["gateway", "client"])
@requirement("CLI-FENCE-002")
def test_a_write_that_stood_still_cannot_overwrite(workshop: Workshop, first: int) -> None:
    """An apply that stands still between the look at its lock and its write, and is overtaken, is refused.

    Its state is on the way when it, or its gateway, is stopped; it arrives after the newer one.
    """
    alice, bob = workshop.client("alice"), workshop.client("bob")
    alice.succeed("apply", *APPLY, "-var=v=1")
    inner: Any = workshop.scope.scope
    bed = inner.test_bed()
    with alice.held_apply("2") as held:
        fault = bed.control.add_fault(method="PUT", path=bed.files, hold=True)
        try:
            held.let_go()
            bed.control.await_held(fault, timeout=HELD)
            with stopped(family(held.process.pid)[first:]):
                newer = overtake(workshop, bob)
                bed.control.release(fault)
            outcome = held.finish()
        finally:
            bed.control.clear_faults(fault)
    require_overtaken(alice, bob, newer, outcome)
    assert "the write was refused" in outcome.text, outcome.text
