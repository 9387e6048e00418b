"""Sessions of a real Postgres whose every statement is a step of an explored schedule."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from lockproof.explore.steps import LOST_REPLY, outside

Step = Callable[..., str | None]
"""`lockproof.explore.steps.checkpoint`, with what else happens to the process at a step."""

TOUCHED = "postgres"
PLAIN = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
"""Statements that leave nothing behind in a session, unless they call a function of its state."""
CLOSED = SimpleNamespace(transaction_status=TransactionStatus.UNKNOWN)
LOST = "server closed the connection unexpectedly"
"""libpq's words for a connection that ends while an answer is awaited."""


class SessionPool:
    """Real sessions that are lent to one simulated process after the other.

    A login at a real server takes far longer than a statement. So a session that its process closed is lent
    again. It is made what a fresh one is (`DISCARD ALL`: no transaction, setting or advisory lock) unless it
    did nothing that a session remembers. `connect` opens one more.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self.connect = connect
        self.mutex = threading.Lock()
        self.idle: list[psycopg.Connection[Any]] = []
        self.pids: dict[psycopg.Connection[Any], int] = {}
        self._own: psycopg.Connection[Any] | None = None

    def lend(self, step: Step) -> SteppedSession:
        """A session whose statements are steps."""
        with self.mutex:
            connection = self.idle.pop() if self.idle else self._open()
        return SteppedSession(self, connection, step)

    def take_back(self, connection: psycopg.Connection[Any], *, plain: bool) -> None:
        """Takes a session back; one that cannot be reset is ended. `plain`: there is nothing to reset."""
        try:
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.rollback()
            if not plain:
                connection.execute("DISCARD ALL")
        except psycopg.Error:
            connection.close()
        if connection.closed:
            del self.pids[connection]
            return
        with self.mutex:
            self.idle.append(connection)

    def administer(self, statement: str) -> None:
        """Runs a statement that is no step, in a session of its own."""
        with self._administrator() as connection:
            connection.execute(statement.encode())

    def has(self, table: str) -> bool:
        """Whether there is a table of that quoted name."""
        with self._administrator() as connection:
            answer = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone()
        return answer is not None and bool(answer[0])

    def waits(self, connection: psycopg.Connection[Any]) -> bool:
        """Whether the server says that the session waits for another session."""
        question = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
        with self._administrator() as administrator:
            answer = administrator.execute(question, [self.pids[connection]]).fetchone()
        return answer is not None and bool(answer[0])

    def close(self) -> None:
        """Ends all sessions that are not lent."""
        for connection in self.idle:
            connection.close()
        self.idle.clear()
        if self._own is not None:
            self._own.close()

    @contextmanager
    def _administrator(self) -> Iterator[psycopg.Connection[Any]]:
        with self.mutex:
            self._own = self._own or self._open()
            yield self._own

    def _open(self) -> psycopg.Connection[Any]:
        connection = self.connect()
        connection.autocommit = True
        connection.prepare_threshold = None
        # The server's own number, not what a pooler or proxy in between calls the session.
        self.pids[connection] = int((connection.execute("SELECT pg_backend_pid()").fetchone() or (0,))[0])
        return connection


class SteppedSession:
    """A `psycopg.Connection` as a lock store uses it; each statement and end of a transaction is a step.

    The fault `lost reply`: the statement runs to its end, then the connection is gone, as libpq reports it.
    """

    def __init__(self, pool: SessionPool, connection: psycopg.Connection[Any], step: Step) -> None:
        self._pool = pool
        self._connection: psycopg.Connection[Any] | None = connection
        self._step = step
        self._plain = True

    @property
    def closed(self) -> bool:
        return self._connection is None or self._connection.closed

    @property
    def info(self) -> Any:
        """As psycopg's; of a closed session nothing is known but that."""
        return CLOSED if self._connection is None else self._connection.info

    @property
    def real(self) -> psycopg.Connection[Any]:
        """The session lent. Raises `psycopg.OperationalError` once it is closed."""
        if self._connection is None:
            raise psycopg.OperationalError("the connection is closed")
        return self._connection

    def execute(self, query: Any, *args: Any, **keywords: Any) -> psycopg.Cursor[Any]:
        text = query if isinstance(query, str) else bytes(query).decode() if isinstance(query, bytes) else ""
        with self._as_step(text or query.as_string(self.real)):
            return self.real.execute(query, *args, **keywords)

    def cursor(self, *args: Any, **keywords: Any) -> SteppedCursor:
        return SteppedCursor(self, self.real.cursor(*args, **keywords))

    def commit(self) -> None:
        with self._as_step("COMMIT"):
            self.real.commit()

    def rollback(self) -> None:
        with self._as_step("ROLLBACK"):
            self.real.rollback()

    @contextmanager
    def transaction(self, *args: Any, **keywords: Any) -> Iterator[psycopg.Transaction]:
        with ExitStack() as stack:
            self._plain = False
            found = stack.enter_context(self.real.transaction(*args, **keywords))
            yield found
            with self._as_step("COMMIT"):
                stack.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.take_back(connection, plain=self._plain)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            setattr(self.real, name, value)

    @contextmanager
    def _as_step(self, text: str) -> Iterator[None]:
        verb = text.split(None, 1)[0].upper()
        # A function may change anything, as pg_try_advisory_lock does.
        reads = verb == "SELECT" and "(" not in text
        self._plain = self._plain and verb in PLAIN and "pg_" not in text and "set_config" not in text
        fault = self._step(f"sql {verb}", touches=TOUCHED, write=not reads, faults=(LOST_REPLY,))
        with self._outside():
            yield
        if fault == LOST_REPLY:
            self.close()
            raise psycopg.OperationalError(LOST)

    def _outside(self) -> AbstractContextManager[None]:
        real = self.real
        return outside(lambda: self._pool.waits(real))


class SteppedCursor:
    """A cursor of such a session."""

    def __init__(self, session: SteppedSession, cursor: psycopg.Cursor[Any]) -> None:
        self._session = session
        self._cursor = cursor

    def execute(self, query: Any, *args: Any, **keywords: Any) -> SteppedCursor:
        text = query if isinstance(query, str) else bytes(query).decode()
        with self._session._as_step(text):
            self._cursor.execute(query, *args, **keywords)
        return self

    def __enter__(self) -> SteppedCursor:
        return self

    def __exit__(self, *exc: object) -> None:
        self._cursor.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)
