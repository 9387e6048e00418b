"""Bugs of timing are found, by every strategy as it promises, and correct backends are cleared."""

from __future__ import annotations

import doctest
from dataclasses import replace

import pytest

import lockproof.explore
from lockproof.driver import DriverError, LockInfo
from lockproof.driver.memory import MemoryClient, MemoryDriver
from lockproof.driver.recorder import RecordedClient
from lockproof.explore import (
    CRASH,
    LOST_REPLY,
    DriverSubject,
    Exhaustive,
    Pct,
    RandomWalk,
    Shared,
    Strategy,
    explore,
)
from lockproof.suites.meta.explored_bed import (
    Bed,
    CheckThenSet,
    Collector,
    ReadThenDelete,
    Retrying,
    calls,
    info,
    order_of_calls,
    program,
    take,
    take_and_release,
)


def test_example_in_the_documentation_runs() -> None:
    """The example of `lockproof.explore` gives what it says."""
    results = doctest.testmod(lockproof.explore)
    assert results.attempted > 0
    assert results.failed == 0


BOTH_TAKE = program({"alice": take, "bob": take})
CYCLES = program({"alice": take_and_release, "bob": take_and_release})


def test_check_then_set_needs_one_preemption() -> None:
    """Two clients that take the lock both get it with one preemption, and never without."""
    without = explore(BOTH_TAKE, Bed(CheckThenSet), Exhaustive(0))
    assert (without.status, without.complete) == ("valid", True)
    found = explore(BOTH_TAKE, Bed(CheckThenSet), Exhaustive(1))
    assert found.status == "violated"
    assert found.verdict is not None
    assert found.verdict.details["anomaly"] == "two holders"


def test_unlock_that_reads_and_then_deletes_is_found() -> None:
    """A force-unlock between another's read and delete lets it delete the next holder's lock."""

    def owner(client: RecordedClient, shared: Shared) -> None:
        client.unlock("default", client.lock("default", info("alice")))

    def breaker(client: RecordedClient, shared: Shared) -> None:
        client.unlock("default", "alice")
        client.lock("default", info("bob"))

    def third(client: RecordedClient, shared: Shared) -> None:
        client.lock("default", info("carol"))

    p = program({"alice": owner, "bob": breaker, "carol": third})
    assert explore(p, Bed(), Exhaustive(2)).status == "valid"
    found = explore(p, Bed(ReadThenDelete), Exhaustive(2))
    assert found.status == "violated"
    assert found.schedule is not None
    assert "delete the lock" in [choice.step for choice in found.schedule.choices]


def test_retry_after_a_lost_reply_is_found_with_the_fault() -> None:
    """A backend that repeats a lock without looking takes one away that was granted meanwhile."""

    def release_and_take(client: RecordedClient, shared: Shared) -> None:
        client.unlock("default", "alice")
        client.lock("default", info("bob"))

    clients = {"alice": take, "bob": release_and_take}
    assert explore(program(clients), Bed(Retrying), Exhaustive(2)).status == "valid"
    found = explore(program(clients, faults=frozenset({LOST_REPLY})), Bed(Retrying), Exhaustive(2))
    assert found.status == "violated"
    assert found.schedule is not None
    assert [(c.client, c.step) for c in found.schedule.choices if c.fault] == [("alice", "send the lock")]


class Doubting(MemoryClient):
    """A lock whose reply is lost is taken again by a second attempt under the same id."""

    def lock(self, workspace: str, info: LockInfo) -> str:
        held = self.store.locks.get(workspace)
        return info.ID if held is not None and held.ID == info.ID else super().lock(workspace, info)


def test_lost_replies_do_not_convict_a_correct_backend() -> None:
    """Calls whose outcome was hidden, and clients that were killed, leave a correct backend cleared."""
    hidden = []

    def insistent(client: RecordedClient, shared: Shared) -> None:
        try:
            client.lock("default", info(client.who))
        except DriverError as failure:
            if failure.definite:
                return
            hidden.append(client.who)
            client.lock("default", info(client.who))
        client.put("default", client.who.encode(), lock_id=client.who)
        client.unlock("default", client.who)

    faults = frozenset({LOST_REPLY, CRASH})
    p = program({"alice": insistent, "bob": insistent}, faults=faults, max_faults=2)
    found = explore(p, Bed(Doubting), Exhaustive(2))
    assert (found.status, found.complete) == ("valid", True), found.reason
    assert set(hidden) == {"alice", "bob"}


def test_driver_without_anything_special_is_explored_by_its_calls() -> None:
    """The memory driver, as it is, passes two clients' whole cycles in every order."""
    found = explore(CYCLES, DriverSubject(MemoryDriver({})), Exhaustive(None))
    assert (found.status, found.complete) == ("valid", True)
    # whoever comes second asks right after the first one's lock or write, and ends, or after its release
    assert found.schedules == 6


def test_pct_finds_a_bug_of_depth_three_as_often_as_it_promises() -> None:
    """Among n clients and k steps a run takes a given turn of depth 3 with probability 1/(n k^2) at least."""
    runs, promised = 500, 1 / (2 * 10**2)

    def orders(depth: int) -> list[str]:
        judge = Collector(order_of_calls)
        p = program({"a": calls(5), "b": calls(5)}, judge=judge)
        explore(p, Bed(), Pct(seed=11, depth=depth), limit=runs)
        return ["".join(order) for order in judge.seen]

    assert sum(order.startswith("aabbba") for order in orders(3)) >= runs * promised
    assert set(orders(1)) == {"aaaaabbbbb", "bbbbbaaaaa"}


@pytest.mark.parametrize("strategy", [RandomWalk(3), Pct(3), Exhaustive(2)], ids=lambda s: s.describe())
def test_equal_seeds_run_equal_schedules(strategy: Strategy) -> None:
    """A strategy runs the same schedules each time; another seed runs others."""

    def orders(strategy: Strategy) -> list[object]:
        judge = Collector(order_of_calls)
        explore(program({"a": calls(5), "b": calls(5)}, judge=judge), Bed(), strategy, limit=20)
        return judge.seen

    assert orders(strategy) == orders(strategy)
    if not isinstance(strategy, Exhaustive):
        assert orders(strategy) != orders(replace(strategy, seed=4))  # type: ignore[type-var]


@pytest.mark.parametrize("strategy", [RandomWalk(1), Pct(1), Exhaustive(2)], ids=lambda s: s.describe())
def test_every_strategy_finds_a_simple_race(strategy: Strategy) -> None:
    """Check-then-set falls to each strategy within a hundred schedules."""
    found = explore(CYCLES, Bed(CheckThenSet), strategy, limit=100)
    assert found.status == "violated"
    assert found.schedules <= 100


def test_exploration_cut_short_is_unknown() -> None:
    """An exhaustive strategy that may not run all of its schedules promises nothing, and says why."""
    found = explore(CYCLES, Bed(), Exhaustive(2), limit=3)
    assert (found.status, found.complete, found.schedules) == ("unknown", False, 3)
    assert found.reason == "stopped after 3 schedules"
    assert explore(CYCLES, Bed(), Exhaustive(2), seconds=0).status == "unknown"


def test_samples_are_never_complete() -> None:
    """A strategy that draws schedules is valid over those it drew, and does not claim more."""
    found = explore(CYCLES, Bed(), RandomWalk(1), limit=25)
    assert (found.status, found.complete, found.schedules) == ("valid", False, 25)
