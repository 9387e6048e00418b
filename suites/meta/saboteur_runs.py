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


class SharedRuns:
    """The results of `entries`, run in batches when first asked for and kept in `folder`."""

    def __init__(self, entries: Sequence[teeth.Entry], folder: Path) -> None:
        self.batches = teeth.batches(entries)
        self.folder = folder

    def of(self, entry: teeth.Entry) -> list[dict[str, Any]]:
        """The results of the tests that ran against `entry`."""
        batch = next(batch for batch in self.batches if entry in batch)
        name = hashlib.sha256(" ".join(other.backend for other in batch).encode()).hexdigest()[:16]
        kept = self.folder / f"{name}.json"
        with (self.folder / f"{name}.lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if not kept.exists():
                kept.write_text(json.dumps(teeth.run_batch(batch)), encoding="utf-8")
        found: dict[str, list[dict[str, Any]]] = json.loads(kept.read_text(encoding="utf-8"))
        return found[entry.name]


def shared_runs(entries: Sequence[teeth.Entry], temporary: pytest.TempPathFactory) -> SharedRuns:
    """Runs that are shared by all workers of this session."""
    own = temporary.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "saboteurs"
    folder.mkdir(exist_ok=True)
    return SharedRuns(entries, folder)
