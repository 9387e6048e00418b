"""Lock stores on Postgres that are broken in one way each, which shows when the server is hurt."""

from __future__ import annotations

import json
from typing import Any, ClassVar, LiteralString

import psycopg
from psycopg import sql

from lockproof.driver import DriverError, Locked, LockInfo, Snapshot
from lockproof.fakes.saboteurs.broken import Register
from lockproof.fakes.saboteurs.postgres_rows import RowsClient, RowsDriver

sessions = Register(__name__, "faults", only=("FAULT-PG-001", "FAULT-PG-005", "FAULT-PG-007"))
crashes = Register(__name__, "faults", only=("FAULT-PG-002", "FAULT-PG-004"))
doubts = Register(__name__, "faults", only=("FAULT-PG-003",))
replicas = Register(__name__, "faults", only=("FAULT-PG-009",))

UNLOGGED: LiteralString = (
    "CREATE SCHEMA {schema};"
    " CREATE TABLE {schema}.state (workspace text PRIMARY KEY, data bytea NOT NULL);"
    " CREATE UNLOGGED TABLE {schema}.lock (workspace text PRIMARY KEY, id text NOT NULL, info text NOT NULL)"
)


class SessionClient(RowsClient):
    """The lock is an advisory lock of the session; the row beside it only tells who holds it."""

    key: LiteralString = "hashtextextended(%(schema)s || %(workspace)s, 0)"

    def lock(self, workspace: str, info: LockInfo) -> str:
        values = {"schema": self.schema, "workspace": workspace}
        ((granted,),) = self.rows(f"SELECT pg_try_advisory_lock({self.key})", **values)
        if not granted:
            raise Locked(holder=self.holder(workspace))
        self.rows(
            "INSERT INTO {lock} VALUES (%(workspace)s, %(id)s, %(info)s)"
            " ON CONFLICT (workspace) DO UPDATE SET id = excluded.id, info = excluded.info RETURNING 1",
            workspace=workspace,
            id=info.ID,
            info=json.dumps(info.to_json()),
        )
        return info.ID

    def unlock(self, workspace: str, lock_id: str) -> None:
        super().unlock(workspace, lock_id)
        self.rows(f"SELECT pg_advisory_unlock({self.key})", schema=self.schema, workspace=workspace)


@sessions.breaks(
    *("FAULT-PG-001", "FAULT-PG-002", "FAULT-PG-003", "FAULT-PG-004"),
    *("FAULT-PG-005", "FAULT-PG-006", "FAULT-PG-007", "FAULT-PG-008"),
)
class HoldsBySession(RowsDriver):
    """A lock is an advisory lock of the holder's session, as in OpenTofu's pg backend."""

    client_type = SessionClient


@crashes.breaks("FAULT-PG-002", "FAULT-PG-004")
class KeepsLocksUnlogged(RowsDriver):
    """The lock table is unlogged: a crash of the server empties it, and no standby has it."""

    tables = UNLOGGED


class SettledClient(RowsClient):
    """The names of its tables are a setting of the session."""

    def connect(self, dsn: str = "") -> psycopg.Connection[Any]:
        connection = super().connect(dsn)
        connection.execute("SELECT set_config('search_path', %s, false)", [self.schema])
        return connection

    def written(self, statement: LiteralString) -> sql.Composed:
        return sql.SQL(statement).format(state=sql.Identifier("state"), lock=sql.Identifier("lock"))


@sessions.breaks("FAULT-PG-007")
class RestsOnSessionSettings(RowsDriver):
    """The session's search path, set when it was opened, says which lock is meant."""

    client_type = SettledClient


class GrantedClient(RowsClient):
    """Who asked and got no answer has the lock."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except DriverError as error:
            if error.definite:
                raise
            return info.ID


@doubts.breaks("FAULT-PG-003", "FAULT-PG-001", "FAULT-PG-002", "FAULT-PG-004", "FAULT-PG-005", "FAULT-PG-006")
class TakesItsLockForGranted(RowsDriver):
    """A client whose connection broke while it asked for the lock takes the lock for granted."""

    client_type = GrantedClient


class ReplicaClient(RowsClient):
    """Asks the replica before the primary."""

    def first_seen(self, statement: LiteralString, workspace: str) -> list[Any]:
        with self.connect(self.driver.replica_dsn) as replica:
            return replica.execute(self.written(statement), {"workspace": workspace}).fetchall()

    def get(self, workspace: str) -> Snapshot | None:
        rows = self.first_seen("SELECT data FROM {state} WHERE workspace = %(workspace)s", workspace)
        return Snapshot(bytes(rows[0][0])) if rows else None

    def lock(self, workspace: str, info: LockInfo) -> str:
        if self.first_seen("SELECT FROM {lock} WHERE workspace = %(workspace)s", workspace):
            raise Locked(holder=self.holder(workspace))
        self.rows("DELETE FROM {lock} WHERE workspace = %(workspace)s RETURNING 1", workspace=workspace)
        return super().lock(workspace, info)


@replicas.breaks("FAULT-PG-009", *(f"FAULT-PG-00{number}" for number in range(1, 8)))
class BelievesTheReplica(RowsDriver):
    """Whether the lock is free, and what the state is, is asked of the replica; a row left over is stale."""

    client_type = ReplicaClient
    claims = frozenset({"locking.fencing", "service.postgres.replica"})


class LocalClient(RowsClient):
    def connect(self, dsn: str = "") -> psycopg.Connection[Any]:
        connection = super().connect(dsn)
        connection.execute("SET synchronous_commit = local")
        return connection


@crashes.breaks("FAULT-PG-004")
class WaitsForNoStandby(RowsDriver):
    """Commits wait for the primary's disk alone, which is faster, and a fail-over loses locks."""

    client_type = LocalClient


class AllIsLockedClient(RowsClient):
    """As OpenTofu's pg client, where each SQL error of a lock is a lock error with the caller's own id."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        try:
            return super().lock(workspace, info)
        except DriverError as error:
            if error.kind == "unavailable" and error.definite:
                raise Locked(error.message, holder=info) from error
            raise


@sessions.breaks("FAULT-PG-005")
class CallsEveryErrorALock(RowsDriver):
    """Any error of the database while the lock is asked for is reported as a lock that is held."""

    client_type = AllIsLockedClient


class DiscouragedClient(RowsClient):
    discouraged: ClassVar[set[str]] = set()

    def connect(self, dsn: str = "") -> psycopg.Connection[Any]:
        if self.schema in self.discouraged:
            raise psycopg.OperationalError("the circuit breaker is open")
        try:
            return super().connect(dsn)
        except psycopg.OperationalError:
            self.discouraged.add(self.schema)
            raise


@sessions.breaks("FAULT-PG-006", "FAULT-PG-005")
class NeverComesBack(RowsDriver):
    """A circuit breaker: once a connection was refused, nobody asks the database again."""

    client_type = DiscouragedClient


SABOTEURS = [entry for kind in (sessions, crashes, doubts, replicas) for entry in kind.saboteurs]
