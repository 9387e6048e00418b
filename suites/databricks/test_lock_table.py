"""The lock store: its table, lost replies, computes that go to sleep, and clients that would use another."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import psycopg
import pytest

from lockproof.driver import DriverError, Locked, LockInfo, LockMismatch, NotLocked
from lockproof.driver.databricks_bed import SkippingClock
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import HistoryWriter
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.databricks.special import bed_of, special_client

FIRST_INITS = 8


class BusyClock(SkippingClock):
    """Somebody else is busy during the first wait."""

    def __init__(self, event: Callable[[], None]) -> None:
        super().__init__()
        self.event = event

    def sleep(self, seconds: float) -> None:
        if not self.slept:
            self.event()
        super().sleep(seconds)


@needs("test-bed")
@requirement("DBX-LOCK-001")
def test_table_that_may_not_be_made_is_asked_for(scope: RecordedScope) -> None:
    """With create_lock_table = false the error prints the DDL; running it is all that is needed."""
    bed = bed_of(scope)
    client = special_client(scope, "alice", create_lock_table=False)
    with pytest.raises(DriverError) as failure:
        client.lock("default", LockInfo.new("alice"))
    assert failure.value.definite
    ddl = failure.value.message.partition("create it with: ")[2]
    assert "CREATE TABLE" in ddl
    assert not bed.locks.held()
    bed.locks.run(ddl)
    lock_id = client.lock("default", LockInfo.new("alice"))
    assert [held for _, held in bed.locks.held()] == [lock_id]


@reported("pg-first-use", "terraform#22833", "terraform#29034", "opentofu#2218", "terraform#33217")
@needs("test-bed")
@requirement("DBX-LOCK-002")
def test_many_first_users_make_the_table_once(scope: RecordedScope) -> None:
    """Eight clients that lock for the first time at the same moment all succeed."""
    clients = [special_client(scope, f"first-{number}") for number in range(FIRST_INITS)]
    barrier = threading.Barrier(FIRST_INITS)
    granted: list[str] = []
    failures: list[Exception] = []

    def begin(client: RecordedClient, workspace: str) -> None:
        barrier.wait(30)
        try:
            granted.append(client.lock(workspace, LockInfo.new(client.who)))
        except DriverError as error:
            failures.append(error)

    threads = [
        threading.Thread(target=begin, args=(client, f"ws{number}")) for number, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(set(granted)) == FIRST_INITS


@reported("opentofu#4405", "http-reply-lost")
@needs("test-bed")
@requirement("DBX-LOCK-003")
def test_lost_reply_of_a_lock_is_made_good(scope: RecordedScope) -> None:
    """The lock was taken and the reply lost: the caller gets its lock, not a refusal by itself."""
    alice = special_client(scope, "alice")
    alice.unlock("default", alice.lock("default", LockInfo.new("alice")))
    lost = bed_of(scope).locks.lose_change()
    lock_id = alice.lock("default", LockInfo.new("alice"))
    assert lost() == 1
    with pytest.raises(Locked) as refused:
        special_client(scope, "bob").lock("default", LockInfo.new("bob"))
    assert refused.value.holder is not None
    assert refused.value.holder.ID == lock_id
    alice.unlock("default", lock_id)


@reported("http-reply-lost")
@needs("test-bed")
@requirement("DBX-LOCK-003")
def test_lost_reply_of_an_unlock_is_made_good(scope: RecordedScope) -> None:
    """The lock was released and the reply lost: the release succeeds, and the lock is free."""
    alice = special_client(scope, "alice")
    lock_id = alice.lock("default", LockInfo.new("alice"))
    lost = bed_of(scope).locks.lose_change()
    alice.unlock("default", lock_id)
    assert lost() == 1
    bob = special_client(scope, "bob")
    assert bob.lock("default", LockInfo.new("bob"))


@reported("pg-holder-terminated", "terraform#14312", "docs-content#3378")
@needs("test-bed")
@requirement("DBX-LOCK-004")
def test_lock_outlives_a_suspended_compute(scope: RecordedScope) -> None:
    """A compute that is stopped ends every session: locks stay, and the holder goes on working."""
    bed = bed_of(scope)
    own = bed.locks.own_compute()
    alice = special_client(scope, "alice", **own)
    bob = special_client(scope, "bob", **own)
    lock_id = alice.lock("default", LockInfo.new("alice"))
    bed.locks.suspend()
    with pytest.raises(Locked):
        bob.lock("default", LockInfo.new("bob"))
    alice.put("default", tofu_bytes(document()), lock_id=lock_id)
    bed.locks.suspend()
    alice.unlock("default", lock_id)
    assert bob.lock("default", LockInfo.new("bob"))


@needs("test-bed", "locking.expiring-login")
@requirement("DBX-LOCK-006")
def test_login_after_the_token_expired_takes_a_fresh_one(scope: RecordedScope) -> None:
    """A token of Lakebase lives an hour: a later login uses another one, unasked."""
    bed = bed_of(scope)
    own = bed.locks.own_compute()
    alice = special_client(scope, "alice", **own)
    lock_id = alice.lock("default", LockInfo.new("alice"))
    bed.control.call("lakebase_expire_tokens", project=own["lakebase_project"])
    bed.locks.suspend()
    alice.unlock("default", lock_id)
    assert alice.lock("default", LockInfo.new("alice"))


@needs("test-bed", "locking.enforced-key")
@requirement("DBX-LOCK-005")
def test_key_of_the_table_excludes_a_second_row(scope: RecordedScope) -> None:
    """The database itself refuses a second row for one state, whoever inserts it."""
    bed = bed_of(scope)
    special_client(scope, "alice").lock("default", LockInfo.new("alice"))
    with pytest.raises(psycopg.errors.UniqueViolation):
        bed.locks.run(f"INSERT INTO {bed.locks.table} SELECT * FROM {bed.locks.table}")
    assert len(bed.locks.held()) == 1


@needs("test-bed")
@requirement("DBX-LOCK-007")
@pytest.mark.parametrize("setting", ["lock_table", "lock_schema", "lock_backend"])
def test_client_with_another_lock_store_is_refused(scope: RecordedScope, setting: str) -> None:
    """Who would keep the lock elsewhere is told both places, and holds nothing."""
    bed = bed_of(scope)
    other = bed.locks.other_backend if setting == "lock_backend" else f"{bed.scope.lock_schema}_other"
    refused_elsewhere(scope, other, **{setting: other})


@needs("test-bed", "locking.expiring-login")
@requirement("DBX-LOCK-007")
def test_client_with_another_database_is_refused(scope: RecordedScope) -> None:
    """A table of the same name in another database is another lock store."""
    own = bed_of(scope).locks.own_compute()
    refused_elsewhere(scope, "".join(own.values()), **own)


def refused_elsewhere(scope: RecordedScope, other: str, **settings: str) -> None:
    """Asserts that a client with other `settings` gets no lock, and is told `other` and the place of ours."""
    alice = special_client(scope, "alice")
    alice.unlock("default", alice.lock("default", LockInfo.new("alice")))
    with pytest.raises(DriverError) as refused:
        special_client(scope, "bob", **settings).lock("default", LockInfo.new("bob"))
    assert refused.value.definite
    assert refused.value.kind != "locked"
    assert other in refused.value.message
    assert bed_of(scope).scope.lock_schema in refused.value.message
    assert alice.lock("default", LockInfo.new("alice"))


@reported("terraform#22833", "terraform#29034", "opentofu#2218", "terraform#33217")
@needs("test-bed")
@requirement("DBX-LOCK-008")
def test_same_names_in_another_schema_are_another_lock(
    scope: RecordedScope, history_beside: Callable[[], HistoryWriter]
) -> None:
    """Two states of one catalog that differ in their schema alone share a lock table and no lock."""
    bed = bed_of(scope)
    catalog, schema, volume = bed.volume.split(".")
    other = f"{schema}_{bed.scope.lock_schema}"
    bed.control.create_volume(f"{catalog}.{other}.{volume}")
    alice = special_client(scope, "alice")
    bob = special_client(scope, "bob", history_beside(), schema=other)
    theirs = alice.lock("default", LockInfo.new("alice"))
    ours = bob.lock("default", LockInfo.new("bob"))
    assert sorted(held for _, held in bed.locks.held()) == sorted([theirs, ours])
    bob.unlock("default", ours)
    assert [held for _, held in bed.locks.held()] == [theirs]
    bed.control.delete_volume(f"{catalog}.{other}.{volume}")


@needs("test-bed")
@requirement("DBX-LOCK-009")
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("used", [False, True], ids=["first-use", "used-before"])
def test_claims_that_overlap_have_one_winner_at_most(scope: RecordedScope, used: bool, step: int) -> None:
    """Any statement of a claim may stand still while another client claims: one of them holds the lock."""
    bed = bed_of(scope)
    alice, bob = special_client(scope, "alice"), special_client(scope, "bob")
    if used:
        bob.unlock("default", bob.lock("default", LockInfo.new("bob")))
    stall = bed.locks.stall(step)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(claimed, alice)
        while not wait([first], 0.005).done and not stall.reached():
            pass
        if first.done():
            stall.release()  # it takes fewer statements
        second = pool.submit(claimed, bob)
        wait([second], 1)  # it may have to wait for the first, as long as that makes the table
        stall.release()
        ids = [*first.result(), *second.result()]
    assert len(ids) <= 1
    assert [held for _, held in bed.locks.held()] == ids


def claimed(client: RecordedClient) -> list[str]:
    """The lock's id, or nothing when another holds it."""
    try:
        return [client.lock("default", LockInfo.new(client.who))]
    except Locked:
        return []


