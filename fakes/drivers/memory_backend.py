"""A backend in memory, with the interface that the reference backend's gateway serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tofu_databricks.errors import BackendError, LockMismatch, LockNotHeld, StateLocked, WorkspaceError
from tofu_databricks.lockinfo import LockInfo


class MemoryBackend:
    """States and locks in dictionaries. `before[step]` and `after[step]` run around a call and may
    raise or block; `calls` counts the steps. `hide_holder` leaves the holder out of a refused lock,
    `doubtful` makes a refusal one of which an earlier attempt may yet be granted."""

    def __init__(self) -> None:
        self.states: dict[str, bytes] = {}
        self.locks: dict[str, LockInfo] = {}
        self.mutex = threading.Lock()
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}
        self.calls: list[str] = []
        self.hide_holder = False
        self.doubtful = False

    def client(self, workspace: str = "default") -> MemoryStateClient:
        if workspace == "forbidden":
            raise WorkspaceError("the workspace name 'forbidden' is not allowed")
        return MemoryStateClient(self, workspace)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One call: `before`, the effect under the mutex, `after`."""
        self.calls.append(name)
        self.before.get(name, lambda: None)()
        with self.mutex:
            yield
        self.after.get(name, lambda: None)()


class MemoryStateClient:
    """One workspace of a `MemoryBackend`."""

    def __init__(self, backend: MemoryBackend, workspace: str) -> None:
        self.backend = backend
        self.workspace = workspace

    def get(self) -> bytes | None:
        with self.backend.step("get"):
            return self.backend.states.get(self.workspace)

    def put(self, data: bytes, *, lock_id: str | None = None) -> None:
        with self.backend.step("put"):
            if lock_id is not None:
                self.require(lock_id)
            self.backend.states[self.workspace] = data

    def delete(self, *, lock_id: str | None = None) -> None:
        with self.backend.step("delete"):
            if lock_id is not None:
                self.require(lock_id)
            self.backend.states.pop(self.workspace, None)

    def lock(self, info: LockInfo) -> str:
        with self.backend.step("lock"):
            holder = self.backend.locks.get(self.workspace)
            if holder is not None:
                refusal = StateLocked(holder=None if self.backend.hide_holder else holder)
                refusal.definite = not self.backend.doubtful
                raise refusal
            self.backend.locks[self.workspace] = info
            return info.ID

    def unlock(self, lock_id: str) -> None:
        with self.backend.step("unlock"):
            self.require(lock_id)
            del self.backend.locks[self.workspace]

    def lock_holder(self) -> LockInfo | None:
        with self.backend.step("holder"):
            return self.backend.locks.get(self.workspace)

    def require(self, lock_id: str) -> None:
        """Raises unless `lock_id` holds the lock."""
        holder = self.backend.locks.get(self.workspace)
        if holder is None:
            raise LockNotHeld("the workspace is not locked")
        if holder.ID != lock_id:
            raise LockMismatch(holder=holder)


def once(error: BackendError) -> Callable[[], None]:
    """Raises `error` the first time that it is called."""
    left = [error]

    def fault() -> None:
        if left:
            raise left.pop()

    return fault
