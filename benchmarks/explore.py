"""Schedules per second under the controlled scheduler, against the same program in threads that run free.

    python benchmarks/explore.py [--rounds 5] [--seconds 1] [--json FILE]

Two clients of the memory driver ask for the lock, read, write and release, twice. In each round the explorer
runs its schedules (drawn, and every one within two preemptions), and free threads run the same program on the
same driver, recorded and judged alike, let go at once. A ratio is the median of the rounds' ratios. What the
schedules are good for is counted too: how many runs it takes until a lock that looks before it sets is
caught. Target: 300 schedules a second.

Then the same of the reference backend with Lakebase locks on a real Postgres, every request and statement a
step: two clients take and release the lock. Beside it, in the same rounds, the same calls one client after
the other without a scheduler. Target: 50 schedules a second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from lockproof.checkers import Verdict, check
from lockproof.driver import DriverError, Locked, LockInfo
from lockproof.driver.databricks import DatabricksDriver
from lockproof.driver.memory import MemoryDriver
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.explore import (
    DriverSubject,
    Exhaustive,
    Program,
    RandomWalk,
    Shared,
    Subject,
    explore,
)
from lockproof.fakes.saboteurs.timing_locks import LooksThenTakes
from lockproof.history import HistoryWriter

TARGET = 300
LAKEBASE_TARGET = 50
CATCHING = 4000  # free runs after which a race counts as not caught
CLIENTS = ("alice", "bob")


def cycle(client: RecordedClient, shared: Shared) -> None:
    for n in range(2):
        with suppress(Locked):
            lock_id = client.lock("default", LockInfo.new(client.who))
            client.get("default")
            client.put("default", f"{client.who} {n}".encode(), lock_id=lock_id)
            client.unlock("default", lock_id)


PROGRAM = Program("cycle", "two clients write under the lock", dict.fromkeys(CLIENTS, cycle))


def free(driver: MemoryDriver, pool: ThreadPoolExecutor) -> Verdict:
    """One run of the program in threads that nobody controls."""
    history = HistoryWriter({})
    start = threading.Barrier(len(CLIENTS))

    def go(client: RecordedClient) -> None:
        start.wait()
        with suppress(DriverError):
            cycle(client, Shared())

    with RecordedScope(driver.open_scope("benchmark"), history, 30) as scope:
        list(pool.map(go, [scope.client(who) for who in CLIENTS]))
    return check(history.history())


def rates(seconds: float, pool: ThreadPoolExecutor) -> dict[str, float]:
    """Of each way, runs per second."""
    subject = DriverSubject(MemoryDriver({}))

    def all_of_them() -> int:
        found = explore(PROGRAM, subject, Exhaustive(2))
        return found.schedules + found.pruned

    return {
        "drawn": per_second(lambda: explore(PROGRAM, subject, RandomWalk(1), limit=50).schedules, seconds),
        "exhaustive": per_second(all_of_them, seconds),
        "free": per_second(lambda: free(MemoryDriver({}), pool).status == "valid", seconds),
    }


def hold(client: RecordedClient, shared: Shared) -> None:
    client.unlock("default", client.lock("default", LockInfo.new(client.who)))


HOLDS = Program("hold", "two clients take and release the lock", dict.fromkeys(CLIENTS, hold))


def lakebase_rates(subject: Subject, seconds: float) -> dict[str, float]:
    """As `rates`, of the reference backend; `alone`: the same calls, one client after the other."""

    def alone() -> int:
        history = HistoryWriter({})
        with RecordedScope(subject.open(0), history, 30) as scope:
            for who in CLIENTS:
                hold(scope.client(who), Shared())
        return int(check(history.history()).status == "valid")

    def all_of_them() -> int:
        found = explore(HOLDS, subject, Exhaustive(2))
        return found.schedules + found.pruned

    return {
        "drawn": per_second(lambda: explore(HOLDS, subject, RandomWalk(1), limit=50).schedules, seconds),
        "exhaustive": per_second(all_of_them, seconds),
        "alone": per_second(alone, seconds),
    }


def lakebase(rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Prints the table of the reference backend, and returns it."""
    with DatabricksDriver.provision({}) as provisioned:
        driver = DatabricksDriver({**provisioned, "variant": "lakebase"})
        with driver.explored() as subject:
            measured = [lakebase_rates(subject, seconds) for _ in range(rounds)]
    ways = ("drawn", "exhaustive", "alone")
    rate = {way: statistics.median(found[way] for found in measured) for way in ways}
    noise = {way: statistics.median(abs(found[way] - rate[way]) for found in measured) for way in ways}
    ratio = {way: statistics.median(found[way] / found["alone"] for found in measured) for way in ways}
    print(f"{'Lakebase lock':<16}{'runs/s':>8}{'±':>6}{'of alone':>9}")
    for way in ways:
        print(f"{way:<16}{rate[way]:>8.0f}{noise[way]:>6.0f}{ratio[way]:>9.2f}")
    for way in ways[:2]:
        met = "met" if rate[way] >= LAKEBASE_TARGET else "MISSED"
        print(f"{way}: target {LAKEBASE_TARGET} schedules/s {met}")
    return {"runs_per_second": rate, "of_alone": ratio}


def per_second(runs: Callable[[], int], seconds: float) -> float:
    """How many runs a second, where each call makes as many as it returns."""
    made, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        made += runs()
    return made / (time.perf_counter() - start)


def caught(pool: ThreadPoolExecutor) -> dict[str, int | None]:
    """After how many runs each way catches the lock that looks before it sets."""
    driver = LooksThenTakes.driver({})
    explored = explore(PROGRAM, DriverSubject(driver), Exhaustive(2), shrinking=0)
    drawn = explore(PROGRAM, DriverSubject(driver), RandomWalk(1), shrinking=0)
    freely = (n for n in range(1, CATCHING + 1) if free(driver, pool).status == "violated")
    return {"exhaustive": explored.schedules, "drawn": drawn.schedules, "free": next(freely, None)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        rounds = [rates(options.seconds, pool) for _ in range(options.rounds)]
        until = caught(pool)
    ways = ("drawn", "exhaustive", "free")
    rate = {way: statistics.median(found[way] for found in rounds) for way in ways}
    noise = {way: statistics.median(abs(found[way] - rate[way]) for found in rounds) for way in ways}
    ratio = {way: statistics.median(found[way] / found["free"] for found in rounds) for way in ways}
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(f"{machine}, load {load:.1f}; ± is the median deviation from the median of {options.rounds} rounds")
    print(f"{'memory driver':<16}{'runs/s':>8}{'±':>6}{'of free':>9}{'runs to catch':>15}")
    for way in ways:
        runs = until[way] or f"> {CATCHING}"
        print(f"{way:<16}{rate[way]:>8.0f}{noise[way]:>6.0f}{ratio[way]:>9.1f}{runs:>15}")
    for way in ways[:2]:
        print(f"{way}: target {TARGET} schedules/s {'met' if rate[way] >= TARGET else 'MISSED'}")
    on_lakebase = lakebase(options.rounds, options.seconds)
    if options.json:
        found = {"load": load, "runs_per_second": rate, "of_free": ratio, "runs_to_catch": until}
        found["lakebase"] = on_lakebase
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