@needs("test-bed", "locking.grants")
@requirement("DBX-LOCK-010")
def test_statement_that_the_lock_store_refuses_is_no_lock(scope: RecordedScope) -> None:
    """Who may use the volume and not the lock store gets an error, and no lock."""
    bed = bed_of(scope)
    alice = special_client(scope, "alice")
    alice.unlock("default", alice.lock("default", LockInfo.new("alice")))
    token = bed.principal("reader", "READ_VOLUME", "WRITE_VOLUME")
    with pytest.raises(DriverError) as refused:
        special_client(scope, "reader", token=token).lock("default", LockInfo.new("reader"))
    assert refused.value.definite
    assert not isinstance(refused.value, Locked)
    assert bed.locks.held() == []


@needs("test-bed", "locking.fencing")
@requirement("DBX-FENCE-001")
@pytest.mark.parametrize("loss", ["released", "taken-over"])
def test_write_without_the_lock_sends_nothing(scope: RecordedScope, loss: str) -> None:
    """A write whose lock is gone is refused before a byte of it is sent."""
    bed = bed_of(scope)
    alice, bob = special_client(scope, "alice"), special_client(scope, "bob")
    lock_id = alice.lock("default", LockInfo.new("alice"))
    bob.unlock("default", lock_id)
    if loss == "taken-over":
        bob.lock("default", LockInfo.new("bob"))
    mark = bed.control.mark()
    with pytest.raises(DriverError) as refused:
        alice.put("default", tofu_bytes(document()), lock_id=lock_id)
    assert isinstance(refused.value, LockMismatch if loss == "taken-over" else NotLocked)
    assert bed.requests(mark) == []


