"""The reference backend's Lakebase locks: exclusion, and the statements that it is made of.

Every statement goes by the login proxy to a real Postgres; nothing but Databricks' REST API is imitated.
"""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lockproof.suites.meta.lakebase_bed import (
    KEY,
    TABLE,
    LakebaseBed,
    rows,
)
from tofu_databricks.errors import (
    InvalidRequest,
    LockMismatch,
    LockNotHeld,
    StateLocked,
)
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks import LockStore
from tofu_databricks.locks.lakebase import LakebaseLocks

pytest_plugins = ["lockproof.suites.meta.lakebase_fixtures"]


# --- the lock ---


def test_lock_excludes_until_it_is_released(bed: LakebaseBed, store: LockStore) -> None:
    """A held lock refuses others and names its holder word for word; released, it can be taken."""
    held = LockInfo.new("alice@host", info='quote " and ünïcode \u0000 \ud800', path="p/q")
    other = bed.store()
    assert store.acquire(KEY, held) == held.ID
    with pytest.raises(StateLocked) as caught:
        other.acquire(KEY, LockInfo.new("bob"))
    assert caught.value.holder == held
    assert caught.value.definite is True
    assert store.holder(KEY) == other.holder(KEY) == held
    other.release(KEY, held.ID)
    assert store.holder(KEY) is None
    other.acquire(KEY, LockInfo.new("bob"))


def test_keys_do_not_touch_each_other(store: LockStore) -> None:
    """Locks of keys that differ in one character, case included, are independent."""
    for key in (KEY, KEY.upper(), f"{KEY}/", f"{KEY} ", ""):
        store.acquire(key, LockInfo.new(key))
    assert [holder.Who for key in (KEY, KEY.upper()) if (holder := store.holder(key))] == [KEY, KEY.upper()]


def test_same_id_is_one_acquisition(bed: LakebaseBed, store: LockStore) -> None:
    """Taking the lock again under the id that holds it succeeds and changes nothing."""
    info = LockInfo.new("alice")
    assert store.acquire(KEY, info) == bed.store().acquire(KEY, info) == info.ID
    assert rows(bed) == [(KEY, info.ID)]


def test_release_by_a_wrong_id_is_refused_and_harmless(bed: LakebaseBed, store: LockStore) -> None:
    """An id that does not hold the lock frees nothing: mismatch while it is held, not held otherwise."""
    info = LockInfo.new("alice")
    with pytest.raises(LockNotHeld):
        store.release(KEY, info.ID)
    store.acquire(KEY, info)
    for wrong in (str(uuid.uuid4()), "", "\0", "\ud800", info.ID.upper() + " ", "'; DROP TABLE x; --"):
        with pytest.raises(LockMismatch) as caught:
            store.release(KEY, wrong)
        assert caught.value.holder == info
        assert caught.value.definite is True
    assert rows(bed) == [(KEY, info.ID)]
    store.release(KEY, info.ID)
    with pytest.raises(LockNotHeld):
        store.release(KEY, info.ID)


@pytest.mark.parametrize("lock_id", ["", "a\0b", "\ud800"])
def test_id_that_cannot_be_kept_is_refused(store: LockStore, lock_id: str) -> None:
    """An id that is empty or that Postgres cannot hold is refused before anything is sent."""
    with pytest.raises(InvalidRequest):
        store.acquire(KEY, replace(LockInfo.new("alice"), ID=lock_id))


def test_foreign_row_still_names_its_id(bed: LakebaseBed, store: LockStore) -> None:
    """A holder written by another tool is shown by its id, whatever else is in the row."""
    store.prepare()
    with bed.connect() as connection:
        connection.execute(
            f"INSERT INTO {TABLE} (key, id, info) VALUES (%s, 'x', 'not json')".encode(), [KEY]
        )
    assert store.holder(KEY) == LockInfo(ID="x")
    with pytest.raises(StateLocked, match="x"):
        store.acquire(KEY, LockInfo.new("alice"))


def test_lock_taken_between_refusal_and_look_is_reported_or_taken(bed: LakebaseBed, store: LockStore) -> None:
    """When the holder vanishes before it can be read, the lock is tried again, and taken."""
    held = LockInfo.new("alice")
    store.acquire(KEY, held)
    info = LockInfo.new("bob")
    other = bed.store()
    assert isinstance(other, LakebaseLocks)
    freed = iter([lambda: store.release(KEY, held.ID)])

    def between(step: str) -> None:
        if step == "lock.read":
            next(freed)()

    other.checkpoint = between
    assert other.acquire(KEY, info) == info.ID


