"""Backends that keep workspaces wrongly, each in one way, and correct ones that look unusual."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from lockproof.driver import DriverError, LockInfo, Snapshot
from lockproof.driver.memory import DEFAULT, MemoryClient, MemoryStore
from lockproof.fakes.saboteurs.broken import BrokenDriver, Register

register = Register(__name__, "workspaces")
SABOTEURS = register.saboteurs
VARIANTS = register.variants

PAGE = 10
MEETING = 0.02
"""Seconds that a creation waits for another one to come between its two halves."""


class TracingStore(MemoryStore):
    """Remembers traces that a careful backend would not have or not show."""

    def __init__(self) -> None:
        super().__init__()
        self.touched = False
        self.names: list[str] = []
        self.writers: dict[str, set[str]] = {}


class TracingClient(MemoryClient):
    store: TracingStore

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        self.store.touched = True
        self.store.writers.setdefault(workspace, set()).add(self.who)


class TracingDriver(BrokenDriver):
    """Base of the drivers that need a `TracingStore`."""

    store_type = TracingStore


# --- The default workspace


class ExampleInsideClient(TracingClient):
    def workspaces(self) -> Sequence[str]:
        return [*super().workspaces(), *([] if self.store.touched else ["example"])]


@register.breaks("WS-DEFAULT-001")
class ExampleInside(TracingDriver):
    """A fresh backend has an example workspace in it."""

    client_type = ExampleInsideClient


class DeletesDefaultClient(MemoryClient):
    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        self.delete(workspace)


@register.breaks("WS-DEFAULT-002")
class DeletesDefault(BrokenDriver):
    """The default workspace is deleted like any other."""

    client_type = DeletesDefaultClient


class RefusesTooLateClient(MemoryClient):
    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        self.delete(workspace)
        super().delete_workspace(workspace, force=force)


@register.breaks("WS-DEFAULT-002")
class RefusesTooLate(BrokenDriver):
    """The deletion of the default workspace is refused after its state is gone."""

    client_type = RefusesTooLateClient


class ForgetsDefaultClient(TracingClient):
    def delete(self, workspace: str) -> None:
        super().delete(workspace)
        self.store.names.append(workspace)

    def workspaces(self) -> Sequence[str]:
        gone = DEFAULT in self.store.names and DEFAULT not in self.store.states
        return [name for name in super().workspaces() if name != DEFAULT or not gone]


@register.breaks("WS-DEFAULT-003")
class ForgetsDefault(TracingDriver):
    """The default workspace is no longer listed once its state was deleted."""

    client_type = ForgetsDefaultClient


# --- Creation and listing


class SecondWriteCountsClient(TracingClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        self.store.names.append(workspace)

    def workspaces(self) -> Sequence[str]:
        return [n for n in super().workspaces() if n == DEFAULT or self.store.names.count(n) > 1]


@register.breaks(
    "WS-CREATE-001", "WS-LIST-001", "WS-LIST-003", "WS-LIST-004", "WS-ISO-001", "WS-ISO-002", "WS-DEL-002",
    "WS-DEL-004", "WS-NAME-001", "WS-NAME-002", "WS-NAME-003",
)  # fmt: skip
class SecondWriteCounts(TracingDriver):
    """A workspace is listed only after its second write."""

    client_type = SecondWriteCountsClient


class FirstPageClient(MemoryClient):
    def workspaces(self) -> Sequence[str]:
        return super().workspaces()[:PAGE]


@register.breaks("WS-LIST-001", "WS-ISO-002", "WS-NAME-001")
class FirstPage(BrokenDriver):
    """Only the first page of the list is read."""

    client_type = FirstPageClient


class OncePerWriterClient(TracingClient):
    def workspaces(self) -> Sequence[str]:
        return [n for n in super().workspaces() for _ in self.store.writers.get(n, {self.who})]


@register.breaks("WS-LIST-002")
class OncePerWriter(TracingDriver):
    """A workspace is listed once for each client that wrote it."""

    client_type = OncePerWriterClient


class ListCacheClient(MemoryClient):
    listed: Sequence[str] | None = None

    def workspaces(self) -> Sequence[str]:
        if self.listed is None:
            self.listed = super().workspaces()
        return self.listed


@register.breaks("WS-LIST-003", "WS-NAME-003")
class ListCache(BrokenDriver):
    """A client lists once and then answers from its memory."""

    client_type = ListCacheClient


class ListsLocksClient(MemoryClient):
    def workspaces(self) -> Sequence[str]:
        return [*super().workspaces(), *(f"{name}.tflock" for name in self.store.locks)]


@register.breaks("WS-LIST-004")
class ListsLocks(BrokenDriver):
    """The object of a lock is listed as a workspace."""

    client_type = ListsLocksClient


class KeepsLockObjectsClient(TracingClient):
    def unlock(self, workspace: str, lock_id: str) -> None:
        super().unlock(workspace, lock_id)
        self.store.names.append(f"{workspace}.lock")

    def workspaces(self) -> Sequence[str]:
        return [*super().workspaces(), *self.store.names]


@register.breaks("WS-LIST-004")
class KeepsLockObjects(TracingDriver):
    """A released lock leaves an object that is listed as a workspace."""

    client_type = KeepsLockObjectsClient


# --- Isolation


class DeletesByPrefixClient(MemoryClient):
    def delete(self, workspace: str) -> None:
        with self.store.mutex:
            for name in [name for name in self.store.states if name.startswith(workspace)]:
                del self.store.states[name]


@register.breaks("WS-ISO-001", "WS-DEL-004", "WS-NAME-002")
class DeletesByPrefix(BrokenDriver):
    """A deletion takes every workspace whose name begins alike."""

    client_type = DeletesByPrefixClient


class WritesDefaultTooClient(MemoryClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        if DEFAULT in self.store.states:
            self.store.states[DEFAULT] = data


@register.breaks("WS-ISO-001", "WS-NAME-002", "WS-NAME-003")
class WritesDefaultToo(BrokenDriver):
    """A write to a named workspace goes to the default one as well."""

    client_type = WritesDefaultTooClient


class IndexStore(MemoryStore):
    """A list of names that is read, changed and written back by whoever makes a workspace."""

    def __init__(self) -> None:
        super().__init__()
        self.index: tuple[str, ...] = ()
        self.another = threading.Event()


class IndexClient(MemoryClient):
    store: IndexStore

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        index = self.store.index
        if workspace not in index:
            self.wait_for_another()
            self.store.index = (*index, workspace)

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        super().delete_workspace(workspace, force=force)
        index = self.store.index
        self.wait_for_another()
        self.store.index = tuple(name for name in index if name != workspace)

    def workspaces(self) -> Sequence[str]:
        return [n for n in super().workspaces() if n == DEFAULT or n in self.store.index]

    def wait_for_another(self) -> None:
        self.store.another.set()
        self.store.another.clear()
        self.store.another.wait(MEETING)


@register.breaks("WS-ISO-002")
class RewritesIndex(BrokenDriver):
    """Names are in one list, which concurrent clients overwrite for each other."""

    client_type = IndexClient
    store_type = IndexStore


# --- Deletion


class StaysListedClient(TracingClient):
    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        if workspace in self.store.states:
            self.store.names.append(workspace)
        super().delete_workspace(workspace, force=force)

    def workspaces(self) -> Sequence[str]:
        return sorted({*super().workspaces(), *self.store.names})


@register.breaks("WS-DEL-001", "WS-DEL-004", "WS-LIST-003", "WS-ISO-002", "WS-NAME-003")
class StaysListed(TracingDriver):
    """A deleted workspace is listed for ever."""

    client_type = StaysListedClient


class OnlyUnlistedClient(TracingClient):
    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        if workspace == DEFAULT:
            super().delete_workspace(workspace, force=force)
        self.store.names.append(workspace)

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data, lock_id=lock_id)
        self.store.names = [name for name in self.store.names if name != workspace]

    def workspaces(self) -> Sequence[str]:
        return [name for name in super().workspaces() if name not in self.store.names]


@register.breaks("WS-DEL-001", "WS-DEL-002", "WS-DEL-003")
class OnlyUnlisted(TracingDriver):
    """A deleted workspace is no longer listed, but its state is still there."""

    client_type = OnlyUnlistedClient


class TombstoneClient(TracingClient):
    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        super().delete_workspace(workspace, force=force)
        self.store.names.append(workspace)

    def get(self, workspace: str) -> Snapshot | None:
        return None if workspace in self.store.names else super().get(workspace)


@register.breaks("WS-DEL-002")
class Tombstone(TracingDriver):
    """The mark of a deletion outlives the workspace that is made again."""

    client_type = TombstoneClient


class RefusesForceClient(MemoryClient):
    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        if b'"mode":"managed"' in self.store.states.get(workspace, b""):
            raise DriverError("unsupported", True, "the workspace is not empty")
        super().delete_workspace(workspace, force=force)


@register.breaks("WS-DEL-003")
class RefusesForce(BrokenDriver):
    """A workspace with resources is not deleted, with force neither."""

    client_type = RefusesForceClient


class MakesByDeletingClient(TracingClient):
    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        if workspace not in self.store.states and workspace != DEFAULT:
            self.store.names.append(workspace)
        super().delete_workspace(workspace, force=force)

    def workspaces(self) -> Sequence[str]:
        return sorted({*super().workspaces(), *self.store.names})


@register.breaks("WS-DEL-004")
class MakesByDeleting(TracingDriver):
    """Deleting a workspace that is not there makes it."""

    client_type = MakesByDeletingClient


class KeepsLockClient(MemoryClient):
    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        super().delete_workspace(workspace, force=force)
        self.store.locks[workspace] = LockInfo.new("the backend", "workspace-delete")


@register.breaks("WS-DEL-005")
class KeepsLock(BrokenDriver):
    """A deletion takes the lock of the workspace and leaves it behind."""

    client_type = KeepsLockClient


# --- Correct, though unusual


class UnsortedClient(MemoryClient):
    def workspaces(self) -> Sequence[str]:
        return tuple(sorted(super().workspaces(), reverse=True))


@register.correct
class Unsorted(BrokenDriver):
    """Workspaces are listed backwards, in a tuple."""

    client_type = UnsortedClient


class RefusesUnknownClient(MemoryClient):
    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        if workspace not in self.store.states:
            raise DriverError("not_found", True, f"there is no workspace {workspace!r}")
        super().delete_workspace(workspace, force=force)


@register.correct
class RefusesUnknown(BrokenDriver):
    """The deletion of a workspace that is not there is refused."""

    client_type = RefusesUnknownClient
