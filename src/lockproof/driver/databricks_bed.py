"""The test bed behind a scope of the reference driver: the fake's log and faults, special clients, counted
statements, and a clock that does not wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from lockproof.fakes.databricks.control import FakeControl
from lockproof.fakes.databricks.requestlog import LogEntry
from tofu_databricks.seams import Clock

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


class CountedConnections:
    """Opens connections through `connect` and notes the text of every statement that goes over them."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self.connect = connect
        self.mutex = threading.Lock()
        self.opened = 0
        self.statements: list[str] = []

    def __call__(self) -> psycopg.Connection[Any]:
        connection = self.connect()
        with self.mutex:
            self.opened += 1
        noted = self.statements

        class NotingCursor(psycopg.Cursor[Any]):
            def execute(self, query: Any, *args: Any, **keywords: Any) -> Any:
                noted.append(query.decode() if isinstance(query, bytes) else str(query))
                return super().execute(query, *args, **keywords)

        connection.cursor_factory = NotingCursor
        return connection


class TestBed:
    """One scope's view of the fake workspace.

    `control` steers the whole fake, which other tests share: narrow faults to `files` (or `directory`)
    and grants to principals of your own.
    """

    __test__ = False

    def __init__(self, scope: DatabricksScope) -> None:
        self.scope = scope
        self.control: FakeControl = scope.control
        self.volume = scope.full_name
        self.root = scope.config().root
        self.files = f"/api/2.0/fs/files{self.root}/*"
        self.directories = f"/api/2.0/fs/directories{self.root}*"

    def client(self, who: str, *, clock: Clock | None = None, **overrides: Any) -> DatabricksClient:
        """A client of the scope with other settings, or another clock."""
        client = self.scope.open(self.scope.config(**overrides), clock)
        self.scope.extra.append(client)
        return client

    def counted(self, client: DatabricksClient) -> CountedConnections:
        """Counts the statements of a client that has not locked yet."""
        counted = CountedConnections(client.backend.connector())
        client.backend.connect = counted
        return counted

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection to the lock store as its administrator, in autocommit."""
        with self.scope.driver.housekeeping() as connection:
            yield connection

    def lock_table(self) -> str:
        """The scope's lock table, quoted, with its schema."""
        config = self.scope.config()
        return sql.Identifier(config.lock_schema, config.lock_table).as_string()

    def lock_rows(self) -> list[tuple[Any, ...]]:
        """The rows of the lock table; none when there is no table."""
        with self.connection() as connection:
            try:
                return connection.execute(f"SELECT * FROM {self.lock_table()}".encode()).fetchall()
            except psycopg.errors.UndefinedTable:
                return []

    def lose_reply(self, verb: str) -> int:
        """The next statement `verb …` on the scope's lock table takes effect and goes unanswered; its id."""
        match = f"^{verb} .*{self.scope.lock_schema}"
        return int(self.control.call("lakebase_fault", what="drop_reply", match=match))

    def lost_replies(self, fault_id: int) -> int:
        """How many replies went lost."""
        return int(self.control.call("lakebase_fault_counts", fault_id=fault_id)["done"])

    def own_project(self) -> str:
        """A Lakebase project of this scope alone, which can be suspended without disturbing others."""
        project = f"own-{self.scope.lock_schema.replace('_', '-')}"
        self.scope.driver.rest("POST", f"/api/2.0/postgres/projects?project_id={project}", {"spec": {}})
        self.scope.own_project = project
        return project

    def suspend(self, project: str) -> None:
        """Scales the project's compute to zero: all its sessions end, the next login wakes it."""
        self.control.call("lakebase_suspend", project=project)

    def requests(self, since: int) -> list[LogEntry]:
        """The requests about this scope's volume after `since`, which `control.mark()` returned."""
        entries = self.control.requests(since=since)
        return [entry for entry in entries if self.root in entry.path or self.volume in entry.path]

    def put_file(self, path: str, data: bytes) -> None:
        """Puts a file at `path` of the volume, past the backend."""
        self.scope.driver.rest("PUT", f"/api/2.0/fs/files{quote(f'{self.root}/{path}')}", data)

    def principal(self, name: str, *privileges: str) -> str:
        """A principal with `privileges` on this volume (and those above it that they need); its token."""
        catalog, schema, _ = self.volume.split(".")
        grants = {catalog: ["USE_CATALOG"], f"{catalog}.{schema}": ["USE_SCHEMA"]}
        return self.control.create_principal(
            f"{name}@{self.scope.volume}.example", grants={**grants, self.volume: list(privileges)}
        )
