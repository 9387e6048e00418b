"""Moves of a head that arrive late: what their writers tell, and that no object of a head is taken away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from lockproof.suites.meta.hurried import Hurried
from lockproof.suites.meta.lock_calls import info
from lockproof.suites.meta.strict_bed import StrictBed, fenced
from tofu_databricks.client import StateClient
from tofu_databricks.errors import LockNotHeld, Unavailable
from tofu_databricks.fenced import FencedState
from tofu_databricks.heads import KEPT
from tofu_databricks.locks import HeadStore
from tofu_databricks.seams import Clock
from tofu_databricks.volume import Entry, Volume

pytest_plugins = ("lockproof.suites.meta.strict_fixtures",)

FIRST, LATE, NEWER = b'{"serial":1}', b'{"serial":2,"by":"ann"}', b'{"serial":3,"by":"bob"}'


@dataclass
class LateMove:
    """A lock store whose first move is kept by the network until `deliver`. When that has happened it does
    `then`; the caller hears nothing, or where it is `sent_again` what becomes of a second delivery."""

    store: HeadStore
    sent_again: bool = False
    then: Callable[[], object] = lambda: None
    kept: list[tuple[Any, ...]] = field(default_factory=list)

    def move_head(self, *move: Any) -> bool:
        if self.kept:
            return self.store.move_head(*move)
        self.kept.append(move)
        self.then()
        if self.sent_again:
            return self.store.move_head(*move)
        raise Unavailable("nobody answers", definite=False)

    def deliver(self) -> bool:
        """Whether the move, now that it arrives, takes effect."""
        return self.store.move_head(*self.kept[0])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@dataclass
class Listed:
    """A volume; before a directory is listed for the second time, `first` is done."""

    volume: Volume
    first: Callable[[], object]
    times: int = 0

    def entries(self, directory: str) -> Iterator[Entry]:
        self.times += 1
        if self.times == 2:
            self.first()
        return self.volume.entries(directory)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.volume, name)


@dataclass
class Meanwhile(Hurried):
    """A clock: while somebody waits for the first time, `done` is done."""

    done: Callable[[], object]
    waits: int = 0

    def sleep(self, seconds: float) -> None:
        self.waits += 1
        if self.waits == 1:
            self.done()


def started(strict: StrictBed) -> tuple[StateClient, str]:
    """A client that has written a first state, under a lock that it still holds."""
    client = strict.client()
    lock_id = client.lock(info("ann"))
    client.put(FIRST, lock_id=lock_id)
    return client, lock_id


def numbers(strict: StrictBed) -> list[int]:
    """The numbers of the versions that the head names."""
    return [version.number for version in fenced(strict.client())._look().versions.all]


def late(client: StateClient, move: LateMove, clock: Clock | None = None) -> FencedState:
    """The state of `client`, with `move` between it and its lock store."""
    state = fenced(client)
    return replace(state, locks=cast("HeadStore", move), clock=clock or state.clock)


@pytest.mark.parametrize("forced", [False, True], ids=["held", "forced"])
def test_a_move_that_arrives_while_its_writer_waits_was_made(strict: StrictBed, forced: bool) -> None:
    """It took effect, once, also where the lock was forced after that; its object stays where it is."""
    client, lock_id = started(strict)
    move = LateMove(strict.heads())

    def arrives() -> None:
        assert move.deliver()
        if forced:
            strict.client().unlock(lock_id)

    clock = Meanwhile(arrives)
    late(client, move, clock).put(LATE, lock_id)
    assert clock.waits == 1
    assert (strict.client().get(), strict.copy(), numbers(strict)) == (LATE, LATE, [2, 1])
    assert len(strict.objects()) == 2


def test_a_move_that_arrives_long_before_its_writer_looks_is_unknown(strict: StrictBed) -> None:
    """So many came after it that the head does not tell: the writer knows neither that it was made nor that
    it was not."""
    client, lock_id = started(strict)
    move = LateMove(strict.heads())

    def arrives() -> None:
        assert move.deliver()
        bob = strict.client()
        bob.unlock(lock_id)
        newer = bob.lock(info("bob"))
        for _ in range(KEPT):
            bob.put(NEWER, lock_id=newer)

    with pytest.raises(Unavailable, match="whether the write took effect is unknown") as failure:
        late(client, move, Meanwhile(arrives)).put(LATE, lock_id)
    assert not failure.value.definite
    assert strict.client().get() == NEWER


def test_a_move_that_arrives_late_collects_nothing_of_who_came_after_it(strict: StrictBed) -> None:
    """Its writer looks for strays, while the next holder has stored an object that no head names yet."""
    client, lock_id = started(strict)
    for _ in range(KEPT - 1):
        client.put(FIRST, lock_id=lock_id)  # with the next one strays are looked for
    move, at_move, go_on = LateMove(strict.heads()), threading.Event(), threading.Event()

    def stand_still(step: str) -> None:
        if step == "lock.move":
            at_move.set()
            assert go_on.wait(60)

    bob = strict.client(stand_still)

    def overtake() -> None:
        assert move.deliver()
        strict.client().unlock(lock_id)
        newer = bob.lock(info("bob"))
        writes.append(pool.submit(bob.put, NEWER, lock_id=newer))
        assert at_move.wait(60)

    writes: list[Future[None]] = []
    volume = Listed(strict.volume(), overtake)
    state = replace(late(client, move, Hurried()), volume=cast("Volume", volume))
    with ThreadPoolExecutor(1) as pool:
        try:
            state.put(LATE, lock_id)
        finally:
            go_on.set()
        writes[0].result(60)
    assert volume.times == 2
    assert strict.client().get() == strict.copy() == NEWER
    assert numbers(strict)[:2] == [KEPT + 2, KEPT + 1]


@pytest.mark.parametrize("sent_again", [False, True], ids=["unanswered", "sent again"])
def test_a_move_that_arrives_under_its_id_again_leaves_a_state(strict: StrictBed, sent_again: bool) -> None:
    """Its writer was refused, and takes the lock under the same id: what the head then names is there. The
    object of a move that never arrives goes with a later write."""
    client, lock_id = started(strict)
    mine = client.lock_holder()
    assert mine is not None
    move = LateMove(strict.heads(), sent_again, then=lambda: strict.client().unlock(lock_id))
    with pytest.raises(LockNotHeld):
        late(client, move).put(LATE, lock_id)
    assert len(strict.objects()) == 2
    client.lock(mine)
    assert move.deliver()
    assert strict.client().get() == LATE
    with pytest.raises(LockNotHeld):
        late(client, LateMove(strict.heads(), then=lambda: strict.client().unlock(lock_id))).put(
            LATE, lock_id
        )
    client.lock(mine)
    for _ in range(KEPT):
        client.put(NEWER, lock_id=lock_id)
    assert set(strict.objects()) == fenced(client)._look().versions.objects()
