"""Saboteurs of locks that need an interleaving: each is sound as long as nobody comes in between.

Each is a bug that somebody shipped; its docstring says where it was reported. The window between two
steps of a call is marked by `checkpoint`, so that an explored schedule stops there; in free runs it is
as narrow as in the field.
"""

from __future__ import annotations

from collections.abc import Sequence

from lockproof.driver.api import LockInfo, Snapshot
from lockproof.driver.errors import Locked
from lockproof.driver.memory import DEFAULT, MemoryStore
from lockproof.explore import LOST_REPLY, checkpoint
from lockproof.fakes.saboteurs.broken import Register, SteppedClient
from lockproof.fakes.saboteurs.lock_groups import INTERLEAVED

register = Register(__name__, "locks", "concurrency", timing=True)
SABOTEURS = register.saboteurs


@register.breaks("LOCK-EXCL-002", *INTERLEAVED)
class LooksThenTakes(SteppedClient):
    """Looks whether the lock is free and takes it in a second request: two runs go ahead
    (hashicorp/terraform#17407)."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        self.require_free(workspace)
        checkpoint("take the lock")
        return self.take(workspace, info)


class StoreWithTwoKeys(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, LockInfo] = {}


@register.breaks("LOCK-EXCL-002", *INTERLEAVED)
class LooksAtTwoKeys(SteppedClient):
    """A lock is a file and a row; both are looked at, then both are written, as by two halves that know
    nothing of each other (hashicorp/terraform#17583 has them differ)."""

    store_type = StoreWithTwoKeys
    store: StoreWithTwoKeys

    def lock(self, workspace: str, info: LockInfo) -> str:
        if held := self.store.files.get(workspace):
            raise Locked(f"held by {held.Who}", holder=held)
        self.require_free(workspace)
        checkpoint("write the file")
        self.store.files[workspace] = info
        checkpoint("write the row")
        return self.take(workspace, info)

    def unlock(self, workspace: str, lock_id: str) -> None:
        super().unlock(workspace, lock_id)
        self.store.files.pop(workspace, None)


class StoreThatIsMade(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.made = False


@register.breaks("LOCK-EXCL-002", *INTERLEAVED)
class MakesTheTableTwice(SteppedClient):
    """Who finds no lock table makes an empty one: of two first runs the later wipes the earlier's lock
    (hashicorp/terraform#22833, opentofu/opentofu#2218: parallel first runs)."""

    store_type = StoreThatIsMade
    store: StoreThatIsMade

    def lock(self, workspace: str, info: LockInfo) -> str:
        if not self.store.made:
            checkpoint("make the table")
            self.store.locks.clear()
            self.store.made = True
        return super().lock(workspace, info)


@register.breaks("LOCK-STATE-001", *INTERLEAVED)
class LaysAnEmptyState(SteppedClient):
    """A lock needs an object to lie on: who finds no state writes an empty one, over what another has
    written since (hashicorp/terraform#26593)."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        if workspace not in self.store.states:
            checkpoint("write an empty state")
            self.store.states[workspace] = b""
        return super().lock(workspace, info)

    def get(self, workspace: str) -> Snapshot | None:
        snapshot = super().get(workspace)
        return snapshot if snapshot is not None and snapshot.data else None

    def workspaces(self) -> Sequence[str]:
        return [name for name in super().workspaces() if name == DEFAULT or self.store.states.get(name)]


class RetryingClient(SteppedClient):
    """Sends a request again when its reply was lost."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        lock_id = super().lock(workspace, info)
        if checkpoint("hear the reply", faults=(LOST_REPLY,)) == LOST_REPLY:
            checkpoint("ask again")
            return self.again(workspace, info)
        return lock_id

    def again(self, workspace: str, info: LockInfo) -> str:
        """The repeated request: a second one like the first."""
        return super().lock(workspace, info)


@register.breaks("LOCK-ERR-001", *INTERLEAVED)
class RetryFindsItsOwnLock(RetryingClient):
    """The reply to a request is lost, and the retry is refused by the lock that it has taken itself
    (opentofu/opentofu#4405)."""


@register.breaks("LOCK-EXCL-002", *INTERLEAVED)
class RetryTakesTheLock(RetryingClient):
    """The reply to a request is lost, and the retry takes the lock without a look, though by then it may
    have been forced and be another's (opentofu/opentofu#4405, mended by trusting the retry)."""

    def again(self, workspace: str, info: LockInfo) -> str:
        return self.take(workspace, info)


# --- The holder's name


class StoreWithInfos(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.infos: dict[str, LockInfo] = {}


class InfoApartClient(SteppedClient):
    """The lock is one object and who holds it another."""

    store_type = StoreWithInfos
    store: StoreWithInfos

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            super().lock(workspace, info)
        except Locked as refusal:
            raise Locked(refusal.message, holder=self.store.infos.get(workspace)) from refusal
        checkpoint("write who holds it")
        self.store.infos[workspace] = info
        return info.ID


@register.breaks("LOCK-HOLD-001", *INTERLEAVED)
class NamesTheHolderBefore(InfoApartClient):
    """Who holds the lock is written after it was taken, over the name of the holder before, which a
    refusal in between tells (opentofu/opentofu#4225, hashicorp/terraform#27670)."""


@register.breaks("LOCK-CRASH-001", *INTERLEAVED)
class DiesWithoutAName(InfoApartClient):
    """A holder that dies between taking the lock and writing its name leaves a lock that no refusal names
    and nobody can force (hashicorp/terraform#17535, terraform-provider-azurerm#8819)."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        self.store.infos.pop(workspace, None)
        super().unlock(workspace, lock_id)


# --- Release


@register.breaks("LOCK-FORCE-002", *INTERLEAVED)
class ReleasesWhatItFound(SteppedClient):
    """A release reads whose lock it is and then deletes the key, whoever holds it by then
    (goauthentik/authentik#23876: a release that lands elsewhere, unnoticed)."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        self.require_holder(workspace, lock_id)
        checkpoint("delete the lock")
        self.store.locks.pop(workspace, None)


@register.breaks("LOCK-REL-003", *INTERLEAVED)
class ForcesWhatItFound(SteppedClient):
    """The lock of another is forced by key, after a look at its id; own locks are released by their id
    (nimbolus/terraform-backend#41)."""

    def __init__(self, store: MemoryStore, who: str) -> None:
        super().__init__(store, who)
        self.own: set[str] = set()

    def lock(self, workspace: str, info: LockInfo) -> str:
        lock_id = super().lock(workspace, info)
        self.own.add(lock_id)
        return lock_id

    def unlock(self, workspace: str, lock_id: str) -> None:
        if lock_id in self.own:
            super().unlock(workspace, lock_id)
            return
        self.require_holder(workspace, lock_id)
        checkpoint("force the lock")
        self.store.locks.pop(workspace, None)


# --- Caches


class StoreWithCache(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.cached: dict[str, LockInfo | None] = {}


@register.breaks("LOCK-REL-001", *INTERLEAVED)
class CachesTheHolderLate(SteppedClient):
    """Refusals fill a cache that a release empties; one that is filled late serves a lock that is
    released, for ever (hashicorp/terraform#15795: what is read is not what is)."""

    store_type = StoreWithCache
    store: StoreWithCache

    def lock(self, workspace: str, info: LockInfo) -> str:
        if cached := self.store.cached.get(workspace):
            raise Locked(f"held by {cached.Who}", holder=cached)
        try:
            return super().lock(workspace, info)
        except Locked as refusal:
            checkpoint("fill the cache")
            self.store.cached[workspace] = refusal.holder
            raise

    def unlock(self, workspace: str, lock_id: str) -> None:
        super().unlock(workspace, lock_id)
        self.store.cached.pop(workspace, None)


@register.breaks("LOCK-EXCL-001", *INTERLEAVED)
class CachesTheReleaseLate(SteppedClient):
    """A release notes in a cache that the lock is free, a little later than it is; who finds the note
    takes the lock without a look (opentofu/opentofu#1341, hashicorp/terraform#30149: a lock refused, and
    gone when it is read)."""

    store_type = StoreWithCache
    store: StoreWithCache

    def lock(self, workspace: str, info: LockInfo) -> str:
        if workspace in self.store.cached:
            del self.store.cached[workspace]
            return self.take(workspace, info)
        return super().lock(workspace, info)

    def unlock(self, workspace: str, lock_id: str) -> None:
        super().unlock(workspace, lock_id)
        checkpoint("note that it is free")
        self.store.cached[workspace] = None
