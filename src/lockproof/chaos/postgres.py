"""Nemeses of the family `postgres`: what happens to the server that keeps the locks.

All of them strike a Postgres of the suite's own (`PostgresArena`), never the user's.
"""

from __future__ import annotations

import random
import threading
from abc import abstractmethod
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
from psycopg import sql

from lockproof.chaos.nemesis import Nemesis
from lockproof.chaos.postgres_lakebase import LAKEBASE_NEMESES
from lockproof.provision.cluster import How, Node, until

if TYPE_CHECKING:
    from lockproof.chaos.arena import Arena
    from lockproof.chaos.postgres_own import OwnPostgres

CANCELED = "57014"
ENDED_BY_ADMINISTRATOR = "57P01"
ENDED_AS_IDLE = "57P05"
READ_ONLY = "25006"
NO_MORE_CONNECTIONS = "53300"
"""SQLSTATEs: postgresql.org/docs/current/errcodes-appendix.html."""
OTHERS = "lockproof others"
USER_TABLES = (
    "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'"
)


class OfPostgres(Nemesis):
    """Strikes the Postgres of the arena."""

    destructive = True

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.hits = 0

    def missing(self, arena: Arena) -> str:
        from lockproof.chaos.postgres_own import PostgresArena

        if not isinstance(arena, PostgresArena):
            return "no Postgres of the suite's own is behind this backend"
        return ""

    def strike(self, arena: Arena, rng: random.Random) -> None:
        own(arena).make_way()  # a server can be hurt in some ways only one after the other
        self.hurt(own(arena))

    def lift(self, arena: Arena) -> None:
        own(arena).make_way()
        self.mend(own(arena))

    @abstractmethod
    def hurt(self, postgres: OwnPostgres) -> None:
        """Does what the fault is."""

    def mend(self, postgres: OwnPostgres) -> None:
        """Undoes it, on a server that runs and lets us in."""

    def struck(self) -> int:
        return self.hits


class Terminate(OfPostgres):
    """`pg_terminate_backend` on the session of every client."""

    name = "postgres.terminate"

    def hurt(self, postgres: OwnPostgres) -> None:
        self.hits = postgres.cluster.primary.end_sessions()


class Down(OfPostgres):
    """The server ends as `how` says, with every session, until it is healed. Hits sessions."""

    how: ClassVar[How]

    def hurt(self, postgres: OwnPostgres) -> None:
        self.hits = postgres.cluster.primary.sessions()
        postgres.cluster.primary.stop(self.how)


class RestartFast(Down):
    """`pg_ctl stop -m fast`: open transactions are rolled back, and the server shuts down in order."""

    name = "postgres.restart-fast"
    how = "fast"


class RestartImmediate(Down):
    """`pg_ctl stop -m immediate`: the server ends at once and recovers from its log."""

    name = "postgres.restart-immediate"
    how = "immediate"


class Kill(Down):
    """SIGKILL of the postmaster; what is left of its sessions ends by itself. It recovers from its log."""

    name = "postgres.kill"
    how = "kill"


class FailOver(OfPostgres):
    """The primary is killed and never comes back; a standby that had every acknowledged commit on its disk
    takes its place. Hits sessions."""

    name = "postgres.failover-sync"

    def hurt(self, postgres: OwnPostgres) -> None:
        standby = postgres.cluster.add_standby(synchronous=True)
        self.hits = postgres.cluster.primary.sessions()
        postgres.fail_over(standby)


class LosingFailOver(OfPostgres):
    """A standby follows the primary without being waited for, and from now on receives nothing; healing is
    its promotion, by which what was committed meanwhile is lost. A negative control: no lock in such a
    database can hold. Hits sessions."""

    name = "postgres.failover-async"
    synchronous: ClassVar[bool] = False
    standby: Node

    def hurt(self, postgres: OwnPostgres) -> None:
        self.standby = postgres.cluster.add_standby(synchronous=self.synchronous)
        postgres.cluster.cut_off(self.standby)

    def mend(self, postgres: OwnPostgres) -> None:
        self.hits = postgres.cluster.primary.sessions()
        postgres.fail_over(self.standby)


class UnconfirmedFailOver(LosingFailOver):
    """The same with a standby that is waited for: nothing that it has not got may be acknowledged."""

    name = "postgres.failover-unconfirmed"
    synchronous = True


class ReplicaLags(OfPostgres):
    """The replica that the backend reads from stands still. Hits when it lacks what the primary has."""

    name = "postgres.replica-lags"

    def missing(self, arena: Arena) -> str:
        return super().missing(arena) or ("" if own(arena).replica else "the backend reads from no replica")

    def strike(self, arena: Arena, rng: random.Random) -> None:
        self.primary = own(arena).cluster.primary
        super().strike(arena, rng)

    def hurt(self, postgres: OwnPostgres) -> None:
        self.replica = replica_of(postgres)
        self.replica.rows("SELECT pg_wal_replay_pause()")

    def mend(self, postgres: OwnPostgres) -> None:
        if self.replica is not postgres.replica:  # a fail-over has put another in its place, which streams
            return
        self.hits = self.lag()
        self.replica.rows("SELECT pg_wal_replay_resume()")
        until(lambda: self.lag() == 0, "the replica does not catch up")

    def struck(self) -> int:
        return self.hits or self.lag()

    def lag(self) -> int:
        """How many of the primary's last positions the replica has not replayed: one or none."""
        ((now,),) = self.primary.rows("SELECT pg_current_wal_flush_lsn()::text")
        shown = self.replica.rows("SELECT (pg_last_wal_replay_lsn() < %(now)s::pg_lsn)::int", {"now": now})
        return int(shown[0][0])


