"""Saboteurs of locks: each grants, refuses or releases wrongly in one way that real backends do."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar, TypeVar

from lockproof.driver.api import Address, LockInfo, Snapshot
from lockproof.driver.errors import DriverError, Locked, LockMismatch, NotLocked
from lockproof.driver.file import FileClient, FileDriver, FileScope
from lockproof.driver.memory import MemoryStore
from lockproof.fakes.saboteurs.broken_memory import BrokenClient, BrokenMemory, BrokenScope, pause
from lockproof.fakes.saboteurs.catalogue import Saboteur

SABOTEURS: list[Saboteur] = []
C = TypeVar("C", bound=type)

UNDER_LOAD = ("LOCK-EXCL-002", "LOCK-REL-004", "LOCK-WAIT-001", "LOCK-WAIT-003")
REFUSALS = (
    *("LOCK-EXCL-001", "LOCK-EXCL-002", "LOCK-ERR-001", "LOCK-SCOPE-001", "LOCK-STATE-001"),
    *("LOCK-HOLD-001", "LOCK-HOLD-002", "LOCK-HOLD-003", "LOCK-HOLD-004", "LOCK-INFO-001"),
    *("LOCK-REL-002", "LOCK-REL-003", "LOCK-REL-004", "LOCK-IDEM-001", "LOCK-IDEM-002"),
    *("LOCK-FORCE-001", "LOCK-FORCE-002", "LOCK-CRASH-001"),
    *("LOCK-WAIT-001", "LOCK-WAIT-002", "LOCK-WAIT-003"),
)
"""Requirements whose tests need a refusal of a held lock to show anything."""


def breaks(name: str, story: str, also: tuple[str, ...] = ()) -> Callable[[C], C]:
    """Registers a client class (or a driver class) as the saboteur of requirement `name`."""

    def register(saboteur: C) -> C:
        factory = f"{__name__}:{saboteur.__name__}"
        SABOTEURS.append(
            Saboteur(
                name=re.sub(r"(?<!^)(?=[A-Z])", "-", saboteur.__name__).lower(),
                breaks=name,
                story=story,
                backend=f"py:{factory}.driver" if issubclass(saboteur, BrokenClient) else f"py:{factory}",
                suites=("locks",),
                also=tuple(other for other in also if other != name),
            )
        )
        return saboteur

    return register


# --- Exclusion


@breaks("LOCK-EXCL-001", "Every request is granted; the last one counts as the holder.", also=REFUSALS)
class NoLock(BrokenClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        with self.store.mutex:
            self.store.locks[workspace] = info
            return info.ID


@breaks(
    "LOCK-EXCL-001",
    "Only the default workspace is locked; a named one is granted to everybody.",
    also=("LOCK-HOLD-001", "LOCK-FORCE-001", "LOCK-STATE-001", "LOCK-SCOPE-001", "LOCK-CRASH-001"),
)
class NamedWorkspacesAreFree(BrokenClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        if workspace != "default":
            with self.store.mutex:
                self.store.locks.pop(workspace, None)
        return super().lock(workspace, info)


@breaks(
    "LOCK-EXCL-002",
    "Looks whether the lock is free and then takes it, in two steps that do not exclude each other.",
    also=UNDER_LOAD,
)
class CheckThenSet(BrokenClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        with self.store.mutex:
            holder = self.store.locks.get(workspace)
        if holder is not None:
            raise Locked(f"held by {holder.Who}", holder=holder)
        pause(0.001)
        with self.store.mutex:
            self.store.locks[workspace] = info
        return info.ID


@breaks("LOCK-ERR-001", "A held lock is reported as an internal error.", also=REFUSALS)
class RefusalIsInternalError(BrokenClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            raise DriverError("internal", True, "HTTP 500: duplicate key") from refusal


@breaks("LOCK-SCOPE-001", "All workspaces share one lock.")
class OneLockForAllWorkspaces(BrokenClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        return super().lock("default", info)

    def unlock(self, workspace: str, lock_id: str) -> None:
        super().unlock("default", lock_id)

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        with self.store.mutex:
            if lock_id is not None:
                self.require_holder("default", lock_id)
            self.store.states[workspace] = data


@breaks("LOCK-SCOPE-002", "The lock's key lacks the place of the state: all states of a server share it.")
class OneLockForAllPlaces(BrokenMemory):
    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(BrokenClient, options)
        self.locks: dict[str, LockInfo] = {}

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> BrokenScope:
        scope = super().open_scope(name, links, attach=attach)
        scope.store.locks = self.locks
        return scope


@breaks("LOCK-STATE-001", "Deleting the state deletes its lock.")
class DeleteDropsLock(BrokenClient):
    def delete(self, workspace: str) -> None:
        super().delete(workspace)
        with self.store.mutex:
            self.store.locks.pop(workspace, None)


@breaks(
    "LOCK-STATE-001",
    "The lock is a field beside the state, and a write replaces both.",
    also=(*UNDER_LOAD, "LOCK-OWN-001", "LOCK-FENCE-001", "LOCK-CRASH-001"),
)
class WriteDropsLock(BrokenClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        with self.store.mutex:
            self.store.locks.pop(workspace, None)


# --- The holder


@breaks(
    "LOCK-HOLD-001",
    "A refusal carries the lock info of the refused client (OpenTofu issue 2004).",
    also=(
        *("LOCK-HOLD-002", "LOCK-HOLD-004", "LOCK-FORCE-001", "LOCK-CRASH-001", "LOCK-WAIT-002"),
        *UNDER_LOAD,
    ),
)
class NamesTheRequester(BrokenClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            raise Locked(refusal.message, holder=info) from refusal


class StoreWithFirstHolders(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, LockInfo] = {}


@breaks(
    "LOCK-HOLD-001",
    "The holder's info is written at the first lock and never replaced.",
    also=(*UNDER_LOAD, "LOCK-WAIT-001"),
)
class NamesTheFirstHolder(BrokenClient):
    store_type = StoreWithFirstHolders

    def lock(self, workspace: str, info: LockInfo) -> str:
        assert isinstance(self.store, StoreWithFirstHolders)
        first = self.store.first.setdefault(workspace, info)
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            raise Locked(refusal.message, holder=first) from refusal


@breaks("LOCK-HOLD-002", "The operation of the holder is not stored.")
class ForgetsOperation(BrokenClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        return super().lock(workspace, replace(info, Operation=""))


@breaks("LOCK-HOLD-003", "The holder's time is given in local words without a zone.")
class LocalTime(BrokenClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        return super().lock(workspace, replace(info, Created=info.Created[:19].replace("T", " ")))


@breaks("LOCK-HOLD-004", "Lock info is kept in an ASCII column.")
class AsciiOnly(BrokenClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        plain = {name: text.encode("ascii", "replace").decode() for name, text in info.to_json().items()}
        return super().lock(workspace, LockInfo(**plain))


@breaks("LOCK-HOLD-004", "Lock info is kept in a column of 255 characters.")
class ShortColumn(BrokenClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        return super().lock(workspace, replace(info, Info=info.Info[:255]))


@breaks("LOCK-INFO-001", "A request without `Who` is turned down as malformed.")
class DemandsWho(BrokenClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        if not info.Who:
            raise DriverError("malformed", True, "lock info has no Who")
        return super().lock(workspace, info)


# --- Ids


@breaks(
    "LOCK-ID-001",
    "`lock` forgets to return the id, and an empty id stands for the present lock.",
    also=(
        *("LOCK-ID-002", "LOCK-HOLD-001", "LOCK-REL-003", "LOCK-FORCE-002", "LOCK-FENCE-001"),
        *("LOCK-CRASH-001", "LOCK-WAIT-002"),
        *UNDER_LOAD,
    ),
)
class EmptyId(BrokenClient):
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


@breaks("LOCK-ID-002", "Lock ids come from a counter that starts again after ten.", also=UNDER_LOAD)
class WrappingIds(BrokenClient):
    store_type = StoreWithCounter

    def lock(self, workspace: str, info: LockInfo) -> str:
        assert isinstance(self.store, StoreWithCounter)
        return super().lock(workspace, replace(info, ID=f"lock-{next(self.store.numbers) % 10}"))


# --- Release


class StoreWithTombstones(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.past: dict[str, list[LockInfo]] = {}


@breaks(
    "LOCK-REL-001",
    "Released locks leave tombstones, and a third one is never granted (swift).",
    also=("LOCK-ID-002", *UNDER_LOAD),
)
class LeavesTombstones(BrokenClient):
    store_type = StoreWithTombstones

    def lock(self, workspace: str, info: LockInfo) -> str:
        assert isinstance(self.store, StoreWithTombstones)
        past = self.store.past.setdefault(workspace, [])
        if workspace not in self.store.locks and len(past) == 2:
            raise Locked("the object exists", holder=past[-1])
        lock_id = super().lock(workspace, info)
        past.append(info)
        return lock_id


@breaks(
    "LOCK-REL-002",
    "A release frees the lock whatever id it carries (what pg and a careless http server do).",
    also=("LOCK-REL-003", "LOCK-FORCE-002"),
)
class ReleaseIgnoresId(BrokenClient):
    def unlock(self, workspace: str, lock_id: str) -> None:
        with self.store.mutex:
            if self.store.locks.pop(workspace, None) is None:
                raise NotLocked(f"workspace {workspace!r} is not locked")


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


@breaks(
    "LOCK-REL-003",
    "A release is checked against all ids that were ever granted, not against the present one.",
    also=("LOCK-FORCE-002",),
)
class AcceptsOldIds(RemembersGrants):
    def unlock(self, workspace: str, lock_id: str) -> None:
        with self.store.mutex:
            if lock_id not in self.granted or workspace not in self.store.locks:
                self.require_holder(workspace, lock_id)
            del self.store.locks[workspace]


@breaks(
    "LOCK-REL-004",
    "After 64 locks of a workspace a release fails: rows of released locks fill a page.",
    also=("LOCK-EXCL-002", "LOCK-WAIT-003"),
)
class ReleaseFailsInTheLongRun(RemembersGrants):
    def unlock(self, workspace: str, lock_id: str) -> None:
        if len(self.granted) > 64:
            raise DriverError("internal", True, "page is full")
        super().unlock(workspace, lock_id)


class StoreWithPermits(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.spare: Counter[str] = Counter()
        self.last: dict[str, str] = {}


@breaks("LOCK-IDEM-001", "The lock is a counting semaphore: a repeated release adds a permit.")
class Semaphore(BrokenClient):
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


class StoreWithDepth(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.depth: Counter[str] = Counter()


@breaks("LOCK-IDEM-002", "The lock is re-entrant and counts: a request that was repeated needs two releases.")
class CountsRequests(BrokenClient):
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


@breaks(
    "LOCK-FORCE-001",
    "Force-unlock reports success and has no effect: the lock belongs to the holder's session (pg).",
    also=("LOCK-FORCE-002", "LOCK-FENCE-001", "LOCK-CRASH-001"),
)
class ForceHasNoEffect(KnowsItsLocks):
    def unlock(self, workspace: str, lock_id: str) -> None:
        if lock_id in self.mine:
            super().unlock(workspace, lock_id)
        else:
            with self.store.mutex:
                self.require_holder(workspace, lock_id)


@breaks("LOCK-FORCE-002", "A client that believes to hold the lock is told that its release succeeded.")
class LossGoesUnnoticed(KnowsItsLocks):
    def unlock(self, workspace: str, lock_id: str) -> None:
        try:
            super().unlock(workspace, lock_id)
        except (LockMismatch, NotLocked):
            if self.mine.pop(lock_id, None) is None:
                raise


@breaks("LOCK-CRASH-001", "The lock lives in the holder's connection and ends with it.")
class LockEndsWithConnection(KnowsItsLocks):
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


@breaks("LOCK-CRASH-002", "A lock whose process no longer runs is cleaned away as stale.")
class CleansStaleLocks(FileDriver):
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


@breaks("LOCK-READ-001", "A locked state can be read by its holder only.")
class LockBlocksReaders(BrokenClient):
    def get(self, workspace: str) -> Snapshot | None:
        holder = self.store.locks.get(workspace)
        if holder is not None and holder.Who != self.who:
            raise Locked(f"held by {holder.Who}", holder=holder)
        return super().get(workspace)


@breaks(
    "LOCK-OWN-001",
    "A lock id is good for one write.",
    also=("LOCK-STATE-001", "LOCK-FENCE-001"),
)
class OneWritePerLock(BrokenClient):
    written: str | None = None

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if lock_id is not None and lock_id == self.written:
            raise DriverError("stale", True, "this lock has been used")
        super().put(workspace, data, lock_id=lock_id)
        self.written = lock_id


@breaks("LOCK-FENCE-001", "The lock id of a write is checked against all ids that were ever granted.")
class UnfencedWrites(RemembersGrants):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=None if lock_id in self.granted else lock_id)


@breaks("LOCK-FENCE-002", "The lock id of a write is checked only while somebody holds the lock.")
class FenceOnlyWhileHeld(RemembersGrants):
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


@breaks(
    "LOCK-WAIT-001",
    "A retry of a refused request is a conflict that nobody waits for (kubernetes).",
    also=("LOCK-WAIT-002",),
)
class RetryIsAnError(CountsRefusals):
    def lock(self, workspace: str, info: LockInfo) -> str:
        if self.refusals[info.ID]:
            raise DriverError("internal", True, "the object has been modified")
        return super().lock(workspace, info)


@breaks(
    "LOCK-WAIT-002",
    "After three refusals of one request the waiter itself is named as the holder.",
    also=("LOCK-WAIT-001",),
)
class WaiterIsNamed(CountsRefusals):
    patience: ClassVar[int] = 3

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            if self.refusals[info.ID] > self.patience:
                raise Locked(refusal.message, holder=info) from refusal
            raise


@breaks(
    "LOCK-WAIT-003",
    "When the holder is gone before its name was read, the refusal is a 'not found' error.",
    also=UNDER_LOAD,
)
class VanishedHolderIsNotFound(BrokenClient):
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
