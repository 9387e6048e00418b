"""The test bed behind a scope of the reference driver: the fake's log and faults, special clients, counted
statements, and a clock that does not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import requests
from psycopg import sql

from lockproof.fakes.databricks.control import FakeControl
from lockproof.fakes.databricks.requestlog import LogEntry

if TYPE_CHECKING:
    from lockproof.driver.databricks import DatabricksClient, DatabricksScope


class SkippingClock:
    """A clock for `tofu_databricks` whose `sleep` returns at once; `slept` holds the seconds asked for.

    Its time starts at `now` (epoch seconds) and moves by what was slept.
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now
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

    def client(
        self, who: str, *, clock: Any = None, connect: Any = None, **overrides: Any
    ) -> DatabricksClient:
        """A client of the scope with other settings, another clock or other connections."""
        client = self.scope.open(self.scope.config(**overrides), clock=clock, connect=connect)
        self.scope.extra.append(client)
        return client

    def counted(self) -> CountedConnections:
        """Connections to the scope's lock store whose statements are counted; give them to `client`."""
        return CountedConnections(self.scope.connect)

    def connect(self) -> psycopg.Connection[Any]:
        """A connection to the lock store as its administrator, in autocommit."""
        connection = self.scope.connect()
        connection.autocommit = True
        return connection

    def lock_table(self) -> str:
        """The scope's lock table, quoted, with its schema."""
        config = self.scope.config()
        return sql.Identifier(config.lock_schema, config.lock_table).as_string()

    def lock_rows(self) -> list[tuple[Any, ...]]:
        """The rows of the lock table; none when there is no table."""
        with self.connect() as connection:
            try:
                return connection.execute(f"SELECT * FROM {self.lock_table()}".encode()).fetchall()
            except psycopg.errors.UndefinedTable:
                return []

    def end_lock_sessions(self) -> int:
        """Ends every session that last spoke of the scope's lock table, as a suspended compute does.

        Returns how many there were.
        """
        with self.connect() as connection:
            ended = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND position(%s in query) > 0",
                [self.scope.lock_schema],
            ).fetchone()
        return int(ended[0]) if ended else 0

    def requests(self, since: int) -> list[LogEntry]:
        """The requests about this scope's volume after `since`, which `control.mark()` returned."""
        entries = self.control.requests(since=since)
        return [entry for entry in entries if self.root in entry.path or self.volume in entry.path]

    def put_file(self, path: str, data: bytes) -> None:
        """Puts a file at `path` of the volume, past the backend."""
        url = f"{self.scope.driver.options['host']}/api/2.0/fs/files{quote(f'{self.root}/{path}')}"
        headers = {"Authorization": f"Bearer {self.scope.driver.options['token']}"}
        requests.put(url, data=data, headers=headers, timeout=30).raise_for_status()

    def principal(self, name: str, *privileges: str) -> str:
        """A principal with `privileges` on this volume (and those above it that they need); its token."""
        catalog, schema, _ = self.volume.split(".")
        grants = {catalog: ["USE_CATALOG"], f"{catalog}.{schema}": ["USE_SCHEMA"]}
        return self.control.create_principal(
            f"{name}@{self.scope.volume}.example", grants={**grants, self.volume: list(privileges)}
        )
