"""Claims and releases that stand still, are given up or are sent at once, and what becomes of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from lockproof.chaos.arena import Arena
from lockproof.chaos.nemesis import Nemesis
from lockproof.chaos.warehouse import HeldNemesis, delta_bed
from lockproof.driver import DriverError, LockInfo
from lockproof.driver.databricks_bed import SkippingClock
from lockproof.driver.databricks_locks import DeltaBed, Stall
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history.writer import HARNESS
from lockproof.spec.outcome import Unknown
from lockproof.suites.databricks.special import bed_of, special_client
from lockproof.suites.locks.asking import holder_seen_by, take

T = TypeVar("T")

PATIENCE = 0.3
"""Seconds after which an impatient client gives a call up."""
TICK = 0.005
ENOUGH = 20.0


def use_once(scope: RecordedScope, *workspaces: str) -> None:
    """Takes and frees each lock once: the lock table and its row are there from now on."""
    early = special_client(scope, "early")
    for workspace in workspaces or ("default",):
        early.unlock(workspace, take(early, workspace))


def require_forced(client: RecordedClient, claim: LockInfo) -> str:
    """Whoever took the lock by `claim` and was not told holds it: `client` is told who that is, frees it by
    its id, and takes it. The new lock's id."""
    seen = holder_seen_by(client)
    assert (seen.ID, seen.Who, seen.Info) == (claim.ID, claim.Who, claim.Info)
    client.unlock("default", claim.ID)
    return take(client)


def noted(scope: RecordedScope, name: str, hits: int) -> None:
    """Writes into the history what a fault, which is over, has hit. Raises `Unknown` when that is nothing."""
    scope.history.append(HARNESS, "fault", name, out={"hits": hits})
    if not hits:
        raise Unknown(f"{name} hit nothing")


def require_struck(nemesis: Nemesis) -> None:
    """Raises `Unknown` when a fault has hit nothing."""
    if not nemesis.struck():
        raise Unknown(f"{nemesis.name} hit nothing")


class Leaping(SkippingClock):
    """Its waiting takes no time, and half a minute at least passes meanwhile: deadlines come soon."""

    def sleep(self, seconds: float) -> None:
        super().sleep(max(seconds, 30.0))


def impatient(scope: RecordedScope, who: str) -> RecordedClient:
    """A client that gives a call up soon, as if its user pressed Ctrl-C or its process was killed."""
    client = RecordedClient(scope.scope.client(who), who, scope.history, PATIENCE)
    scope.clients.append(client)
    return client


@contextmanager
def given_up(arena: Arena, held: HeldNemesis, call: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Makes a call whose statement stands still, and gives it up. Yields what lets the statement go on and
    waits for its end."""
    arena.inject(held)
    try:
        call()
    except DriverError as error:
        if error.definite:
            raise
    held.await_held(1)
    yield lambda: go_on(arena, held)


def go_on(arena: Arena, held: HeldNemesis) -> None:
    """Lets the statements go on that stand still, and waits for their end."""
    bed = delta_bed(arena.scope)
    standing = bed.control.held_statements(held.hold)["statements"]
    held.heal(arena)

    def ended() -> bool:
        found = bed.control.statements(contains=bed.scope.lock_schema)
        return all(item["total_seconds"] for item in found if item["id"] in standing)

    until(ended, "the end of the statements that stood still")


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for the condition. Raises `Unknown` when it never comes."""
    ticker = threading.Event()
    for _ in range(int(ENOUGH / TICK)):
        if condition():
            return
        ticker.wait(TICK)
    raise Unknown(f"{what} did not come within {ENOUGH:.0f} s")


def outcomes_of_a_storm(scope: RecordedScope, calls: Sequence[Callable[[], T]]) -> list[T | DriverError]:
    """Makes the calls, each a change of a lock that was used before, so that every one of them has taken its
    snapshot of the lock table before the first one commits; what they returned or raised."""
    bed = bed_of(scope).locks
    assert isinstance(bed, DeltaBed)
    stalls: list[Stall] = []

    def newest_stands() -> bool:
        return running[-1].done() or stalls[-1].reached()

    with ThreadPoolExecutor(len(calls)) as pool:
        running: list[Future[T]] = []
        try:
            for call in calls:
                stalls.append(bed.stall_commit())
                running.append(pool.submit(call))
                until(newest_stands, "a commit")
        finally:
            reached = sum(stall.reached() for stall in stalls)
            for stall in stalls:
                stall.release()
        found: list[T | DriverError] = list(map(outcome_of, running))
    if reached < len(calls):
        raise Unknown(f"only {reached} of {len(calls)} changes stood before their commit")
    noted(scope, "warehouse.conflicts", reached)
    return found


def outcome_of(future: Future[T]) -> T | DriverError:
    """What a call returned, or the `DriverError` that it raised."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, DriverError):
        return error
    raise error
