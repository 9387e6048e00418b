"""A backend that keeps states and locks as rows of a Postgres database, correct and as simple as can be.

It is what the saboteurs of `postgres_locks` break, and itself a control: the tests of Postgres faults must
all pass on it. It never retries: a connection that breaks is an error, and the next call opens another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, LiteralString, Self

import psycopg
from psycopg import sql

from lockproof.driver import (
    Address,
    Capabilities,
    DriverError,
    DriverInfo,
    Locked,
    LockInfo,
    LockMismatch,
    NotLocked,
    Snapshot,
)
from lockproof.fakes.saboteurs.catalogue import CorrectVariant

CONNECT_SECONDS = 5


class RowsClient:
    """One `tofu` process with one connection; the contract is `lockproof.driver.Client`'s."""

    def __init__(self, driver: RowsDriver, schema: str, who: str) -> None:
        self.driver = driver
        self.schema = schema
        self.who = who
        self.connection: psycopg.Connection[Any] | None = None

    def connect(self, dsn: str = "") -> psycopg.Connection[Any]:
        """A new connection. Raises `psycopg.Error`."""
        return psycopg.connect(
            dsn or self.driver.dsn,
            autocommit=True,
            prepare_threshold=None,  # behind a transaction pooler there is no session to prepare in
            connect_timeout=CONNECT_SECONDS,
            application_name="lockproof rows",
        )

    def rows(self, statement: LiteralString, **values: Any) -> list[Any]:
        """What a statement returns; `{state}` and `{lock}` in it are the tables."""
        try:
            if self.connection is None or self.connection.closed:
                self.connection = self.connect()
        except psycopg.Error as error:
            raise DriverError("unavailable", True, _line(error)) from error
        try:
            return self.connection.execute(self.written(statement), values).fetchall()
        except psycopg.Error as error:
            raise DriverError("unavailable", not self.connection.closed, _line(error)) from error

    def written(self, statement: LiteralString) -> sql.Composed:
        """The statement with the names of the tables in it."""
        tables = {name: sql.Identifier(self.schema, name) for name in ("state", "lock")}
        return sql.SQL(statement).format(**tables)

    def get(self, workspace: str) -> Snapshot | None:
        rows = self.rows("SELECT data FROM {state} WHERE workspace = %(workspace)s", workspace=workspace)
        return Snapshot(bytes(rows[0][0])) if rows else None

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        wrote = self.rows(
            "INSERT INTO {state} SELECT %(workspace)s, %(data)s WHERE %(id)s::text IS NULL OR EXISTS"
            " (SELECT FROM {lock} WHERE workspace = %(workspace)s AND id = %(id)s FOR SHARE)"
            " ON CONFLICT (workspace) DO UPDATE SET data = excluded.data RETURNING 1",
            workspace=workspace,
            data=data,
            id=lock_id,
        )
        if not wrote:
            self.refuse(workspace)

    def delete(self, workspace: str) -> None:
        self.rows("DELETE FROM {state} WHERE workspace = %(workspace)s RETURNING 1", workspace=workspace)

    def lock(self, workspace: str, info: LockInfo) -> str:
        granted = self.rows(
            "INSERT INTO {lock} VALUES (%(workspace)s, %(id)s, %(info)s)"
            " ON CONFLICT (workspace) DO NOTHING RETURNING id",
            workspace=workspace,
            id=info.ID,
            info=json.dumps(info.to_json()),
        )
        if not granted:
            raise Locked(holder=self.holder(workspace))
        return info.ID

    def unlock(self, workspace: str, lock_id: str) -> None:
        released = self.rows(
            "DELETE FROM {lock} WHERE workspace = %(workspace)s AND id = %(id)s RETURNING 1",
            workspace=workspace,
            id=lock_id,
        )
        if not released:
            self.refuse(workspace)

    def workspaces(self) -> Sequence[str]:
        return sorted({"default", *(name for (name,) in self.rows("SELECT workspace FROM {state}"))})

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        if workspace == "default":
            raise DriverError("unsupported", True, "the default workspace cannot be deleted")
        self.delete(workspace)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()

    def holder(self, workspace: str) -> LockInfo | None:
        """Who holds the lock."""
        rows = self.rows("SELECT info FROM {lock} WHERE workspace = %(workspace)s", workspace=workspace)
        return LockInfo.from_json(json.loads(rows[0][0])) if rows else None

    def refuse(self, workspace: str) -> None:
        """Raises what is to be said of an id that holds nothing."""
        holder = self.holder(workspace)
        raise LockMismatch(holder=holder) if holder else NotLocked()


class RowsScope:
    """A schema with its two tables, dropped on exit."""

    def __init__(self, driver: RowsDriver, name: str, *, attach: bool) -> None:
        self.driver = driver
        self.schema = f"s_{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        self.attach = attach

    def client(self, who: str) -> RowsClient:
        return self.driver.client_type(self.driver, self.schema, who)

    def __enter__(self) -> Self:
        if not self.attach:
            with psycopg.connect(self.driver.dsn) as connection:
                connection.execute(sql.SQL(self.driver.tables).format(schema=sql.Identifier(self.schema)))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        if not self.attach:
            with psycopg.connect(self.driver.dsn) as connection:
                schema = sql.Identifier(self.schema)
                connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))


class RowsDriver:
    """Locks and states are rows, each statement is a transaction of its own, and no answer is no success."""

    client_type: ClassVar[type[RowsClient]] = RowsClient
    tables: ClassVar[LiteralString] = (
        "CREATE SCHEMA {schema};"
        " CREATE TABLE {schema}.state (workspace text PRIMARY KEY, data bytea NOT NULL);"
        " CREATE TABLE {schema}.lock (workspace text PRIMARY KEY, id text NOT NULL, info text NOT NULL)"
    )
    takes_postgres = True
    claims: ClassVar[frozenset[str]] = frozenset({"locking.fencing"})

    def __init__(self, options: Mapping[str, str]) -> None:
        self.dsn = options.get("postgres_dsn", "")
        self.replica_dsn = options.get("postgres_replica_dsn", "")
        self.info = DriverInfo("postgres rows", "1.0", "rows of a Postgres database", target="local")

    def capabilities(self) -> Capabilities:
        return Capabilities(
            {
                *("state.delete", "state.atomic-replace", "workspaces", "places", "service.postgres"),
                *("locking.holder-info", "locking.force-unlock", "locking.release-nonce"),
                *self.claims,
            }
        )

    def links(self) -> Mapping[str, Address]:
        return {}

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> RowsScope:
        return RowsScope(self, name, attach=attach)


class WithReplica(RowsDriver):
    """Rows in Postgres with a replica beside it, which is not asked about locks, nor for states."""

    claims = frozenset({"locking.fencing", "service.postgres.replica"})


VARIANTS = (
    CorrectVariant(
        name="postgres-rows-with-replica",
        story=" ".join((WithReplica.__doc__ or "").split()),
        backend=f"py:{__name__}:WithReplica",
        suites=("faults",),
        only=("FAULT-PG-009",),
    ),
    CorrectVariant(
        name="postgres-rows",
        story=" ".join((RowsDriver.__doc__ or "").split()),
        backend=f"py:{__name__}:RowsDriver",
        suites=("faults",),
        only=("FAULT-PG-*",),
    ),
)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
