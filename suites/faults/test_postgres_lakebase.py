"""What Lakebase does to connections by itself costs no lock, and no call."""

from __future__ import annotations

import pytest

from lockproof.chaos.nemesis import nemeses
from lockproof.chaos.postgres_lakebase import HOUR, control_of
from lockproof.chaos.postgres_own import PostgresArena
from lockproof.checkers import require_valid
from lockproof.driver import LockInfo
from lockproof.provision.cluster import until
from lockproof.spec import faults, needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.outcome import Unknown
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.faults.asking_again import holder_in_the_end
from lockproof.suites.locks.asking import holder_seen_by

pytest_plugins = ("lockproof.suites.faults.postgres_fixtures",)

STEP, STEPS = 20 * HOUR, 4
"""Steps that are shorter than the day after which an idle connection ends, and together longer than three."""


@reported("pg-holder-terminated")
@pytest.mark.parametrize("name", ["postgres.suspend", "postgres.token-expired", "postgres.idle-day"])
@faults("postgres", destructive=True)
@needs("service.postgres", "test-bed")
@requirement("FAULT-PG-008")
def test_the_next_call_succeeds_after_lakebase_ended_the_connection(
    own_arena: PostgresArena, name: str
) -> None:
    """Others are refused the lock, and its holder writes and releases it, as if nothing had been."""
    alice, bob = own_arena.client("alice"), own_arena.client("bob")
    lock_id = alice.lock("default", LockInfo.new("alice"))
    nemesis = nemeses()[name]()
    own_arena.inject(nemesis)
    assert holder_seen_by(bob).ID == lock_id
    alice.put("default", tofu_bytes(document()), lock_id=lock_id)
    alice.unlock("default", lock_id)
    nemesis.heal(own_arena)
    if not nemesis.struck():
        raise Unknown(f"{name} ended no connection")
    bob.unlock("default", bob.lock("default", LockInfo.new("bob")))
    require_valid(own_arena.history.history())


@faults("postgres", destructive=True)
@needs("service.postgres", "test-bed")
@requirement("FAULT-PG-008")
def test_a_lock_is_held_longer_than_a_connection_may_live(own_arena: PostgresArena) -> None:
    """For more than three days somebody asks now and then: every time the holder is the same."""
    alice, bob = own_arena.client("alice"), own_arena.client("bob")
    control = control_of(own_arena)
    lock_id = alice.lock("default", LockInfo.new("alice"))
    seen = control.call("lakebase_address")["logins"]
    for _ in range(STEPS):
        assert holder_in_the_end(bob).ID == lock_id
        control.advance_clock(STEP)
        until(lambda: not control.call("lakebase_address")["overdue"], "connections do not end")
    assert holder_in_the_end(bob).ID == lock_id
    alice.unlock("default", lock_id)
    if control.call("lakebase_address")["logins"] < seen + 3:
        raise Unknown("not both connections were ended")
    require_valid(own_arena.history.history())
