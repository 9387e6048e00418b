"""Correct backends that work in steps, answer late or decide oddly: no schedule may accuse them."""

from __future__ import annotations

from dataclasses import replace

from lockproof.driver.api import LockInfo, Snapshot
from lockproof.driver.errors import DriverError, Locked, NotLocked
from lockproof.driver.memory import MemoryStore
from lockproof.explore import LOST_REPLY, checkpoint
from lockproof.fakes.saboteurs.broken import BrokenClient, Register, SteppedClient

register = Register(__name__, "locks", "state", "workspaces")
VARIANTS = register.variants


# --- Locks


@register.correct
class StepsAroundEverything(BrokenClient):
    """Every request travels, takes effect at one moment, and its answer travels back."""

    def get(self, workspace: str) -> Snapshot | None:
        checkpoint("arrive")
        snapshot = super().get(workspace)
        checkpoint("answer")
        return snapshot

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        checkpoint("arrive")
        super().put(workspace, data, lock_id=lock_id)
        checkpoint("answer")

    def lock(self, workspace: str, info: LockInfo) -> str:
        checkpoint("arrive")
        try:
            return super().lock(workspace, info)
        finally:
            checkpoint("answer")

    def unlock(self, workspace: str, lock_id: str) -> None:
        checkpoint("arrive")
        try:
            super().unlock(workspace, lock_id)
        finally:
            checkpoint("answer")


class StoreWithIntents(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.intents: dict[str, list[LockInfo]] = {}


@register.correct
class TwoPhaseGrants(SteppedClient):
    """A request first files an intent, which grants nothing, and is then granted or refused at once; intents
    of the dead stay and mean nothing."""

    store_type = StoreWithIntents
    store: StoreWithIntents

    def lock(self, workspace: str, info: LockInfo) -> str:
        self.store.intents.setdefault(workspace, []).append(info)
        checkpoint("decide")
        self.require_free(workspace)
        self.take(workspace, info)
        checkpoint("withdraw the intent")
        self.store.intents[workspace].remove(info)
        return info.ID


@register.correct
class NamesWhoHoldsByThen(SteppedClient):
    """Who holds the lock is read when the request is already refused: the refusal names the next holder, or
    nobody."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            checkpoint("read who holds it")
            raise Locked(refusal.message, holder=self.store.locks.get(workspace)) from refusal


class StoreWithVersions(MemoryStore):
    """A version that every change of a lock counts up."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 0


class VersionedClient(SteppedClient):
    store_type = StoreWithVersions
    store: StoreWithVersions

    def commit(self, version: int, workspace: str, holder: LockInfo | None) -> bool:
        """Sets the holder if nothing was committed since `version`; whether it did."""
        if self.store.version != version:
            return False
        self.store.version += 1
        if holder is None:
            del self.store.locks[workspace]
        else:
            self.store.locks[workspace] = holder
        return True


@register.correct
class OptimisticCommits(VersionedClient):
    """Locks and releases are commits on a version that was read before; a lost race starts again."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        while True:
            version = self.store.version
            self.require_free(workspace)
            checkpoint("commit the lock")
            if self.commit(version, workspace, info):
                return info.ID

    def unlock(self, workspace: str, lock_id: str) -> None:
        while True:
            version = self.store.version
            self.require_holder(workspace, lock_id)
            checkpoint("commit the release")
            if self.commit(version, workspace, None):
                return


@register.correct
class RetriesByItself(SteppedClient):
    """A request whose reply is lost is sent again, and finds its own lock, or that it was forced since."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        lock_id = super().lock(workspace, info)
        if checkpoint("hear the reply", faults=(LOST_REPLY,)) == LOST_REPLY:
            checkpoint("ask again")
            holder = self.store.locks.get(workspace)
            if holder is None or holder.ID != lock_id:
                raise DriverError("locked", False, "granted, and gone again")
        return lock_id


class StoreWithMarks(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.released: list[LockInfo] = []

    def is_released(self, lock: LockInfo) -> bool:
        """Whether this very lock was released, and not another under the same id."""
        return any(lock is other for other in self.released)


@register.correct
class SweepsLater(SteppedClient):
    """A release marks the lock as released, which frees it, and sweeps it away afterwards, that one only."""

    store_type = StoreWithMarks
    store: StoreWithMarks

    def lock(self, workspace: str, info: LockInfo) -> str:
        holder = self.store.locks.get(workspace)
        if holder is not None and not self.store.is_released(holder):
            raise Locked(f"held by {holder.Who}", holder=holder)
        return self.take(workspace, replace(info))

    def require_holder(self, workspace: str, lock_id: str) -> None:
        super().require_holder(workspace, lock_id)
        if self.store.is_released(self.store.locks[workspace]):
            raise NotLocked(f"workspace {workspace!r} is not locked")

    def unlock(self, workspace: str, lock_id: str) -> None:
        self.require_holder(workspace, lock_id)
        lock = self.store.locks[workspace]
        self.store.released.append(lock)
        checkpoint("sweep")
        if self.store.locks.get(workspace) is lock:
            del self.store.locks[workspace]


# --- Writes


@register.correct
class ChecksThenWrites(SteppedClient):
    """A write looks at the lock and is sent afterwards; that a lock lost in between is noticed, it does not
    claim."""

    lacks = frozenset({"locking.fencing-strict"})

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if lock_id is not None:
            self.require_holder(workspace, lock_id)
        checkpoint("write the state")
        self.store.states[workspace] = data


@register.correct
class RenamesIntoPlace(SteppedClient):
    """A write goes to another object first, in pieces, and into its place at one moment, if its lock still
    holds by then."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        pieces = [data[: len(data) // 2]]
        checkpoint("write the second half")
        pieces.append(data[len(data) // 2 :])
        checkpoint("rename")
        super().put(workspace, b"".join(pieces), lock_id=lock_id)


@register.correct
class RefusesWhatIsOvertaken(SteppedClient):
    """A write whose state has changed while it was under way is refused as stale, and is not stored."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        before = self.store.states.get(workspace)
        checkpoint("compare and write")
        if lock_id is None and self.store.states.get(workspace) is not before:
            raise DriverError("stale", True, "another write came first")
        super().put(workspace, data, lock_id=lock_id)
