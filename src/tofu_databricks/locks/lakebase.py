"""Locks as rows of a Postgres table.

The primary key does the excluding: `INSERT … ON CONFLICT DO NOTHING` takes a lock in one statement, a
`DELETE` by id frees it. Every statement is its own transaction and leaves nothing behind in the session, so
pooled endpoints, scale-to-zero and the three-day cap on connections lose no lock. OpenTofu's `pg` backend
holds session advisory locks and loses updates exactly so (internal/backend/remote-state/pg/client.go:73-153).
"""

from __future__ import annotations

import json
import re
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.pq import TransactionStatus
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random

from tofu_databricks.errors import (
    BackendError,
    ConfigError,
    InvalidRequest,
    LockMismatch,
    LockNotHeld,
    LockTableMissing,
    PermissionDenied,
    StateLocked,
    Unavailable,
)
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.seams import Checkpoint, Clock, SystemClock, no_checkpoint

T = TypeVar("T")
Connect = Callable[[], "psycopg.Connection[Any]"]

ATTEMPTS = 4
"""One try and three retries (RFC, "Error Handling")."""
CONNECTIONS = 4
"""Connections that one store uses at once, and at most keeps."""
ROUNDS = 3
"""How often a holder may vanish between the refusal and the look at it before we stop asking."""
CONFIRM = b"SELECT pg_logical_emit_message(true, 'tofu-databricks', ''::text)"
"""A commit that changes nothing. A row can be seen, or be gone, before a synchronous standby knows, and a
fail-over undoes that; a commit after it is acknowledged only once the standby has both (in PostgreSQL's
src/backend/access/transam/xact.c RecordTransactionCommit waits for a transaction that wrote to the log)."""
CREATIONS = 10
"""How often the creation of the table may collide with somebody else's before we stop trying."""

_CREATED_MEANWHILE = (
    pg.UniqueViolation,  # on pg_namespace, pg_class or pg_type: `IF NOT EXISTS` looks before it inserts
    pg.DuplicateTable,
    pg.DuplicateSchema,
    pg.DuplicateObject,
)
LOCK_COLUMNS = (
    "key text PRIMARY KEY, id text NOT NULL, info text NOT NULL,"
    " acquired_at timestamptz NOT NULL DEFAULT clock_timestamp(),"
    " acquired_by text NOT NULL DEFAULT session_user"
)
_UPDATED_MEANWHILE = "tuple concurrently updated"
"""Two grants on one schema or table at once; Postgres has no SQLSTATE of its own for it (XX000)."""


