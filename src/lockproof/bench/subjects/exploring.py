"""Schedules a second under the controlled scheduler, beside the same program without it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from lockproof.bench.benchmark import AtLeast, Benchmark, Case, Lane, counted
from lockproof.bench.ratio import Aim
from lockproof.bench.subjects.locks import POSTGRES
from lockproof.checkers import Verdict, check
from lockproof.driver import DriverError, Locked, LockInfo
from lockproof.driver.databricks import DatabricksDriver
from lockproof.driver.memory import MemoryDriver
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.explore import DriverSubject, Exhaustive, Program, RandomWalk, Shared, Subject, explore
from lockproof.fakes.saboteurs.timing_locks import LooksThenTakes
from lockproof.history import HistoryWriter

CLIENTS = ("alice", "bob")
UNIT = "schedules/s"
DEADLINE_S = 30
BLOCK = 50  # drawn schedules of one exploration


def cycle(client: RecordedClient, shared: Shared) -> None:
    for n in range(2):
        with suppress(Locked):
            lock_id = client.lock("default", LockInfo.new(client.who))
            client.get("default")
            client.put("default", f"{client.who} {n}".encode(), lock_id=lock_id)
            client.unlock("default", lock_id)


def hold(client: RecordedClient, shared: Shared) -> None:
    client.unlock("default", client.lock("default", LockInfo.new(client.who)))


CYCLES = Program("cycle", "two clients write under the lock", dict.fromkeys(CLIENTS, cycle))
HOLDS = Program("hold", "two clients take and release the lock", dict.fromkeys(CLIENTS, hold))


def free(driver: MemoryDriver, pool: ThreadPoolExecutor) -> Verdict:
    """One run of `CYCLES` in threads that nobody controls, recorded and judged alike."""
    history = HistoryWriter({})
    start = threading.Barrier(len(CLIENTS))

    def go(client: RecordedClient) -> None:
        start.wait()
        with suppress(DriverError):
            cycle(client, Shared())

    with RecordedScope(driver.open_scope("benchmark"), history, DEADLINE_S) as scope:
        list(pool.map(go, [scope.client(who) for who in CLIENTS]))
    return check(history.history())


def ways(program: Program, subject: Subject) -> dict[str, Callable[[], float]]:
    """The two ways of exploring; each call returns how many schedules it ran or proved equal to another."""

    def exhaustive() -> float:
        found = explore(program, subject, Exhaustive(2))
        return found.schedules + found.pruned

    return {
        "every one with two preemptions": exhaustive,
        "drawn": lambda: explore(program, subject, RandomWalk(1), limit=BLOCK).schedules,
    }


def in_memory(sizes: Sequence[int]) -> Iterator[Case]:
    """On the memory driver; then after how many runs a lock that looks before it sets is caught."""
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        peer = Lane(
            "free threads",
            counted(lambda: free(MemoryDriver({}), pool).status == "valid"),
            Aim("subject", at_least=300),
        )
        for way, runs in ways(CYCLES, DriverSubject(MemoryDriver({}))).items():
            yield Case(way, Lane("explored", counted(runs)), [peer], UNIT, "higher")
        for limit in sizes:
            driver = LooksThenTakes.driver({})

            def explored(_: float, driver: MemoryDriver = driver) -> float:
                return explore(CYCLES, DriverSubject(driver), Exhaustive(2), shrinking=0).schedules

            def freely(_: float, driver: MemoryDriver = driver, limit: int = limit) -> float:
                runs = range(1, limit + 1)
                caught = (n for n in runs if free(driver, pool).status == "violated")
                return next(caught, None) or AtLeast(limit)

            yield Case(
                "runs until a race is caught",
                Lane("explored", explored),
                [Lane("free threads", freely)],
                "runs",
            )


def on_lakebase(_: Sequence[int]) -> Iterator[Case]:
    """Of the reference backend every request and statement is a step, on a real Postgres."""
    with DatabricksDriver.provision({}) as provisioned:
        driver = DatabricksDriver({**provisioned, "variant": "lakebase"})
        with driver.explored() as subject:

            def alone() -> float:
                history = HistoryWriter({})
                with subject.open(0) as scope, ExitStack() as stack:
                    for who in CLIENTS:
                        client = RecordedClient(scope.client(who), who, history, DEADLINE_S)
                        stack.callback(client.close)
                        hold(client, Shared())
                return check(history.history()).status == "valid"

            peer = Lane("one after the other", counted(alone), Aim("subject", at_least=50))
            for way, runs in ways(HOLDS, subject).items():
                yield Case(way, Lane("explored", counted(runs)), [peer], UNIT, "higher")


EXPLORE_MEMORY = Benchmark(
    "explore-memory",
    "Schedules of two clients that write under the lock of the memory driver, recorded and judged.",
    "the controlled scheduler",
    "threads that run free",
    UNIT,
    in_memory,
    varied="free runs after which a race counts as not caught",
    sizes=(1_000,),
    quick=(300,),
)
EXPLORE_LAKEBASE = Benchmark(
    "explore-lakebase",
    "Schedules of two clients that take and release the Lakebase lock on a real Postgres.",
    "the controlled scheduler, a step for each request and statement",
    "the same calls, one client after the other, without a scheduler",
    UNIT,
    on_lakebase,
    (POSTGRES,),
    packages=("psycopg",),
)
