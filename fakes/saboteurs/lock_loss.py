"""Saboteurs of force-unlock and of holders that end: locks that cannot be lost, or end with a process."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping

from lockproof.driver.api import Address, LockInfo
from lockproof.driver.errors import LockMismatch, NotLocked
from lockproof.driver.file import FileClient, FileDriver, FileScope
from lockproof.driver.memory import MemoryStore
from lockproof.fakes.saboteurs.broken import BrokenClient, Register

register = Register(__name__, "locks")
SABOTEURS = register.saboteurs


class KnowsItsLocks(BrokenClient):
    """Keeps the ids that this client was granted and has not released itself."""

    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.mine: dict[str, str] = {}

    def lock(self, workspace: str, info: LockInfo) -> str:
        lock_id = super().lock(workspace, info)
        self.mine[lock_id] = workspace
        return lock_id

    def unlock(self, workspace: str, lock_id: str) -> None:
        super().unlock(workspace, lock_id)
        self.mine.pop(lock_id, None)


@register.breaks("LOCK-FORCE-001", "LOCK-FORCE-002", "LOCK-FENCE-001", "LOCK-CRASH-001")
class ForceHasNoEffect(KnowsItsLocks):
    """Force-unlock reports success and has no effect: the lock belongs to the holder's session (pg)."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        if lock_id in self.mine:
            super().unlock(workspace, lock_id)
        else:
            with self.store.mutex:
                self.require_holder(workspace, lock_id)


@register.breaks("LOCK-FORCE-002")
class LossGoesUnnoticed(KnowsItsLocks):
    """A client that believes to hold the lock is told that its release succeeded."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        try:
            super().unlock(workspace, lock_id)
        except (LockMismatch, NotLocked):
            if self.mine.pop(lock_id, None) is None:
                raise


@register.breaks("LOCK-CRASH-001")
class LockEndsWithConnection(KnowsItsLocks):
    """The lock lives in the holder's connection and ends with it."""

    def close(self) -> None:
        for lock_id, workspace in list(self.mine.items()):
            if (holder := self.store.locks.get(workspace)) and holder.ID == lock_id:
                self.unlock(workspace, lock_id)


class ClientThatLooksForOwners(FileClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        place = self._lock(workspace)
        for owner in place.parent.glob("owner-*"):
            if not _runs(int(owner.name.removeprefix("owner-"))):
                place.unlink(missing_ok=True)
        lock_id = super().lock(workspace, info)
        place.with_name(f"owner-{os.getpid()}").touch()
        return lock_id


class ScopeThatLooksForOwners(FileScope):
    def client(self, who: str) -> FileClient:
        return ClientThatLooksForOwners(self.root, who)


@register.breaks("LOCK-CRASH-002")
class CleansStaleLocks(FileDriver):
    """A lock whose process no longer runs is cleaned away as stale."""

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> FileScope:
        return ScopeThatLooksForOwners(self.path / name, attach=attach)


def _runs(process: int) -> bool:
    """Whether it runs; it does not when it has ended and nobody has asked how yet."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return False
    try:
        return not select.select([handle], [], [], 0)[0]
    finally:
        os.close(handle)
