"""A replica that lags behind stands beside the Postgres that keeps the locks, and a backend reads from it."""

from __future__ import annotations

from lockproof.chaos.nemesis import nemeses
from lockproof.chaos.postgres_own import PostgresArena
from lockproof.checkers import require_valid
from lockproof.driver import LockInfo, Snapshot
from lockproof.spec import faults, needs, requirement
from lockproof.spec.outcome import Unknown
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.faults.asking_again import holder_in_the_end, release_in_the_end

pytest_plugins = ("lockproof.suites.faults.postgres_fixtures",)


@faults("postgres", destructive=True)
@needs("state", "locking.holder-info")
@requirement("FAULT-PG-009")
def test_what_a_lagging_replica_says_decides_nothing(own_arena: PostgresArena) -> None:
    """While the replica stands still, everybody is told what the primary knows."""
    alice, bob = own_arena.client("alice"), own_arena.client("bob")
    states = [tofu_bytes(document(serial=serial)) for serial in (1, 2)]
    alice.put("default", states[0])
    nemesis = nemeses()["postgres.replica-lags"]()
    own_arena.inject(nemesis)
    lock_id = alice.lock("default", LockInfo.new("alice"))
    alice.put("default", states[1], lock_id=lock_id)
    assert holder_in_the_end(bob).ID == lock_id
    assert bob.get("default") == Snapshot(states[1])
    release_in_the_end(alice, lock_id)
    if not nemesis.struck():
        raise Unknown("the replica did not lag")
    nemesis.heal(own_arena)
    own_arena.recover()
    require_valid(own_arena.history.history())
