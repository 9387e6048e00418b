"""What stands behind the lock store of a scope: its table, its log, its faults, its compute.

One interface for every kind of store, so that a test asks for "the next change of the lock table" and not
for an INSERT or an UPDATE.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import psycopg
from psycopg import sql

from lockproof.fakes.databricks.lakebase import BRANCH
from lockproof.fakes.databricks.lakebase_service import PROJECT
from lockproof.fakes.databricks.sql.steering import SqlControl
from tofu_databricks.locks.warehouse import SqlError

if TYPE_CHECKING:
    from lockproof.driver.databricks import DatabricksClient, DatabricksScope

READS = ("SELECT", "DESCRIBE", "SHOW")


class Statements(Protocol):
    """The statements that a client sends to the lock store from now on."""

    @property
    def texts(self) -> Sequence[str]:
        """Their texts, in the order in which they were sent."""
        ...

    @property
    def opened(self) -> int:
        """How many connections were opened for them; 0 where there are none."""
        ...


@dataclass(frozen=True)
class Stall:
    """A statement that stands still: whether it was `reached`, and how to let it go."""

    reached: Callable[[], bool]
    release: Callable[[], object]


class LockBed(Protocol):
    """The lock store behind a scope, as its administrator sees and steers it."""

    capabilities: ClassVar[frozenset[str]]
    """What this kind of store can do and others cannot."""
    other_backend: ClassVar[str]
    """Another value of `lock_backend`, which keeps its locks elsewhere."""

    def __init__(self, scope: DatabricksScope) -> None: ...

    @property
    def table(self) -> str:
        """The lock table, as it is written in a statement."""
        ...

    def settings(self) -> Mapping[str, str]:
        """What the clients of the scope need to know of it."""

    def checkpoint(self, step: str) -> None:
        """Called before each step of each client of the scope; may raise what a lost reply raises."""

    def create(self) -> None:
        """Makes what a lock table needs, but not the table."""

    def remove(self) -> None:
        """Removes all that belongs to the scope."""

    def run(self, statement: str) -> None:
        """Runs a statement, such as the DDL that an error asks for."""

    def held(self) -> list[tuple[str, str]]:
        """Key and lock id of every row that is held; none where there is no table."""

    def admit(self, principal: str) -> None:
        """Lets a principal of the workspace use the lock table; makes it where it is missing."""

    def counted(self, client: DatabricksClient) -> Statements:
        """The statements that `client`, which has not locked yet, sends from now on."""

    def lose_change(self, times: int = 1) -> Callable[[], int]:
        """The next changes of the lock table's rows take effect, unanswered; returns how many have been."""

    def stall(self, step: int) -> Stall:
        """Stops the `step`-th statement (1: the next one) that is about the scope's lock table."""

    def own_compute(self) -> Mapping[str, str]:
        """Settings for a compute of this scope alone, which may be suspended without disturbing others."""

    def suspend(self) -> None:
        """Stops that compute, and with it every session; whoever uses it next wakes it."""


class CountedConnections:
    """Opens connections through `connect` and notes the text of every statement that goes over them."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self.connect = connect
        self.mutex = threading.Lock()
        self.opened = 0
        self.texts: list[str] = []

    def __call__(self) -> psycopg.Connection[Any]:
        connection = self.connect()
        with self.mutex:
            self.opened += 1
        noted = self.texts

        class NotingCursor(psycopg.Cursor[Any]):
            def execute(self, query: Any, *args: Any, **keywords: Any) -> Any:
                noted.append(query.decode() if isinstance(query, bytes) else str(query))
                return super().execute(query, *args, **keywords)

        connection.cursor_factory = NotingCursor
        return connection


class LakebaseBed:
    """A schema of the shared Lakebase project, and for some tests a project of its own."""

    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"locking.enforced-key", "locking.expiring-login", "locking.grants", "service.postgres"}
    )
    other_backend: ClassVar[str] = "delta"

    def __init__(self, scope: DatabricksScope) -> None:
        self.scope = scope
        self.project = ""

    def settings(self) -> Mapping[str, str]:
        return {}

    def checkpoint(self, step: str) -> None:
        return

    def create(self) -> None:
        return

    def remove(self) -> None:
        if self.project:
            self.scope.driver.rest("DELETE", f"/api/2.0/postgres/projects/{self.project}")
        self.run(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(self.schema)).as_string())

    def run(self, statement: str) -> None:
        """Raises `psycopg.Error`."""
        with self.scope.driver.housekeeping() as connection:
            connection.execute(statement.encode())

    def held(self) -> list[tuple[str, str]]:
        with self.scope.driver.housekeeping() as connection:
            try:
                return connection.execute(f"SELECT key, id FROM {self.table}".encode()).fetchall()
            except psycopg.errors.UndefinedTable:
                return []

    def admit(self, principal: str) -> None:
        self.scope.prepare_locks()
        spec = {"postgres_role": principal}
        self.scope.driver.rest(
            "POST", f"/api/2.0/postgres/projects/{PROJECT}/branches/{BRANCH}/roles", {"spec": spec}
        )
        granted = sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA {} TO PUBLIC").format(
            sql.Identifier(self.schema)
        )
        self.run(granted.as_string())

    def counted(self, client: DatabricksClient) -> CountedConnections:
        counted = CountedConnections(client.backend.connector())
        client.backend.connect = counted
        return counted

    def lose_change(self, times: int = 1) -> Callable[[], int]:
        control = self.scope.control
        match = f"^(INSERT|UPDATE|DELETE) .*{self.schema}"
        fault = control.call("lakebase_fault", what="drop_reply", match=match, times=times)
        return lambda: int(control.call("lakebase_fault_counts", fault_id=fault)["done"])

    def stall(self, step: int) -> Stall:
        """It stands still before the database sees it."""
        call = self.scope.control.call
        fault = call("lakebase_fault", what="hold", match=self.schema, first=step)
        return Stall(
            lambda: bool(call("lakebase_fault_counts", fault_id=fault)["hits"]),
            lambda: call("lakebase_release", fault_id=fault),
        )

    def own_compute(self) -> Mapping[str, str]:
        if not self.project:
            self.project = f"own-{self.schema.replace('_', '-')}"
            path = f"/api/2.0/postgres/projects?project_id={self.project}"
            self.scope.driver.rest("POST", path, {"spec": {}})
        return {"lakebase_project": self.project}

    def suspend(self) -> None:
        self.scope.control.call("lakebase_suspend", project=self.project)

    @property
    def schema(self) -> str:
        return self.scope.lock_schema

    @property
    def table(self) -> str:
        """The scope's lock table, quoted, with its schema."""
        config = self.scope.config()
        return sql.Identifier(config.lock_schema, config.lock_table).as_string()


