"""The backend under test on a Postgres of the suite's own, which may be hurt, with a link in between.

A backend that declares `service.postgres` is provisioned a second time, by the same factory, with the DSN of
a database of ours: so nothing that is done to that server reaches the user's, or another test.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import psycopg

from lockproof.chaos.arena import Arena
from lockproof.chaos.proxy import FaultProxy
from lockproof.driver.api import Address, Capabilities, Driver
from lockproof.driver.recorder import RecordedScope
from lockproof.history.writer import HistoryWriter
from lockproof.provision.cluster import How, Node, PostgresCluster
from lockproof.provision.postgres import PostgresServer, ProvisionError
from lockproof.spec.outcome import Unknown

if TYPE_CHECKING:
    from lockproof.chaos.arena import BackendUnderTest
    from lockproof.chaos.proxy import Link
    from lockproof.driver.registry import BackendSpec

REPLICA = "service.postgres.replica"


@dataclass
class OwnPostgres:
    """A `cluster`, the `link` by which the backend reaches its primary, and the `backend` that is on it.

    `replica` is the standby that a backend which reads from one reaches by `replica_link`.
    """

    cluster: PostgresCluster
    link: Link
    backend: OnOwnPostgres
    replica: Node | None = None
    replica_link: Link | None = None
    others: ExitStack = field(default_factory=ExitStack)
    """What uses connections up, until it is closed."""

    def fail_over(self, standby: Node, how: How = "kill") -> None:
        """The primary ends for good and `standby` takes its place; the links lead there from now on."""
        self.cluster.fail_over(standby, how)
        self.follow()

    def follow(self) -> None:
        """The links lead to the primary and to a replica of it, also after a fail-over that another backend's
        test has made. A replica of the lost primary may be ahead of the new one: it is made anew."""
        primary = address_of(self.cluster.primary.server)
        if self.link.upstream != primary:
            self.link.redirect(primary)
        if self.replica and self.replica_link and self.replica.source is not self.cluster.primary:
            self.cluster.remove(self.replica)
            self.replica = self.cluster.add_standby(synchronous=False)
            self.replica_link.redirect(address_of(self.replica.server))

    def make_way(self) -> Node:
        """The primary, ready to be steered: it runs, and lets us in."""
        self.others.close()
        if self.cluster.primary.stopped:
            self.cluster.primary.start()
        return self.cluster.primary

    def require_healthy(self) -> None:
        """Raises `Unknown` unless the primary takes writes."""
        try:
            with self.cluster.primary.server.connect() as connection:
                found = connection.execute("SHOW transaction_read_only").fetchall()
        except (ProvisionError, psycopg.Error) as error:
            raise Unknown(f"the Postgres of the suite's own does not answer: {error}") from error
        if found != [("off",)]:
            raise Unknown("the Postgres of the suite's own takes no writes")


@dataclass(frozen=True)
class OnOwnPostgres:
    """The backend under test, made a second time by `spec`; what an `Arena` asks for."""

    spec: BackendSpec
    capabilities: Capabilities
    target: str
    timeout: float
    faults: Sequence[str] = ()
    allow_destructive: bool = False

    @property
    def connect(self) -> Callable[[], Driver]:
        """Makes a driver in any process."""
        return self.spec.connect

    @cached_property
    def driver(self) -> Driver:
        """The driver of this process, made when first asked for."""
        return self.spec.connect()


class PostgresArena(Arena):
    """An arena on a Postgres of the suite's own: what nemeses of the family `postgres` need."""

    def __init__(
        self, postgres: OwnPostgres, scope: RecordedScope, history: HistoryWriter, rng: random.Random
    ) -> None:
        super().__init__(postgres.backend, scope, history, rng)
        self.postgres = postgres

    def check_health(self) -> None:
        self.postgres.require_healthy()
        try:
            super().check_health()
        except Unknown:  # the observer's own session was ended by an earlier fault, and it learns of it now
            super().check_health()


@contextmanager
def own_postgres(
    backend: BackendUnderTest,
    spec: BackendSpec,
    cluster: PostgresCluster,
    learn: Callable[[Mapping[str, str]], object],
    behind: Callable[[PostgresServer], AbstractContextManager[PostgresServer]] = nullcontext,
) -> Iterator[OwnPostgres]:
    """The backend that `spec` makes, on a new database of `cluster`; `learn` is told the secrets of it.

    `behind` may put something before the server, such as a pooler: it gets the server as the link reaches it,
    and yields what the backend is given instead.
    """
    name = f"lockproof_{uuid.uuid4().hex[:12]}"
    cluster.primary.server.create_database(name)
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy())
        primary = cluster.primary.server
        link = proxy.stand_before(address_of(primary), "postgres", name="postgres")
        reached = stack.enter_context(behind(replace(primary, port=link.address.port)))
        options = {"postgres_dsn": reached.dsn_of(name)}
        replica, replica_link = None, None
        if REPLICA in backend.capabilities:
            replica = cluster.add_standby(synchronous=False)
            replica_link = proxy.stand_before(address_of(replica.server), "postgres", name="replica")
            told = replace(replica.server, port=replica_link.address.port)
            options["postgres_replica_dsn"] = told.dsn_of(name)
        learn(options)
        given = spec.with_options(options)
        added = stack.enter_context(given.provision())
        learn(added)
        spec = given.with_options(added)
        made = OnOwnPostgres(
            spec,
            backend.capabilities,
            backend.target,
            backend.timeout,
            backend.faults,
            backend.allow_destructive,
        )
        postgres = OwnPostgres(cluster, link, made, replica, replica_link)
        stack.callback(postgres.follow)  # what was provisioned is taken away over the link
        yield postgres


@contextmanager
def postgres_arena(
    postgres: OwnPostgres, history: HistoryWriter, rng: random.Random
) -> Iterator[PostgresArena]:
    """A fresh scope on that backend, as faults are injected into it."""
    postgres.follow()
    name = f"lp-{uuid.uuid4().hex[:12]}"
    backend = postgres.backend
    opened = RecordedScope(backend.driver.open_scope(name), history, backend.timeout, name)
    with opened as scope, PostgresArena(postgres, scope, history, rng) as arena:
        yield arena


def address_of(server: PostgresServer) -> Address:
    """Where a server of ours listens; it speaks no TLS."""
    return Address(server.host, server.port)
