"""Direct locks on a Delta table: exclusion, lost races and replies, and what they share with a warehouse."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deltalake
import pytest

from lockproof.suites.meta.direct_bed import KEY, SharedTable, store_at
from lockproof.suites.meta.fake_bed import reach
from lockproof.suites.meta.lock_calls import info, together
from lockproof.suites.meta.sql_bed import Sql
from tofu_databricks.errors import (
    InvalidRequest,
    LockMismatch,
    LockNotHeld,
    LockTableMissing,
    StateLocked,
    Unavailable,
)
from tofu_databricks.locks import LockStore
from tofu_databricks.locks.delta_direct import RESENDS

CLAIM = """
import sys
from tofu_databricks.errors import StateLocked
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks.delta_direct import DirectDeltaLocks
from tofu_databricks.locks.delta_storage import GivenStorage
store = DirectDeltaLocks(GivenStorage(sys.argv[1], {}), name="c.s.t")
sys.stdin.readline()
try:
    print("held", store.acquire(sys.argv[2], LockInfo.new("process")))
except StateLocked as error:
    print("refused", error.holder.ID)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the table will lie; a folder with a name that a URL has to escape."""
    return tmp_path / "the locks 100%"


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedTable]:
    """A fake workspace whose lock table is an external one."""
    with reach("in-process") as bed:
        table = SharedTable(bed, Sql(bed))
        table.create((tmp_path / "shared").as_uri())
        yield table


def test_lock_excludes_and_tells_who_holds_it(place: Path) -> None:
    """The second claim is refused with the holder's whole info; a release by id frees the lock."""
    first, second = store_at(place), store_at(place)
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
    assert first.acquire(KEY, other) == other.ID


@pytest.mark.parametrize("lock_id", ["", "\ud800"], ids=["empty", "surrogate"])
def test_id_that_cannot_be_kept_is_refused(lock_id: str, place: Path) -> None:
    """Such an id is no lock, and releasing it changes nothing."""
    mine = info("ann")
    with pytest.raises(InvalidRequest, match="lock ID"):
        store_at(place).acquire(KEY, type(mine)(ID=lock_id))
    store_at(place).acquire(KEY, mine)
    with pytest.raises(LockMismatch):
        store_at(place).release(KEY, lock_id)


def test_first_claims_of_many_threads_have_one_winner(place: Path) -> None:
    """Eight stores, no table yet, one key: one holds the lock, the others are told who."""
    claims = [info(f"w{number}") for number in range(8)]
    found = together(*(lambda mine=mine: store_at(place).acquire(KEY, mine) for mine in claims))
    held = store_at(place).holder(KEY)
    assert held in claims
    assert [result for result in found if isinstance(result, str)] == [held.ID]
    assert [result.holder for result in found if isinstance(result, StateLocked)] == [held] * 7


def test_first_claims_of_many_processes_have_one_winner(place: Path) -> None:
    """Four processes that begin at the same moment."""
    command = [sys.executable, "-c", CLAIM, str(place), KEY]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate(timeout=60)[0].split() for process in processes]
    held = store_at(place).holder(KEY)
    assert held is not None
    assert sorted(told) == sorted([["held", held.ID], *[["refused", held.ID]] * 3])


def test_claims_of_other_keys_do_not_refuse(place: Path) -> None:
    """Commits of other keys are lost races, not holders: all claims are granted, and all are released."""
    claims = [info(f"w{number}") for number in range(6)]

    def in_and_out(number: int) -> int:
        store = store_at(place)
        for _ in range(3):
            store.acquire(f"{KEY}{number}", claims[number])
            store.release(f"{KEY}{number}", claims[number].ID)
        store.acquire(f"{KEY}{number}", claims[number])
        return number

    assert together(*(lambda n=n: in_and_out(n) for n in range(6))) == list(range(6))
    assert [store_at(place).holder(f"{KEY}{number}") for number in range(6)] == claims


@pytest.mark.parametrize("step", ["lock.acquire", "lock.commit"])
def test_claim_that_was_overtaken_is_refused(step: str, place: Path) -> None:
    """Another's claim between the look and the commit wins; between its own look and ours, too."""
    other = info("bob")
    done: list[str] = []

    def overtaken(reached: str) -> None:
        if reached == step and not done:
            done.append(store_at(place).acquire(KEY, other))

    store_at(place).prepare()
    with pytest.raises(StateLocked) as refused:
        store_at(place, checkpoint=overtaken).acquire(KEY, info("ann"))
    assert refused.value.holder == other
    assert refused.value.definite
    assert store_at(place).holder(KEY) == other


