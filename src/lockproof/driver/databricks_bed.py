"""The test bed behind a scope of the reference driver: the fake's log and faults, special clients, its lock
store, and a clock that does not wait."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lockproof.driver.databricks_cost import Meter
from lockproof.driver.databricks_locks import LockBed
from lockproof.fakes.databricks.control import FakeControl
from lockproof.fakes.databricks.requestlog import LogEntry
from lockproof.fakes.databricks.sql.steering import SqlControl
from tofu_databricks.config import WORKSPACES_SUFFIX
from tofu_databricks.layout import OBJECTS
from tofu_databricks.lockrecord import FILE_NAME
from tofu_databricks.seams import Clock, SystemClock

if TYPE_CHECKING:
    from lockproof.driver.databricks import DatabricksClient, DatabricksScope


class SkippingClock:
    """A clock for `tofu_databricks` whose `sleep` returns at once; `slept` holds the seconds asked for.

    Its time starts at the present second and moves by what was slept.
    """

    def __init__(self) -> None:
        self.time = float(int(time.time()))
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class SteeredClock(SystemClock):
    """The machine's clock, until somebody sets it: wrong by `offset` seconds, or standing still.

    Only what it says of the time of day is wrong; like a real one it has a monotonic clock that is right.
    `asked` counts how often the backend looked at it.
    """

    def __init__(self) -> None:
        self.offset = 0.0
        self.stands_at: float | None = None
        self.asked = 0

    def now(self) -> float:
        self.asked += 1
        return (super().now() if self.stands_at is None else self.stands_at) + self.offset

    def monotonic(self) -> float:
        self.asked += 1
        return super().monotonic()

    def stop(self) -> None:
        """It stands still from now on."""
        self.stands_at = super().now()

    def put_right(self) -> None:
        """It tells the machine's time again."""
        self.offset, self.stands_at = 0.0, None


class TestBed:
    """One scope's view of the fake workspace.

    `control` steers the whole fake, which other tests share: narrow faults to `files` (or `directory`)
    and grants to principals of your own. `locks` is what stands behind the scope's lock store.
    """

    __test__ = False

    def __init__(self, scope: DatabricksScope) -> None:
        self.scope = scope
        self.control: FakeControl = scope.control
        self.locks: LockBed = scope.locks
        self.volume = scope.full_name
        self.root = scope.config().root
        self.files = f"/api/2.0/fs/files{self.root}/*"
        self.directories = f"/api/2.0/fs/directories{self.root}*"

    def client(self, who: str, *, clock: Clock | None = None, **overrides: Any) -> DatabricksClient:
        """A client of the scope with other settings, or another clock."""
        client = self.scope.open(self.scope.config(**overrides), clock)
        self.scope.extra.append(client)
        return client

    def requests(self, since: int) -> list[LogEntry]:
        """The requests about this scope's volume after `since`, which `control.mark()` returned."""
        entries = self.control.requests(since=since)
        return [entry for entry in entries if self.root in entry.path or self.volume in entry.path]

    @property
    def simulated(self) -> str:
        """The latency profile under which the fake answers; empty where it answers as fast as it can."""
        return str(self.scope.driver.simulated or "")

    def cool(self) -> None:
        """Stops the warehouse, where the profile says that a run finds it cold."""
        SqlControl(self.control.target).cool_warehouses()

    def meter(self) -> Meter:
        """A client whose calls are counted."""
        return Meter(self)

    @property
    def strict(self) -> bool:
        """Whether writes are fenced strictly: the state is an object then, and the file at the key a copy."""
        return self.scope.driver.strict

    def states(self) -> dict[str, int]:
        """The files of the volume by their size, without what strict fencing keeps beside the states."""
        files: dict[str, int] = self.control.files(self.volume)
        if not self.strict:
            return files
        aside = (f"{WORKSPACES_SUFFIX}/{OBJECTS}/", f"{WORKSPACES_SUFFIX}/{FILE_NAME}")
        return {path: size for path, size in files.items() if not any(part in path for part in aside)}

    def put_file(self, path: str, data: bytes) -> None:
        """Puts a file at `path` of the volume, past the backend."""
        self.scope.driver.rest("PUT", f"/api/2.0/fs/files{quote(f'{self.root}/{path}')}", data)

    def file(self, path: str) -> bytes | None:
        """The file at `path` of the volume, past the backend; `None` when there is none."""
        with self.scope.driver.backend_class(self.scope.config(fencing="checked")) as backend:
            return backend.volume.read(f"{self.root}/{path}")

    def delete_file(self, path: str) -> None:
        """Removes the file at `path` of the volume, past the backend."""
        self.scope.driver.rest("DELETE", f"/api/2.0/fs/files{quote(f'{self.root}/{path}')}")

    def principal(self, name: str, *privileges: str, locks: bool = False) -> str:
        """A principal with `privileges` on this volume (and those above it that they need), and with `locks`
        also on the lock table; its token."""
        catalog, schema, _ = self.volume.split(".")
        grants = {catalog: ["USE_CATALOG"], f"{catalog}.{schema}": ["USE_SCHEMA"]}
        full_name = f"{name}@{self.scope.volume}.example"
        token = self.control.create_principal(full_name, grants={**grants, self.volume: list(privileges)})
        if locks:
            self.locks.admit(full_name)
        return token
