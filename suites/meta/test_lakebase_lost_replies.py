"""Lakebase locks when replies, connections or logins are lost: made good, or honestly unknown."""

from __future__ import annotations

import pytest

from lockproof.provision.postgres import PostgresServer
from lockproof.suites.meta.lakebase_bed import (
    KEY,
    TABLE,
    LakebaseBed,
    eventually,
    rows,
    slept,
)
from tofu_databricks.errors import (
    LockMismatch,
    StateLocked,
    Unavailable,
)
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks import LockStore, connector
from tofu_databricks.locks.lakebase import LakebaseLocks

pytest_plugins = ["lockproof.suites.meta.lakebase_fixtures"]


@pytest.mark.parametrize("what", ["drop_reply", "drop_request"])
def test_lost_reply_to_acquire_is_made_good(bed: LakebaseBed, store: LockStore, what: str) -> None:
    """Whether or not the lost INSERT took effect, the lock is held once, under the id that was asked for."""
    store.prepare()
    armed = bed.proxy.faults.add(what=what, match="^insert", times=2)
    info = LockInfo.new("alice")
    assert store.acquire(KEY, info) == info.ID
    assert armed.hits == 2
    assert rows(bed) == [(KEY, info.ID)]
    assert len(slept(store)) == 2


@pytest.mark.parametrize("what", ["drop_reply", "drop_request"])
def test_lost_reply_to_release_is_made_good(bed: LakebaseBed, store: LockStore, what: str) -> None:
    """Whether or not the lost DELETE took effect, the lock that this store granted is free in the end."""
    info = LockInfo.new("alice")
    store.acquire(KEY, info)
    armed = bed.proxy.faults.add(what=what, match="^delete")
    store.release(KEY, info.ID)
    assert armed.hits == 1
    assert rows(bed) == []


def test_lost_reply_to_a_refused_acquire_is_not_called_definite(bed: LakebaseBed, store: LockStore) -> None:
    """After a lost reply a refusal names the holder and admits that the first try may yet take effect."""
    held = LockInfo.new("alice")
    store.acquire(KEY, held)
    bed.proxy.faults.add(what="drop_reply", match="^insert")
    with pytest.raises(StateLocked) as caught:
        bed.store().acquire(KEY, LockInfo.new("bob"))
    assert caught.value.holder == held
    assert caught.value.definite is False


def test_late_insert_is_the_reason_for_doubt(bed: LakebaseBed, store: LockStore) -> None:
    """An INSERT that the network delivers after the refusal does take the lock; the refusal had said so."""
    held = LockInfo.new("alice")
    store.acquire(KEY, held)
    armed = bed.proxy.faults.add(what="late_request", match="^insert")
    info = LockInfo.new("bob")
    other = bed.store()
    with pytest.raises(StateLocked) as caught:
        other.acquire(KEY, info)
    assert caught.value.definite is False
    store.release(KEY, held.ID)
    armed.released.set()
    eventually(lambda: armed.done == 1, "the late statement was not sent")
    assert other.holder(KEY) == info
    assert other.acquire(KEY, info) == info.ID


def test_lost_reply_to_the_release_of_an_unknown_id_stays_unknown(bed: LakebaseBed, store: LockStore) -> None:
    """A force-unlock whose reply was lost cannot say whether it freed the lock, and does not guess."""
    info = LockInfo.new("alice")
    bed.store().acquire(KEY, info)
    bed.proxy.faults.add(what="drop_reply", match="^delete")
    with pytest.raises(Unavailable, match="is free now") as caught:
        store.release(KEY, info.ID)
    assert caught.value.definite is False


def test_lost_reply_to_release_while_another_took_the_lock_stays_unknown(
    bed: LakebaseBed, store: LockStore
) -> None:
    """When another holds the lock after the lost reply, who freed it is unknown; the error names him."""
    info, next_info = LockInfo.new("alice"), LockInfo.new("bob")
    other = bed.store()
    store.acquire(KEY, info)
    bed.proxy.faults.add(what="drop_reply", match="^delete")
    assert isinstance(store, LakebaseLocks)
    steps: list[str] = []

    def checkpoint(step: str) -> None:
        steps.append(step)
        if steps == ["lock.release", "lock.release"]:
            other.acquire(KEY, next_info)

    store.checkpoint = checkpoint
    with pytest.raises(Unavailable, match=next_info.ID) as caught:
        store.release(KEY, info.ID)
    assert caught.value.definite is False
    assert rows(bed) == [(KEY, next_info.ID)]


