"""The backend that is correct by inspection: states and locks in one dictionary under one mutex.

It is the suite's own control (everything must pass on it) and the base that most saboteurs break.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from lockproof import __version__
from lockproof.driver.api import Address, Capabilities, DriverInfo, LockInfo, Snapshot
from lockproof.driver.errors import DriverError, Locked, LockMismatch, NotLocked

DEFAULT = "default"


class MemoryStore:
    """The shared truth of one scope: `states` and `locks` by workspace, guarded by `mutex`."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.states: dict[str, bytes] = {}
        self.locks: dict[str, LockInfo] = {}


class MemoryClient:
    """One process's view of a `MemoryStore`; the contract is `lockproof.driver.Client`'s."""

    def __init__(self, store: MemoryStore, who: str) -> None:
        self.store = store
        self.who = who

    def get(self, workspace: str) -> Snapshot | None:
        with self.store.mutex:
            data = self.store.states.get(workspace)
            return None if data is None else Snapshot(data)

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        with self.store.mutex:
            if lock_id is not None:
                self.require_holder(workspace, lock_id)
            self.store.states[workspace] = bytes(data)

    def delete(self, workspace: str) -> None:
        with self.store.mutex:
            self.store.states.pop(workspace, None)

    def lock(self, workspace: str, info: LockInfo) -> str:
        with self.store.mutex:
            holder = self.store.locks.get(workspace)
            if holder is not None:
                raise Locked(f"held by {holder.Who}", holder=holder)
            self.store.locks[workspace] = replace(info)
            return info.ID

    def unlock(self, workspace: str, lock_id: str) -> None:
        with self.store.mutex:
            self.require_holder(workspace, lock_id)
            del self.store.locks[workspace]

    def workspaces(self) -> Sequence[str]:
        with self.store.mutex:
            return sorted({DEFAULT, *self.store.states})

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        if workspace == DEFAULT:
            raise DriverError("unsupported", True, "the default workspace cannot be deleted")
        self.delete(workspace)

    def close(self) -> None:
        """Nothing to close: a lock outlives the process that took it."""

    def require_holder(self, workspace: str, lock_id: str) -> None:
        """Raises unless `lock_id` holds the lock of `workspace`. Call with the mutex held."""
        holder = self.store.locks.get(workspace)
        if holder is None:
            raise NotLocked(f"workspace {workspace!r} is not locked")
        if holder.ID != lock_id:
            raise LockMismatch(f"held by {holder.Who} under another id", holder=holder)


class MemoryScope:
    """A fresh `MemoryStore`, gone when the scope closes."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def client(self, who: str) -> MemoryClient:
        return MemoryClient(self.store, who)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        return None


class MemoryDriver:
    """`--backend=memory`."""

    def __init__(self, options: Mapping[str, str]) -> None:
        if options:
            raise ValueError(f"the memory driver takes no options, got {', '.join(sorted(options))}")
        self.info = DriverInfo("memory", __version__, "lockproof's in-process reference", target="local")

    def capabilities(self) -> Capabilities:
        return Capabilities(
            {
                "state.delete",
                "state.large",
                "state.atomic-replace",
                "workspaces",
                "places",
                "in-process",
                "locking.holder-info",
                "locking.force-unlock",
                "locking.release-nonce",
                "locking.fencing-strict",
            }
        )

    def links(self) -> Mapping[str, Address]:
        return {}

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> MemoryScope:
        if attach:
            raise DriverError("unsupported", True, "memory is not shared between processes")
        return MemoryScope()
