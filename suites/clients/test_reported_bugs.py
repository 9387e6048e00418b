"""Bugs that were reported of backends, where only a stock client shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lockproof.driver.recorder import RecordedScope
from lockproof.spec import requirement
from lockproof.spec.bugs import reported
from lockproof.suites.clients.stock_clients import APPLY, Workshop
from lockproof.suites.documents import require_absent


@pytest.fixture
def workshop(scope: RecordedScope, tmp_path: Path) -> Iterator[Workshop]:
    with Workshop(scope, tmp_path) as opened:
        yield opened


@reported("azurerm#22518")
@requirement("STATE-READ-001", "CLI-LOCK-002")
def test_commands_that_only_look_write_nothing(workshop: Workshop) -> None:
    """A plan, a pull and a listing leave an absent state absent, and a stored one as it is; no lock stays."""
    alice, probe = workshop.client("alice"), workshop.probe
    plan = ("plan", "-input=false", "-lock=false", "-destroy")
    looking: list[tuple[str, ...]] = [plan, ("state", "pull")]
    for command in looking:
        alice.succeed(*command)
        require_absent(probe)
    alice.succeed("apply", *APPLY, "-var=v=1")
    before = probe.get("default")
    for command in [plan, ("state", "list"), ("output",)]:
        alice.succeed(*command)
        assert probe.get("default") == before, command
    assert workshop.holder() is None
