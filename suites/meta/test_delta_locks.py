"""Locks on a Delta table: the `LockStore` over the fake's SQL warehouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lockproof.fakes.databricks.sql.steering import SqlControl
from lockproof.suites.meta.fake_bed import Bed, reach
from lockproof.suites.meta.hurried import Hurried
from lockproof.suites.meta.lock_calls import info, together
from lockproof.suites.meta.sql_bed import STATEMENTS, Sql
from tofu_databricks.errors import (
    ConfigError,
    LockMismatch,
    LockNotHeld,
    LockTableMissing,
    PermissionDenied,
    StateLocked,
    Unavailable,
)
from tofu_databricks.locks.delta import DeltaLocks
from tofu_databricks.locks.warehouse import Warehouse
from tofu_databricks.transport import Transport

KEY = "/Volumes/main/default/v/terraform.tfstate"


@dataclass
class Locks:
    """A bed with a factory of lock stores, each as a process of its own would have it."""

    bed: Bed
    sql: Sql

    @property
    def control(self) -> SqlControl:
        return self.sql.control

    def store(self, *, token: str | None = None, warehouse: str | None = None, **settings: Any) -> DeltaLocks:
        headers = {"Authorization": f"Bearer {token or self.bed.workspace.token}"}
        transport = Transport(lambda: self.bed.workspace.url, lambda: headers, clock=Hurried())
        chosen = self.sql.warehouse if warehouse is None else warehouse
        return DeltaLocks(
            Warehouse(transport, chosen, clock=Hurried()),
            clock=Hurried(),
            **{"catalog": "main", "schema": "default", "table": "state_locks", **settings},
        )

    def statements(self, since: int) -> list[str]:
        """The first words of the statements that were sent."""
        return [record["text"].split()[0] for record in self.control.statements(since)]

    def mark(self) -> int:
        records = self.control.statements()
        return int(records[-1]["i"]) if records else 0


@pytest.fixture
def locks() -> Iterator[Locks]:
    """The fake's warehouse, in process."""
    with reach("in-process") as bed:
        yield Locks(bed, Sql(bed))


def test_lock_excludes_and_tells_who_holds_it(locks: Locks) -> None:
    """The second claim is refused with the holder's whole info; a release by id frees the lock."""
    first, second = locks.store(), locks.store()
    mine = info("ann")
    assert first.acquire(KEY, mine) == mine.ID
    with pytest.raises(StateLocked) as refused:
        second.acquire(KEY, info("bob"))
    assert refused.value.holder == mine
    assert refused.value.definite
    assert second.holder(KEY) == mine
    with pytest.raises(LockMismatch) as mismatch:
        second.release(KEY, "another")
    assert mismatch.value.holder == mine
    second.release(KEY, mine.ID)
    assert first.holder(KEY) is None
    with pytest.raises(LockNotHeld):
        first.release(KEY, mine.ID)
    other = info("bob")
    assert second.acquire(KEY, other) == other.ID


def test_uncontended_acquisition_is_one_statement_and_one_read(locks: Locks) -> None:
    """Once the key has its row: UPDATE and SELECT take the lock, one UPDATE frees it."""
    store, mine = locks.store(), info("ann")
    store.acquire(KEY, mine)
    store.release(KEY, mine.ID)
    mark = locks.mark()
    store.acquire(KEY, mine)
    assert locks.statements(mark) == ["UPDATE", "SELECT"]
    mark = locks.mark()
    store.release(KEY, mine.ID)
    assert locks.statements(mark) == ["UPDATE"]


def test_same_id_again_succeeds(locks: Locks) -> None:
    """The id that holds the lock may acquire it again, from another process too."""
    mine = info("ann")
    assert locks.store().acquire(KEY, mine) == locks.store().acquire(KEY, mine) == mine.ID


