"""SQL warehouses that are cold, deleted or throttled, and statements that do not end."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.warehouse import Cold, Late, changes_of, delta_bed
from lockproof.driver import DriverError, LockInfo
from lockproof.driver.databricks_bed import SkippingClock
from lockproof.driver.recorder import RecordedScope
from lockproof.spec import faults, needs, requirement
from lockproof.suites.databricks.special import Polling, bed_of, special_client
from lockproof.suites.faults.lock_tables import Leaping, go_on, noted, outcome_of, require_forced, use_once
from lockproof.suites.locks.asking import holder_seen_by, take
from tofu_databricks.locks.warehouse import STATEMENTS

ANY_CANCEL = f"{STATEMENTS}/*/cancel"


def own_warehouse(scope: RecordedScope, **settings: Any) -> Mapping[str, str]:
    """What a client needs to use a warehouse of the scope's own, which is set as `settings` say."""
    bed = delta_bed(scope)
    own = bed.own_compute()
    bed.control.set_warehouse(own["warehouse_id"], **settings)
    return own


def own_principal(scope: RecordedScope) -> tuple[str, str]:
    """An administrator of the test's own, whose requests are told from others': name and token."""
    name = f"own@{bed_of(scope).scope.volume}.example"
    return name, str(bed_of(scope).control.create_principal(name, admin=True))


def claims(scope: RecordedScope, since: int = 0) -> int:
    """How many claims and releases were sent to the warehouse."""
    return len(delta_bed(scope).control.statements(since, changes_of(delta_bed(scope))))


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-008")
def test_claim_waits_for_a_cold_warehouse(scope: RecordedScope) -> None:
    """The warehouse is stopped and takes a while to start: the claim is PENDING so long, and then granted."""
    use_once(scope)
    own = own_warehouse(scope, running=False, start_seconds=0.3, patience=0)
    before = claims(scope)
    clock = Polling()
    lock_id = take(special_client(scope, "alice", clock=clock, **own))
    noted(scope, "warehouse.cold", len(clock.slept))
    assert claims(scope) - before == 1
    assert holder_seen_by(special_client(scope, "bob")).ID == lock_id


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-009")
def test_claim_that_does_not_end_is_cancelled(arena: Arena) -> None:
    """A claim stays PENDING for ever: it is cancelled, called of unknown outcome, and takes no lock later."""
    scope = arena.scope
    use_once(scope)
    name, token = own_principal(scope)
    own = own_warehouse(scope, patience=0)
    alice = special_client(scope, "alice", clock=Leaping(), token=token, **own)
    cold = Cold(times=1)
    arena.inject(cold)
    mark = bed_of(scope).control.mark()
    with pytest.raises(DriverError) as failure:
        take(alice)
    assert (failure.value.kind, failure.value.definite) == ("unavailable", False)
    cancels = bed_of(scope).control.requests(since=mark, path=ANY_CANCEL, method="POST")
    assert [entry.status for entry in cancels if entry.principal == name] == [200]
    arena.heal()
    assert take(special_client(scope, "bob"))


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-009")
@pytest.mark.parametrize(
    ("fault", "sent"),
    [({"drop": True}, 4), ({"status": 403}, 1)],
    ids=["unanswered", "refused"],
)
def test_claim_that_cannot_be_cancelled_is_unknown(arena: Arena, fault: dict[str, Any], sent: int) -> None:
    """The cancellation fails, too: the error says that the claim may still run, and names the ID to force."""
    scope = arena.scope
    use_once(scope)
    name, token = own_principal(scope)
    own = own_warehouse(scope, patience=0)
    alice = special_client(scope, "alice", clock=Leaping(), token=token, **own)
    claim = LockInfo.new("alice")
    cold = Cold(times=1)
    arena.inject(cold)
    control = delta_bed(scope).control
    armed = control.add_fault(method="POST", path=ANY_CANCEL, principal=name, times=None, **fault)
    with pytest.raises(DriverError) as failure:
        alice.lock("default", claim)
    noted(scope, "warehouse.uncancelled", int(control.fault(armed)["hits"]))
    assert control.fault(armed)["seen"] == sent
    assert not failure.value.definite
    assert "may still run" in failure.value.message
    assert claim.ID in failure.value.message
    go_on(arena, cold)
    assert require_forced(special_client(scope, "bob"), claim)


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-009")
def test_claim_that_ends_although_it_was_cancelled_is_granted(arena: Arena) -> None:
    """The cancellation does nothing, as it may, and the claim commits after all: the lock is held."""
    scope = arena.scope
    use_once(scope)
    name, token = own_principal(scope)
    own = own_warehouse(scope, patience=0)
    late = Late(times=1)
    arena.inject(late)

    class HealedByTheCancel(Polling):
        def sleep(self, seconds: float) -> None:
            cancelled = int(control.fault(armed)["hits"]) > 0
            if cancelled and not late.healed:
                go_on(arena, late)
            super().sleep(seconds if cancelled else max(seconds, 30.0))

    control = delta_bed(scope).control
    armed = control.add_fault(method="POST", path=ANY_CANCEL, principal=name, status=200, body={})
    alice = special_client(scope, "alice", clock=HealedByTheCancel(), token=token, **own)
    claim = LockInfo.new("alice")
    assert alice.lock("default", claim) == claim.ID
    noted(scope, "warehouse.uncancelled", int(control.fault(armed)["hits"]))
    assert holder_seen_by(special_client(scope, "bob")).ID == claim.ID


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-010")
def test_claim_on_a_warehouse_that_is_deleted_meanwhile_is_unknown(arena: Arena) -> None:
    """The warehouse goes in the midst of a claim: unknown. The next is refused; another warehouse serves."""
    scope = arena.scope
    use_once(scope)
    own = own_warehouse(scope, patience=0)
    alice = special_client(scope, "alice", clock=Polling(), **own)
    cold = Cold(times=1)
    arena.inject(cold)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(take, alice)
        cold.await_held(1)
        delta_bed(scope).scope.driver.rest("DELETE", f"/api/2.0/sql/warehouses/{own['warehouse_id']}")
        delta_bed(scope).warehouse = ""
        failure = outcome_of(running)
    arena.heal()
    assert isinstance(failure, DriverError)
    assert not failure.definite
    again = special_client(scope, "alice", **own)
    with pytest.raises(DriverError) as refused:
        take(again)
    assert (refused.value.kind, refused.value.definite) == ("unauthorized", True)
    assert take(special_client(scope, "bob"))


