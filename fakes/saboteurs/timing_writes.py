"""Saboteurs of writes under a lock, of states and of workspaces that need an interleaving."""

from __future__ import annotations

from collections.abc import Sequence

from lockproof.driver.api import LockInfo, Snapshot
from lockproof.driver.memory import DEFAULT, MemoryStore
from lockproof.explore import ExploredClock, checkpoint
from lockproof.fakes.saboteurs.broken import Register, SteppedClient
from lockproof.fakes.saboteurs.lock_groups import INTERLEAVED

locks = Register(__name__, "locks", "concurrency", timing=True)
states = Register(__name__, "state", "concurrency", timing=True)
workspaces = Register(__name__, "workspaces", "concurrency", timing=True)
LEASE = 60.0
UPLOAD = 90.0


# --- Writes under a lock


@locks.breaks("LOCK-FENCE-003", *INTERLEAVED)
class LooksThenWrites(SteppedClient):
    """A write looks at the lock and is sent afterwards, whoever holds it by then: the loss of a lock
    in the middle of a run goes unnoticed (hashicorp/terraform#14312, #16098)."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if lock_id is not None:
            self.require_holder(workspace, lock_id)
        checkpoint("write the state")
        self.store.states[workspace] = data


@locks.breaks("LOCK-FORCE-002", *INTERLEAVED)
class RenewsALostLock(SteppedClient):
    """Every write renews the lock by writing it again, also one that was forced in the meantime: it is
    back, over the new holder's (hashicorp/terraform#13445: a lock that is there after its release)."""

    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.own: dict[str, LockInfo] = {}

    def lock(self, workspace: str, info: LockInfo) -> str:
        lock_id = super().lock(workspace, info)
        self.own[lock_id] = info
        return lock_id

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        if lock_id in self.own:
            checkpoint("renew the lock")
            self.take(workspace, self.own[lock_id])


