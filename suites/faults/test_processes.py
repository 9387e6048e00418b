"""Holders whose process ends, or stands still: their locks stay, and what they do too late has no effect."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from signal import SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM, Signals

import pytest

from lockproof.chaos.process import RecordedProcess, start_process
from lockproof.checkers import require_valid
from lockproof.driver import LockInfo
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import HistoryWriter
from lockproof.plugin.fixtures import Backend
from lockproof.spec import faults, needs, requirement, tier
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import require_stored
from lockproof.suites.faults.halted import MOMENTS, Overtaking, halts, killed_in
from lockproof.suites.locks.asking import grants, holder_seen_by, releases, take, writes

Start = Callable[[str], RecordedProcess]
ENDINGS = (SIGKILL, SIGTERM, SIGHUP, SIGINT)
FEW = 16
ALL = pytest.param(None, marks=tier("full"), id="every-step")


@pytest.fixture
def start(backend: Backend, scope: RecordedScope) -> Start:
    """Starts a client of the scope in a process of its own."""
    return partial(start_process, backend.connect, scope)


@reported("sighup-leaves-lock", "tofu-controller#250", "tofu-controller#1190", "terraform#16652")
@faults("kill")
@needs("clients.process", "locking.holder-info", "locking.release-nonce")
@requirement("FAULT-PROC-001")
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.name)
def test_the_lock_of_a_process_that_ends_stays_until_it_is_forced(
    start: Start, bob: RecordedClient, ending: Signals
) -> None:
    """A holder that is ended by a signal leaves its lock and its name, and only the exact ID frees it."""
    victim, asked = start("victim"), LockInfo.new("victim")
    lock_id = victim.lock("default", asked)
    victim.signal(ending)
    victim.process.await_end()
    holder = holder_seen_by(bob)
    assert (holder.ID, holder.Who, holder.Info) == (lock_id, "victim", asked.Info)
    for wrong in (LockInfo.new("nobody").ID, lock_id[:-1], f"{lock_id}0"):
        assert not releases(bob, wrong), f"{wrong!r} released the lock {lock_id!r}"
    assert holder_seen_by(bob) == holder
    bob.unlock("default", lock_id)
    bob.unlock("default", take(bob))


@faults("kill")
@needs("clients.process", "state", "locking.holder-info")
@requirement("FAULT-PROC-001")
@pytest.mark.parametrize("ending", [SIGTERM, SIGINT], ids=lambda ending: ending.name)
def test_the_lock_of_a_process_that_ends_in_a_write_stays(
    start: Start, bob: RecordedClient, rng: random.Random, history: HistoryWriter, ending: Signals
) -> None:
    """A holder that unwinds in the midst of a write, since a signal ends it, leaves its lock."""
    victim = start("victim")
    lock_id = take(victim)
    write = partial(victim.put, "default", tofu_bytes(document()), lock_id=lock_id)
    killed_in(victim, rng.choice(halts(victim, write, FEW, rng, ending)[:-MOMENTS]), write)
    assert holder_seen_by(bob).ID == lock_id
    bob.unlock("default", lock_id)
    bob.unlock("default", take(bob))
    require_valid(history.history())


@faults("kill")
@needs("clients.process", "state", "locking.holder-info")
@requirement("FAULT-PROC-002")
def test_a_process_that_forks_keeps_its_lock(start: Start, bob: RecordedClient) -> None:
    """A fork of the holder's process that ends takes neither the lock nor the connection with it."""
    holder = start("holder")
    lock_id = take(holder)
    holder.fork()
    assert holder_seen_by(bob).ID == lock_id
    data = tofu_bytes(document())
    holder.put("default", data, lock_id=lock_id)
    require_stored(bob, data)
    holder.unlock("default", lock_id)
    bob.unlock("default", take(bob))


@faults("kill")
@needs("clients.process", "state", "locking.force-unlock", "locking.holder-info")
@requirement("FAULT-PROC-003")
def test_a_holder_that_stood_still_and_was_overtaken_cannot_write(
    start: Start, bob: RecordedClient, history: HistoryWriter
) -> None:
    """A stopped holder keeps its lock; forced out and overtaken, its next write is refused."""
    alice, mine, theirs = start("alice"), tofu_bytes(document(serial=2)), tofu_bytes(document(serial=3))
    old = take(alice)
    alice.put("default", tofu_bytes(document(serial=1)), lock_id=old)
    alice.pause()
    assert holder_seen_by(bob).ID == old
    bob.unlock("default", old)
    new = take(bob)
    bob.put("default", mine, lock_id=new)
    alice.resume()
    assert not writes(alice, theirs, old), "a write of a holder that was overtaken was accepted"
    require_stored(bob, mine)
    bob.unlock("default", new)
    require_valid(history.history())


@faults("kill")
@needs("clients.process", "state", "locking.force-unlock")
@requirement("FAULT-PROC-004")
@pytest.mark.parametrize("count", [FEW, ALL])
def test_a_write_in_flight_does_not_land_after_its_holder_was_overtaken(
    start: Start, bob: RecordedClient, rng: random.Random, history: HistoryWriter, count: int | None
) -> None:
    """A write that stood still, at whatever step, while its holder was overtaken never becomes visible."""
    alice, overtaking = start("alice"), Overtaking()
    lock_id = take(alice)
    write = partial(alice.put, "default", lock_id=lock_id)
    write(tofu_bytes(document()))
    stops = halts(alice, lambda: write(tofu_bytes(document())), count, rng, SIGSTOP)
    alice.unlock("default", lock_id)
    for stop in stops:
        old, mine, theirs = take(alice), tofu_bytes(document()), tofu_bytes(document())

        def overtake(old: str = old, mine: bytes = mine) -> str:
            bob.unlock("default", old)
            new = take(bob)
            bob.put("default", mine, lock_id=new)
            return new

        late = partial(alice.put, "default", theirs, lock_id=old)
        new = overtaking.during(alice, stop, late, overtake)
        require_stored(bob, mine)
        bob.unlock("default", new)
    overtaking.require_any()
    require_valid(history.history())


@faults("kill")
@needs("clients.process", "locking.force-unlock", "locking.holder-info")
@requirement("FAULT-PROC-005")
@pytest.mark.parametrize("count", [FEW, ALL])
def test_a_late_release_does_not_free_another_holders_lock(
    start: Start, bob: RecordedClient, rng: random.Random, history: HistoryWriter, count: int | None
) -> None:
    """A release that stood still, at whatever step, while its lock went to another leaves that lock alone."""
    alice, overtaking = start("alice"), Overtaking()
    alice.unlock("default", take(alice))
    lock_id = take(alice)
    for stop in halts(alice, partial(alice.unlock, "default", lock_id), count, rng, SIGSTOP):
        old = take(alice)

        def overtake(old: str = old) -> str:
            releases(bob, old)  # it may be released already
            return take(bob)

        new = overtaking.during(alice, stop, partial(alice.unlock, "default", old), overtake)
        assert holder_seen_by(alice).ID == new
        bob.unlock("default", new)
    assert grants(bob)
    overtaking.require_any()
    require_valid(history.history())