THROTTLED: dict[str, dict[str, str]] = {
    "seconds": {"Retry-After": "11"},
    "date": {
        "Date": formatdate(1_900_000_000, usegmt=True),
        "Retry-After": formatdate(1_900_000_011, usegmt=True),
    },
    "unsaid": {"X-No": "1"},
}


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-011")
@pytest.mark.parametrize("said", THROTTLED)
def test_throttled_claim_waits_and_takes_the_lock_once(scope: RecordedScope, said: str) -> None:
    """429 five times, more than an outage is retried: each wait is as long as told, or grows by itself."""
    use_once(scope)
    bed, clock = delta_bed(scope), SkippingClock()
    alice = special_client(scope, "alice", clock=clock)
    before = claims(scope)
    armed = bed.control.add_fault(
        method="POST",
        path=STATEMENTS,
        content=f"*{changes_of(bed)}*",
        status=429,
        headers=THROTTLED[said],
        times=5,
    )
    lock_id = take(alice)
    noted(scope, "warehouse.throttled", int(bed.control.fault(armed)["hits"]))
    assert len(clock.slept) == 5
    if said in {"seconds", "date"}:
        assert clock.slept == [11] * 5
    else:
        assert clock.slept == sorted(clock.slept)
        assert min(clock.slept) > 0
    assert claims(scope) - before == 1
    assert [held for _, held in bed.held()] == [lock_id]


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-011")
def test_claim_that_is_to_wait_too_long_ends_at_once(scope: RecordedScope) -> None:
    """Retry-After is a day: the claim ends as throttled, without a wait and without a lock."""
    use_once(scope)
    bed, clock = delta_bed(scope), SkippingClock()
    alice = special_client(scope, "alice", clock=clock)
    armed = bed.control.add_fault(
        method="POST",
        path=STATEMENTS,
        content=f"*{changes_of(bed)}*",
        status=429,
        headers={"Retry-After": "86400"},
        times=None,
    )
    with pytest.raises(DriverError) as failure:
        take(alice)
    noted(scope, "warehouse.throttled", int(bed.control.fault(armed)["hits"]))
    assert (failure.value.kind, failure.value.definite) == ("throttled", True)
    assert clock.slept == []
    bed.control.clear_faults(armed)
    assert bed.held() == []


@needs("test-bed")
@faults("warehouse")
@requirement("FAULT-DELTA-011")
def test_throttled_question_for_a_claim_goes_on_asking(scope: RecordedScope) -> None:
    """429 to the question what became of a claim delays the answer: the claim is not sent again."""
    use_once(scope)
    name, token = own_principal(scope)
    own = own_warehouse(scope, patience=0)
    clock = Polling()
    alice = special_client(scope, "alice", clock=clock, token=token, **own)
    before = claims(scope)
    control = delta_bed(scope).control
    armed = control.add_fault(
        method="GET",
        path=f"{STATEMENTS}/*",
        principal=name,
        status=429,
        headers={"Retry-After": "11"},
        times=5,
    )
    lock_id = take(alice)
    noted(scope, "warehouse.throttled", int(control.fault(armed)["hits"]))
    assert clock.slept.count(11) == 5
    assert claims(scope) - before == 1
    assert [held for _, held in delta_bed(scope).held()] == [lock_id]