class LeasingStore(MemoryStore):
    """Locks end `LEASE` seconds after they were taken or renewed."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ExploredClock()
        self.ends: dict[str, float] = {}


@locks.breaks("LOCK-EXCL-002", *INTERLEAVED)
class LeaseEndsInAWrite(SteppedClient):
    """A lock is a lease that each call renews, but an upload may outlast it; then another is granted the
    lock while the upload goes on (hashicorp/terraform#30598: an idle holder loses its lock)."""

    store_type = LeasingStore
    store: LeasingStore

    def lock(self, workspace: str, info: LockInfo) -> str:
        if self.store.ends.get(workspace, 0.0) < self.store.clock.monotonic():
            self.store.locks.pop(workspace, None)
        lock_id = super().lock(workspace, info)
        self.renew(workspace)
        return lock_id

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if lock_id is not None:
            self.require_holder(workspace, lock_id)
        self.store.clock.sleep(UPLOAD)
        checkpoint("finish the upload")
        self.store.states[workspace] = data
        self.renew(workspace)

    def renew(self, workspace: str) -> None:
        self.store.ends[workspace] = self.store.clock.monotonic() + LEASE


@locks.breaks("LOCK-EXCL-002", *INTERLEAVED)
class SendsTheWriteAgain(SteppedClient):
    """A write is sent twice, the second time when its lock is released already, and undoes what the next
    holder wrote (hashicorp/terraform#36155: a release does not wait for the upload)."""

    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.sent: dict[str, bytes] = {}

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        self.sent[workspace] = data

    def unlock(self, workspace: str, lock_id: str) -> None:
        super().unlock(workspace, lock_id)
        if data := self.sent.pop(workspace, None):
            checkpoint("deliver the write again")
            self.store.states[workspace] = data


# --- States


class StoreWithReads(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.read: dict[str, bytes] = {}


@states.breaks("STATE-VIS-002", "STATE-ORDER-001", *INTERLEAVED)
class CachesTheStateLate(SteppedClient):
    """Reads fill a cache that a write empties; one that is filled late serves the state before
    (hashicorp/terraform#15795)."""

    store_type = StoreWithReads
    store: StoreWithReads

    def get(self, workspace: str) -> Snapshot | None:
        if cached := self.store.read.get(workspace):
            return Snapshot(cached)
        snapshot = super().get(workspace)
        if snapshot is not None:
            checkpoint("fill the cache")
            self.store.read[workspace] = snapshot.data
        return snapshot

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        self.store.read.pop(workspace, None)

    def delete(self, workspace: str) -> None:
        super().delete(workspace)
        self.store.read.pop(workspace, None)


@states.breaks("STATE-ATOM-001", "STATE-ATOM-002", "STATE-ORDER-001", *INTERLEAVED)
class EmptiesFirst(SteppedClient):
    """A write empties the state and then fills it: who reads in between reads nothing
    (hashicorp/terraform#34266, #17066)."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if lock_id is not None:
            self.require_holder(workspace, lock_id)
        self.store.states[workspace] = b""
        checkpoint("fill the state")
        self.store.states[workspace] = data


@states.breaks("STATE-ATOM-001", "STATE-ATOM-002", "STATE-ORDER-001", *INTERLEAVED)
class ReadsTwoHalves(SteppedClient):
    """A state is read in two requests, of which the second may read another state
    (hashicorp/terraform#20708, #17583: digest and state do not belong together)."""

    def get(self, workspace: str) -> Snapshot | None:
        first = super().get(workspace)
        if first is None:
            return None
        checkpoint("read the second half")
        second = super().get(workspace)
        rest = b"" if second is None else second.data
        half = len(first.data) // 2
        return Snapshot(first.data[:half] + rest[half:])


# --- Workspaces


class StoreWithIndex(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.index: tuple[str, ...] = ()


class IndexedClient(SteppedClient):
    """The names of the workspaces are a list of their own."""

    store_type = StoreWithIndex
    store: StoreWithIndex

    def workspaces(self) -> Sequence[str]:
        return sorted({DEFAULT, *self.store.index})

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        if workspace not in self.store.index:
            self.enter(workspace)

    def delete(self, workspace: str) -> None:
        super().delete(workspace)
        self.store.index = tuple(name for name in self.store.index if name != workspace)

    def enter(self, workspace: str) -> None:
        """Adds a name to the list."""
        self.store.index = (*self.store.index, workspace)


@workspaces.breaks("WS-ISO-002", "WS-ISO-001", "WS-CREATE-001", "WS-LIST-001", "WS-LIST-003", *INTERLEAVED)
class AddsToAnOldList(IndexedClient):
    """The list of names is read, added to and written back, over the name that another has added since
    (hashicorp/terraform#33217: what two creations at once need a lock for)."""

    def enter(self, workspace: str) -> None:
        index = self.store.index
        checkpoint("write the list back")
        self.store.index = (*index, workspace)


@workspaces.breaks("WS-ISO-001", "WS-ISO-002", "WS-CREATE-001", "WS-LIST-001", "WS-LIST-003", *INTERLEAVED)
class DeletesFromAnOldList(IndexedClient):
    """A deletion reads the list of names and writes it back without one, and so without the names that
    others have added since (hashicorp/terraform#33217)."""

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        index = self.store.index
        checkpoint("write the list back")
        super().delete_workspace(workspace, force=force)
        self.store.index = tuple(name for name in index if name != workspace)


@workspaces.breaks("LOCK-EXCL-001", *INTERLEAVED)
class DeletesALockedWorkspace(SteppedClient):
    """A deletion finds the workspace unlocked and then removes it with its lock, which somebody may have
    taken (hashicorp/terraform#18329, #22941: a deletion and the lock of what it deletes)."""

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        self.require_free(workspace)
        checkpoint("remove state and lock")
        super().delete_workspace(workspace, force=force)
        self.store.locks.pop(workspace, None)


SABOTEURS = (*locks.saboteurs, *states.saboteurs, *workspaces.saboteurs)