class LakebaseLocks:
    """The `LockStore` on Postgres, such as Databricks Lakebase.

    `connect` opens one connection; it raises `psycopg.OperationalError` when another try may succeed and a
    `BackendError` when it cannot. `schema` and `table` are taken literally, whatever characters they hold.
    Safe for threads: each uses a connection of its own.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        schema: str,
        table: str,
        create_table: bool = True,
        clock: Clock | None = None,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self.schema = schema
        self.table = table
        self.create_table = create_table
        self.clock = clock or SystemClock()
        self.checkpoint = checkpoint
        self._statements = _Statements.on(schema, table)
        self._tables: Sequence[Creation] = [Creation.of(schema, table, LOCK_COLUMNS)]
        self._connections = _Connections(connect)
        self._granted: set[tuple[str, str]] = set()

    def acquire(self, key: str, info: LockInfo) -> str:
        """See `LockStore.acquire`. A lock that is found held under this id is granted once it would outlive a
        fail-over. When a reply was lost on the way to a refusal, that `StateLocked` has `definite=False`: the
        unanswered INSERT may yet take effect, under this same id."""
        if not info.ID or not _storable(info.ID):
            raise InvalidRequest("a lock ID must be text that is not empty and holds no NUL")
        row = (key, info.ID, json.dumps(asdict(info)))

        def attempt(connection: psycopg.Connection[Any], _lost: bool) -> str:
            holder = None
            for _ in range(ROUNDS):
                if self._execute(connection, "lock.acquire", self._statements.insert, row):
                    return info.ID
                holder = self._read(connection, key)
                if holder is not None and holder.ID == info.ID:
                    self._execute(connection, "lock.confirm", CONFIRM, ())
                    return info.ID
                if holder is not None:
                    break
            raise StateLocked(holder=holder)

        lock_id = self._run(attempt)
        self._granted.add((key, lock_id))
        return lock_id

    def release(self, key: str, lock_id: str) -> None:
        """See `LockStore.release`. Nobody is told that a lock is free before that would outlive a fail-over.
        After a lost reply, finding the lock free is success for an id that this store granted; in any other
        case where nobody can tell, `Unavailable` has `definite=False`."""

        def attempt(connection: psycopg.Connection[Any], lost: bool) -> None:
            if _storable(lock_id) and self._execute(
                connection, "lock.release", self._statements.delete, (key, lock_id)
            ):
                return
            holder = self._read(connection, key)
            if holder is None:
                self._execute(connection, "lock.confirm", CONFIRM, ())
            if not lost:
                raise LockMismatch(holder=holder) if holder else LockNotHeld("nobody holds the lock")
            if holder is not None or (key, lock_id) not in self._granted:
                now = f"is now held under ID {holder.ID}" if holder else "is free now"
                raise Unavailable(f"the reply to the release of lock {lock_id} was lost; the lock {now}")

        self._run(attempt)
        self._granted.discard((key, lock_id))

    def holder(self, key: str) -> LockInfo | None:
        """See `LockStore.holder`."""
        return self._run(lambda connection, _: self._read(connection, key))

    def prepare(self) -> None:
        """See `LockStore.prepare`. Creates schema and table where they are missing, lets every role read
        them, and grants nothing else."""
        self._retried(lambda connection, _: self._create(connection))

    def close(self) -> None:
        """See `LockStore.close`."""
        self._connections.close()

    def ddl(self) -> str:
        """What makes the tables of this store, as one line of SQL."""
        making = [self._tables[0].create_schema, *(table.create_table for table in self._tables)]
        return " ".join(re.sub("^(CREATE (SCHEMA|TABLE))", r"\1 IF NOT EXISTS", one) for one in making)

    def _read(self, connection: psycopg.Connection[Any], key: str) -> LockInfo | None:
        rows = self._execute(connection, "lock.read", self._statements.read, (key,))
        return holder_of(*rows[0]) if rows else None

    def _execute(
        self, connection: psycopg.Connection[Any], step: str, statement: bytes, values: Sequence[str]
    ) -> list[Any]:
        self.checkpoint(step)
        return connection.execute(statement, values).fetchall()

    def _run(self, attempt: Callable[[psycopg.Connection[Any], bool], T]) -> T:
        """`_retried`, and once more after creating the table if that is what was missing."""
        try:
            return self._retried(attempt)
        except _TableMissing:
            self.prepare()
        return self._retried(attempt)

    def _retried(self, attempt: Callable[[psycopg.Connection[Any], bool], T]) -> T:
        """Runs `attempt(connection, lost)` until the connection survives it.

        `lost`: an earlier try went unanswered and may have taken effect; no error is definite then.
        """
        lost = False
        tries = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(multiplier=0.25, max=4) + wait_random(0, 0.25),
            retry=retry_if_exception_type(_Interrupted),
            sleep=self.clock.sleep,
            reraise=True,
        )

        def once() -> T:
            nonlocal lost
            with self._connections.borrow() as connection:
                try:
                    return attempt(connection, lost)
                except psycopg.Error as error:
                    if connection.closed:
                        lost = True
                    if connection.closed or isinstance(error, pg.SerializationFailure | pg.DeadlockDetected):
                        raise _Interrupted(_line(error)) from error
                    raise self._refusal(error, _role(connection)) from error

        try:
            return tries(once)
        except _Interrupted as error:
            raise Unavailable(f"the lock store did not answer: {error}", definite=not lost) from error
        except BackendError as error:
            if lost:
                error.definite = False
            raise

    def _create(self, connection: psycopg.Connection[Any]) -> None:
        for table in self._tables:
            self._create_table(connection, table)

    def _create_table(self, connection: psycopg.Connection[Any], making: Creation) -> None:
        for _ in range(CREATIONS):
            try:
                self.checkpoint("lock.look")
                schema, table = connection.execute(making.look).fetchone() or (None, None)
                if table:
                    return
                if not self.create_table:
                    raise LockTableMissing(
                        f"the lock table {making.name} is missing and create_lock_table is off; "
                        f"create it with: {self.ddl()}"
                    )
                self.checkpoint("lock.create")
                connection.execute(
                    making.create_table.encode()
                    if schema
                    else f"{making.create_schema} {making.create_table}".encode()
                )
                return
            except _CREATED_MEANWHILE:
                continue
            except pg.InternalError_ as error:
                if _UPDATED_MEANWHILE not in str(error):
                    raise
            except pg.InsufficientPrivilege as error:
                raise LockTableMissing(
                    f"the lock table {making.name} is missing and role {_role(connection)} may "
                    f"not create it ({_line(error)}); let an administrator run: {self.ddl()}"
                ) from error
        raise Unavailable(f"the lock table {making.name} keeps being created by somebody else")

    def _refusal(self, error: psycopg.Error, role: str) -> BackendError:
        name = f"the lock table {self.schema}.{self.table}"
        match error:
            case pg.UndefinedTable() | pg.InvalidSchemaName():
                return _TableMissing(f"{name} is missing")
            case pg.UndefinedColumn() | pg.InvalidColumnReference() | pg.WrongObjectType():
                return ConfigError(f"{name} is not one of ours ({_line(error)}); name another as lock_table")
            case pg.InsufficientPrivilege():
                return PermissionDenied(
                    f"{_line(error)}; let its owner run: {self._statements.grant} {role};"
                )
            case pg.ReadOnlySqlTransaction():
                return ConfigError("the Lakebase endpoint is read-only; locks need the read-write one")
            case _:
                state = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
                return Unavailable(f"the lock store refuses: {_line(error)}{state}")


class _Interrupted(Exception):
    """The connection was lost, or the server asks to try again."""


class _TableMissing(LockTableMissing):
    """The table is not there and nobody has tried to create it."""


class _Connections:
    """At most `CONNECTIONS` open at once; a thread that finds none free waits for one."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._mutex = threading.Lock()
        self._idle: list[psycopg.Connection[Any]] = []
        self._closed = False

    @contextmanager
    def borrow(self) -> Iterator[psycopg.Connection[Any]]:
        """Lends a connection in autocommit; raises `_Interrupted` when none can be opened just now."""
        with self._slots:
            connection = self._take() or self._open()
            try:
                yield connection
            finally:
                self._give_back(connection)

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> psycopg.Connection[Any] | None:
        while True:
            with self._mutex:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not spoken_to(connection):
                return connection
            connection.close()

    def _open(self) -> psycopg.Connection[Any]:
        try:
            connection = self._connect()
        except psycopg.OperationalError as error:
            raise _Interrupted(_line(error)) from error
        connection.autocommit = True
        connection.prepare_threshold = None  # a transaction pooler has no place for prepared statements
        return connection

    def _give_back(self, connection: psycopg.Connection[Any]) -> None:
        with self._mutex:
            if not self._closed and connection.info.transaction_status == TransactionStatus.IDLE:
                self._idle.append(connection)
                return
        connection.close()