@pytest.mark.parametrize("row_level", [True, False], ids=["row-level", "whole-table"])
def test_first_claims_of_many_processes_have_one_winner(row_level: bool, locks: Locks) -> None:
    """Eight processes, no table yet, one key: one holds the lock, the others are told who."""
    locks.control.fidelity(row_level_concurrency=row_level)
    claims = [info(f"w{number}") for number in range(8)]
    found = together(*(lambda mine=mine: locks.store().acquire(KEY, mine) for mine in claims))
    held = locks.store().holder(KEY)
    assert held in claims
    assert [result for result in found if isinstance(result, str)] == [held.ID]
    for result in found:
        assert isinstance(result, str) or (isinstance(result, StateLocked) and result.holder == held)


def test_claims_survive_undocumented_double_seeds(locks: Locks) -> None:
    """Where racing seeds of one key both commit, no two claims are granted, and a granted one is alone."""
    locks.control.fidelity(row_level_phantoms=True)
    locks.store().prepare()
    hold = locks.control.hold_statements("snapshot", contains="MERGE", times=4)
    claims = [info(f"w{number}") for number in range(4)]
    calls = [lambda mine=mine: locks.store().acquire(KEY, mine) for mine in claims]

    def release() -> None:
        locks.control.await_statements(hold, 4)
        locks.control.release_statements(hold)

    found = together(*calls, release)[:-1]
    assert locks.sql.run("SELECT count(*) FROM state_locks") == [["4"]]
    winners = [result for result in found if isinstance(result, str)]
    assert len(winners) == 1
    assert locks.store().holder(KEY) in claims


def test_claim_beside_another_holder_is_given_back(locks: Locks) -> None:
    """A claim that finds another holder in a second row of its key frees its own row and is refused."""
    mine, other = info("ann"), info("bob")
    locks.store().acquire(KEY, mine)
    locks.sql.run(f"INSERT INTO state_locks VALUES ('{KEY}', '{other.ID}', NULL, NULL)")
    with pytest.raises(StateLocked) as refused:
        locks.store().acquire(KEY, other)
    assert refused.value.holder == mine
    rows = locks.sql.run("SELECT lock_id FROM state_locks")
    assert sorted(rows, key=str) == sorted([[mine.ID], [None]], key=str)


def test_claims_of_other_keys_do_not_refuse(locks: Locks) -> None:
    """Without row-level concurrency claims of different keys conflict, and all are granted all the same."""
    locks.control.fidelity(row_level_concurrency=False)
    store = locks.store()
    for number in range(4):
        mine = info("seed")
        store.acquire(f"{KEY}{number}", mine)
        store.release(f"{KEY}{number}", mine.ID)
    claims = [info(f"w{number}") for number in range(4)]
    found = together(
        *(
            lambda mine=mine, number=number: locks.store().acquire(f"{KEY}{number}", mine)
            for number, mine in enumerate(claims)
        )
    )
    assert found == [mine.ID for mine in claims]


@pytest.mark.parametrize("fault", [{"drop": True}, {"status": 503}], ids=["dropped", "503"])
def test_lost_reply_to_a_claim_is_made_good(fault: dict[str, Any], locks: Locks) -> None:
    """A claim whose reply was lost after its commit holds the lock under its own id."""
    store, mine = locks.store(), info("ann")
    store.prepare()
    locks.bed.control.add_fault(method="POST", path=STATEMENTS, when="after", times=3, **fault)
    assert store.acquire(KEY, mine) == mine.ID
    assert locks.store().holder(KEY) == mine


def test_lost_reply_to_a_release_is_made_good(locks: Locks) -> None:
    """A release that ran, lost its reply and ran again is a success for the store that granted the lock."""
    store, mine = locks.store(), info("ann")
    store.acquire(KEY, mine)
    locks.bed.control.add_fault(method="POST", path=STATEMENTS, when="after", drop=True)
    store.release(KEY, mine.ID)
    assert store.holder(KEY) is None


