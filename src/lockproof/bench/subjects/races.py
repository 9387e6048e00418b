"""Many clients race for one lock: statements and time to the winner, by lock store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from lockproof.bench.benchmark import Benchmark, Broken, Case, Lane
from lockproof.bench.ratio import Aim
from lockproof.bench.subjects.locks import POSTGRES
from lockproof.driver.api import LockInfo
from lockproof.driver.databricks import DatabricksDriver
from lockproof.driver.databricks_locks import DeltaBed
from lockproof.driver.errors import DriverError, Locked

A_WAITER = 3  # statements of one acquisition, for each client that waits


@dataclass(frozen=True)
class Round:
    """One race: how long until somebody held the lock, and what all sent until all had an answer."""

    winner_ms: float
    statements: int


class Race:
    """So many clients with open connections, which ask for one lock at the same moment."""

    def __init__(self, stack: ExitStack, driver: DatabricksDriver, clients: int) -> None:
        self.scope = stack.enter_context(driver.open_scope(f"bench-race-{driver.variant}-{clients}"))
        self.clients = [self.scope.client(f"racer-{n}") for n in range(clients)]
        self.counts = [self.scope.locks.counted(client) for client in self.clients]
        for client in self.clients:
            stack.callback(client.close)
            client.unlock("default", client.lock("default", LockInfo.new("racer")))

    def sent(self) -> int:
        """How many statements the clients have sent to the lock store."""
        shared = isinstance(self.scope.locks, DeltaBed)  # one log, which every count reads as a whole
        counts = self.counts[:1] if shared else self.counts
        return sum(len(count.texts) for count in counts)

    def run(self) -> Round:
        """All ask once and let go at once; the winner gives the lock back. Raises `Broken` unless one won."""
        start = threading.Barrier(len(self.clients))
        before = self.sent()

        def ask(at: int) -> tuple[float, float | None, str]:
            start.wait()
            began = time.perf_counter()
            try:
                lock_id = self.clients[at].lock("default", LockInfo.new("racer"))
            except Locked:
                return began, None, ""  # the answer that all but one should get
            except DriverError as error:
                return began, None, "" if error.definite else error.message
            return began, time.perf_counter(), lock_id

        with ThreadPoolExecutor(len(self.clients)) as pool:
            asked = list(pool.map(ask, range(len(self.clients))))
        sent = self.sent() - before
        won = [(at, ended, lock_id) for at, (_, ended, lock_id) in enumerate(asked) if ended is not None]
        if len(won) != 1:
            raise Broken(f"{len(won)} clients hold the lock at once")
        ((at, ended, lock_id),) = won
        self.clients[at].unlock("default", lock_id)
        return Round(1000 * (ended - min(began for began, _, _ in asked)), sent)

    def measuring(self, what: Callable[[Round], float]) -> Callable[[float], float]:
        """A sample is one race, whatever the seconds."""
        return lambda _: what(self.run())


def races(sizes: Sequence[int]) -> Iterator[Case]:
    """Both measures, of each lock store beside Lakebase."""
    with DatabricksDriver.provision({}) as provisioned:
        for size in sizes:
            with ExitStack() as stack:
                race = {
                    variant: Race(stack, DatabricksDriver({**provisioned, "variant": variant}), size)
                    for variant in DatabricksDriver.variants
                }
                aim = Aim("subject", under=A_WAITER * (size - 1))
                for variant in ("delta", "delta-direct"):
                    yield Case(
                        f"{size} clients, statements",
                        Lane(variant, race[variant].measuring(lambda found: found.statements)),
                        [Lane("lakebase", race["lakebase"].measuring(lambda found: found.statements), aim)],
                        "statements",
                    )
                    yield Case(
                        f"{size} clients, time to the winner",
                        Lane(variant, race[variant].measuring(lambda found: found.winner_ms)),
                        [Lane("lakebase", race["lakebase"].measuring(lambda found: found.winner_ms))],
                    )


RACES = Benchmark(
    "lock-race",
    "Many clients ask for one lock at the same moment, until each has an answer.",
    "locks in a Delta table, by a warehouse and by its storage",
    "locks in Lakebase's Postgres",
    "statements and ms",
    races,
    (POSTGRES,),
    "clients",
    (50,),
    (20,),
    ("psycopg", "deltalake"),
)
