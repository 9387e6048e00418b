"""The reference backend under a controlled scheduler: every request and every statement is a step.

The workspace is a fake without sockets, one for each exploration; the lock store of `lakebase` is the run's
real Postgres, reached as ever, in sessions that are lent from run to run. Time is the schedule's, for the
backend and for the fake.
"""

from __future__ import annotations

import random
import shutil
import uuid
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import psycopg

from lockproof.driver.api import Address
from lockproof.driver.databricks_explored_process import (
    CATALOG,
    KEY,
    SCHEMA,
    VOLUME,
    Process,
    SteppedAdapter,
    SteppedConnector,
    World,
)
from lockproof.driver.databricks_explored_sql import SessionPool
from lockproof.explore.clock import ExploredClock
from lockproof.fakes.databricks.catalog import Volume
from lockproof.fakes.databricks.clock import VirtualClock
from lockproof.fakes.databricks.lakebase import Lakebase
from lockproof.fakes.databricks.lakebase_service import PROJECT
from lockproof.fakes.databricks.routes import lakebase as lakebase_routes
from lockproof.fakes.databricks.sql.engine import Stopwatch
from lockproof.fakes.databricks.workspace import FakeWorkspace
from tofu_databricks.backend import Backend
from tofu_databricks.config import Config
from tofu_databricks.layout import DEFAULT
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks.lakebase_heads import heads_table

if TYPE_CHECKING:
    from lockproof.driver.databricks import DatabricksClient, DatabricksDriver

POOLS: WeakKeyDictionary[DatabricksDriver, SessionPool] = WeakKeyDictionary()
"""The sessions of each driver, kept from exploration to exploration: a login takes as long as fifty runs."""

LOCKS = "locks"
FIRST = "first"
KEPT = "kept"


class FollowingClock(VirtualClock):
    """The fake's clock, on the time of the schedule."""

    def __init__(self, followed: ExploredClock) -> None:
        super().__init__()
        self.followed = followed

    def time(self) -> float:
        return self.followed.now() + self.offset


class LockPlace(Protocol):
    """Where the locks of a run are, and how each run gets a fresh place."""

    def settings(self, run: str) -> Mapping[str, str]:
        """What the clients of the run need to know of it."""

    def keep(self, run: str) -> None:
        """What the run leaves is what each later one begins with."""

    def begin(self, run: str) -> None:
        """Makes the place of a run."""

    def end(self, run: str) -> None:
        """Removes what is left of it."""

    def close(self) -> None:
        """Removes everything."""


class LakebasePlace:
    """A schema of the real Postgres; tables that were kept are emptied after each run."""

    def __init__(self, pool: SessionPool) -> None:
        self.pool = pool
        self.schema = f"explored_{uuid.uuid4().hex[:16]}"
        self.after = f'DROP SCHEMA IF EXISTS "{self.schema}" CASCADE'

    def settings(self, run: str) -> Mapping[str, str]:
        return {"lock_schema": self.schema}

    def keep(self, run: str) -> None:
        names = (Config.lock_table, heads_table(Config.lock_table))
        tables = [table for name in names if self.pool.has(table := f'"{self.schema}"."{name}"')]
        if tables:
            self.after = "; ".join(f"DELETE FROM {table}" for table in tables)

    def begin(self, run: str) -> None:
        return

    def end(self, run: str) -> None:
        self.pool.administer(self.after)

    def close(self) -> None:
        self.pool.administer(f'DROP SCHEMA IF EXISTS "{self.schema}" CASCADE')


class DeltaPlace:
    """A table of the fake's catalog; that of a run is a copy of the one that was kept."""

    def __init__(self, workspace: FakeWorkspace, folder: Path) -> None:
        self.workspace = workspace
        self.folder = folder
        self.kept: Path | None = None
        workspace.metastore.create("catalog", "", CATALOG, workspace.admin)
        workspace.metastore.create("schema", CATALOG, LOCKS, workspace.admin)

    @property
    def table(self) -> str:
        return f"{CATALOG}.{LOCKS}.{Config.lock_table}"

    def settings(self, run: str) -> Mapping[str, str]:
        return {"lock_schema": LOCKS}

    def keep(self, run: str) -> None:
        entry = self.workspace.sql.tables.find(self.table)
        if entry is not None:
            self.kept = self.folder / KEPT
            shutil.copytree(entry.storage_location.removeprefix("file://"), self.kept)

    def begin(self, run: str) -> None:
        if self.kept is not None:
            location = (self.folder / run).as_uri()
            shutil.copytree(self.kept, self.folder / run)
            self.workspace.sql.tables.create(
                self.table, self.workspace.admin, (), Stopwatch(), location=location
            )

    def end(self, run: str) -> None:
        tables = self.workspace.sql.tables
        there = (tables.find(name) for name in list(self.workspace.metastore.objects["table"]))
        for entry in filter(None, there):
            tables.drop(entry)
        shutil.rmtree(self.folder / run, ignore_errors=True)

    def close(self) -> None:
        return


