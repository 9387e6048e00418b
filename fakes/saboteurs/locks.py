"""Saboteurs of locks: each grants, refuses or releases wrongly in one way that real backends do."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from lockproof.driver.api import Address, LockInfo, Snapshot
from lockproof.driver.errors import DriverError, Locked, LockMismatch, NotLocked
from lockproof.driver.file import FileClient, FileDriver, FileScope
from lockproof.driver.memory import MemoryClient, MemoryStore
from lockproof.fakes.saboteurs.broken import BrokenClient, BrokenDriver, BrokenScope, Register, pause

register = Register(__name__, "locks")
SABOTEURS = register.saboteurs

UNDER_LOAD = ("LOCK-EXCL-002", "LOCK-REL-004", "LOCK-WAIT-001", "LOCK-WAIT-003")
REFUSALS = (
    *("LOCK-EXCL-001", "LOCK-EXCL-002", "LOCK-ERR-001", "LOCK-SCOPE-001", "LOCK-STATE-001"),
    *("LOCK-HOLD-001", "LOCK-HOLD-002", "LOCK-HOLD-003", "LOCK-HOLD-004", "LOCK-INFO-001"),
    *("LOCK-REL-002", "LOCK-REL-003", "LOCK-REL-004", "LOCK-IDEM-001", "LOCK-IDEM-002", "LOCK-IDEM-003"),
    *("LOCK-FORCE-001", "LOCK-FORCE-002", "LOCK-CRASH-001"),
    *("LOCK-WAIT-001", "LOCK-WAIT-002", "LOCK-WAIT-003"),
)
"""Requirements whose tests need a refusal of a held lock to show anything."""


# --- Exclusion


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


# --- The holder


@register.breaks(
    "LOCK-HOLD-001",
    "LOCK-HOLD-002",
    "LOCK-HOLD-004",
    "LOCK-FORCE-001",
    "LOCK-CRASH-001",
    "LOCK-WAIT-002",
    *UNDER_LOAD,
)
class NamesTheRequester(BrokenClient):
    """A refusal carries the lock info of the refused client (OpenTofu issue 2004)."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            raise Locked(refusal.message, holder=info) from refusal


class StoreWithFirstHolders(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, LockInfo] = {}


@register.breaks("LOCK-HOLD-001", *UNDER_LOAD, "LOCK-WAIT-001")
class NamesTheFirstHolder(BrokenClient):
    """The holder's info is written at the first lock and never replaced."""

    store_type = StoreWithFirstHolders

    def lock(self, workspace: str, info: LockInfo) -> str:
        assert isinstance(self.store, StoreWithFirstHolders)
        first = self.store.first.setdefault(workspace, info)
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            raise Locked(refusal.message, holder=first) from refusal


@register.breaks("LOCK-HOLD-002")
class ForgetsOperation(BrokenClient):
    """The operation of the holder is not stored."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        return super().lock(workspace, replace(info, Operation=""))


@register.breaks("LOCK-HOLD-003")
class LocalTime(BrokenClient):
    """The holder's time is given in local words without a zone."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        return super().lock(workspace, replace(info, Created=info.Created[:19].replace("T", " ")))


@register.breaks("LOCK-HOLD-004")
class AsciiOnly(BrokenClient):
    """Lock info is kept in an ASCII column."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        plain = {name: text.encode("ascii", "replace").decode() for name, text in info.to_json().items()}
        return super().lock(workspace, LockInfo(**plain))


@register.breaks("LOCK-HOLD-004")
class ShortColumn(BrokenClient):
    """Lock info is kept in a column of 255 characters."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        return super().lock(workspace, replace(info, Info=info.Info[:255]))


@register.breaks("LOCK-INFO-001")
class DemandsWho(BrokenClient):
    """A request without `Who` is turned down as malformed."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        if not info.Who:
            raise DriverError("malformed", True, "lock info has no Who")
        return super().lock(workspace, info)


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


# --- Force-unlock, and holders that end


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
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


# --- State and lock


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


# --- Waiting


class CountsRefusals(BrokenClient):
    """Counts how often each request of this client was refused."""

    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.refusals: Counter[str] = Counter()

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked:
            self.refusals[info.ID] += 1
            raise


@register.breaks("LOCK-WAIT-001", "LOCK-WAIT-002")
class RetryIsAnError(CountsRefusals):
    """A retry of a refused request is a conflict that nobody waits for (kubernetes)."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        if self.refusals[info.ID]:
            raise DriverError("internal", True, "the object has been modified")
        return super().lock(workspace, info)


@register.breaks("LOCK-WAIT-002", "LOCK-WAIT-001")
class WaiterIsNamed(CountsRefusals):
    """After three refusals of one request the waiter itself is named as the holder."""

    patience: ClassVar[int] = 3

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            if self.refusals[info.ID] > self.patience:
                raise Locked(refusal.message, holder=info) from refusal
            raise


@register.breaks("LOCK-WAIT-003", *UNDER_LOAD)
class VanishedHolderIsNotFound(BrokenClient):
    """When the holder is gone before its name was read, the refusal is a 'not found' error."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked:
            pause(0.0005)
            with self.store.mutex:
                holder = self.store.locks.get(workspace)
            if holder is None:
                raise DriverError("not_found", True, "no such lock") from None
            raise Locked(f"held by {holder.Who}", holder=holder) from None
