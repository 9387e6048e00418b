"""The door of Lakebase: checks a token once, at login, then relays between the client and a real Postgres.

A role of a real Postgres has one password; a Lakebase role has any number of tokens, each valid until it
expires. So the proxy asks for the password itself (in clear, over TLS, as Lakebase does), shows it to
`Lakebase.login`, and opens the session at the real server with credentials of its own, by libpq, which knows
every way of authenticating. From then on it only looks at which message passes, so that a scripted fault can
strike at a chosen statement.

Source of the protocol: postgresql.org/docs/current, protocol-flow and protocol-message-formats.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg

from lockproof.fakes.databricks.lakebase import Endpoint, Lakebase, Login, LoginRefused
from lockproof.fakes.databricks.lakebase_faults import Armed, SessionFaults
from lockproof.fakes.databricks.lakebase_storage import Storage
from lockproof.fakes.databricks.lakebase_tls import server_context
from lockproof.fakes.databricks.sessionlog import SessionLog, Traffic
from lockproof.pgwire import (
    CANCEL_REQUEST,
    GSS_REQUEST,
    LONGEST_STARTUP,
    SSL_REQUEST,
    fatal,
    message,
    statements,
    whole,
)

VERSION_3_0 = 3 << 16
CHUNK = 1 << 16
BUFFER = 1 << 20
WATCH_SECONDS = 0.05
POLL_SECONDS = 0.005
LOGIN_THREADS = 8
REPORTED = (
    *("server_version", "server_encoding", "client_encoding", "application_name", "in_hot_standby"),
    *("default_transaction_read_only", "is_superuser", "session_authorization", "DateStyle"),
    *("IntervalStyle", "TimeZone", "integer_datetimes", "standard_conforming_strings"),
    *("scram_iterations", "search_path"),
)
"""The parameters that a server tells its client (protocol-flow, "Asynchronous Operations")."""


@dataclass(eq=False)
class Session:
    """One client that was let in. `pid` and `secret` are what it may cancel with; `opened` and `active` tell
    on the fake's clock since when it is there and when it last asked something."""

    pid: int
    secret: int
    login: Login
    upstream: psycopg.Connection[Any]
    client: asyncio.StreamWriter
    opened: float
    active: float
    traffic: Traffic
    dropped: Armed | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def end(self) -> None:
        """Breaks the connection, as a compute does that is suspended."""
        self.client.transport.abort()
        for task in self.tasks:
            task.cancel()


