"""Saboteurs of clients that are processes: locks that end with one, calls that are not one step."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from typing import ClassVar

from lockproof.driver.api import Address, Capabilities, LockInfo
from lockproof.driver.errors import Locked, NotLocked
from lockproof.driver.file import FileClient, FileDriver, FileScope
from lockproof.fakes.saboteurs.broken import Register

ending = Register(__name__, "faults", only=("FAULT-PROC-001", "FAULT-PROC-002"))
late = Register(__name__, "faults", only=("FAULT-PROC-003", "FAULT-PROC-004", "FAULT-PROC-005"))
writing = Register(__name__, "faults", only=("FAULT-PROC-006",))
locking = Register(__name__, "faults", only=("FAULT-PROC-007", "FAULT-PROC-008"))
unusual = Register(__name__, "faults", only=("FAULT-PROC-*",))


class ProcessesDriver(FileDriver):
    """The file driver with clients of `client_type`, without what it `lacks`; claims no large states."""

    client_type: ClassVar[type[FileClient]] = FileClient
    lacks: ClassVar[frozenset[str]] = frozenset()

    def capabilities(self) -> Capabilities:
        lacks = self.lacks | {"state.large"}
        return Capabilities(name for name in super().capabilities() if not Capabilities([name]) & lacks)

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> FileScope:
        scope = super().open_scope(name, links, attach=attach)
        scope.client = lambda who: self.client_type(scope.root, who)  # type: ignore[method-assign]
        return scope


# --- Locks that end with a process


class ExitHandlerClient(FileClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        lock_id = super().lock(workspace, info)
        atexit.register(self.clean_up, workspace, lock_id)
        return lock_id

    def clean_up(self, workspace: str, lock_id: str) -> None:
        with contextlib.suppress(Exception):
            self.unlock(workspace, lock_id)


@ending.breaks("FAULT-PROC-001", "FAULT-PROC-002")
class ReleasesInExitHandler(ProcessesDriver):
    """The lock file is removed by an exit handler, also when the program was asked to end in mid-apply."""

    client_type = ExitHandlerClient


class UnwindingClient(FileClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        try:
            super().put(workspace, data, lock_id=lock_id)
        except BaseException:
            if lock_id is not None:
                self.unlock(workspace, lock_id)
            raise


@ending.breaks("FAULT-PROC-001")
class ReleasesWhenAWriteFails(ProcessesDriver):
    """A write that is broken off, by Ctrl-C for example, gives the lock back to be nice."""

    client_type = UnwindingClient


class AdvisoryClient(FileClient):
    """Who is alive holds an advisory lock on the owner file."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        place = self._lock(workspace)
        place.parent.mkdir(parents=True, exist_ok=True)
        owner = place.with_name("owner").open("ab")
        try:
            fcntl.lockf(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if place.exists():
                raise Locked("held", holder=self._holder(workspace)) from None
        place.unlink(missing_ok=True)
        self.owner = owner
        return super().lock(workspace, info)


@ending.breaks("FAULT-PROC-001", "FAULT-PROC-006")
class AdvisoryLock(ProcessesDriver):
    """The lock is an advisory lock of the operating system, and gone with its process."""

    client_type = AdvisoryClient


class FinalizedClient(FileClient):
    """Releases when the object that stands for the lock is gone."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        lock_id = super().lock(workspace, info)
        self.held: tuple[str, str] | None = (workspace, lock_id)
        return lock_id

    def unlock(self, workspace: str, lock_id: str) -> None:
        self.held = None
        super().unlock(workspace, lock_id)

    def __del__(self) -> None:
        held = getattr(self, "held", None)
        if held:
            with contextlib.suppress(Exception):
                super().unlock(*held)


@ending.breaks("FAULT-PROC-002", "FAULT-PROC-001")
class ForkReleases(ProcessesDriver):
    """The lock ends with the object that holds it, of which a fork has a copy that ends sooner."""

    client_type = FinalizedClient


# --- What comes too late


class TrustingClient(FileClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        super().put(workspace, data)


@late.breaks("FAULT-PROC-003")
class WritesWithoutLooking(ProcessesDriver):
    """A write is accepted whoever holds the lock by now."""

    client_type = TrustingClient
    lacks = frozenset({"locking.fencing-strict"})

    def capabilities(self) -> Capabilities:
        return Capabilities({*super().capabilities(), "locking.fencing"})


class LooksThenWritesClient(FileClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        if lock_id is not None:
            with self._guard(workspace):
                self._require_holder(workspace, lock_id)
        super().put(workspace, data)


@late.breaks("FAULT-PROC-004")
class WriteInFlight(ProcessesDriver):
    """Looks at the lock, and writes afterwards, whatever has become of it meanwhile."""

    client_type = LooksThenWritesClient


class LooksThenReleasesClient(FileClient):
    def unlock(self, workspace: str, lock_id: str) -> None:
        with self._guard(workspace):
            self._require_holder(workspace, lock_id)
        self._lock(workspace).unlink(missing_ok=True)


@late.breaks("FAULT-PROC-005")
class ReleaseInFlight(ProcessesDriver):
    """Looks whose lock it is, and removes afterwards whichever is there."""

    client_type = LooksThenReleasesClient


# --- What is half done


class InPlaceClient(FileClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        with self._guard(workspace):
            if lock_id is not None:
                self._require_holder(workspace, lock_id)
            self._state(workspace).write_bytes(data)


@writing.breaks("FAULT-PROC-006")
class TruncatesThenWrites(ProcessesDriver):
    """The state file is truncated and written where it lies (terraform#34266)."""

    client_type = InPlaceClient


class RemovesFirstClient(FileClient):
    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        with self._guard(workspace):
            if lock_id is not None:
                self._require_holder(workspace, lock_id)
            self._state(workspace).unlink(missing_ok=True)
        super().put(workspace, data, lock_id=lock_id)


@writing.breaks("FAULT-PROC-006")
class RemovesFirst(ProcessesDriver):
    """The old state is removed before the new one is there."""

    client_type = RemovesFirstClient


class EmptyLockClient(FileClient):
    def lock(self, workspace: str, info: LockInfo) -> str:
        place = self._lock(workspace)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            raise Locked("held", holder=self._holder(workspace)) from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(info.to_json()).encode())
        return info.ID


@locking.breaks("FAULT-PROC-007")
class CreatesLockThenFills(ProcessesDriver):
    """The lock file is created first and filled later: in between it is held by nobody."""

    client_type = EmptyLockClient


class TombstoneClient(FileClient):
    def unlock(self, workspace: str, lock_id: str) -> None:
        with self._guard(workspace):
            self._require_holder(workspace, lock_id)
            self._lock(workspace).write_text(json.dumps(LockInfo(ID="releasing").to_json()))
            self._lock(workspace).unlink()


@locking.breaks("FAULT-PROC-008")
class MarksThenReleases(ProcessesDriver):
    """A release first marks the lock as being released, and nobody clears the mark of who died there."""

    client_type = TombstoneClient


# --- Correct, though unusual


class CountingClient(FileClient):
    """Chooses ids of its own, and answers a repeated release of the id just released with success."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        super().lock(workspace, info)
        return info.ID

    def unlock(self, workspace: str, lock_id: str) -> None:
        try:
            super().unlock(workspace, lock_id)
        except NotLocked:
            if lock_id != getattr(self, "released", None):
                raise
        self.released = lock_id


@unusual.correct
class RepeatsReleases(ProcessesDriver):
    """A release of the id just released succeeds while the lock is free."""

    client_type = CountingClient


SABOTEURS = (*ending.saboteurs, *late.saboteurs, *writing.saboteurs, *locking.saboteurs)
VARIANTS = unusual.variants