def losing(times: int) -> Callable[[str], None]:
    """A checkpoint that loses the replies to the first commits."""
    left = [times]

    def lose(step: str) -> None:
        if step == "lock.committed" and left[0]:
            left[0] -= 1
            raise ConnectionResetError("reset by peer")

    return lose


def test_lost_reply_to_a_commit_is_made_good(place: Path) -> None:
    """Claim and release know their own commit in the log again, each without a second one."""
    mine = info("ann")
    assert store_at(place, checkpoint=losing(1)).acquire(KEY, mine) == mine.ID
    store_at(place, checkpoint=losing(1)).release(KEY, mine.ID)
    assert store_at(place).holder(KEY) is None
    assert deltalake.DeltaTable(str(place)).version() == 2


def test_release_whose_reply_was_lost_is_no_mismatch_when_another_took_over(place: Path) -> None:
    """The commit was ours, whatever came after it: the release succeeds."""
    mine, other = info("ann"), info("bob")
    lose = losing(1)

    def lose_and_lock(step: str) -> None:
        try:
            lose(step)
        except ConnectionResetError:
            store_at(place).acquire(KEY, other)
            raise

    store_at(place).acquire(KEY, mine)
    store_at(place, checkpoint=lose_and_lock).release(KEY, mine.ID)
    assert store_at(place).holder(KEY) == other


def test_unreachable_storage_after_a_commit_is_not_definite(place: Path) -> None:
    """Who cannot look whether the commit is there says so; before any commit the failure is definite."""
    lose = losing(1)

    def out_of_reach(step: str) -> None:
        if step == "lock.acquire" and lost:
            raise Unavailable("out of reach")
        try:
            lose(step)
        except ConnectionResetError:
            lost.append(step)
            raise

    lost: list[str] = []
    with pytest.raises(Unavailable) as unknown:
        store_at(place, checkpoint=out_of_reach).acquire(KEY, info("ann"))
    assert not unknown.value.definite
    with pytest.raises(Unavailable) as known:
        store_at(place, checkpoint=out_of_reach).acquire(KEY, info("bob"))
    assert known.value.definite


