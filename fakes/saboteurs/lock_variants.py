"""Correct backends that lock in unusual but legal ways: the suite must fail none of them."""

from __future__ import annotations

import datetime
import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

from lockproof.driver.api import Capabilities, LockInfo, Snapshot
from lockproof.driver.errors import DriverError, Locked, LockMismatch, NotLocked
from lockproof.driver.memory import MemoryStore
from lockproof.fakes.saboteurs.broken import BrokenClient, BrokenDriver, Register, pause

register = Register(__name__, "locks", "faults")
VARIANTS = register.variants


class StoreWithGenerations(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.generations = itertools.count(1_790_000_000_000_000)


@register.correct
class GenerationIds(BrokenClient):
    """The backend chooses lock ids, path and time itself, as gcs does with an object's generation; an id
    that is no number is refused without a look at the lock."""

    store_type = StoreWithGenerations

    def lock(self, workspace: str, info: LockInfo) -> str:
        assert isinstance(self.store, StoreWithGenerations)
        now = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=2)))
        generation = str(next(self.store.generations))
        own = replace(info, ID=generation, Path=f"gs://bucket/{workspace}.tflock", Created=now.isoformat())
        return super().lock(workspace, own)

    def require_holder(self, workspace: str, lock_id: str) -> None:
        if not lock_id.isdigit():
            raise LockMismatch("a lock id is a number")
        super().require_holder(workspace, lock_id)


@register.correct
class IdempotentRequests(BrokenClient):
    """The same request again is granted again, as a server must do whose replies can be lost."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        with self.store.mutex:
            holder = self.store.locks.get(workspace)
            if holder is not None and holder.ID == info.ID:
                return info.ID
        return super().lock(workspace, info)


class StoreWithLastRelease(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, str] = {}


@register.correct
class IdempotentReleases(BrokenClient):
    """A release of the id just released succeeds again while the lock is free."""

    store_type = StoreWithLastRelease

    def unlock(self, workspace: str, lock_id: str) -> None:
        assert isinstance(self.store, StoreWithLastRelease)
        try:
            super().unlock(workspace, lock_id)
        except NotLocked:
            if self.store.last.get(workspace) != lock_id:
                raise
        self.store.last[workspace] = lock_id


@register.correct
class SlowReplies(BrokenClient):
    """Every answer takes its time, before and after it took effect, and no two the same."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        pause(random.uniform(0, 0.001))
        lock_id = super().lock(workspace, info)
        pause(random.uniform(0, 0.001))
        return lock_id

    def unlock(self, workspace: str, lock_id: str) -> None:
        pause(random.uniform(0, 0.001))
        super().unlock(workspace, lock_id)
        pause(random.uniform(0, 0.001))

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        pause(random.uniform(0, 0.001))


@register.correct
class HolderMayVanish(BrokenClient):
    """Refuses first and reads the holder's name afterwards; a holder that is gone by then is not named."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked:
            pause(0.0002)
            with self.store.mutex:
                holder = self.store.locks.get(workspace)
            raise Locked("held" if holder else "held until just now", holder=holder) from None


@register.correct
class MandatoryLocks(BrokenClient):
    """While a state is locked, only its holder may write it, and nobody may delete it."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        with self.store.mutex:
            holder = self.store.locks.get(workspace)
            if holder is not None and lock_id is None:
                raise Locked(f"held by {holder.Who}", holder=holder)
        super().put(workspace, data, lock_id=lock_id)

    def delete(self, workspace: str) -> None:
        with self.store.mutex:
            holder = self.store.locks.get(workspace)
            if holder is not None:
                raise Locked(f"held by {holder.Who}", holder=holder)
        super().delete(workspace)


@register.correct
class StaleWritesSaySo(BrokenClient):
    """A write under a lock that is not held is refused as stale, not as a mismatch."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        try:
            super().put(workspace, data, lock_id=lock_id)
        except (LockMismatch, NotLocked) as refusal:
            raise DriverError("stale", True, refusal.message) from refusal


@register.correct
class StaleWritesFindALock(BrokenClient):
    """A write under a lock that is not held is refused by whose lock it is, as a request for the lock is."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        try:
            super().put(workspace, data, lock_id=lock_id)
        except LockMismatch as refusal:
            raise Locked("held by another", holder=refusal.holder) from refusal


@register.correct
class NamelessRefusals(BrokenClient):
    """Does not know who holds a lock, and claims no capability that rests on it."""

    lacks = frozenset({"locking.holder-info", "locking.force-unlock"})

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked:
            raise Locked("held") from None


@register.correct
class UncheckedReleases(BrokenClient):
    """Releases whatever is held and lets anybody write, and claims neither nonce nor fencing."""

    lacks = frozenset({"locking.release-nonce", "locking.fencing"})

    def require_holder(self, workspace: str, lock_id: str) -> None:
        if workspace not in self.store.locks:
            raise NotLocked(f"workspace {workspace!r} is not locked")

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data)


@register.correct
class SessionLocks(BrokenClient):
    """The lock belongs to the holder's session and ends with it, ids are decoration, and a release by
    anybody else succeeds without effect, as in pg: it claims nothing beyond exclusion."""

    lacks = frozenset(
        {"locking.holder-info", "locking.force-unlock", "locking.release-nonce", "locking.fencing"}
    )

    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.held: dict[str, str] = {}

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            self.held[workspace] = super().lock(workspace, info)
        except Locked:
            raise Locked("Workspace is already locked") from None
        return self.held[workspace]

    def unlock(self, workspace: str, lock_id: str) -> None:
        if workspace in self.held:
            super().unlock(workspace, self.held.pop(workspace))

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data)

    def close(self) -> None:
        for workspace in list(self.held):
            self.unlock(workspace, "")


class ClientWithoutStates(BrokenClient):
    def get(self, workspace: str) -> Snapshot | None:
        raise DriverError("unsupported", True, "locks only")

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        raise DriverError("unsupported", True, "locks only")

    def delete(self, workspace: str) -> None:
        raise DriverError("unsupported", True, "locks only")

    def workspaces(self) -> Sequence[str]:
        raise DriverError("unsupported", True, "locks only")


@register.correct
class LocksOnly(BrokenDriver):
    """A lock driver that stores no state at all."""

    client_type = ClientWithoutStates

    def capabilities(self) -> Capabilities:
        return Capabilities({"locking.holder-info", "locking.force-unlock", "locking.release-nonce"})
