"""Backends that show states at the wrong time, to the wrong client or half written, each in one way."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from types import TracebackType

from lockproof.driver import Address, DriverError, Snapshot
from lockproof.driver.file import FileDriver, FileScope
from lockproof.driver.memory import MemoryClient, MemoryScope, MemoryStore
from lockproof.fakes.saboteurs.broken import BrokenDriver, BrokenScope, Register, altering

register = Register(__name__, "state")
SABOTEURS = register.saboteurs
VARIANTS = register.variants

MEETING = 0.005
"""Seconds that a write stays half done in the hope that another client meets it."""


# --- Visibility and lifetime


class WriteCountStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.writes_by: dict[str, int] = {}


class OwnReadCacheClient(MemoryClient):
    """A read cache that is emptied by the writes of others, but not by the client's own."""

    store: WriteCountStore

    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.cached: dict[str, tuple[int, Snapshot | None]] = {}

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        self.store.writes_by[self.who] = self.store.writes_by.get(self.who, 0) + 1

    def get(self, workspace: str) -> Snapshot | None:
        others = sum(count for who, count in self.store.writes_by.items() if who != self.who)
        if workspace not in self.cached or self.cached[workspace][0] != others:
            self.cached[workspace] = (others, super().get(workspace))
        return self.cached[workspace][1]


@register.breaks("STATE-VIS-001", "STATE-DEL-001")
class OwnReadCache(BrokenDriver):
    """A client's own writes do not empty its read cache."""

    client_type = OwnReadCacheClient
    store_type = WriteCountStore


class NegativeCacheClient(MemoryClient):
    """Who has once read that there is nothing goes on reading that."""

    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.absent: set[str] = set()

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        self.absent.discard(workspace)
        super().put(workspace, data, lock_id=lock_id)

    def get(self, workspace: str) -> Snapshot | None:
        if workspace in self.absent:
            return None
        snapshot = super().get(workspace)
        if snapshot is None:
            self.absent.add(workspace)
        return snapshot


@register.breaks("STATE-VIS-002")
class NegativeCache(BrokenDriver):
    """Who has read nothing goes on reading nothing."""

    client_type = NegativeCacheClient


class DiesWithWriterClient(MemoryClient):
    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.written: dict[str, bytes] = {}

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        self.written[workspace] = data

    def close(self) -> None:
        for workspace, data in self.written.items():
            if self.store.states.get(workspace) == data:
                self.delete(workspace)


@register.breaks("STATE-DUR-001")
class DiesWithWriter(BrokenDriver):
    """A state is gone when its writer ends."""

    client_type = DiesWithWriterClient


@register.breaks("STATE-DUR-002")
class PrivatePlaces(FileDriver):
    """Another process is given a directory of its own."""

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> FileScope:
        return super().open_scope(f"{name}-{uuid.uuid4().hex}" if attach else name)


@register.breaks("STATE-SCOPE-001")
class OnePlace(BrokenDriver):
    """Places that are open at the same time are the same."""

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.open: list[MemoryScope] = []

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> MemoryScope:
        scope = OnePlaceScope(self.open)
        self.open.append(scope)
        return scope


class OnePlaceScope(BrokenScope):
    def __init__(self, others: list[MemoryScope]) -> None:
        super().__init__(others[0].store if others else MemoryStore(), MemoryClient)
        self.others = others

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.others.remove(self)


# --- Replacement


@register.breaks("STATE-REPL-001")
class LeavesTail(BrokenDriver):
    """A long state is overwritten in place, its end stays."""

    client_type = altering(lambda old, new: new + old[len(new) :] if old and len(old) > 65536 else new)


class MeetingStore(MemoryStore):
    """Knows which writes are under way, and lets one wait for a reader or another writer."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Event()
        self.writing = 0
        self.ghost: tuple[str, bytes] | None = None
        self.before: dict[str, bytes] = {}


class MeetingClient(MemoryClient):
    """A client whose writes stay half done until somebody meets them."""

    store: MeetingStore

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        with self.store.mutex:
            if lock_id is not None:
                self.require_holder(workspace, lock_id)
            old = self.store.states.get(workspace)
            meets, self.store.writing = self.store.writing > 0, self.store.writing + 1
            self.store.arrived.clear()
            self.half(workspace, old, data, meets=meets)
        if meets:
            self.store.arrived.set()
        self.store.arrived.wait(MEETING)
        with self.store.mutex:
            self.store.writing -= 1
            self.full(workspace, old, data)

    def half(self, workspace: str, old: bytes | None, new: bytes, *, meets: bool) -> None:
        """The first half of a write."""

    def full(self, workspace: str, old: bytes | None, new: bytes) -> None:
        self.store.states[workspace] = new

    def get(self, workspace: str) -> Snapshot | None:
        snapshot = super().get(workspace)
        self.store.arrived.set()
        return snapshot


class DeletesFirstClient(MeetingClient):
    def half(self, workspace: str, old: bytes | None, new: bytes, *, meets: bool) -> None:
        self.store.states.pop(workspace, None)


@register.breaks("STATE-ATOM-001", "STATE-ATOM-002", "STATE-ORDER-001")
class DeletesFirst(BrokenDriver):
    """A state is deleted before the new one is written."""

    client_type = DeletesFirstClient
    store_type = MeetingStore


class WritesInPlaceClient(MeetingClient):
    def half(self, workspace: str, old: bytes | None, new: bytes, *, meets: bool) -> None:
        if old is not None:
            self.store.states[workspace] = new[: len(new) // 2] + old[len(new) // 2 :]


@register.breaks("STATE-ATOM-001", "STATE-ORDER-001")
class WritesInPlace(BrokenDriver):
    """A state is written in two halves."""

    client_type = WritesInPlaceClient
    store_type = MeetingStore


class LateRetryClient(MeetingClient):
    """A write that met another one is sent again, after both and all that follow."""

    def half(self, workspace: str, old: bytes | None, new: bytes, *, meets: bool) -> None:
        if meets and self.store.ghost is None:
            self.store.ghost = (workspace, new)

    def get(self, workspace: str) -> Snapshot | None:
        with self.store.mutex:
            if self.store.ghost is not None and not self.store.writing:
                name, data = self.store.ghost
                self.store.states[name], self.store.ghost = data, None
        return super().get(workspace)


@register.breaks("STATE-REPL-002", "STATE-ORDER-001")
class LateRetry(BrokenDriver):
    """A write that met another is repeated after all the others."""

    client_type = LateRetryClient
    store_type = MeetingStore


class OldReplicaClient(MeetingClient):
    """While a write is under way, reads are served by a replica that is one write behind."""

    def full(self, workspace: str, old: bytes | None, new: bytes) -> None:
        if old is not None:
            self.store.before[workspace] = old
        super().full(workspace, old, new)

    def get(self, workspace: str) -> Snapshot | None:
        snapshot = super().get(workspace)
        with self.store.mutex:
            behind = self.store.before.get(workspace)
            return Snapshot(behind) if self.store.writing and behind is not None else snapshot


@register.breaks("STATE-ATOM-002", "STATE-ORDER-001")
class OldReplica(BrokenDriver):
    """Reads beside a write come from a replica that is behind."""

    client_type = OldReplicaClient
    store_type = MeetingStore


# --- Correct, though unusual


class OneWriterClient(MeetingClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if self.store.writing:
            raise DriverError("stale", True, "another write is under way")
        super().put(workspace, data, lock_id=lock_id)


@register.correct
class OneWriter(BrokenDriver):
    """A write beside another one is definitely refused, as by compare-and-swap."""

    client_type = OneWriterClient
    store_type = MeetingStore
