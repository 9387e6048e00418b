"""Saboteurs after reports: each repeats what somebody met in a backend that was in use."""

from __future__ import annotations

import threading
from collections import Counter
from typing import ClassVar

from lockproof.driver.api import LockInfo, Snapshot
from lockproof.driver.errors import DriverError
from lockproof.driver.memory import MemoryStore
from lockproof.fakes.saboteurs.broken import BrokenClient, Register, pause

register = Register(__name__, "faults", only=("FAULT-REP-*",))
SABOTEURS = register.saboteurs


@register.breaks("FAULT-REP-001")
class RefusedDeletionKeepsTheLock(BrokenClient):
    """The deletion of a workspace that is not empty locks it, sees that, and is refused without a release
    (hashicorp/terraform#18329)."""

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        super().lock(workspace, LockInfo.new(self.who, "workspace_delete"))
        if not force and b'"resources":[]' not in self.store.states[workspace]:
            raise DriverError("unsupported", True, f"workspace {workspace!r} is not empty")
        super().delete_workspace(workspace, force=force)
        self.store.locks.pop(workspace, None)


class StoreWithUploads(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.uploads: Counter[str] = Counter()


@register.breaks("FAULT-REP-002")
class UploadIsStillPending(BrokenClient):
    """A release is refused as long as a state is being uploaded (hashicorp/terraform#36155)."""

    store_type = StoreWithUploads
    store: StoreWithUploads

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        self.store.uploads[workspace] += 1
        try:
            super().put(workspace, data, lock_id=lock_id)
            pause(0.002)
        finally:
            self.store.uploads[workspace] -= 1

    def unlock(self, workspace: str, lock_id: str) -> None:
        if self.store.uploads[workspace]:
            raise DriverError("unavailable", True, "the upload of a state is still pending")
        super().unlock(workspace, lock_id)


@register.breaks("FAULT-REP-003")
class TrustsItsCacheWhileItHolds(BrokenClient):
    """While a client holds the lock nobody else writes, so that it reads from its cache: also when its lock
    was forced (what hashicorp/terraform#15795 reads is not what was written last)."""

    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.held: set[str] = set()
        self.cache: dict[str, Snapshot | None] = {}

    def lock(self, workspace: str, info: LockInfo) -> str:
        lock_id = super().lock(workspace, info)
        self.held.add(workspace)
        return lock_id

    def unlock(self, workspace: str, lock_id: str) -> None:
        super().unlock(workspace, lock_id)
        self.held.discard(workspace)
        self.cache.pop(workspace, None)

    def get(self, workspace: str) -> Snapshot | None:
        if workspace not in self.held:
            return super().get(workspace)
        if workspace not in self.cache:
            self.cache[workspace] = super().get(workspace)
        return self.cache[workspace]

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        self.cache[workspace] = Snapshot(data)


class StoreMadeAtFirstUse(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.made = False


@register.breaks("FAULT-REP-004")
class OneCreationLockForAll(BrokenClient):
    """Whoever makes the first table of a place holds a lock that all places share, and nobody waits for it
    (hashicorp/terraform#33217, opentofu/opentofu#2218)."""

    store_type = StoreMadeAtFirstUse
    store: StoreMadeAtFirstUse
    creation: ClassVar[threading.Lock] = threading.Lock()

    def lock(self, workspace: str, info: LockInfo) -> str:
        if not self.store.made:
            if not self.creation.acquire(blocking=False):
                raise DriverError("internal", True, "already locked for workspace creation")
            try:
                pause(0.005)
                self.store.made = True
            finally:
                self.creation.release()
        return super().lock(workspace, info)


@register.breaks("FAULT-REP-005")
class ForceNeedsAProperInfo(BrokenClient):
    """A lock is released by force when its info can be parsed, and with `unexpected end of JSON input` else
    (hashicorp/terraform#14513)."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        holder = self.store.locks.get(workspace)
        if holder is not None and not holder.Created.startswith("2"):
            raise DriverError("malformed", True, "failed to retrieve lock info: unexpected end of JSON input")
        super().unlock(workspace, lock_id)