class LoginProxy:
    """Serves `lakebase` at 127.0.0.1 and tells it where; use it as a context manager.

    `postgres` holds the psycopg keywords of a real server, on which we may create roles and databases.
    `faults` strike at logins and statements, `log` tells of both. Clients must use TLS, as with a real
    Lakebase; with `tls=False` there is none to be had.
    """

    def __init__(
        self, lakebase: Lakebase, postgres: Mapping[str, Any], *, port: int = 0, tls: bool = True
    ) -> None:
        self.lakebase = lakebase
        self.faults = SessionFaults()
        self.log = SessionLog()
        self.sessions: dict[int, Session] = {}
        self.logins = 0
        self._storage = Storage(postgres)
        self._tls = server_context() if tls else None
        self._socket = socket.create_server(("127.0.0.1", port), backlog=256)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._blocking = ThreadPoolExecutor(LOGIN_THREADS, thread_name_prefix="lakebase login")
        self._thread = threading.Thread(target=self._run, name="lakebase login proxy", daemon=True)
        lakebase.host, lakebase.port = self._socket.getsockname()[:2]

    def __enter__(self) -> Self:
        self.lakebase.on_suspend = self.end_sessions
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.lakebase.on_suspend = None
        self.faults.clear()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._blocking.shutdown()
        self._storage.remove()

    def end_sessions(self, endpoint: Endpoint | None = None) -> int:
        """Breaks the sessions of an endpoint, or all, and returns how many there were. From any thread."""
        hit = [s for s in list(self.sessions.values()) if endpoint in (None, s.login.endpoint)]
        for session in hit:
            self._loop.call_soon_threadsafe(session.end)
        return len(hit)

    def overdue(self) -> list[Session]:
        """The sessions that are idle too long or too old, and end at the next look."""
        now, longest, most_idle = self.lakebase.clock.time(), *self.lakebase.session_limits
        found = list(self.sessions.values())
        return [s for s in found if now - s.opened >= longest or now - s.active >= most_idle]

    # --- the thread ---

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._client, sock=self._socket, limit=BUFFER)
        watch = asyncio.create_task(self._watch())
        await self._stop.wait()
        watch.cancel()
        server.close()
        clients = asyncio.all_tasks() - {asyncio.current_task()}
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _watch(self) -> None:
        """Scale to zero, and the end of what was idle too long or is too old, happen by themselves, on the
        fake's clock."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.lakebase.suspend_idle()
            for session in self.overdue():
                session.end()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = None
        try:
            session = await self._let_in(reader, writer)
            if session is not None:
                await self._relay(session, reader)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()  # the client left
        except asyncio.CancelledError:
            writer.transport.abort()  # the proxy stops; streams of 3.11 would log it as an error
        finally:
            if session is not None:
                self.sessions.pop(session.pid, None)
                session.upstream.close()
            writer.close()

    # --- login ---

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Session | None:
        """Everything before the first statement; None when the client was refused or only came to cancel."""
        encrypted = False
        while True:
            code, body = await _read_startup(reader)
            if code == SSL_REQUEST and self._tls is not None and not encrypted:
                writer.write(b"S")
                await writer.start_tls(self._tls)
                encrypted = True
            elif code in (SSL_REQUEST, GSS_REQUEST):
                writer.write(b"N")
            elif code == CANCEL_REQUEST:
                await self._cancel(*struct.unpack("!II", body[:8]))
                return None
            else:
                break
        try:
            if code >> 16 != 3:
                raise LoginRefused(f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}", "0A000")
            if self._tls is not None and not encrypted:
                raise LoginRefused("connection is insecure (try using `sslmode=require`)", "28000")
            if code > VERSION_3_0:
                writer.write(message(b"v", struct.pack("!II", VERSION_3_0, 0)))
            return await self._log_in(_parameters(body), reader, writer)
        except LoginRefused as refusal:
            writer.write(fatal(refusal.sqlstate, refusal.message))
            await writer.drain()
            return None

    async def _log_in(
        self, startup: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Session:
        user = startup.pop("user", "")
        database = startup.pop("database", user)
        writer.write(message(b"R", struct.pack("!I", 3)))  # AuthenticationCleartextPassword
        password = await _read_password(reader)
        if self.faults.strike(user, login=True):
            raise LoginRefused("the database system is starting up", "57P03")
        if self.lakebase.latency is not None:
            await asyncio.sleep(self.lakebase.latency.login())
        login = self.lakebase.login(user, password, database)
        upstream = await self._in_thread(self._storage.open, login, startup)
        now = self.lakebase.clock.time()
        self.logins += 1
        traffic = Traffic(self.log, self.logins, user)
        session = Session(self.logins, secrets.randbits(32), login, upstream, writer, now, now, traffic)
        self.sessions[session.pid] = session
        writer.write(message(b"R", struct.pack("!I", 0)))  # AuthenticationOk
        for name in REPORTED:
            value = upstream.pgconn.parameter_status(name.encode())
            if value is not None:
                writer.write(message(b"S", name.encode() + b"\0" + value + b"\0"))
        writer.write(message(b"K", struct.pack("!II", session.pid, session.secret)))
        writer.write(message(b"Z", b"I"))
        return session

    async def _cancel(self, pid: int, secret: int) -> None:
        session = self.sessions.get(pid)
        if session is not None and session.secret == secret:
            await self._in_thread(session.upstream.cancel_safe)

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._blocking, function, *arguments)

    # --- after login ---

    async def _relay(self, session: Session, reader: asyncio.StreamReader) -> None:
        """Passes bytes both ways until either side ends."""
        wire = socket.socket(fileno=os.dup(session.upstream.fileno()))
        from_server, to_server = await asyncio.open_connection(sock=wire, limit=BUFFER)
        session.tasks = [
            asyncio.create_task(self._requests(session, reader, to_server)),
            asyncio.create_task(self._replies(session, from_server)),
        ]
        try:
            await asyncio.wait(session.tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in session.tasks:
                task.cancel()
            outcomes = await asyncio.gather(*session.tasks, return_exceptions=True)
            to_server.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _requests(
        self, session: Session, reader: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> None:
        """Client to server, in whole messages."""
        pending = b""
        while chunk := await reader.read(CHUNK):
            self.lakebase.touch(session.login.endpoint)
            session.active = self.lakebase.clock.time()
            pending += chunk
            end = whole(pending)
            session.traffic.asked(pending[:end])
            if end and self.lakebase.latency is not None:
                await asyncio.sleep(self.lakebase.latency.statement())
            if self.faults.armed:
                for statement in statements(pending[:end]):
                    armed = self.faults.strike(statement)
                    if armed is not None and not await self._strike(armed, session):
                        return
            server.write(pending[:end])
            pending = pending[end:]
            await server.drain()
        while session.dropped is not None:  # the client is gone; the statement still runs
            await asyncio.sleep(POLL_SECONDS)

    async def _strike(self, armed: Armed, session: Session) -> bool:
        """Carries a fault out as far as it comes before the statement; False: the statement is not sent."""
        what = armed.fault.what
        if what == "drop_reply":
            session.dropped = armed
            return True
        if what in ("drop_request", "late_request"):
            session.client.transport.abort()
        if what in ("hold", "late_request"):
            armed.held += 1
            try:
                while not armed.released.is_set():
                    await asyncio.sleep(POLL_SECONDS)
            finally:
                armed.held -= 1
        if what == "late_request":
            session.dropped = armed
        else:
            armed.done += 1
        return what != "drop_request"

    async def _replies(self, session: Session, reader: asyncio.StreamReader) -> None:
        """Server to client; a dropped reply is read to its end, so that its statement took effect."""
        while chunk := await reader.read(CHUNK):
            session.traffic.answered(len(chunk))
            if session.dropped is None:
                session.client.write(chunk)
                await session.client.drain()
            elif chunk[-6:-1] == b"Z\0\0\0\x05":  # ReadyForQuery
                session.client.transport.abort()
                session.dropped.done += 1
                return


async def _read_startup(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """A message without a type: its code and its body. Raises OSError when it is none."""
    length, code = struct.unpack("!II", await reader.readexactly(8))
    if not 8 <= length <= LONGEST_STARTUP:
        raise ConnectionError("not a Postgres client")
    return code, await reader.readexactly(length - 8)


async def _read_password(reader: asyncio.StreamReader) -> str:
    kind, length = struct.unpack("!cI", await reader.readexactly(5))
    if kind != b"p" or length > LONGEST_STARTUP:
        raise LoginRefused("expected password response", "08P01")
    return (await reader.readexactly(length - 4)).rstrip(b"\0").decode("utf-8", "replace")


def _parameters(body: bytes) -> dict[str, str]:
    """The names and values of a StartupMessage."""
    texts = [text.decode("utf-8", "replace") for text in body.split(b"\0")]
    return {name: value for name, value in zip(texts[::2], texts[1::2], strict=False) if name}