def test_holder_that_always_vanishes_is_reported_without_a_name(bed: LakebaseBed, store: LockStore) -> None:
    """When every look finds nobody, the refusal names nobody instead of going round for ever."""
    other = bed.store()
    assert isinstance(other, LakebaseLocks)
    ids: list[str] = []

    def between(step: str) -> None:
        if step == "lock.acquire":
            ids.append(store.acquire(KEY, LockInfo.new("alice")))
        elif step == "lock.read":
            store.release(KEY, ids[-1])

    other.checkpoint = between
    with pytest.raises(StateLocked) as caught:
        other.acquire(KEY, LockInfo.new("bob"))
    assert caught.value.holder is None
    assert len(ids) == 3


def test_fifty_clients_at_once_make_one_holder(bed: LakebaseBed) -> None:
    """Of fifty clients with connections of their own that race for one lock, one gets it; all see who."""
    stores = [bed.store() for _ in range(50)]
    for one in stores:
        one.holder(KEY)
    start = threading.Barrier(50, timeout=30)

    def race(one: LockStore) -> tuple[str | None, bool]:
        info = LockInfo.new("racer")
        start.wait()
        try:
            return one.acquire(KEY, info), True
        except StateLocked as refusal:
            return refusal.holder.ID if refusal.holder else None, False

    with ThreadPoolExecutor(50) as pool:
        outcomes = list(pool.map(race, stores))
    assert sum(won for _, won in outcomes) == 1
    assert {lock_id for lock_id, _ in outcomes} == {row[1] for row in rows(bed)}


def test_critical_sections_never_overlap(bed: LakebaseBed) -> None:
    """Twelve clients that take the lock by turns, each until it has had it three times, are alone in it."""
    inside = 0
    most = 0

    def work(one: LockStore) -> None:
        nonlocal inside, most
        entered = 0
        while entered < 3:
            info = LockInfo.new("worker")
            try:
                one.acquire(KEY, info)
            except StateLocked:
                continue
            inside += 1
            most = max(most, inside)
            assert one.holder(KEY) == info
            inside -= 1
            one.release(KEY, info.ID)
            entered += 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, [bed.store() for _ in range(12)]))
    assert most == 1
    assert rows(bed) == []


def test_one_store_serves_many_threads(store: LockStore, bed: LakebaseBed) -> None:
    """Threads that share a store lock keys of their own at once, over a bounded number of connections."""

    def cycle(number: int) -> None:
        info = LockInfo.new(str(number))
        store.acquire(f"{KEY}{number}", info)
        assert store.holder(f"{KEY}{number}") == info
        store.release(f"{KEY}{number}", info.ID)

    with ThreadPoolExecutor(30) as pool:
        list(pool.map(cycle, range(60)))
    assert 1 <= len(bed.proxy.sessions) <= 4
    assert rows(bed) == []


# --- statements ---


def test_usual_case_is_one_statement_each(bed: LakebaseBed, store: LockStore) -> None:
    """Taking, looking and releasing take one statement each; a refusal takes one more."""
    store.prepare()
    counted = bed.proxy.faults.add(what="hold", match=".", first=1000)

    def statements() -> int:
        before, counted.seen = counted.seen, 0
        return before

    info = LockInfo.new("alice")
    other = bed.store()
    other.holder(KEY)
    statements()
    store.acquire(KEY, info)
    assert statements() == 1
    store.holder(KEY)
    assert statements() == 1
    with pytest.raises(StateLocked):
        other.acquire(KEY, LockInfo.new("bob"))
    assert statements() == 2
    store.release(KEY, info.ID)
    assert statements() == 1


def test_no_session_state_is_kept(bed: LakebaseBed, store: LockStore) -> None:
    """A lock survives its session and its process; nothing is prepared or held in a session."""
    info = LockInfo.new("alice")
    for _ in range(8):
        store.acquire(KEY, info)
    (session,) = bed.proxy.sessions.values()
    name = session.login.role.postgres_role
    with bed.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE a.usename = %s AND l.locktype = 'advisory'",
            [name],
        ).fetchone()
        assert row == (0,)
    assert isinstance(store, LakebaseLocks)
    with store._connections.borrow() as connection:
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    store.close()
    bed.proxy.end_sessions()
    assert bed.store().holder(KEY) == info


def test_times_come_from_the_server(bed: LakebaseBed, store: LockStore) -> None:
    """The row says when it was taken by the server's clock, and by which role."""
    store.acquire(KEY, replace(LockInfo.new("alice"), Created="1999-01-01T00:00:00Z"))
    with bed.connect() as connection:
        row = connection.execute(
            "SELECT acquired_at BETWEEN now() - interval '1 min' AND clock_timestamp(), acquired_by"
            f" FROM {TABLE}".encode()
        ).fetchone()
    assert row == (True, bed.user)
