"""Clients whose clocks are wrong: nothing changes, for them or for others."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate

import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.clock import HOUR, Ahead, Behind, ClockNemesis, Stopped
from lockproof.driver import LockInfo
from lockproof.driver.databricks_bed import SkippingClock
from lockproof.driver.recorder import RecordedScope
from lockproof.spec import faults, needs, requirement
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.databricks.special import bed_of, counted, special_client
from lockproof.suites.faults.lock_tables import require_struck
from lockproof.suites.locks.asking import holder_seen_by, take

WRONG: dict[str, Callable[[], list[ClockNemesis]]] = {
    "ahead": lambda: [Ahead(on="alice")],
    "behind": lambda: [Behind(on="alice")],
    "stopped": lambda: [Stopped(on="alice")],
    "jumps ahead": lambda: [Behind(on="alice"), Ahead(on="alice", seconds=2 * HOUR)],
    "jumps back": lambda: [Ahead(on="alice"), Behind(on="alice", seconds=-2 * HOUR)],
}
"""What is wrong with Alice's clock: from the beginning, and, where there is a second, from the midst on."""


@faults("clock")
@needs("state", "locking.holder-info")
@requirement("FAULT-CLOCK-001")
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_clock_changes_nothing(arena: Arena, wrong: str) -> None:
    """A client with a wrong clock locks, writes, reads, is refused and releases; others see it as any."""
    first, *later = WRONG[wrong]()
    alice, bob = arena.client("alice"), arena.client("bob")
    arena.inject(first)
    mine, theirs = tofu_bytes(document(serial=1)), tofu_bytes(document(serial=2))
    lock_id = take(alice)
    alice.put("default", mine, lock_id=lock_id)
    assert holder_seen_by(bob).ID == lock_id
    for nemesis in later:
        arena.inject(nemesis)
    assert holder_seen_by(bob).ID == lock_id
    alice.put("default", mine, lock_id=lock_id)
    alice.unlock("default", lock_id)
    bobs = take(bob)
    bob.put("default", theirs, lock_id=bobs)
    assert holder_seen_by(alice).ID == bobs
    snapshot = alice.get("default")
    assert snapshot is not None
    assert snapshot.data == theirs
    bob.unlock("default", bobs)
    assert take(alice)
    for nemesis in (first, *later):
        require_struck(nemesis)


@faults("clock")
@needs("test-bed")
@requirement("FAULT-CLOCK-001")
@pytest.mark.parametrize("hours", [-1, 1])
def test_clock_that_is_set_in_the_midst_of_a_call_changes_nothing(scope: RecordedScope, hours: int) -> None:
    """While a write waits to be sent again, the machine's clock is set: it is sent four times, no more."""

    class Set(SkippingClock):
        def now(self) -> float:
            return super().now() + (hours * HOUR if self.slept else 0.0)

    bed, clock = bed_of(scope), Set()
    alice = special_client(scope, "alice", clock=clock)
    data = tofu_bytes(document())
    lock_id = alice.lock("default", LockInfo.new("alice"))
    bed.control.add_fault(method="PUT", path=bed.files, status=503, times=3)
    alice.put("default", data, lock_id=lock_id)
    assert len(clock.slept) == 3
    snapshot = alice.get("default")
    assert snapshot is not None
    assert snapshot.data == data
    alice.unlock("default", lock_id)


class Wrong(SkippingClock):
    """A clock that is so many seconds off."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def now(self) -> float:
        return super().now() + self.seconds


@faults("clock")
@needs("test-bed")
@requirement("FAULT-CLOCK-002")
@pytest.mark.parametrize("seconds", [-HOUR, 0.0, HOUR])
def test_date_to_wait_for_is_the_servers(scope: RecordedScope, seconds: float) -> None:
    """Retry-After is a date 30 s after the answer's own: so long is waited, whatever the client's time is."""
    bed, clock = bed_of(scope), Wrong(seconds)
    alice = special_client(scope, "alice", clock=clock)
    sent = clock.now() - seconds
    dates = {"Date": formatdate(sent, usegmt=True), "Retry-After": formatdate(sent + 30, usegmt=True)}
    bed.control.add_fault(path=bed.files, status=429, headers=dates, times=2)
    data = tofu_bytes(document())
    alice.put("default", data)
    assert clock.slept == [30, 30]
    assert bed.states() == {"terraform.tfstate": len(data)}


@faults("clock")
@needs("test-bed")
@requirement("FAULT-CLOCK-003")
@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_wrong_clock_needs_no_more_login_tokens(scope: RecordedScope, seconds: float) -> None:
    """Three logins within an hour use one token, whatever the client's clock says."""
    bed = bed_of(scope)
    own = bed.locks.own_compute()
    alice = special_client(scope, "alice", clock=Wrong(seconds), **own)
    asked = counted(bed, path="/api/2.0/postgres/credentials", content=f"*{own['lakebase_project']}*")
    for _ in range(3):
        bed.locks.suspend()
        alice.unlock("default", take(alice))
    assert asked() == 1


@faults("clock")
@needs("test-bed")
@requirement("FAULT-CLOCK-003")
@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_wrong_clock_logs_in_after_the_token_expired(scope: RecordedScope, seconds: float) -> None:
    """A token that the server no longer accepts is replaced once, and with the new one the lock is freed."""
    bed = bed_of(scope)
    own = bed.locks.own_compute()
    alice = special_client(scope, "alice", clock=Wrong(seconds), **own)
    asked = counted(bed, path="/api/2.0/postgres/credentials", content=f"*{own['lakebase_project']}*")
    lock_id = take(alice)
    bed.control.call("lakebase_expire_tokens", project=own["lakebase_project"])
    bed.locks.suspend()
    alice.unlock("default", lock_id)
    assert asked() == 2
