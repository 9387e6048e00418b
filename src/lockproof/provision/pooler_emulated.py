"""What PgBouncer in transaction mode does to sessions, where PgBouncer is not installed.

Clients share a few sessions at the server; each transaction goes to the one that has rested longest, so that
two in a row are in different sessions. Nothing is reset in between, and no startup options are taken, as with
PgBouncer (pgbouncer.org/config.html: `pool_mode`, `server_round_robin`, `server_reset_query`,
`ignore_startup_parameters`). Who may log in decides the server itself. A client of it waits for each reply
before it asks again; prepared statements with names are not carried over.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

import psycopg

from lockproof.pgwire import (
    CANCEL_REQUEST,
    GSS_REQUEST,
    LONGEST_STARTUP,
    SSL_REQUEST,
    fatal,
    frames,
    message,
    whole,
)
from lockproof.provision.postgres import PostgresServer

TOLD = (
    *("server_version", "client_encoding", "standard_conforming_strings", "DateStyle", "TimeZone"),
    *("integer_datetimes", "server_encoding", "application_name", "IntervalStyle"),
)
"""The parameters that a client is told at its login."""
TAKEN = ("user", "database", "client_encoding", "application_name", "DateStyle", "TimeZone")
"""The startup parameters that PgBouncer takes."""
CHUNK = 1 << 16


class Left(Exception):
    """One side of a connection has gone."""


@dataclass
class Session:
    """A session at the server, logged in by libpq; then its socket is spoken to directly."""

    connection: psycopg.Connection[Any]
    wire: socket.socket

    @classmethod
    def opened(cls, server: PostgresServer) -> Session:
        """Raises `psycopg.OperationalError`."""
        connection = psycopg.connect(**server.keywords(), sslmode="disable", gssencmode="disable")
        wire = socket.socket(fileno=os.dup(connection.fileno()))
        wire.setblocking(True)
        return cls(connection, wire)

    def ask(self, messages: bytes, client: socket.socket) -> bool:
        """Carries one exchange out for a client; whether a transaction is open after it. Raises `Left`."""
        self.wire.sendall(messages)
        unread = b""
        while True:
            unread += _received(self.wire)
            end = whole(unread)
            done = [unread[begin:stop] for kind, begin, stop in frames(unread) if kind == b"Z"]
            client.sendall(unread[:end])
            unread = unread[end:]
            if done:
                return done[-1][5:6] != b"I"

    def close(self) -> None:
        self.wire.close()
        self.connection.close()


@dataclass
class Pool:
    """The sessions of one user in one database; a place without a session yet holds None."""

    server: PostgresServer
    resting: queue.SimpleQueue[Session | None] = field(default_factory=queue.SimpleQueue)

    def take(self) -> Session:
        """The session that has rested longest, or one in its place when the server has ended it. Raises
        `psycopg.OperationalError`."""
        found = self.resting.get()
        if found is not None and select.select([found.wire], [], [], 0)[0]:  # a farewell
            found.close()
            found = None
        try:
            return found or Session.opened(self.server)
        except psycopg.OperationalError:
            self.resting.put(None)
            raise


class EmulatedPooler:
    """Listens on `port` of 127.0.0.1 for clients of `server`; a context manager."""

    def __init__(self, server: PostgresServer, sessions: int) -> None:
        self._server = server
        self._sessions = sessions
        self._pools: dict[tuple[str, str, str], Pool] = {}
        self._mutex = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: set[socket.socket] = set()
        self._accepting = threading.Thread(target=self._accept, name="pooler", daemon=True)
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        with self._mutex:
            clients, pools = list(self._clients), list(self._pools.values())
        for client in clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for pool in pools:
            for _ in range(self._sessions):
                with suppress(queue.Empty):
                    session = pool.resting.get(timeout=5)
                    if session is not None:
                        session.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="pooler client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._mutex:
            self._clients.add(client)
        try:
            pool = self._let_in(client)
            if pool is not None:
                _relay(client, pool)
        except (OSError, Left):
            return
        finally:
            with self._mutex:
                self._clients.discard(client)
            client.close()

    def _let_in(self, client: socket.socket) -> Pool | None:
        """Everything up to the first statement; None when the client was refused. Raises `Left`."""
        code, body = _startup(client)
        while code in (SSL_REQUEST, GSS_REQUEST):
            client.sendall(b"N")
            code, body = _startup(client)
        if code == CANCEL_REQUEST:
            return None
        texts = [text.decode("utf-8", "replace") for text in body.split(b"\0")]
        startup = {name: value for name, value in zip(texts[::2], texts[1::2], strict=False) if name}
        strange = next((name for name in startup if name not in TAKEN), None)
        if strange is not None:
            client.sendall(fatal("08P01", f"unsupported startup parameter: {strange}"))
            return None
        client.sendall(message(b"R", struct.pack("!I", 3)))  # AuthenticationCleartextPassword
        head = _exactly(client, 5)
        password = _exactly(client, struct.unpack("!I", head[1:])[0] - 4).rstrip(b"\0").decode()
        user = startup.get("user", "")
        pool = self._pool(user, password, startup.get("database", user))
        try:
            session = pool.take()
        except psycopg.OperationalError as error:
            client.sendall(fatal(error.sqlstate or "08006", str(error).rpartition("FATAL:  ")[2].strip()))
            return None
        told = {name: session.connection.pgconn.parameter_status(name.encode()) for name in TOLD}
        pool.resting.put(session)
        client.sendall(
            message(b"R", struct.pack("!I", 0))
            + b"".join(message(b"S", name.encode() + b"\0" + v + b"\0") for name, v in told.items() if v)
            + message(b"K", struct.pack("!II", 0, 0))
            + message(b"Z", b"I")
        )
        return pool

    def _pool(self, user: str, password: str, database: str) -> Pool:
        with self._mutex:
            key = (user, password, database)
            if key not in self._pools:
                server = replace(self._server, user=user, password=password, database=database)
                pool = self._pools[key] = Pool(server)
                for _ in range(self._sessions):
                    pool.resting.put(None)
            return self._pools[key]


def _relay(client: socket.socket, pool: Pool) -> None:
    """One exchange after the other, each transaction in the next session. Raises `Left`."""
    session: Session | None = None
    unread = b""
    try:
        while True:
            unread += _received(client)
            end = 0
            for kind, _, stop in frames(unread):
                if kind == b"X":
                    return
                if kind in (b"Q", b"S"):
                    end = stop
            if not end:
                continue
            session = session or pool.take()
            within = session.ask(unread[:end], client)
            unread = unread[end:]
            if not within:
                pool.resting.put(session)
                session = None
    except psycopg.OperationalError as error:
        client.sendall(fatal("08006", " ".join(str(error).split())))
    finally:
        if session is not None:  # broken, or in the middle of a transaction: nobody else may have it
            session.close()
            pool.resting.put(None)


def _startup(client: socket.socket) -> tuple[int, bytes]:
    """A message without a type: its code and its body. Raises `Left` when it is none."""
    length, code = struct.unpack("!II", _exactly(client, 8))
    if not 8 <= length <= LONGEST_STARTUP:
        raise Left
    return code, _exactly(client, length - 8)


def _exactly(wire: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        chunk = wire.recv(count - len(found))
        if not chunk:
            raise Left
        found += chunk
    return found


def _received(wire: socket.socket) -> bytes:
    chunk = wire.recv(CHUNK)
    if not chunk:
        raise Left
    return chunk