class Creation(NamedTuple):
    """How one table, `name`, is looked for and made."""

    name: str
    look: bytes
    create_schema: str
    create_table: str

    @classmethod
    def of(cls, schema: str, table: str, columns: str) -> Creation:
        names = {"schema": sql.Identifier(schema), "table": sql.Identifier(schema, table)}

        def text(template: str) -> str:
            literals = {f"{name}_name": sql.Literal(part.as_string()) for name, part in names.items()}
            return sql.SQL(template).format(**names, **literals).as_string()

        return cls(
            name=f"{schema}.{table}",
            look=text(
                "SELECT to_regnamespace({schema_name}) IS NOT NULL, to_regclass({table_name}) IS NOT NULL"
            ).encode(),
            create_schema=text("CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO PUBLIC;"),
            create_table=text("CREATE TABLE {table} ")
            + f"({columns}); "
            + text("GRANT SELECT ON {table} TO PUBLIC;"),
        )


class _Statements(NamedTuple):
    insert: bytes
    read: bytes
    delete: bytes
    grant: str

    @classmethod
    def on(cls, schema: str, table: str) -> _Statements:
        def text(template: str) -> bytes:
            return sql.SQL(template).format(table=identifier(schema, table)).as_string().encode()

        return cls(
            insert=text(
                "INSERT INTO {table} (key, id, info) VALUES (%s, %s, %s)"
                " ON CONFLICT (key) DO NOTHING RETURNING id"
            ),
            read=text("SELECT id, info FROM {table} WHERE key = %s"),
            delete=text("DELETE FROM {table} WHERE key = %s AND id = %s RETURNING id"),
            grant=sql.SQL(
                "GRANT USAGE ON SCHEMA {schema} TO PUBLIC; GRANT SELECT, INSERT, DELETE ON {table} TO"
            )
            .format(schema=sql.Identifier(schema), table=sql.Identifier(schema, table))
            .as_string(),
        )


def identifier(*names: str) -> sql.Identifier:
    """A quoted name in a statement that has parameters: there a percent sign is written twice."""
    return sql.Identifier(*(name.replace("%", "%%") for name in names))


def spoken_to(connection: psycopg.Connection[Any]) -> bool:
    """Whether an idle connection has something to read: a farewell, since nobody asked anything.

    Finding that out before a statement is sent keeps "was it lost before or after?" from arising at all.
    """
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def holder_of(lock_id: str, info: str) -> LockInfo:
    """The row's id counts; what somebody else wrote beside it may be anything."""
    try:
        return replace(LockInfo.from_json(info), ID=lock_id)
    except ValueError:
        return LockInfo(ID=lock_id)


def _storable(text: str) -> bool:
    """Whether Postgres can hold `text`; an id that it cannot hold was never granted."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:  # a lone surrogate, legal in JSON
        return False


def _role(connection: psycopg.Connection[Any]) -> str:
    return sql.Identifier(connection.info.user).as_string()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
