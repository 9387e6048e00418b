"""Saboteurs of what a lock does to the state: readers that are blocked, writes that are not fenced."""

from __future__ import annotations

from lockproof.driver.api import Snapshot
from lockproof.driver.errors import DriverError, Locked
from lockproof.fakes.saboteurs.broken import BrokenClient, Register
from lockproof.fakes.saboteurs.lock_release import RemembersGrants

register = Register(__name__, "locks")
SABOTEURS = register.saboteurs


@register.breaks("LOCK-READ-001")
class LockBlocksReaders(BrokenClient):
    """A locked state can be read by its holder only."""

    def get(self, workspace: str) -> Snapshot | None:
        holder = self.store.locks.get(workspace)
        if holder is not None and holder.Who != self.who:
            raise Locked(f"held by {holder.Who}", holder=holder)
        return super().get(workspace)


@register.breaks("LOCK-OWN-001", "LOCK-STATE-001", "LOCK-FENCE-001")
class OneWritePerLock(BrokenClient):
    """A lock id is good for one write."""

    written: str | None = None

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if lock_id is not None and lock_id == self.written:
            raise DriverError("stale", True, "this lock has been used")
        super().put(workspace, data, lock_id=lock_id)
        self.written = lock_id


@register.breaks("LOCK-FENCE-001")
class UnfencedWrites(RemembersGrants):
    """The lock id of a write is checked against all ids that were ever granted."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=None if lock_id in self.granted else lock_id)


@register.breaks("LOCK-FENCE-001", "LOCK-FENCE-002")
class WritesAndRefuses(BrokenClient):
    """A write under a lock that is not held is refused, after it was stored."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data)
        super().put(workspace, data, lock_id=lock_id)


@register.breaks("LOCK-FENCE-002")
class FenceOnlyWhileHeld(RemembersGrants):
    """The lock id of a write is checked only while somebody holds the lock."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        unknown = lock_id not in self.granted and workspace not in self.store.locks
        super().put(workspace, data, lock_id=None if unknown else lock_id)
