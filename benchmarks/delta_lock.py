"""What a lock on a Delta table costs: our own time a statement, and a race of many clients for one lock.

    python benchmarks/delta_lock.py [--rounds 20] [--clients 50] [--json FILE]

Alone: one client takes and releases a lock over HTTP on the fake SQL warehouse. Of each statement, the time
in the Delta engine (as the fake's log has it) is set apart; the rest is our own: client, HTTP, planning,
arbiter. Race: in each round the clients ask once for one lock, all at the same moment, with the lock store's
own back-off; the first to get it ends the round. The peer in the same table is the lock in Lakebase on a
real Postgres. Targets: our own p50 under 5 ms a statement; statements per acquisition under 3 times the
number of waiters.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lockproof.driver.api import LockInfo
from lockproof.driver.databricks import DatabricksClient, DatabricksDriver, DatabricksScope
from lockproof.driver.databricks_locks import DeltaBed
from lockproof.driver.errors import DriverError, Locked

OWN_TARGET_MS = 5.0
STATEMENTS_TARGET = 3.0


@dataclass(frozen=True)
class Spread:
    """Milliseconds, over `n` samples."""

    n: int
    p50: float
    p95: float

    @classmethod
    def of(cls, milliseconds: list[float]) -> Spread:
        cuts = statistics.quantiles(milliseconds, n=20)
        return cls(len(milliseconds), statistics.median(milliseconds), cuts[18])


def alone(scope: DatabricksScope, pairs: int) -> dict[str, Spread]:
    """Times of a statement and of lock and unlock, by one client without a rival."""
    client, bed = scope.client("alone"), scope.locks
    assert isinstance(bed, DeltaBed)
    client.unlock("default", client.lock("default", LockInfo.new("alone")))
    logged = bed.control.statements(contains=scope.lock_schema)
    locks: list[float] = []
    unlocks: list[float] = []
    for _ in range(pairs):
        started = time.perf_counter()
        lock_id = client.lock("default", LockInfo.new("alone"))
        taken = time.perf_counter()
        client.unlock("default", lock_id)
        locks.append(1000 * (taken - started))
        unlocks.append(1000 * (time.perf_counter() - taken))
    records = bed.control.statements(logged[-1]["i"], scope.lock_schema)
    engine = [1000 * record["engine_seconds"] for record in records]
    acquisitions = list(zip(records[0::3], records[1::3], locks, strict=True))
    own = [
        (took - 1000 * (claim["engine_seconds"] + read["engine_seconds"])) / 2
        for claim, read, took in acquisitions
    ]
    fake = [1000 * (record["total_seconds"] - record["engine_seconds"]) for record in records]
    client.close()
    return {
        "lock": Spread.of(locks),
        "unlock": Spread.of(unlocks),
        "engine, a statement": Spread.of(engine),
        "our own, a statement": Spread.of(own),
        "of it planner, arbiter": Spread.of(fake),
    }


@dataclass(frozen=True)
class Round:
    """One race: how long until somebody held the lock, and what all clients sent until all had an answer."""

    winner_ms: float
    all_ms: float
    statements: int
    errors: int


def race(scope: DatabricksScope, clients: list[DatabricksClient], counts: list[Any]) -> Round:
    """All clients ask once, let go at once; whoever got the lock gives it back afterwards."""
    start = threading.Barrier(len(clients))
    before = statements(scope, counts)
    granted: list[tuple[float, DatabricksClient, str]] = []
    errors: list[DriverError] = []

    def ask(client: DatabricksClient) -> tuple[float, float]:
        start.wait()
        began = time.perf_counter()
        try:
            lock_id = client.lock("default", LockInfo.new("racer"))
            granted.append((time.perf_counter(), client, lock_id))
        except Locked:
            pass  # the answer that all but one should get
        except DriverError as error:
            errors.append(error)
        return began, time.perf_counter()

    with ThreadPoolExecutor(len(clients)) as pool:
        spans = list(pool.map(ask, clients))
    sent = statements(scope, counts) - before
    began = min(begin for begin, _ in spans)
    won = [at for at, _, _ in granted]
    if len(won) != 1:
        raise SystemExit(f"{len(won)} clients hold the lock at once; {errors[:1]}")
    for _, client, lock_id in granted:
        client.unlock("default", lock_id)
    ended = max(end for _, end in spans)
    return Round(1000 * (won[0] - began), 1000 * (ended - began), sent, len(errors))


def statements(scope: DatabricksScope, counts: list[Any]) -> int:
    """How many statements the clients have sent to the lock store."""
    if isinstance(scope.locks, DeltaBed):
        return len(counts[0].texts)
    return sum(len(count.texts) for count in counts)


def races(driver: DatabricksDriver, number: int, rounds: int) -> list[Round]:
    """`rounds` races of `number` clients, with connections that are open already."""
    with driver.open_scope(f"race-{driver.variant}") as scope:
        clients = [scope.client(f"racer-{n}") for n in range(number)]
        counts = [scope.locks.counted(client) for client in clients]
        for client in clients:
            client.unlock("default", client.lock("default", LockInfo.new("racer")))
        found = [race(scope, clients, counts) for _ in range(rounds)]
        for client in clients:
            client.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=200, help="of lock and unlock by one client alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    options = parser.parse_args()
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs"
    with DatabricksDriver.provision({}) as provisioned:
        drivers = [
            DatabricksDriver({**provisioned, "variant": variant}) for variant in DatabricksDriver.variants
        ]
        (delta,) = (driver for driver in drivers if driver.variant == "delta")
        with delta.open_scope("alone") as scope:
            single = alone(scope, options.pairs)
        show_alone(single, machine)
        found = {driver.variant: races(driver, options.clients, options.rounds) for driver in drivers}
    show_races(found, options.clients)
    if options.json:
        document = {
            "machine": machine,
            "load": os.getloadavg()[0],
            "targets": {"own_ms": OWN_TARGET_MS, "statements_per_waiter": STATEMENTS_TARGET},
            "alone": {name: asdict(spread) for name, spread in single.items()},
            "races": {name: [asdict(item) for item in rounds] for name, rounds in found.items()},
        }
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


def show_alone(found: dict[str, Spread], machine: str) -> None:
    """Prints what one client alone needs."""
    print(f"one client alone, ms ({machine}, load {os.getloadavg()[0]:.1f})")
    print(f"{'':24}{'n':>6}{'p50':>9}{'p95':>9}")
    for name, spread in found.items():
        print(f"{name:24}{spread.n:6}{spread.p50:9.2f}{spread.p95:9.2f}")
    own = found["our own, a statement"].p50
    met = "met" if own < OWN_TARGET_MS else "MISSED"
    print(f"our own p50 {met} (under {OWN_TARGET_MS:g} ms)\n")


def show_races(found: dict[str, list[Round]], clients: int) -> None:
    """Prints what a race of many needs, by lock store."""
    limit = STATEMENTS_TARGET * (clients - 1)
    print(f"{clients} clients race for one lock, medians of {len(next(iter(found.values())))} rounds")
    print(f"{'':12}{'statements':>12}{'most':>8}{'winner ms':>12}{'p95':>9}{'all ms':>10}{'errors':>8}")
    for name, rounds in found.items():
        sent = [item.statements for item in rounds]
        winner = Spread.of([item.winner_ms for item in rounds])
        middle = statistics.median(item.all_ms for item in rounds)
        errors = sum(item.errors for item in rounds)
        met = "met" if max(sent) < limit else "MISSED"
        print(
            f"{name:12}{statistics.median(sent):12.0f}{max(sent):8}{winner.p50:12.1f}{winner.p95:9.1f}"
            f"{middle:10.1f}{errors:8}  {met} (under {limit:g} statements an acquisition)"
        )


if __name__ == "__main__":
    main()