def test_lost_reply_to_somebody_elses_release_is_made_good(locks: Locks) -> None:
    """The row tells who freed it: a forced release whose reply was lost is a success, too."""
    mine = info("ann")
    locks.store().acquire(KEY, mine)
    locks.bed.control.add_fault(method="POST", path=STATEMENTS, when="after", drop=True)
    locks.store().release(KEY, mine.ID)
    assert locks.store().holder(KEY) is None


def test_release_delivered_twice_is_a_success(locks: Locks) -> None:
    """A release that somebody on the way delivers again finds the lock free, and that it freed it itself."""
    store, mine = locks.store(), info("ann")
    store.acquire(KEY, mine)
    fault = locks.bed.control.add_fault(method="POST", path=STATEMENTS, content="*UPDATE*", duplicate=True)
    store.release(KEY, mine.ID)
    assert locks.bed.control.fault(fault)["hits"] == 1
    with pytest.raises(LockNotHeld):
        store.release(KEY, mine.ID)


class Meanwhile(Hurried):
    """Somebody else is busy while a call waits to be sent again."""

    def __init__(self, event: Callable[[], object]) -> None:
        self.event = event

    def sleep(self, seconds: float) -> None:
        self.event()


@pytest.mark.parametrize("others", ["took over", "came and went"])
def test_release_that_was_overtaken_before_it_is_sent_again(others: str, locks: Locks) -> None:
    """Who takes the lock next keeps the trace of the release; who frees it again wipes it: nobody knows."""
    store, mine, theirs = locks.store(), info("ann"), info("bob")
    store.acquire(KEY, mine)

    def overtake() -> None:
        locks.store().acquire(KEY, theirs)
        if others == "came and went":
            locks.store().release(KEY, theirs.ID)

    transport = store.warehouse.transport
    assert isinstance(transport, Transport)
    transport.clock = Meanwhile(overtake)
    locks.bed.control.add_fault(method="POST", path=STATEMENTS, when="after", drop=True)
    if others == "took over":
        store.release(KEY, mine.ID)
        assert locks.store().holder(KEY) == theirs
        return
    with pytest.raises(Unavailable, match="was lost; the lock is free now") as unknown:
        store.release(KEY, mine.ID)
    assert not unknown.value.definite


def test_unreachable_warehouse_is_not_definite_after_a_claim(locks: Locks) -> None:
    """When every reply to a claim is lost, the error says that it may hold the lock."""
    store = locks.store()
    store.prepare()
    locks.bed.control.add_fault(method="POST", path=STATEMENTS, when="after", drop=True, times=None)
    with pytest.raises(Unavailable) as unknown:
        store.acquire(KEY, info("ann"))
    assert not unknown.value.definite


def test_failed_statement_is_not_taken_for_success(locks: Locks) -> None:
    """HTTP 200 with state FAILED is an error: a table of somebody else is named as such."""
    locks.sql.run("CREATE TABLE foreign_table (a STRING)")
    with pytest.raises(ConfigError, match="is not one of ours"):
        locks.store(table="foreign_table").acquire(KEY, info("ann"))


def test_table_is_made_when_missing(locks: Locks) -> None:
    """The first lock makes the table, Serializable; the same happens once only."""
    locks.control.create_schema("main.ops")
    locks.store(schema="ops").acquire(KEY, info("ann"))
    shown = locks.sql.run("SHOW TBLPROPERTIES main.ops.state_locks")
    assert shown == [["delta.isolationLevel", "Serializable"]]


@pytest.mark.parametrize("place", [{"schema": "nowhere"}, {"catalog": "nowhere"}])
def test_missing_schema_is_an_error_and_stays_missing(locks: Locks, place: dict[str, str]) -> None:
    """A lock table is never made in a schema or catalog that is not there: the error names both."""
    with pytest.raises(ConfigError, match=r"the lock table .*nowhere.* has no place.*lock_schema"):
        locks.store(**place).acquire(KEY, info("ann"))
    statements = [record["text"].split()[:2] for record in locks.control.statements()]
    assert ["CREATE", "SCHEMA"] not in statements