class LoggedStatements:
    """The fake's own log of the statements that name a schema."""

    opened = 0

    def __init__(self, control: SqlControl, schema: str) -> None:
        self.control = control
        self.schema = schema
        logged = control.statements(contains=schema)
        self.begin = logged[-1]["i"] if logged else 0

    @property
    def texts(self) -> Sequence[str]:
        return [item["text"] for item in self.control.statements(self.begin, self.schema)]


class DeltaBed:
    """A Unity Catalog schema of its own, and for some tests a SQL warehouse of its own."""

    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"locking.grants", "locking.delta", "service.warehouse"}
    )
    other_backend: ClassVar[str] = "lakebase"

    def __init__(self, scope: DatabricksScope) -> None:
        self.scope = scope
        self.control = SqlControl(scope.control.target)
        self.warehouse = ""

    def settings(self) -> Mapping[str, str]:
        return {}

    def checkpoint(self, step: str) -> None:
        return

    def create(self) -> None:
        self.control.create_schema(self.schema)

    def remove(self) -> None:
        if self.warehouse:
            self.scope.driver.rest("DELETE", f"/api/2.0/sql/warehouses/{self.warehouse}")
        self.run(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")

    def run(self, statement: str) -> None:
        """Raises `SqlError`."""
        self.scope.driver.statement(statement)

    def held(self) -> list[tuple[str, str]]:
        statement = f"SELECT lock_key, lock_id FROM {self.table} WHERE lock_id IS NOT NULL"
        try:
            cells = self.scope.driver.statement(statement).cells
        except SqlError as error:
            if error.error_class != "TABLE_OR_VIEW_NOT_FOUND":
                raise
            return []
        return [(str(key), str(lock_id)) for key, lock_id in cells]

    def admit(self, principal: str) -> None:
        self.scope.prepare_locks()
        self.scope.control.grant(principal, self.schema, "USE_SCHEMA", "SELECT", "MODIFY")

    def counted(self, client: DatabricksClient) -> LoggedStatements:
        return LoggedStatements(self.control, self.scope.lock_schema)

    def lose_change(self, times: int = 1) -> Callable[[], int]:
        fault = self.control.add_fault(
            method="POST",
            path="/api/2.0/sql/statements",
            content=f'*"statement":"[UIMD][PNEE][DSRL]*{self.scope.lock_schema}*',  # not SELECT, not CREATE
            when="after",
            drop=True,
            times=times,
        )
        return lambda: int(self.control.fault(fault)["hits"])

    def stall(self, step: int) -> Stall:
        """It stands still between its snapshot and its commit."""
        hold = self.control.hold_statements("snapshot", contains=self.scope.lock_schema, first=step)
        return Stall(
            lambda: bool(self.control.held_statements(hold)["held"]),
            lambda: self.control.release_statements(hold),
        )

    def stall_commit(self) -> Stall:
        """Stops the next change of a row that is there before its commit."""
        return self.stall(1)

    def own_compute(self) -> Mapping[str, str]:
        if not self.warehouse:
            self.warehouse = self.control.create_warehouse(f"own {self.scope.lock_schema}", running=True)
        return {"warehouse_id": self.warehouse}

    def suspend(self) -> None:
        self.control.set_warehouse(self.warehouse, running=False)

    @property
    def schema(self) -> str:
        """The schema of the lock table, with its catalog."""
        return f"{self.scope.config().catalog}.{self.scope.lock_schema}"

    @property
    def table(self) -> str:
        """The scope's lock table, with its schema."""
        return f"{self.schema}.{self.scope.config().lock_table}"


LOCK_BEDS: Mapping[str, type[LockBed]] = {"lakebase": LakebaseBed, "delta": DeltaBed}
"""By the variant of the driver."""