class Refusing(OfPostgres):
    """The server answers with errors of the kind `sqlstate` until it is healed. Hits what it refused so."""

    sqlstate: ClassVar[str]
    node: Node
    begin = 0

    def strike(self, arena: Arena, rng: random.Random) -> None:
        self.node = own(arena).cluster.primary
        self.begin = self.node.logged()
        super().strike(arena, rng)

    def struck(self) -> int:
        return self.node.errors(self.sqlstate, since=self.begin)

    def await_hit(self) -> None:
        """Returns once something was refused. Raises `ProvisionError` when nothing is."""
        until(lambda: self.struck() > 0, f"{self.name} hits nothing")


class ReadOnly(Refusing):
    """`default_transaction_read_only`: as on a standby, or a server that is out of space. New sessions have
    it from their start, so those that there are end."""

    name = "postgres.read-only"
    sqlstate = READ_ONLY

    def hurt(self, postgres: OwnPostgres) -> None:
        postgres.cluster.primary.change(default_transaction_read_only="on")
        postgres.cluster.primary.end_sessions()

    def mend(self, postgres: OwnPostgres) -> None:
        postgres.cluster.primary.change(default_transaction_read_only=None)
        postgres.cluster.primary.end_sessions()


class IdleTimeout(Refusing):
    """`idle_session_timeout`: the server ends a session in which nothing is asked for a moment. A session
    learns of it with the next statement that it is asked."""

    name = "postgres.idle-timeout"
    sqlstate = ENDED_AS_IDLE

    def hurt(self, postgres: OwnPostgres) -> None:
        postgres.cluster.primary.change(idle_session_timeout="20ms")

    def mend(self, postgres: OwnPostgres) -> None:
        postgres.cluster.primary.change(idle_session_timeout=None)


class NoConnections(Refusing):
    """`max_connections` are in use, by others; so the sessions that there were have ended before."""

    name = "postgres.no-connections"
    sqlstate = NO_MORE_CONNECTIONS

    def hurt(self, postgres: OwnPostgres) -> None:
        server = postgres.cluster.primary.server
        postgres.cluster.primary.end_sessions()
        first = server.connect()
        postgres.others.callback(first.close)
        ((most,),) = first.execute("SELECT current_setting('max_connections')::int").fetchall()
        for _ in range(most):
            try:
                other = psycopg.connect(**server.keywords(), application_name=OTHERS)
                postgres.others.callback(other.close)
            except psycopg.OperationalError:
                break
        self.begin = self.node.logged()  # the last of our own was refused, too

    def mend(self, postgres: OwnPostgres) -> None:
        until(lambda: postgres.cluster.primary.sessions(OTHERS) == 0, "the connections are not given back")


class StatementTimeout(Refusing):
    """Every statement on a table of a client waits, and is cancelled as `statement_timeout` would do."""

    name = "postgres.statement-timeout"
    sqlstate = CANCELED

    def hurt(self, postgres: OwnPostgres) -> None:
        self.stop = threading.Event()
        self.locks = ExitStack()
        server = postgres.cluster.primary.server
        admin = server.connect()
        self.locks.callback(admin.close)
        for (database,) in admin.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall():
            holder = psycopg.connect(server.dsn_of(database), options="-c lock_timeout=5s")
            self.locks.callback(holder.close)
            for schema, table in holder.execute(USER_TABLES).fetchall():
                with suppress(psycopg.Error), holder.transaction():  # others may sit on it, too
                    holder.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(schema, table)))
        self.canceller = threading.Thread(target=self._cancel, args=(admin,), name="statement timeout")
        self.canceller.start()

    def mend(self, postgres: OwnPostgres) -> None:
        self.stop.set()
        self.canceller.join()
        self.locks.close()

    def _cancel(self, admin: psycopg.Connection[Any]) -> None:
        with suppress(psycopg.Error):  # the server ended meanwhile, and nobody waits any more
            while not self.stop.wait(0.01):
                admin.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                    " WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'"
                )


def own(arena: Arena) -> OwnPostgres:
    """The Postgres behind an arena that has one of the suite's own."""
    from lockproof.chaos.postgres_own import PostgresArena

    assert isinstance(arena, PostgresArena)
    return arena.postgres


def replica_of(postgres: OwnPostgres) -> Node:
    """The replica that the backend was told of."""
    assert postgres.replica is not None
    return postgres.replica


NEMESES: tuple[type[Nemesis], ...] = (
    Terminate,
    RestartFast,
    RestartImmediate,
    Kill,
    FailOver,
    LosingFailOver,
    UnconfirmedFailOver,
    ReplicaLags,
    ReadOnly,
    IdleTimeout,
    NoConnections,
    StatementTimeout,
    *LAKEBASE_NEMESES,
)