def test_missing_table_is_told_with_its_ddl(locks: Locks) -> None:
    """With create_table off, or without the grant, the error holds the DDL for an administrator."""
    with pytest.raises(
        LockTableMissing, match=r"create_lock_table is off.*CREATE TABLE IF NOT EXISTS"
    ) as missing:
        locks.store(create_table=False).acquire(KEY, info("ann"))
    assert "Serializable" in str(missing.value)
    grants = {"main": ["USE_CATALOG"], "main.default": ["USE_SCHEMA"]}
    token = locks.control.create_principal("eve@example.com", grants=grants)
    with pytest.raises(LockTableMissing, match="let an administrator run: CREATE TABLE"):
        locks.store(token=token).acquire(KEY, info("eve"))
    locks.store().prepare()
    locks.control.grant("eve@example.com", "main.default.state_locks", "SELECT")
    with pytest.raises(PermissionDenied, match="MODIFY"):
        locks.store(token=token).acquire(KEY, info("eve"))


def test_warehouse_is_the_first_running_one_or_a_clear_error(locks: Locks) -> None:
    """Without an id the first running warehouse is taken; when none runs, the error names those there are."""
    mine = info("ann")
    assert locks.store(warehouse="").acquire(KEY, mine) == mine.ID
    locks.control.set_warehouse(locks.sql.warehouse, running=False)
    with pytest.raises(
        ConfigError, match=r"no SQL warehouse that you may use is running: .*Starter Warehouse \(STOPPED\)"
    ):
        locks.store(warehouse="").holder(KEY)
    assert locks.store().holder(KEY) == mine


def test_warehouse_that_may_only_be_seen_is_passed_over(locks: Locks) -> None:
    """The first running warehouse that the caller may use is taken, not the first that it sees."""
    user = "carol@example.com"
    token = locks.control.create_principal(
        user,
        grants={
            "main": ["USE_CATALOG"],
            "main.default": ["USE_SCHEMA", "CREATE_TABLE", "SELECT", "MODIFY"],
        },
    )
    locks.control.set_warehouse(locks.sql.warehouse, access={user: "CAN_VIEW"})
    with pytest.raises(ConfigError, match=r"Starter Warehouse \(not yours to use\)"):
        locks.store(token=token, warehouse="").acquire(KEY, info("carol"))
    with pytest.raises(PermissionDenied):
        locks.store(token=token).acquire(KEY, info("carol"))
    locks.control.create_warehouse("Second", access={user: "CAN_USE"}, running=True)
    mine = info("carol")
    assert locks.store(token=token, warehouse="").acquire(KEY, mine) == mine.ID


def test_many_waiters_need_few_statements(locks: Locks) -> None:
    """Ten clients that race for one lock need fewer than three statements each."""
    store, first = locks.store(), info("first")
    store.acquire(KEY, first)
    store.release(KEY, first.ID)
    mark = locks.mark()
    claims = [info(f"w{number}") for number in range(10)]
    found = together(*(lambda mine=mine: locks.store().acquire(KEY, mine) for mine in claims))
    assert sum(isinstance(result, str) for result in found) == 1
    assert len(locks.statements(mark)) < 3 * len(claims)


def test_claim_that_nobody_can_follow_is_not_definite(locks: Locks) -> None:
    """A claim that still runs when its state can no longer be asked for may yet take the lock."""
    store, mine = locks.store(), info("ann")
    store.prepare()
    locks.control.freeze_clock()
    hold = locks.control.hold_statements("snapshot", contains="UPDATE")
    locks.control.add_fault(method="GET", path=f"{STATEMENTS}/*", status=403)

    def give_up() -> None:
        locks.control.await_statements(hold)
        locks.control.advance_clock(60)

    found, _ = together(lambda: store.acquire(KEY, mine), give_up)
    assert isinstance(found, PermissionDenied)
    assert not found.definite
