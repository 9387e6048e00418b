"""Locks in a Delta table while commits conflict, replies are lost and statements outlive their clients."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.warehouse import Cold, HeldNemesis, Late, Stale, changes_of, delta_bed
from lockproof.driver import DriverError, Locked, LockInfo
from lockproof.driver.recorder import RecordedScope
from lockproof.spec import faults, needs, requirement, tier
from lockproof.spec.outcome import Violation
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.databricks.special import bed_of, special_client
from lockproof.suites.faults.lock_tables import (
    given_up,
    go_on,
    impatient,
    noted,
    outcome_of,
    outcomes_of_a_storm,
    require_forced,
    require_struck,
    use_once,
)
from lockproof.suites.locks.asking import holder_seen_by, take

CLIENTS = 4
MANY_CLIENTS = 24


# --- Commits that conflict


def require_one_winner(scope: RecordedScope, count: int) -> None:
    """Lets so many clients claim one lock from the same snapshot, and asserts what they are told."""
    use_once(scope)
    clients = [special_client(scope, f"client-{n}") for n in range(count)]
    found = outcomes_of_a_storm(scope, [partial(take, client) for client in clients])
    granted = [outcome for outcome in found if isinstance(outcome, str)]
    assert len(granted) == 1
    for outcome in found:
        if isinstance(outcome, DriverError):
            assert isinstance(outcome, Locked), outcome
            assert outcome.holder is not None
            assert outcome.holder.ID == granted[0]
    assert holder_seen_by(special_client(scope, "late")).ID == granted[0]


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-001")
def test_claims_whose_commits_conflict_have_require_one_winner(scope: RecordedScope) -> None:
    """Four claims read the same snapshot and then commit: one holds the lock, three are told who does."""
    require_one_winner(scope, CLIENTS)


@tier("full")
@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-001")
def test_storm_of_claims_has_require_one_winner(scope: RecordedScope) -> None:
    """Two dozen claims read the same snapshot and then commit: one holds the lock, all others know it."""
    require_one_winner(scope, MANY_CLIENTS)


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-002")
def test_locks_of_one_table_are_taken_and_freed_at_once(scope: RecordedScope) -> None:
    """Claims, and then releases, of four locks read the same snapshot and then commit: all succeed."""
    places = [f"ws{n}" for n in range(CLIENTS)]
    use_once(scope, *places)
    clients = [special_client(scope, f"client-{n}") for n in range(CLIENTS)]
    each = list(zip(clients, places, strict=True))
    ids = outcomes_of_a_storm(scope, [partial(take, client, ws) for client, ws in each])
    assert [lock_id for lock_id in ids if not isinstance(lock_id, str)] == []
    assert sorted(held for _, held in bed_of(scope).locks.held()) == sorted(map(str, ids))
    held = zip(each, map(str, ids), strict=True)
    freed = outcomes_of_a_storm(
        scope, [partial(client.unlock, ws, lock_id) for (client, ws), lock_id in held]
    )
    assert freed == [None] * CLIENTS
    assert bed_of(scope).locks.held() == []


UPKEEP = {
    "compaction": "OPTIMIZE {table}",
    "clean-up": "VACUUM {table}",
    "property": "ALTER TABLE {table} SET TBLPROPERTIES ('upkeep' = '{turn}')",
}


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-003")
@pytest.mark.parametrize("upkeep", UPKEEP)
def test_upkeep_in_the_midst_of_a_change_is_survived(arena: Arena, upkeep: str) -> None:
    """An administrator's commit comes in the midst of a claim, and of a release: neither fails or is lost."""
    scope, bed = arena.scope, delta_bed(arena.scope)
    use_once(scope, "default", "other")
    alice, bob = special_client(scope, "alice"), special_client(scope, "bob")
    kept, claim = take(bob, "other"), LockInfo.new("alice")
    for turn, call in enumerate(
        (lambda: alice.lock("default", claim), lambda: alice.unlock("default", claim.ID))
    ):
        late = Late(times=1)
        arena.inject(late)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(call)
            late.await_held(1)
            bed.run(UPKEEP[upkeep].format(table=bed.table, turn=turn))
            late.heal(arena)
            running.result()
        held = {kept} if turn else {kept, claim.ID}
        assert {lock_id for _, lock_id in bed.held()} == held


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-004")
def test_claim_from_an_old_snapshot_takes_no_lock(arena: Arena) -> None:
    """A claim that begins where the lock was still free is refused by the lock that was taken since."""
    use_once(arena.scope)
    alice, bob = special_client(arena.scope, "alice"), special_client(arena.scope, "bob")
    claim = LockInfo.new("alice")
    alice.lock("default", claim)
    stale = Stale(times=1, versions=1)
    arena.inject(stale)
    assert holder_seen_by(bob).ID == claim.ID
    require_struck(stale)
    assert [held for _, held in delta_bed(arena.scope).held()] == [claim.ID]


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-004")
def test_look_at_an_old_snapshot_confirms_no_lock(arena: Arena) -> None:
    """A look that shows the table as it was before the lock was taken makes nobody else a holder."""
    scope, bed = arena.scope, delta_bed(arena.scope)
    use_once(scope)
    alice, bob = special_client(scope, "alice"), special_client(scope, "bob")
    claim = LockInfo.new("alice")
    alice.lock("default", claim)
    look = f"SELECT lock_id, info FROM {changes_of(bed).removeprefix('UPDATE ')}"
    bed.control.lag_snapshots(1, contains=look, times=1)
    assert holder_seen_by(bob).ID == claim.ID
    noted(scope, "warehouse.stale", 1 - bed.control.lagging(look))
    assert [held for _, held in bed.held()] == [claim.ID]


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-004")
def test_release_from_an_old_snapshot_frees_the_lock(arena: Arena) -> None:
    """A release that begins where the lock was not yet taken finds nothing to free, and is sent again."""
    use_once(arena.scope)
    alice, bob = special_client(arena.scope, "alice"), special_client(arena.scope, "bob")
    lock_id = take(alice)
    stale = Stale(times=1, versions=1)
    arena.inject(stale)
    alice.unlock("default", lock_id)
    require_struck(stale)
    assert take(bob)


