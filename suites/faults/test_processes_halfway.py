"""Processes that are killed in the midst of a call: what they leave is old or new, and can be freed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from itertools import count as numbers

import pytest

from lockproof.chaos.process import RecordedProcess, start_process
from lockproof.chaos.process_steps import Halt
from lockproof.checkers import require_valid
from lockproof.driver import LockInfo
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import HistoryWriter
from lockproof.plugin.fixtures import Backend
from lockproof.spec import faults, needs, requirement, tier
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import filler
from lockproof.suites.faults.halted import halts, killed_in, require_whole, taken_over
from lockproof.suites.locks.asking import take

FEW = 16
ALL = pytest.param(None, marks=tier("full"), id="every-step")
LARGE = 3_000_000
"""Characters of a state that takes a while to send."""


@pytest.fixture
def start(backend: Backend, scope: RecordedScope) -> Callable[[], RecordedProcess]:
    """Starts one more client of the scope in a process of its own."""
    number = numbers(1)
    return lambda: start_process(backend.connect, scope, f"victim-{next(number)}")


@reported("terraform#34266", "terraform#17066")
@faults("kill")
@needs("clients.process")
@requirement("FAULT-PROC-006")
@pytest.mark.parametrize("count", [FEW, ALL])
def test_a_write_that_is_killed_leaves_the_old_or_the_new_state(
    start: Callable[[], RecordedProcess],
    bob: RecordedClient,
    rng: random.Random,
    history: HistoryWriter,
    count: int | None,
) -> None:
    """Whatever step of a write its process is killed at, a whole state is read, and the next is written."""
    written: list[bytes] = []
    model = start()
    model.put("default", new_state(written))
    for kill in halts(model, lambda: model.put("default", new_state(written)), count, rng):
        victim = start()
        victim.put("default", new_state(written))
        killed_in(victim, kill, partial(victim.put, "default", new_state(written)))
        require_whole(bob, written)
        bob.put("default", new_state(written))
        require_whole(bob, written)
    require_valid(history.history())


@faults("kill")
@needs("clients.process", "locking.force-unlock", "locking.holder-info")
@requirement("FAULT-PROC-006", "FAULT-PROC-001")
@pytest.mark.parametrize("count", [FEW, ALL])
def test_a_holders_write_that_is_killed_leaves_a_whole_state_and_the_lock(
    start: Callable[[], RecordedProcess],
    bob: RecordedClient,
    rng: random.Random,
    history: HistoryWriter,
    count: int | None,
) -> None:
    """A holder killed in a write leaves a whole state and its lock; whoever forces it writes the next."""
    written: list[bytes] = []
    model = start()
    lock_id = take(model)
    model.put("default", new_state(written), lock_id=lock_id)
    kills = halts(model, lambda: model.put("default", new_state(written), lock_id=lock_id), count, rng)
    model.unlock("default", lock_id)
    for kill in kills:
        victim, dead = start(), list[LockInfo]()
        old = take_as(victim, dead)
        victim.put("default", new_state(written), lock_id=old)
        killed_in(victim, kill, partial(victim.put, "default", new_state(written), lock_id=old))
        require_whole(bob, written)
        new, forced = taken_over(bob, dead)
        assert forced, f"the lock of {victim.who} was gone after it was killed in a write"
        bob.put("default", new_state(written), lock_id=new)
        require_whole(bob, written)
        bob.unlock("default", new)
    require_valid(history.history())


@faults("kill")
@needs("clients.process")
@requirement("FAULT-PROC-006")
@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=tier("full"))])
def test_a_large_write_that_is_killed_leaves_the_old_or_the_new_state(
    start: Callable[[], RecordedProcess],
    bob: RecordedClient,
    rng: random.Random,
    history: HistoryWriter,
    rounds: int,
) -> None:
    """A process that is killed some time into the write of a large state leaves a whole state."""
    written: list[bytes] = []
    for _ in range(rounds):
        victim = start()
        before, after = new_state(written, LARGE), new_state(written, LARGE)
        began = time.monotonic()
        victim.put("default", before)
        moment = Halt(seconds=rng.uniform(0, time.monotonic() - began))
        killed_in(victim, moment, partial(victim.put, "default", after))
        require_whole(bob, written)
    bob.put("default", new_state(written))
    require_whole(bob, written)
    require_valid(history.history())


@reported("terraform#17535", "terraform#24289")
@faults("kill")
@needs("clients.process", "locking.holder-info")
@requirement("FAULT-PROC-007")
@pytest.mark.parametrize("count", [FEW, ALL])
def test_a_process_killed_while_it_locks_leaves_the_lock_free_or_its_own(
    start: Callable[[], RecordedProcess],
    bob: RecordedClient,
    rng: random.Random,
    history: HistoryWriter,
    count: int | None,
) -> None:
    """Whatever step of a lock its process is killed at, the lock is free, or its own and can be forced."""
    dead: list[LockInfo] = []
    model = start()
    model.unlock("default", take_as(model, dead))
    kills = halts(model, lambda: take_as(model, dead), count, rng)
    bob.unlock("default", taken_over(bob, dead)[0])
    for kill in kills:
        victim = start()
        victim.unlock("default", taken_over(victim, dead)[0])
        killed_in(victim, kill, partial(take_as, victim, dead))
        bob.unlock("default", taken_over(bob, dead)[0])
    require_valid(history.history())


@reported("terragrunt#5167", "terragrunt#4839")
@faults("kill")
@needs("clients.process", "locking.holder-info")
@requirement("FAULT-PROC-008")
@pytest.mark.parametrize("count", [FEW, ALL])
def test_a_process_killed_while_it_releases_leaves_the_lock_free_or_its_own(
    start: Callable[[], RecordedProcess],
    bob: RecordedClient,
    rng: random.Random,
    history: HistoryWriter,
    count: int | None,
) -> None:
    """Whatever step of a release its process is killed at, the lock is free, or its own and can be forced."""
    dead: list[LockInfo] = []
    model = start()
    lock_id = take_as(model, dead)
    model.unlock("default", lock_id)
    lock_id = take_as(model, dead)
    for kill in halts(model, partial(model.unlock, "default", lock_id), count, rng):
        victim = start()
        victim.unlock("default", take_as(victim, dead))
        old = take_as(victim, dead)
        killed_in(victim, kill, partial(victim.unlock, "default", old))
        bob.unlock("default", taken_over(bob, dead)[0])
    require_valid(history.history())


def new_state(written: list[bytes], padding: int = 1000) -> bytes:
    """A state like no other, noted among those that were written."""
    data = tofu_bytes(document(serial=len(written) + 1, padding=filler(padding + len(written))))
    written.append(data)
    return data


def take_as(client: RecordedProcess, asked: list[LockInfo]) -> str:
    """Takes the lock with an info that is noted first."""
    info = LockInfo.new(client.who)
    asked.append(info)
    return client.lock("default", info)