@needs("test-bed", "locking.fencing")
@requirement("DBX-FENCE-002")
@pytest.mark.parametrize("reason", ["throttled", "unanswered"])
def test_write_that_waits_is_not_sent_again_without_the_lock(scope: RecordedScope, reason: str) -> None:
    """While a write waits to be sent again, another takes over: the other's state is not overwritten."""
    bed = bed_of(scope)
    bob = special_client(scope, "bob")
    newer = tofu_bytes(document(serial=2))
    lock_id = special_client(scope, "early").lock("default", LockInfo.new("alice"))

    def take_over() -> None:
        bob.unlock("default", lock_id)
        bob.put("default", newer, lock_id=bob.lock("default", LockInfo.new("bob")))

    alice = special_client(scope, "alice", clock=BusyClock(take_over))
    fault: dict[str, Any] = {"drop": True}
    if reason == "throttled":
        fault = {"status": 429, "headers": {"Retry-After": "60"}}
    bed.control.add_fault(method="PUT", path=bed.files, when="before", **fault)
    with pytest.raises(DriverError) as refused:
        alice.put("default", tofu_bytes(document(serial=1)), lock_id=lock_id)
    assert refused.value.kind == "lock_mismatch"
    # Strictly fenced, what may have arrived is an object that no head names.
    assert refused.value.definite == (reason == "throttled" or bed.strict)
    snapshot = bob.get("default")
    assert snapshot is not None
    assert snapshot.data == newer