def test_commit_that_never_lands_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that keeps failing is told with its own words, not as a held lock; a few failures are borne."""
    write, sent = deltalake.write_deltalake, []

    def failing(*given: Any, **settings: Any) -> None:
        sent.append(given)
        if len(sent) <= failures:
            raise OSError("the disk is on fire")
        write(*given, **settings)

    monkeypatch.setattr(deltalake, "write_deltalake", failing)
    failures, mine = RESENDS, info("ann")
    assert store_at(place).acquire(KEY, mine) == mine.ID
    failures, sent = 1000, []
    with pytest.raises(Unavailable, match="the disk is on fire") as failed:
        store_at(place).release(KEY, mine.ID)
    assert not failed.value.definite
    assert len(sent) == RESENDS + 1


def test_missing_table_is_told_with_its_ddl(place: Path) -> None:
    """With create_table off the error holds the DDL with the location, and nothing is made."""
    with pytest.raises(LockTableMissing, match="create_lock_table is off") as missing:
        store_at(place, create_table=False).acquire(KEY, info("ann"))
    assert f"USING DELTA LOCATION '{place.as_uri()}' TBLPROPERTIES" in str(missing.value)
    assert "'delta.enableDeletionVectors' = 'false'" in str(missing.value)
    assert not place.exists()


def test_log_is_cleaned_as_it_grows(place: Path) -> None:
    """Checkpoints are written, and versions older than a day are removed with the next ones."""
    store, mine = store_at(place), info("ann")
    for _ in range(25):
        store.acquire(KEY, mine)
        store.release(KEY, mine.ID)
    log = place / "_delta_log"
    assert len(list(log.glob("*.checkpoint.parquet"))) == 2
    old = time.time() - 2 * 86400
    for file in log.iterdir():
        os.utime(file, (old, old))
    for _ in range(10):
        store.acquire(KEY, mine)
        store.release(KEY, mine.ID)
    assert len(list(log.glob("*.json"))) < 40
    assert store_at(place).holder(KEY) is None
    assert len(deltalake.DeltaTable(str(place)).file_uris()) == 1


# --- with a warehouse on the same table


@pytest.mark.parametrize("taken", ["directly", "by_warehouse"])
def test_lock_is_seen_refused_and_released_by_the_other_kind(taken: str, shared: SharedTable) -> None:
    """A lock that one kind of client took is a lock for the other kind."""
    stores: tuple[LockStore, LockStore] = (shared.directly(), shared.by_warehouse())
    first, second = stores if taken == "directly" else stores[::-1]
    mine = info("ann")
    first.acquire(KEY, mine)
    assert second.holder(KEY) == mine
    with pytest.raises(StateLocked) as refused:
        second.acquire(KEY, info("bob"))
    assert refused.value.holder == mine
    with pytest.raises(LockMismatch):
        second.release(KEY, "another")
    second.release(KEY, mine.ID)
    assert first.holder(KEY) is None
    assert second.acquire(KEY, mine) == mine.ID
    first.release(KEY, mine.ID)


@pytest.mark.parametrize("used", [False, True], ids=["first-use", "used-before"])
def test_kinds_that_race_have_one_winner(used: bool, shared: SharedTable) -> None:
    """Four clients of each kind at the same moment: one holds the lock, and all others are told who."""
    if used:
        mine = info("early")
        shared.by_warehouse().acquire(KEY, mine)
        shared.directly().release(KEY, mine.ID)
    claims = [info(f"w{number}") for number in range(8)]
    stores: list[LockStore] = [
        shared.directly() if number % 2 else shared.by_warehouse() for number in range(8)
    ]
    found = together(
        *(
            lambda mine=mine, store=store: store.acquire(KEY, mine)
            for mine, store in zip(claims, stores, strict=True)
        )
    )
    held = shared.directly().holder(KEY)
    assert held in claims
    assert [result for result in found if isinstance(result, str)] == [held.ID]
    assert [result.holder for result in found if isinstance(result, StateLocked)] == [held] * 7


def test_statement_of_a_warehouse_loses_to_a_direct_commit(shared: SharedTable) -> None:
    """An UPDATE whose snapshot is older than a direct claim meets a conflict, and its client a holder."""
    early, mine = info("early"), info("ann")
    shared.by_warehouse().acquire(KEY, early)
    shared.by_warehouse().release(KEY, early.ID)
    hold = shared.sql.control.hold_statements("snapshot", contains="UPDATE")

    def overtake() -> str:
        shared.sql.control.await_statements(hold)
        try:
            return shared.directly().acquire(KEY, mine)
        finally:
            shared.sql.control.release_statements(hold)

    lost, won = together(lambda: shared.by_warehouse().acquire(KEY, info("bob")), overtake)
    assert won == mine.ID
    assert isinstance(lost, StateLocked)
    assert lost.holder == mine


def test_direct_commit_loses_to_a_statement_of_a_warehouse(shared: SharedTable) -> None:
    """A direct claim whose look is older than a statement's commit is refused."""
    mine = info("ann")
    done: list[str] = []

    def overtaken(step: str) -> None:
        if step == "lock.commit" and not done:
            done.append(shared.by_warehouse().acquire(KEY, mine))

    with pytest.raises(StateLocked) as refused:
        shared.directly(checkpoint=overtaken).acquire(KEY, info("bob"))
    assert refused.value.holder == mine


def test_several_rows_of_a_key_become_one(shared: SharedTable) -> None:
    """Rows that a warehouse seeded twice are one lock, and one row after it."""
    for _ in range(2):
        shared.sql.run(f"INSERT INTO state_locks VALUES ('{KEY}', NULL, NULL, NULL)")
    mine = info("ann")
    shared.directly().acquire(KEY, mine)
    assert shared.sql.run("SELECT lock_key, lock_id FROM state_locks") == [[KEY, mine.ID]]


def test_direct_locks_use_nothing_of_the_warehouse() -> None:
    """What both kinds know of a row is beneath both: a direct lock imports no SQL."""
    script = "import sys, tofu_databricks.locks.delta_direct_heads; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {
        name.rpartition(".")[2] for name in run.stdout.split() if name.startswith("tofu_databricks.locks.")
    }
    assert loaded >= {"delta_direct", "delta_rows"}
    assert not loaded & {"delta", "delta_heads", "warehouse"}
