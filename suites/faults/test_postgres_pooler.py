"""A transaction pooler stands before the Postgres that keeps the locks: sessions are not the client's own."""

from __future__ import annotations

import pytest

from lockproof.chaos.postgres_own import PostgresArena
from lockproof.checkers import require_valid
from lockproof.driver import LockInfo
from lockproof.spec import faults, needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.faults.asking_again import holder_in_the_end
from lockproof.suites.locks.racing import lock_in_loops, until_contended

pytest_plugins = ("lockproof.suites.faults.postgres_fixtures",)


@reported("docs-content#3378", "authentik#23876")
@faults("postgres", destructive=True)
@needs("locking.holder-info")
@requirement("FAULT-PG-007")
def test_a_lock_holds_behind_a_transaction_pooler(pooled_arena: PostgresArena) -> None:
    """Each statement runs in another session: the holder excludes the other, writes, and frees the lock."""
    alice, bob = pooled_arena.client("alice"), pooled_arena.client("bob")
    for serial in range(1, 4):
        lock_id = alice.lock("default", LockInfo.new("alice"))
        assert holder_in_the_end(bob).ID == lock_id
        alice.put("default", tofu_bytes(document(serial=serial)), lock_id=lock_id)
        assert holder_in_the_end(bob).ID == lock_id
        alice.unlock("default", lock_id)
        bob.unlock("default", bob.lock("default", LockInfo.new("bob")))
    require_valid(pooled_arena.history.history())


@pytest.mark.parametrize("clients", [4])
@faults("postgres", destructive=True)
@requirement("FAULT-PG-007")
def test_locks_exclude_behind_a_transaction_pooler(pooled_arena: PostgresArena, clients: int) -> None:
    """More clients than there are sessions ask at the same time: at most one holds the lock at any time."""
    racers = [pooled_arena.client(f"racer{number}") for number in range(clients)]
    until_contended(lambda load: lock_in_loops(racers, 5 * load, pooled_arena.rng), refused=1)
    require_valid(pooled_arena.history.history())
