"""Saboteurs of lock ids and release: ids that repeat, releases of the wrong lock, requests counted."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

from lockproof.driver.api import LockInfo
from lockproof.driver.errors import DriverError, Locked, LockMismatch, NotLocked
from lockproof.driver.memory import MemoryStore
from lockproof.fakes.saboteurs.broken import BrokenClient, Register
from lockproof.fakes.saboteurs.lock_groups import UNDER_LOAD

register = Register(__name__, "locks")
SABOTEURS = register.saboteurs


# --- Ids


@register.breaks(
    "LOCK-ID-001",
    "LOCK-ID-002",
    "LOCK-HOLD-001",
    "LOCK-REL-003",
    "LOCK-FORCE-002",
    "LOCK-FENCE-001",
    "LOCK-CRASH-001",
    "LOCK-WAIT-002",
    *UNDER_LOAD,
)
class EmptyId(BrokenClient):
    """`lock` forgets to return the id, and an empty id stands for the present lock."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        super().lock(workspace, info)
        return ""

    def require_holder(self, workspace: str, lock_id: str) -> None:
        if lock_id or workspace not in self.store.locks:
            super().require_holder(workspace, lock_id)


class StoreWithCounter(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()


@register.breaks("LOCK-ID-002", *UNDER_LOAD)
class WrappingIds(BrokenClient):
    """Lock ids come from a counter that starts again after ten."""

    store_type = StoreWithCounter

    def lock(self, workspace: str, info: LockInfo) -> str:
        assert isinstance(self.store, StoreWithCounter)
        return super().lock(workspace, replace(info, ID=f"lock-{next(self.store.numbers) % 10}"))


# --- Release


class StoreWithTombstones(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.past: dict[str, list[LockInfo]] = {}


@register.breaks("LOCK-REL-001", "LOCK-ID-002", *UNDER_LOAD)
class LeavesTombstones(BrokenClient):
    """Released locks leave tombstones, and a third one is never granted (swift)."""

    store_type = StoreWithTombstones

    def lock(self, workspace: str, info: LockInfo) -> str:
        assert isinstance(self.store, StoreWithTombstones)
        past = self.store.past.setdefault(workspace, [])
        if workspace not in self.store.locks and len(past) == 2:
            raise Locked("the object exists", holder=past[-1])
        lock_id = super().lock(workspace, info)
        past.append(info)
        return lock_id


@register.breaks("LOCK-REL-002", "LOCK-REL-003", "LOCK-FORCE-002")
class ReleaseIgnoresId(BrokenClient):
    """A release frees the lock whatever id it carries (what pg and a careless http server do)."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        with self.store.mutex:
            if self.store.locks.pop(workspace, None) is None:
                raise NotLocked(f"workspace {workspace!r} is not locked")


@register.breaks("LOCK-REL-002", "LOCK-REL-003", "LOCK-FORCE-002")
class RefusesAndReleases(BrokenClient):
    """A release with a wrong id is refused, after the lock was dropped."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        try:
            super().unlock(workspace, lock_id)
        except LockMismatch:
            with self.store.mutex:
                self.store.locks.pop(workspace, None)
            raise


class StoreWithGrants(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.granted: set[str] = set()


class RemembersGrants(BrokenClient):
    """Keeps the ids that were ever granted in the scope."""

    store_type = StoreWithGrants

    def lock(self, workspace: str, info: LockInfo) -> str:
        lock_id = super().lock(workspace, info)
        self.granted.add(lock_id)
        return lock_id

    @property
    def granted(self) -> set[str]:
        assert isinstance(self.store, StoreWithGrants)
        return self.store.granted


@register.breaks("LOCK-REL-003", "LOCK-FORCE-002")
class AcceptsOldIds(RemembersGrants):
    """A release is checked against all ids that were ever granted, not against the present one."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        with self.store.mutex:
            if lock_id not in self.granted or workspace not in self.store.locks:
                self.require_holder(workspace, lock_id)
            del self.store.locks[workspace]


@register.breaks("LOCK-REL-004", "LOCK-EXCL-002", "LOCK-WAIT-003")
class ReleaseFailsInTheLongRun(RemembersGrants):
    """After 64 locks of a workspace a release fails: rows of released locks fill a page."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        if len(self.granted) > 64:
            raise DriverError("internal", True, "page is full")
        super().unlock(workspace, lock_id)


class StoreWithPermits(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.spare: Counter[str] = Counter()
        self.last: dict[str, str] = {}


@register.breaks("LOCK-IDEM-001")
class Semaphore(BrokenClient):
    """The lock is a counting semaphore: a repeated release adds a permit."""

    store_type = StoreWithPermits

    def lock(self, workspace: str, info: LockInfo) -> str:
        assert isinstance(self.store, StoreWithPermits)
        with self.store.mutex:
            if workspace in self.store.locks and self.store.spare[workspace] > 0:
                self.store.spare[workspace] -= 1
                return info.ID
        return super().lock(workspace, info)

    def unlock(self, workspace: str, lock_id: str) -> None:
        assert isinstance(self.store, StoreWithPermits)
        with self.store.mutex:
            if workspace not in self.store.locks and self.store.last.get(workspace) == lock_id:
                self.store.spare[workspace] += 1
                return
        super().unlock(workspace, lock_id)
        self.store.last[workspace] = lock_id


@register.breaks("LOCK-IDEM-002")
class RenewsUnderAnotherId(BrokenClient):
    """A repeated request takes the lock anew, under an id of its own."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        with self.store.mutex:
            holder = self.store.locks.get(workspace)
            if holder is not None and holder.Info == info.Info:
                return f"{holder.ID}-again"
        return super().lock(workspace, info)


class StoreWithDepth(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.depth: Counter[str] = Counter()


@register.breaks("LOCK-IDEM-003")
class CountsRequests(BrokenClient):
    """The lock is re-entrant and counts: a request that was repeated needs two releases."""

    store_type = StoreWithDepth

    def lock(self, workspace: str, info: LockInfo) -> str:
        assert isinstance(self.store, StoreWithDepth)
        with self.store.mutex:
            holder = self.store.locks.get(workspace)
            if holder is not None and holder.ID == info.ID:
                self.store.depth[info.ID] += 1
                return info.ID
        return super().lock(workspace, info)

    def unlock(self, workspace: str, lock_id: str) -> None:
        assert isinstance(self.store, StoreWithDepth)
        with self.store.mutex:
            if self.store.depth[lock_id] > 0:
                self.store.depth[lock_id] -= 1
                return
        super().unlock(workspace, lock_id)