def test_four_attempts_and_no_more(bed: LakebaseBed, store: LockStore) -> None:
    """A statement whose connection is lost every time is sent four times, with growing waits between."""
    store.prepare()
    armed = bed.proxy.faults.add(what="drop_request", match="^insert", times=None)
    with pytest.raises(Unavailable) as caught:
        store.acquire(KEY, LockInfo.new("alice"))
    assert caught.value.definite is False
    assert armed.hits == 4
    waits = slept(store)
    assert len(waits) == 3
    assert all(base <= wait <= base + 0.25 for base, wait in zip((0.25, 0.5, 1.0), waits, strict=True))


def test_refused_logins_are_retried_and_leave_no_doubt(bed: LakebaseBed, store: LockStore) -> None:
    """A compute that refuses connections for ever is Unavailable, and nothing can have happened."""
    armed = bed.proxy.faults.add(what="refuse", times=None)
    with pytest.raises(Unavailable, match="starting up") as caught:
        store.acquire(KEY, LockInfo.new("alice"))
    assert caught.value.definite is True
    assert armed.hits == 4


def test_suspended_compute_is_woken(bed: LakebaseBed, store: LockStore) -> None:
    """After scale-to-zero the lock is still held, and the next call waits for the compute to wake."""
    info = LockInfo.new("alice")
    store.acquire(KEY, info)
    bed.model.wake_refusals = 2
    bed.model.suspend(bed.endpoint)
    eventually(lambda: not bed.proxy.sessions, "sessions are open")
    assert store.holder(KEY) == info
    assert len(slept(store)) == 2
    store.release(KEY, info.ID)


def test_connection_that_died_idle_is_replaced_without_a_retry(bed: LakebaseBed, store: LockStore) -> None:
    """A session that ended between two calls is noticed before anything is sent: no wait, no doubt."""
    info = LockInfo.new("alice")
    store.acquire(KEY, info)
    bed.proxy.end_sessions()
    eventually(lambda: not bed.proxy.sessions, "sessions are open")
    with pytest.raises(LockMismatch):
        store.release(KEY, "never granted")
    assert slept(store) == []


def test_session_killed_by_the_server_is_survived(
    bed: LakebaseBed, store: LockStore, postgres_server: PostgresServer
) -> None:
    """A lock outlives pg_terminate_backend of the session that took it, and its owner goes on."""
    info = LockInfo.new("alice")
    store.acquire(KEY, info)
    (session,) = bed.proxy.sessions.values()
    with postgres_server.connect() as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [session.upstream.info.backend_pid])
    with pytest.raises(StateLocked):
        bed.store().acquire(KEY, LockInfo.new("bob"))
    store.release(KEY, info.ID)


def test_server_that_never_answers_is_given_up(
    bed: LakebaseBed, store: LockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement without an answer ends in an error that admits doubt, not in waiting for ever."""
    store.prepare()
    monkeypatch.setattr(connector, "REPLY_SECONDS", 0.2)
    armed = bed.proxy.faults.add(what="hold", match="^insert", times=None)
    with pytest.raises(Unavailable, match="no reply") as caught:
        store.acquire(KEY, LockInfo.new("alice"))
    assert caught.value.definite is False
    assert armed.hits == 4


def test_row_locked_by_somebody_else_is_a_definite_error(bed: LakebaseBed, store: LockStore) -> None:
    """A foreign transaction that sits on the row makes the server give up, in its own words."""
    info = LockInfo.new("alice")
    store.acquire(KEY, info)
    impatient = LakebaseLocks(
        lambda: bed.connect(options="-c lock_timeout=50"), schema="tofu_databricks", table="state_locks"
    )
    with bed.connect(autocommit=False) as sitter:
        sitter.execute(f"SELECT * FROM {TABLE} FOR UPDATE".encode())
        with pytest.raises(Unavailable, match="lock timeout") as caught:
            impatient.release(KEY, info.ID)
    assert caught.value.definite is True
    impatient.close()
    assert rows(bed) == [(KEY, info.ID)]
