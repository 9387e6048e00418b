"""Saboteurs of exclusion: a lock is granted that is held, or not kept, or covers too much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lockproof.driver.api import Address, LockInfo
from lockproof.driver.errors import DriverError, Locked
from lockproof.driver.memory import MemoryClient, MemoryStore
from lockproof.fakes.saboteurs.broken import BrokenClient, BrokenDriver, BrokenScope, Register, pause
from lockproof.fakes.saboteurs.lock_groups import REFUSALS, UNDER_LOAD

register = Register(__name__, "locks")
SABOTEURS = register.saboteurs


@register.breaks("LOCK-EXCL-001", *REFUSALS)
class NoLock(BrokenClient):
    """Every request is granted; the last one counts as the holder."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        with self.store.mutex:
            self.store.locks[workspace] = info
            return info.ID


@register.breaks(
    "LOCK-EXCL-001", "LOCK-HOLD-001", "LOCK-FORCE-001", "LOCK-STATE-001", "LOCK-SCOPE-001", "LOCK-CRASH-001"
)
class NamedWorkspacesAreFree(BrokenClient):
    """Only the default workspace is locked; a named one is granted to everybody."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        if workspace != "default":
            with self.store.mutex:
                self.store.locks.pop(workspace, None)
        return super().lock(workspace, info)


@register.breaks("LOCK-EXCL-002", *UNDER_LOAD)
class CheckThenSet(BrokenClient):
    """Looks whether the lock is free and then takes it, in two steps that do not exclude each other."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        with self.store.mutex:
            holder = self.store.locks.get(workspace)
        if holder is not None:
            raise Locked(f"held by {holder.Who}", holder=holder)
        pause(0.001)
        with self.store.mutex:
            self.store.locks[workspace] = info
        return info.ID


@register.breaks("LOCK-ERR-001", *REFUSALS)
class RefusalIsInternalError(BrokenClient):
    """A held lock is reported as an internal error."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            raise DriverError("internal", True, "HTTP 500: duplicate key") from refusal


@register.breaks("LOCK-SCOPE-001")
class OneLockForAllWorkspaces(BrokenClient):
    """All workspaces share one lock."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        return super().lock("default", info)

    def unlock(self, workspace: str, lock_id: str) -> None:
        super().unlock("default", lock_id)

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        with self.store.mutex:
            if lock_id is not None:
                self.require_holder("default", lock_id)
            self.store.states[workspace] = data


class ScopeWithSharedLocks(BrokenScope):
    def __exit__(self, *failure: Any) -> None:
        self.store.locks.clear()


@register.breaks("LOCK-SCOPE-002")
class OneLockForAllPlaces(BrokenDriver):
    """The lock's key lacks the place of the state: all states of a server share it."""

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.locks: dict[str, LockInfo] = {}

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> BrokenScope:
        scope = ScopeWithSharedLocks(MemoryStore(), MemoryClient)
        scope.store.locks = self.locks
        return scope


@register.breaks("LOCK-STATE-001")
class DeleteDropsLock(BrokenClient):
    """Deleting the state deletes its lock."""

    def delete(self, workspace: str) -> None:
        super().delete(workspace)
        with self.store.mutex:
            self.store.locks.pop(workspace, None)


@register.breaks("LOCK-STATE-001", *UNDER_LOAD, "LOCK-OWN-001", "LOCK-FENCE-001", "LOCK-CRASH-001")
class WriteDropsLock(BrokenClient):
    """The lock is a field beside the state, and a write replaces both."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        with self.store.mutex:
            self.store.locks.pop(workspace, None)