# --- Statements whose end nobody hears of


@contextmanager
def done_or_unknown() -> Iterator[None]:
    """What is called within it may succeed, or say that it does not know whether it did."""
    try:
        yield
    except DriverError as failure:
        if failure.definite:
            raise Violation(f"it took effect, and is reported as refused: {failure}") from failure


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-005")
def test_claim_of_which_every_reply_is_lost_is_unknown(scope: RecordedScope) -> None:
    """The lock is taken and no reply comes: that is found out or left open, and the lock can be forced."""
    use_once(scope)
    alice, bob = special_client(scope, "alice"), special_client(scope, "bob")
    claim = LockInfo.new("alice")
    lost = bed_of(scope).locks.lose_change(times=4)
    with done_or_unknown():
        alice.lock("default", claim)
    noted(scope, "warehouse.lost_reply", lost())
    assert require_forced(bob, claim)


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-005")
def test_release_of_which_every_reply_is_lost_is_unknown(scope: RecordedScope) -> None:
    """The lock is freed and no reply comes: that is found out or left open, and the lock can be taken."""
    use_once(scope)
    alice, bob = special_client(scope, "alice"), special_client(scope, "bob")
    lock_id = take(alice)
    lost = bed_of(scope).locks.lose_change(times=4)
    with done_or_unknown():
        alice.unlock("default", lock_id)
    noted(scope, "warehouse.lost_reply", lost())
    assert take(bob)


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-006")
def test_claim_that_outlives_its_client_can_be_forced(arena: Arena) -> None:
    """A client gives up, and its claim commits later: others are told who holds the lock, and can free it."""
    scope = arena.scope
    use_once(scope)
    bob, claim = special_client(scope, "bob"), LockInfo.new("alice")
    late = Late(times=1)
    with given_up(arena, late, lambda: impatient(scope, "alice").lock("default", claim)) as late_commit:
        late_commit()
    lock_id = require_forced(bob, claim)
    assert [held for _, held in delta_bed(scope).held()] == [lock_id]


@needs("test-bed", "clients.process")
@faults("warehouse", "kill")
@requirement("FAULT-DELTA-006")
def test_claim_of_a_process_that_was_killed_can_be_forced(arena: Arena) -> None:
    """The process dies while its claim is under way, and the claim commits: the lock is there to be freed."""
    scope = arena.scope
    use_once(scope)
    bob, claim = special_client(scope, "bob"), LockInfo.new("alice")
    alice = arena.process("alice")
    late = Late(times=1)
    arena.inject(late)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(alice.lock, "default", claim)
        late.await_held(1)
        alice.kill()
        failure = outcome_of(running)
    assert isinstance(failure, DriverError)
    assert not failure.definite
    go_on(arena, late)
    assert require_forced(bob, claim)


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-007")
@pytest.mark.parametrize("point", [Cold, Late], ids=["before its snapshot", "before its commit"])
@pytest.mark.parametrize("what", ["claim", "release"])
def test_change_that_was_given_up_leaves_the_next_holder_alone(
    arena: Arena, what: str, point: type[HeldNemesis]
) -> None:
    """A claim or release that its client gave up goes on after another took the lock, whose lock it stays."""
    scope = arena.scope
    use_once(scope)
    alice, bob = impatient(scope, "alice"), special_client(scope, "bob")
    claim = LockInfo.new("alice")
    if what == "release":
        special_client(scope, "alice before").lock("default", claim)
    held = point(times=1)

    def call() -> None:
        if what == "claim":
            alice.lock("default", claim)
        else:
            alice.unlock("default", claim.ID)

    with given_up(arena, held, call) as late_commit:
        if what == "release":
            bob.unlock("default", claim.ID)
        lock_id = take(bob)
        data = tofu_bytes(document())
        bob.put("default", data, lock_id=lock_id)
        late_commit()
    assert [held_id for _, held_id in delta_bed(scope).held()] == [lock_id]
    assert holder_seen_by(special_client(scope, "carol")).ID == lock_id
    bob.put("default", data, lock_id=lock_id)
    bob.unlock("default", lock_id)
