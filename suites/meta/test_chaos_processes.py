"""Faults of processes that meet on one client."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from lockproof.chaos.nemesis import nemeses
from lockproof.driver import Capabilities
from lockproof.driver.file import FileDriver
from lockproof.suites.meta.chaos_bed import arena_of


@pytest.mark.parametrize("ending", ["kill.term", "kill.int", "kill.hup", "kill.kill"])
def test_a_client_that_stands_still_can_be_asked_to_end(ending: str, tmp_path: Path) -> None:
    """A signal that the process handles itself reaches it although it was stopped, and the fault goes on."""
    driver = FileDriver({"path": str(tmp_path)})
    with arena_of(driver, Capabilities({*driver.capabilities(), "clients.process"})) as arena:
        object.__setattr__(arena.backend, "connect", partial(FileDriver, {"path": str(tmp_path)}))
        ann = arena.process("ann")
        for name in ("kill.stop", ending):
            arena.inject(nemeses()[name](on="ann"))
        assert ann.gone
        assert [fault.struck() for fault in arena.injected] == [1, 1]
