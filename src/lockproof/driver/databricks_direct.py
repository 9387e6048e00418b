"""What stands behind direct Delta locks: a folder, or a prefix of a bucket, that holds the table."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lockproof.driver.databricks_locks import DeltaBed, Stall
from lockproof.fakes.databricks.sql.engine import DeltaStore, Stopwatch
from tofu_databricks.locks.delta_storage import parse_options

if TYPE_CHECKING:
    from lockproof.driver.databricks import DatabricksClient, DatabricksScope

NOTED = {"lock.commit": "COMMIT", "lock.read": "SELECT", "lock.head": "SELECT"}
"""The look at the log that each commit begins with is part of it."""

STALLED = ("lock.acquire", "lock.create", "lock.commit", "lock.head", "lock.move")


class NotedSteps:
    """Commits and reads of the lock table by the clients of a scope."""

    opened = 0

    def __init__(self, texts: Sequence[str]) -> None:
        self._all = texts
        self._begin = len(texts)

    @property
    def texts(self) -> Sequence[str]:
        return list(self._all[self._begin :])


class DirectBed(DeltaBed):
    """A table of the scope's own, which no warehouse knows until a statement registers it.

    Faults and counts come from the checkpoints of the scope's clients: on a disk no reply goes lost, so the
    loss is an error that is raised after the commit.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"locking.delta"})

    def __init__(self, scope: DatabricksScope) -> None:
        super().__init__(scope)
        self.location = f"{scope.driver.options['lock_root']}/{scope.lock_schema}"
        self.options = scope.driver.options.get("lock_storage_options", "")
        self.steps: list[str] = []
        self.to_lose = 0
        self.stalls: list[tuple[Sequence[str], Iterator[int], threading.Event, threading.Event]] = []

    def settings(self) -> Mapping[str, str]:
        return {"lock_location": self.location, "lock_storage_options": self.options}

    def checkpoint(self, step: str) -> None:
        """Notes the step; raises `ConnectionResetError` after the commit whose reply is to be lost."""
        for steps, left, reached, released in self.stalls:
            if step in steps and next(left, None) == 0:
                reached.set()
                released.wait()
        if step in NOTED:
            self.steps.append(NOTED[step])
        if step == "lock.committed" and self.to_lose:
            self.to_lose -= 1
            raise ConnectionResetError("the reply to the commit was lost")

    def remove(self) -> None:
        super().remove()
        if self.location.startswith("file://"):
            shutil.rmtree(Path(self.location.removeprefix("file://")), ignore_errors=True)

    def held(self) -> list[tuple[str, str]]:
        store, watch = DeltaStore(self.location, parse_options(self.options)), Stopwatch()
        if not store.exists():
            return []
        rows = store.rows(store.newest(watch), watch)
        return [(str(row[0]), str(row[1])) for row in rows if row[1] is not None]

    def admit(self, principal: str) -> None:
        """The folder is everybody's."""

    def counted(self, client: DatabricksClient) -> NotedSteps:  # type: ignore[override]
        return NotedSteps(self.steps)

    def stall(self, step: int) -> Stall:
        """Steps are the look at the log, the making of the table and the commit."""
        return self._stalled(STALLED, step)

    def stall_commit(self) -> Stall:
        return self._stalled(["lock.commit"], 1)

    def _stalled(self, steps: Sequence[str], count: int) -> Stall:
        reached, released = threading.Event(), threading.Event()
        self.stalls.append((steps, iter(range(count - 1, -1, -1)), reached, released))
        return Stall(reached.is_set, released.set)

    def lose_change(self, times: int = 1) -> Callable[[], int]:
        self.to_lose = times
        return lambda: times - self.to_lose