class DirectPlace:
    """A folder; that of a run is a copy of the one that was kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: Path | None = None

    def settings(self, run: str) -> Mapping[str, str]:
        return {"lock_schema": LOCKS, "lock_location": (self.folder / "run").as_uri()}

    def keep(self, run: str) -> None:
        self.kept = self.folder / KEPT
        shutil.copytree(self.folder / "run", self.kept)

    def begin(self, run: str) -> None:
        if self.kept is not None:
            shutil.copytree(self.kept, self.folder / "run")

    def end(self, run: str) -> None:
        shutil.rmtree(self.folder / "run", ignore_errors=True)

    def close(self) -> None:
        return


class ExploredScope:
    """One run's volume, and its place for locks; its clients are simulated processes."""

    def __init__(self, subject: DatabricksSubject, run: str) -> None:
        self.subject = subject
        self.run = run
        self.config = subject.config(run)
        self.clients: list[DatabricksClient] = []
        self.random = random.getstate()

    def client(self, who: str) -> DatabricksClient:
        from lockproof.driver.databricks import DatabricksClient

        client = DatabricksClient(self.backend())
        self.clients.append(client)
        return client

    def backend(self) -> Backend:
        """The reference backend as one more process runs it."""
        subject = self.subject
        process = Process(subject.world)
        made = subject.driver.backend_class(
            replace(self.config, token=process.token.value),
            transport=SteppedAdapter(process),
            clock=subject.clock,
            checkpoint=process.checkpoint,
        )
        made.transport.session.trust_env = False  # within this process there is no proxy
        if subject.driver.variant == "lakebase":
            made.connect = SteppedConnector(made, process)
        return made

    def __enter__(self) -> Self:
        random.seed(0)  # the jitter of a back-off decides who wakes first: the same in each run
        self.subject.begin(self.run)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        for client in self.clients:
            client.close()
        self.subject.place.end(self.run)
        random.setstate(self.random)


class DatabricksSubject:
    """The reference backend of `driver`, whose `backend_class` may be a broken one.

    `pristine`: nothing is there at first. Else a run begins with what the first lock of `default`, taken and
    released, leaves: the lock table and the record of where it is.
    """

    instrumented = True

    def __init__(self, driver: DatabricksDriver, folder: Path, *, pristine: bool) -> None:
        self.driver = driver
        self.name = f"databricks:{driver.variant}"
        self.capabilities = driver.capabilities()
        self.clock = ExploredClock()
        clock = FollowingClock(self.clock)
        workspace, lakebase = FakeWorkspace(clock=clock), Lakebase(clock)
        lakebase.create_project(PROJECT, workspace.admin)
        workspace.attach(lakebase)
        workspace.router.install([lakebase_routes.routes])
        workspace.fidelity.files_api_3 = driver.options.get("files_api", "2.0") != "2.0"
        self.workspace = workspace
        pool = POOLS.setdefault(driver, SessionPool(partial(log_in, weakref.proxy(driver))))
        self.world = World(workspace, lakebase, pool, driver.variant == "delta-direct")
        self.place = self.lock_place(folder)
        self.files: Mapping[str, bytes] = {}
        if not pristine:
            with ExploredScope(self, FIRST) as scope:
                self.settle(scope)

    def open(self, run: int) -> ExploredScope:
        return ExploredScope(self, str(run))

    def lock_place(self, folder: Path) -> LockPlace:
        """Where this variant keeps locks."""
        if self.driver.variant == "lakebase":
            return LakebasePlace(self.world.pool)
        if self.driver.variant == "delta-direct":
            return DirectPlace(folder)
        self.workspace.sql.statements.inline = self.world.reached
        self.workspace.sql.sorts = True
        return DeltaPlace(self.workspace, folder)

    def config(self, run: str) -> Config:
        """The settings of a client, as a user would write them."""
        settings: dict[str, Any] = {
            "host": self.workspace.url,
            "token": self.workspace.token,
            "catalog": CATALOG,
            "schema": SCHEMA,
            "volume": VOLUME,
            "key": KEY,
            "lock_backend": self.driver.variant,
            "lakebase_project": PROJECT,
            "lakebase_host": self.world.lakebase.host,
            "lakebase_user": self.workspace.admin.name,
            **self.driver.fencing(
                Address(urlsplit(self.workspace.storage_url).hostname or "", 443, tls=True)
            ),
        }
        return Config.load({**settings, **self.place.settings(run)}, environ={})

    def settle(self, scope: ExploredScope) -> None:
        """Takes and releases the first lock, and keeps what that leaves for all runs."""
        with scope.backend() as backend:
            client = backend.client(DEFAULT)
            client.unlock(client.lock(LockInfo(ID=FIRST)))
        self.files = {path: file.data for path, file in self.volume().tree.files()}
        self.place.keep(FIRST)

    def begin(self, run: str) -> None:
        """Makes what a run begins with; no step of anybody's."""
        self.clock.time = 0.0
        name = f"{CATALOG}.{SCHEMA}.{VOLUME}"
        if name in self.workspace.metastore.objects["volume"]:
            self.workspace.metastore.delete("volume", name)
        tree = self.workspace.create_volume(name).tree
        for path, data in self.files.items():
            tree.write(path, data, self.clock.now(), self.workspace.next_version())
        self.place.begin(run)

    def volume(self) -> Volume:
        return cast("Volume", self.workspace.metastore.objects["volume"][f"{CATALOG}.{SCHEMA}.{VOLUME}"])

    def close(self) -> None:
        self.place.close()


def log_in(driver: DatabricksDriver) -> psycopg.Connection[Any]:
    """A session of the run's real Lakebase, as its administrator."""
    from lockproof.driver.databricks import DatabricksScope

    scope = DatabricksScope(driver, "explored", {}, attach=True)
    return Backend(scope.config(lock_backend="lakebase")).connector()()


@contextmanager
def explored(driver: DatabricksDriver, *, pristine: bool = False) -> Iterator[DatabricksSubject]:
    """A subject for schedules of `driver`'s backend, alive as long as the context."""
    with TemporaryDirectory(prefix="lockproof-explored-") as folder:
        subject = DatabricksSubject(driver, Path(folder), pristine=pristine)
        try:
            yield subject
        finally:
            subject.close()
