"""Waiting for a held lock as `tofu -lock-timeout` does, on scripted time."""

import pytest

from lockproof.driver import Locked, LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.driver.waiting import ScriptedClock, lock_with_backoff
from lockproof.spec import requirement
from lockproof.spec.bugs import reported
from lockproof.suites.locks.asking import grants, take


@reported("terraform#31256", "terraform#31262")
@requirement("LOCK-WAIT-001")
def test_a_waiter_gets_the_lock_after_its_release(
    alice: RecordedClient, bob: RecordedClient, carol: RecordedClient
) -> None:
    """A client that waits with OpenTofu's back-off gets the lock at its first attempt after the release."""
    held = take(alice)
    clock = ScriptedClock({3: lambda: alice.unlock("default", held)})
    lock_id = lock_with_backoff(bob, "default", LockInfo.new("bob"), timeout=60, clock=clock)
    assert clock.pauses == [1, 2, 4]
    assert not grants(carol), "the waiter was granted a lock that it does not hold"
    bob.unlock("default", lock_id)


@requirement("LOCK-WAIT-001")
def test_a_waiter_gets_the_lock_after_several_holders(
    alice: RecordedClient, bob: RecordedClient, carol: RecordedClient
) -> None:
    """A waiter that sees the lock pass to another holder keeps waiting and is granted it in the end."""
    held = [take(alice)]

    def pass_on() -> None:
        alice.unlock("default", held.pop())
        held.append(take(carol))

    clock = ScriptedClock({1: pass_on, 2: lambda: carol.unlock("default", held.pop())})
    lock_with_backoff(bob, "default", LockInfo.new("bob"), timeout=60, clock=clock)
    assert clock.pauses == [1, 2]


@reported("inconsistent-read-loop")
@requirement("LOCK-WAIT-002")
def test_a_waiter_whose_time_is_over_is_refused_by_the_holders_name(
    alice: RecordedClient, bob: RecordedClient
) -> None:
    """When its time is over a waiter gets the last refusal, naming the holder, who keeps the lock."""
    held = take(alice)
    clock = ScriptedClock()
    with pytest.raises(Locked) as refusal:
        lock_with_backoff(bob, "default", LockInfo.new("bob"), timeout=10, clock=clock)
    assert refusal.value.holder is not None, "the last refusal names no holder"
    assert (refusal.value.holder.ID, refusal.value.holder.Who) == (held, "alice")
    assert clock.pauses == [1, 2, 4, 3]
    alice.unlock("default", held)
    take(bob)
