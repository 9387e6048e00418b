"""Runs of saboteurs and variants that all tests of a session share, also those of other xdist workers."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lockproof import teeth
from lockproof.fakes.saboteurs.catalogue import Saboteur

Batch = Sequence[teeth.Entry]


class SharedRuns:
    """The results of `entries`, run in batches when first asked for and kept in `folder`; `options` are
    further ones for pytest.

    Who needs a batch that another worker is running runs one that nobody runs yet, instead of waiting.
    """

    def __init__(self, entries: Sequence[teeth.Entry], folder: Path, options: Sequence[str] = ()) -> None:
        self.batches = teeth.batches(entries)
        self.folder = folder
        self.options = options

    def of(self, entry: teeth.Entry) -> list[dict[str, Any]]:
        """The results of the tests that ran against `entry`. Raises `TeethError`."""
        batch = next(batch for batch in self.batches if entry in batch)
        while not self.run(batch, wait=False):
            undone = (other for other in self.batches if not self.kept(other).exists())
            if not any(self.run(other, wait=False) for other in undone):
                self.run(batch, wait=True)
        found = json.loads(self.kept(batch).read_text(encoding="utf-8"))
        if isinstance(found, str):
            raise teeth.TeethError(found)
        results: list[dict[str, Any]] = found[entry.name]
        return results

    def run(self, batch: Batch, *, wait: bool) -> bool:
        """Runs the batch unless its results, or why there are none, are kept already. False: another worker
        is running it, and we do not `wait` for that."""
        kept = self.kept(batch)
        with kept.with_suffix(".lock").open("w") as guard:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                return False
            if not kept.exists():
                try:
                    found: Any = teeth.run_batch(batch, narrow=costly(batch), options=self.options)
                except teeth.TeethError as failure:
                    found = str(failure)
                kept.write_text(json.dumps(found), encoding="utf-8")
        return True

    def kept(self, batch: Batch) -> Path:
        """Where the results of a batch are kept."""
        name = hashlib.sha256(" ".join(entry.backend for entry in batch).encode()).hexdigest()[:16]
        return self.folder / f"{name}.json"


def costly(batch: Batch) -> bool:
    """Whether the batch runs the suite of the reference backend, on fakes and a real Postgres: then only the
    tests of what it breaks are run. `lockproof teeth` runs all."""
    return "databricks" in batch[0].suites and all(isinstance(entry, Saboteur) for entry in batch)


def shared_runs(
    entries: Sequence[teeth.Entry], temporary: pytest.TempPathFactory, options: Sequence[str] = ()
) -> SharedRuns:
    """Runs that are shared by all workers of this session."""
    own = temporary.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "saboteurs"
    folder.mkdir(exist_ok=True)
    return SharedRuns(entries, folder, options)
