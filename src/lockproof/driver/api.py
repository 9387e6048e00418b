"""Protocols and value types of the driver interface, version 1."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

Target = Literal["fake", "local", "real"]


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Who holds a lock: OpenTofu's seven fields under their JSON names, all text.

    Source: opentofu internal/states/statemgr/locker.go:136-159.
    """

    ID: str = ""
    Operation: str = ""
    Info: str = ""
    Who: str = ""
    Version: str = ""
    Created: str = ""
    Path: str = ""

    @classmethod
    def new(cls, who: str, operation: str = "OperationTypeApply", path: str = "") -> Self:
        """A lock request as a `tofu` process makes it: fresh ID, and a unique token in `Info`.

        The token lets a checker match a holder even where the backend chooses the lock's id.
        """
        return cls(
            ID=str(uuid.uuid4()),
            Operation=operation,
            Info=f"lockproof:{uuid.uuid4().hex}",
            Who=who,
            Version="1.12.6",
            Created=datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z"),
            Path=path,
        )

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The fields that `document` has, keys matched without regard to case, as OpenTofu does.

        Raises `ValueError` when a known field is not text.
        """
        names = {field.name.lower(): field.name for field in fields(cls)}
        known = {names[key.lower()]: value for key, value in document.items() if key.lower() in names}
        for name, value in known.items():
            if not isinstance(value, str):
                raise ValueError(f"lock info field {name} must be text, not {type(value).__name__}")
        return cls(**known)

    def to_json(self) -> dict[str, str]:
        """The seven fields as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The bytes of one state as read, and the backend's version tag where it has one."""

    data: bytes
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """What a report says of the thing under test. `target`: `fake`, `local` or `real`."""

    name: str
    version: str
    implementation: str = ""
    url: str = ""
    target: Target = "local"


@dataclass(frozen=True, slots=True)
class Address:
    """A network address that a link of a driver ends at. `protocol` is what is spoken there: it says
    which faults can be told apart on the link; `tcp` is right for everything. `ca_file`: PEM file of the
    authority to trust with TLS; without one, whom the driver trusts anyhow."""

    host: str
    port: int
    tls: bool = False
    server_name: str | None = None
    protocol: Literal["tcp", "http", "postgres"] = "tcp"
    ca_file: str | None = None


class Capabilities(frozenset[str]):
    """A set of capability names (behaviours, never implementation names), closed under implication:
    `state.delete` holds `state`, `locking.fencing-strict` holds `locking.fencing` and `locking`."""

    def __new__(cls, names: Iterable[str] = ()) -> Self:
        closed = set(names)
        for name in list(closed):
            head, _, _ = name.rpartition(".")
            if head and head not in {"clients", "service"}:
                closed.add(head)
            if name.endswith("-strict"):
                closed.add(name.removesuffix("-strict"))
        return super().__new__(cls, closed)


class Client(Protocol):
    """One `tofu` process. Calls are sequential; several clients run at the same time.

    Drivers neither retry nor sleep nor hide an unknown outcome: every failure is a
    `lockproof.driver.DriverError`, `definite=False` where the call may have taken effect.
    """

    def get(self, workspace: str) -> Snapshot | None:
        """The state of `workspace`, `None` when there is none yet."""

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        """Replace the state. With a `lock_id` that is not held raises kind `stale`, `LockMismatch` or
        `NotLocked`, or unusually `Locked`; without one, while locked, may pass or be refused."""

    def delete(self, workspace: str) -> None:
        """Remove the state; afterwards `get` returns `None`. Deleting nothing is no error."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        """One attempt to take the lock; the id returned is the lock's id. Raises `Locked`."""

    def unlock(self, workspace: str, lock_id: str) -> None:
        """Release the lock, whoever took it (this is force-unlock too). Raises `LockMismatch`
        or `NotLocked` and changes nothing when `lock_id` does not hold it."""

    def workspaces(self) -> Sequence[str]:
        """The names of all workspaces, always with `default`."""

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        """Remove a named workspace and its state. Raises a definite error for `default`."""

    def close(self) -> None:
        """The process ends. Releases no lock."""


class Scope(Protocol):
    """An isolated key space; a context manager that on exit removes what it made
    (nothing when it was attached to)."""

    def client(self, who: str) -> Client:
        """A new client; `who` names it in lock infos and histories."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


class Driver(Protocol):
    """One `--backend`, alive as long as the run.

    A driver is made by a factory that takes `Mapping[str, str]` of options and that may also have
    `variants` (a sequence of names: `NAME` on the command line then stands for all of them, or for those
    of `default_variants`, and the option `variant` says which) and `provision(options)` (see
    `lockproof.driver.registry`), which is told of the user's own Postgres by the option `postgres_dsn` unless
    the factory's `takes_postgres` is false. A driver that declares `service.postgres` is told so, too, of a
    server of the suite's own (and of its replica by `postgres_replica_dsn`): a second driver is made for it.
    """

    info: DriverInfo

    def capabilities(self) -> Capabilities:
        """The behaviours that the backend claims. Declared but not working is a failure."""

    def links(self) -> Mapping[str, Address]:
        """Network links that a fault proxy may stand in front of; empty when none. A driver that has links
        lets `open_scope` attach to an open scope by its name, with other addresses for them."""

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> Scope:
        """An isolated key space. `attach` joins one that another process of the run has open."""


@runtime_checkable
class HasTestBed(Protocol):
    """A scope behind which stands a test bed: a fake with its request log and its faults.

    The type of the bed is the driver's; suites that need one gate on the capability `test-bed`.
    """

    def test_bed(self) -> Any:
        """The bed of this scope."""
