"""Runs of saboteurs that several xdist workers share."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path
from typing import Any

import pytest

from lockproof import teeth
from lockproof.fakes.saboteurs.catalogue import Saboteur
from lockproof.suites.meta.saboteur_runs import SharedRuns

LOCKS = Saboteur("locks", "LOCK-EXCL-001", "", "py:a:locks", ("locks",))
STATES = Saboteur("states", "STATE-RT-001", "", "py:a:states", ("state",))
OTHER_BATCH = threading.Event()
RESULT = {"test": "t", "status": "pass"}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The entries whose batches were run, in order; the batch of `states` cannot be run."""
    names: list[str] = []

    def run_batch(batch: Any, **options: Any) -> dict[str, list[dict[str, str]]]:
        assert options == {"narrow": False, "options": ()}
        names.extend(entry.name for entry in batch)
        if STATES in batch:
            OTHER_BATCH.set()
            raise teeth.TeethError("no report of states")
        return {entry.name: [RESULT] for entry in batch}

    monkeypatch.setattr(teeth, "run_batch", run_batch)
    return names


def test_a_batch_is_run_once_for_all_who_ask(ran: list[str], tmp_path: Path) -> None:
    """Another worker, with the same folder, finds the results of the first."""
    first, second = (SharedRuns([LOCKS, STATES], tmp_path) for _ in range(2))
    assert first.of(LOCKS) == second.of(LOCKS) == [RESULT]
    assert ran == ["locks"]


def test_who_must_wait_for_a_batch_runs_another(ran: list[str], tmp_path: Path) -> None:
    """While one worker runs a batch, one that needs it runs what nobody runs, and then gets the results."""
    runs = SharedRuns([LOCKS, STATES], tmp_path)
    found: list[Any] = []
    OTHER_BATCH.clear()
    with runs.kept([LOCKS]).with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        worker = threading.Thread(target=lambda: found.extend(runs.of(LOCKS)))
        worker.start()
        assert OTHER_BATCH.wait(20), "it waits though there is something to run"
        runs.kept([LOCKS]).write_text('{"locks": ["by the other worker"]}', encoding="utf-8")
    worker.join()
    assert ran == ["states"]
    assert found == ["by the other worker"]


def test_a_batch_that_cannot_be_run_fails_whoever_needs_it(ran: list[str], tmp_path: Path) -> None:
    """Why it cannot be run is kept too, and is told to the tests of its own entries only."""
    runs = SharedRuns([LOCKS, STATES], tmp_path)
    assert runs.of(LOCKS) == [RESULT]
    for _ in range(2):
        with pytest.raises(teeth.TeethError, match="no report of states"):
            runs.of(STATES)
    assert ran == ["locks", "states"]
