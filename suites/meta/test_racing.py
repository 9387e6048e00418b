"""The witnesses of the locks suite can tell: overlap, lost updates, too little contention."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from lockproof.driver.memory import MemoryScope
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import HistoryWriter
from lockproof.spec.outcome import Unknown, Violation
from lockproof.suites.locks.racing import (
    CriticalSection,
    TurnClock,
    Turns,
    count,
    counted,
    race,
    together,
    until_contended,
)


@pytest.fixture
def clients() -> Iterator[list[RecordedClient]]:
    """Six clients of a memory backend."""
    with RecordedScope(MemoryScope(), HistoryWriter({}), 10) as scope:
        yield [scope.client(f"client-{n}") for n in range(6)]


def test_a_second_one_inside_is_an_overlap() -> None:
    """Entering while another is inside is remembered with both names; entering after it is not."""
    section = CriticalSection()
    with section.entered_by("a"):
        pass
    assert section.overlaps == []
    with section.entered_by("b"), section.entered_by("c"):
        pass
    assert section.overlaps == ["c entered while b was inside"]


def test_the_race_counts_wins_in_the_state(clients: list[RecordedClient]) -> None:
    """On a correct backend the counter is the number of wins, and every attempt won or was refused."""
    clients[0].put("default", counted(0))
    section = CriticalSection()
    tally = race(clients, "default", section, rounds=3, rng=random.Random(1))
    assert tally["won"] == count(clients[0], "default") >= 3
    assert tally["won"] + tally["refused"] == 3 * len(clients)
    assert section.overlaps == []


def test_clients_are_let_go_together(clients: list[RecordedClient]) -> None:
    """All clients act at the same time: each can wait for all others."""
    inside = threading.Barrier(len(clients))
    together(clients, lambda client: inside.wait(10), random.Random(1))
    assert inside.n_waiting == 0
    assert not inside.broken


def test_the_seed_draws_the_order_in_which_clients_start(
    clients: list[RecordedClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal seeds start the clients of each round in equal orders, other seeds in others."""
    started: list[str] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            started.append(args[0].who)
            return super().submit(fn, *args, **kwargs)

    monkeypatch.setattr("lockproof.suites.locks.racing.ThreadPoolExecutor", Pool)
    clients[0].put("default", counted(0))
    for seed in (5, 5, 6):
        race(clients, "default", CriticalSection(), rounds=3, rng=random.Random(seed))
    first, again, other = (started[n : n + 18] for n in (0, 18, 36))
    assert first == again
    assert first != other
    assert first[:6] != first[6:12]
    assert sorted(first[:6]) == [client.who for client in clients]


def test_the_first_failure_is_raised(clients: list[RecordedClient]) -> None:
    """What failed first is what the test reports, not what failed because of it."""
    first = threading.Event()

    def act(client: RecordedClient) -> None:
        if client is clients[-1]:
            try:
                raise Violation("the cause")
            finally:
                first.set()
        first.wait(10)
        turns.wait_past(turns.ended)

    turns = Turns(len(clients) - 1)
    with pytest.raises(Violation, match="the cause"):
        together(clients, act, random.Random(1))


def test_too_little_contention_is_unknown_after_three_tries() -> None:
    """Clients that never meet prove nothing, however often they are sent again with more load."""
    loads: list[int] = []

    def attempt(load: int) -> Counter[str]:
        loads.append(load)
        return Counter(won=5, refused=1)

    with pytest.raises(Unknown, match="3 refusals in 3 tries, 4 needed"):
        until_contended(attempt, refused=4)
    assert loads == [1, 2, 4]
    assert until_contended(attempt, refused=2) == Counter(won=10, refused=2)


def test_a_waiter_is_woken_by_the_end_of_a_turn_and_misses_none() -> None:
    """A pause ends with the next turn, at once when one ended since the last pause."""
    turns = Turns(2)
    clock = TurnClock(turns)
    with turns.one():
        pass
    clock.pause(1)
    assert (clock.seen, clock.now()) == (1, 1)


def test_waiters_that_wait_for_each_other_are_a_violation() -> None:
    """When all whose turn has not ended wait, no turn can end."""
    turns = Turns(3)
    with turns.one():
        pass
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(TurnClock(turns).pause, 1) for _ in range(2)]
        for future in waiting:
            with pytest.raises(Violation, match="in vain"):
                future.result(10)


def test_a_waiter_is_not_given_up_while_somebody_has_a_turn() -> None:
    """Others may wait as long as one is inside; they are woken when it ends."""
    turns = Turns(3)
    clocks = [TurnClock(turns) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        with turns.one():
            waiting = [pool.submit(clock.pause, 1) for clock in clocks]
        for future in waiting:
            future.result(10)
    assert [clock.seen for clock in clocks] == [1, 1]


def test_waiting_for_a_turn_that_failed_is_a_violation() -> None:
    """Nobody waits for a lock whose holder failed."""
    turns = Turns(2)
    clock = TurnClock(turns)
    with pytest.raises(ValueError, match="cause"), turns.one():
        raise ValueError("cause")
    with pytest.raises(Violation, match="in vain"):
        clock.pause(1)
