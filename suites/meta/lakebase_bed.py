"""Lakebase with everything real but Databricks: login proxy, Postgres, and the backend's own client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from lockproof.fakes.databricks import FakeWorkspace
from lockproof.fakes.databricks.clock import VirtualClock
from lockproof.fakes.databricks.inprocess import activate
from lockproof.fakes.databricks.lakebase import BRANCH, DATABASE, ENDPOINT, Endpoint, Lakebase
from lockproof.fakes.databricks.lakebase_service import PROJECT, serve_lakebase
from lockproof.fakes.databricks.login_proxy import LoginProxy
from lockproof.provision.postgres import PostgresServer
from tofu_databricks.backend import Backend
from tofu_databricks.config import Config
from tofu_databricks.locks import LockStore
from tofu_databricks.locks.lakebase import LakebaseLocks

PRIMARY = f"projects/{PROJECT}/branches/{BRANCH}/endpoints/{ENDPOINT}"
KEY = "/Volumes/main/default/v/terraform.tfstate"
TABLE = "tofu_databricks.state_locks"


@dataclass
class FollowingClock:
    """The backend's clock on the fake's: waiting moves both forward at once, and is written down."""

    virtual: VirtualClock
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.virtual.time()

    def monotonic(self) -> float:
        return self.virtual.time()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.virtual.advance(seconds)


@dataclass
class LakebaseBed:
    """One fake workspace with Lakebase, and lock stores that reach it as users' do."""

    workspace: FakeWorkspace
    proxy: LoginProxy
    stack: ExitStack

    @property
    def model(self) -> Lakebase:
        return self.proxy.lakebase

    @property
    def endpoint(self) -> Endpoint:
        return self.model.endpoint_of(PRIMARY)

    @property
    def user(self) -> str:
        return self.workspace.admin.name

    def token(self, seconds: float = 3600.0) -> str:
        """A login token of the administrator."""
        return self.model.mint(self.workspace.admin, PRIMARY, seconds=seconds).token

    def connect(self, password: str | None = None, **changes: Any) -> psycopg.Connection[Any]:
        """A plain client's connection, by default with a fresh token."""
        keywords: dict[str, Any] = {
            "host": self.model.host,
            "port": self.model.port,
            "user": self.user,
            "password": password or self.token(),
            "dbname": DATABASE,
            "sslmode": "require",
            "autocommit": True,
        }
        return psycopg.connect(**{**keywords, **changes})

    def backend(self, **settings: Any) -> Backend:
        """The reference backend as one process configures it; closed with the bed."""
        place = {"lakebase_project": PROJECT} if "lakebase_instance" not in settings else {}
        options: dict[str, Any] = {
            "host": self.workspace.url,
            "token": self.workspace.token,
            "catalog": "main",
            "schema": "default",
            "volume": "v",
            "key": "terraform.tfstate",
            "lock_backend": "lakebase",
            "lakebase_port": self.model.port,
            **place,
            **settings,
        }
        made = Backend(Config.load(options, environ={}), clock=FollowingClock(self.workspace.clock))
        return self.stack.enter_context(made)

    def store(self, **settings: Any) -> LockStore:
        """The lock store of one more process."""
        return self.backend(**settings).locks

    def asked(self, path: str) -> int:
        """How often the workspace was asked for a path (a shell pattern)."""
        return len(self.workspace.log.select(path=path))


@contextmanager
def lakebase_bed(server: PostgresServer, **options: Any) -> Iterator[LakebaseBed]:
    """A bed on a real server, reached without sockets for REST and by TCP for Postgres."""
    workspace = FakeWorkspace()
    workspace.create_volume("main.default.v")
    with (
        activate(workspace),
        serve_lakebase(workspace, server.keywords(), **options) as proxy,
        ExitStack() as stack,
    ):
        yield LakebaseBed(workspace, proxy, stack)


def eventually(check: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Waits until `check` holds. Raises `AssertionError` with `what` when it never does."""
    ticker = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if check():
            return
        ticker.wait(0.01)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


def rows(bed: LakebaseBed) -> list[tuple[Any, ...]]:
    """Key and id of every lock in the table."""
    with bed.connect() as connection:
        return connection.execute(f"SELECT key, id FROM {TABLE} ORDER BY key".encode()).fetchall()


def slept(store: LockStore) -> list[float]:
    """How long the store waited, each time."""
    assert isinstance(store, LakebaseLocks)
    assert isinstance(store.clock, FollowingClock)
    return store.clock.slept
