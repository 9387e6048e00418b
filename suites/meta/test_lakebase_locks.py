"""The reference backend's Lakebase locks: exclusion, lost replies, lost connections, tables, tokens.

Every statement goes by the login proxy to a real Postgres; nothing but Databricks' REST API is imitated.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests.utils
from psycopg import errors as pg
from psycopg import sql

from lockproof.fakes.databricks.lakebase_tls import certificate
from lockproof.provision.postgres import PostgresServer
from lockproof.suites.meta.lakebase_bed import KEY, FollowingClock, LakebaseBed, eventually, lakebase_bed
from tofu_databricks.errors import (
    BackendError,
    ConfigError,
    InvalidRequest,
    LockMismatch,
    LockNotHeld,
    LockTableMissing,
    MalformedReply,
    PermissionDenied,
    StateLocked,
    Unauthenticated,
    Unavailable,
)
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks import LockStore, connector
from tofu_databricks.locks.lakebase import LakebaseLocks

CREDENTIALS = "/api/2.0/postgres/credentials"
TABLE = "tofu_databricks.state_locks"


@pytest.fixture(scope="module")
def shared_bed(postgres_server: PostgresServer) -> Iterator[LakebaseBed]:
    with lakebase_bed(postgres_server) as made:
        yield made


@pytest.fixture
def bed(shared_bed: LakebaseBed) -> Iterator[LakebaseBed]:
    """A bed with an empty database, no faults and no connections."""
    yield shared_bed
    shared_bed.stack.close()
    shared_bed.proxy.faults.clear()
    shared_bed.model.wake_refusals = 1
    shared_bed.endpoint.suspended = False
    shared_bed.endpoint.refusals = 0
    with shared_bed.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS tofu_databricks CASCADE")


@pytest.fixture
def store(bed: LakebaseBed) -> LockStore:
    return bed.store()


def rows(bed: LakebaseBed) -> list[tuple[Any, ...]]:
    with bed.connect() as connection:
        return connection.execute(f"SELECT key, id FROM {TABLE} ORDER BY key".encode()).fetchall()


def slept(store: LockStore) -> list[float]:
    assert isinstance(store, LakebaseLocks)
    assert isinstance(store.clock, FollowingClock)
    return store.clock.slept


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


# --- lost replies and connections ---


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


# --- tables ---


@pytest.mark.parametrize("round_", range(4))
def test_eight_first_users_at_once_all_get_their_table(bed: LakebaseBed, round_: int) -> None:
    """Eight stores that all find schema and table missing, and then create them at once, all succeed."""
    looked = threading.Barrier(8, timeout=30)

    def first(one: LockStore) -> int:
        assert isinstance(one, LakebaseLocks)
        steps: list[str] = []

        def checkpoint(step: str) -> None:
            steps.append(step)
            if step == "lock.create" and steps.count(step) == 1:
                looked.wait()

        one.checkpoint = checkpoint
        one.prepare()
        return steps.count("lock.look")

    with ThreadPoolExecutor(8) as pool:
        looks = list(pool.map(first, [bed.store() for _ in range(8)]))
    assert max(looks) > 1
    assert rows(bed) == []


@pytest.mark.parametrize(
    ("text", "made"),
    [("tuple concurrently updated", True), ("cache lookup failed for relation 1", False)],
)
def test_internal_error_at_creation_is_told_unless_it_is_the_known_race(
    bed: LakebaseBed, text: str, made: bool
) -> None:
    """Two grants at once are an internal error to Postgres, and tried again; any other is said at once."""
    store = bed.store()
    assert isinstance(store, LakebaseLocks)
    steps: list[str] = []

    def checkpoint(step: str) -> None:
        steps.append(step)
        if step == "lock.create" and steps.count(step) == 1:
            raise pg.InternalError_(text)

    store.checkpoint = checkpoint
    if made:
        store.prepare()
        assert steps.count("lock.create") == 2
    else:
        with pytest.raises(Unavailable, match=text):
            store.prepare()
        assert steps.count("lock.create") == 1


def test_first_lock_makes_the_table(bed: LakebaseBed, store: LockStore) -> None:
    """Without any preparation the first call creates what it needs."""
    assert store.holder(KEY) is None
    assert rows(bed) == []


def test_missing_table_prints_the_ddl_when_creation_is_off(bed: LakebaseBed) -> None:
    """With create_lock_table=false the error holds the DDL, and running it makes the lock work."""
    store = bed.store(create_lock_table="false")
    with pytest.raises(LockTableMissing, match="create_lock_table is off") as caught:
        store.acquire(KEY, LockInfo.new("alice"))
    with pytest.raises(LockTableMissing):
        store.prepare()
    ddl = str(caught.value).partition("create it with: ")[2]
    with bed.connect() as connection:
        connection.execute(ddl.encode())
        connection.execute(ddl.encode())
    store.prepare()
    store.acquire(KEY, LockInfo.new("alice"))


@pytest.fixture
def restricted(bed: LakebaseBed) -> dict[str, str]:
    """Settings of an identity that may connect to the database and create nothing."""
    name = "dev@example.com"
    if name not in bed.workspace.directory.principals:
        bed.workspace.create_principal(name)
        bed.model.create_role(bed.model.branch("lockproof", "production"), name)
    return {"token": bed.workspace.directory.issue(bed.workspace.directory.principals[name]).value}


def test_role_that_may_not_create_is_told_what_to_run(bed: LakebaseBed, restricted: dict[str, str]) -> None:
    """A role without CREATE gets one line with the reason, its own name and the DDL."""
    with pytest.raises(LockTableMissing, match="may not create it") as caught:
        bed.store(**restricted).acquire(KEY, LockInfo.new("dev"))
    text = str(caught.value)
    assert '"dev@example.com"' in text
    assert "CREATE TABLE IF NOT EXISTS" in text
    assert "\n" not in text


def test_every_role_reads_the_holder_and_needs_a_grant_to_lock(
    bed: LakebaseBed, store: LockStore, restricted: dict[str, str]
) -> None:
    """Who holds a lock is readable by all; taking one needs a grant, which the error spells out."""
    held = LockInfo.new("alice")
    store.acquire(KEY, held)
    other = bed.store(**restricted)
    assert other.holder(KEY) == held
    with pytest.raises(PermissionDenied, match="let its owner run") as caught:
        other.acquire(KEY, LockInfo.new("dev"))
    grant = str(caught.value).partition("let its owner run: ")[2]
    with bed.connect() as connection:
        connection.execute(grant.encode())
    with pytest.raises(StateLocked):
        other.acquire(KEY, LockInfo.new("dev"))


def test_table_of_another_shape_is_refused(bed: LakebaseBed, store: LockStore) -> None:
    """A table that is not a lock table, or one without its key, is named as the wrong one."""
    for columns in ("n int", "key text, id text, info text"):
        with bed.connect() as connection:
            connection.execute("DROP SCHEMA IF EXISTS tofu_databricks CASCADE")
            connection.execute("CREATE SCHEMA tofu_databricks")
            connection.execute(f"CREATE TABLE {TABLE} ({columns})".encode())
        with pytest.raises(ConfigError, match="lock_table"):
            store.acquire(KEY, LockInfo.new("alice"))


@pytest.mark.parametrize("name", ['quote"d', "per%scent", "Ünï code", "select"])
def test_names_are_taken_literally(postgres_database: str, name: str) -> None:
    """Schema and table may have any characters; none of them reaches SQL as syntax."""
    schema = f"{name} {uuid.uuid4().hex[:8]}"
    store = LakebaseLocks(lambda: psycopg.connect(postgres_database), schema=schema, table=name)
    info = LockInfo.new("alice")
    store.acquire(KEY, info)
    assert store.holder(KEY) == info
    store.release(KEY, info.ID)
    store.close()
    with psycopg.connect(postgres_database) as connection:
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(schema, name)))


def test_serializable_database_is_no_obstacle(bed: LakebaseBed, store: LockStore) -> None:
    """Where transactions are serializable by default, a conflict is tried again and names the holder."""
    store.prepare()
    strict = LakebaseLocks(
        lambda: bed.connect(
            options="-c default_transaction_isolation=serializable", application_name="strict"
        ),
        schema="tofu_databricks",
        table="state_locks",
        clock=FollowingClock(bed.workspace.clock),
    )
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'strict' AND wait_event_type = 'Lock'"
    )
    with bed.connect(autocommit=False) as rival, bed.connect() as watch, ThreadPoolExecutor(1) as pool:
        rival.execute(f"INSERT INTO {TABLE} (key, id, info) VALUES (%s, 'x', '')".encode(), [KEY])
        outcome = pool.submit(strict.acquire, KEY, LockInfo.new("alice"))
        eventually(lambda: watch.execute(waiting.encode()).fetchone() == (1,), "nobody waits for the rival")
        rival.commit()
        with pytest.raises(StateLocked) as caught:
            outcome.result()
    assert caught.value.holder == LockInfo(ID="x")
    assert caught.value.definite is True
    assert len(slept(strict)) == 1
    strict.close()


# --- tokens and settings ---


def test_one_token_serves_many_connections(bed: LakebaseBed, store: LockStore) -> None:
    """A token, the endpoint's host and the caller's name are asked for once and used again."""
    before = [bed.asked(path) for path in (CREDENTIALS, "*/endpoints/primary", "*/scim/v2/Me")]
    for _ in range(3):
        store.holder(KEY)
        bed.proxy.end_sessions()
        eventually(lambda: not bed.proxy.sessions, "sessions are open")
    after = [bed.asked(path) for path in (CREDENTIALS, "*/endpoints/primary", "*/scim/v2/Me")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]


def test_token_is_replaced_before_it_expires(bed: LakebaseBed, store: LockStore) -> None:
    """A connection that is opened in the last minute of a token's life uses a new one."""
    store.holder(KEY)
    minted = bed.asked(CREDENTIALS)
    for seconds, more in ((3500, 0), (50, 1)):
        bed.workspace.clock.advance(seconds)
        bed.proxy.end_sessions()
        eventually(lambda: not bed.proxy.sessions, "sessions are open")
        store.holder(KEY)
        assert bed.asked(CREDENTIALS) - minted == more
    assert slept(store) == []


def test_open_connection_outlives_its_token(bed: LakebaseBed, store: LockStore) -> None:
    """While a connection stays open, no token is asked for, however old it is."""
    store.holder(KEY)
    minted = bed.asked(CREDENTIALS)
    bed.workspace.clock.advance(100_000)
    store.holder(KEY)
    assert bed.asked(CREDENTIALS) == minted


def test_token_that_the_server_refuses_is_minted_once_more(bed: LakebaseBed, store: LockStore) -> None:
    """A token that ended early costs one more, without a wait."""
    store.holder(KEY)
    minted = bed.asked(CREDENTIALS)
    bed.model.expire_credentials()
    bed.proxy.end_sessions()
    eventually(lambda: not bed.proxy.sessions, "sessions are open")
    store.holder(KEY)
    assert bed.asked(CREDENTIALS) - minted == 1
    assert slept(store) == []


def test_fresh_token_that_is_refused_is_unauthenticated(bed: LakebaseBed) -> None:
    """When a fresh token is refused too, that is the end: no retries, one clear line without the token."""
    store = bed.store(lakebase_user="somebody@example.com")
    minted = bed.asked(CREDENTIALS)
    with pytest.raises(Unauthenticated, match=r"somebody@example\.com") as caught:
        store.acquire(KEY, LockInfo.new("alice"))
    assert bed.asked(CREDENTIALS) - minted == 2
    assert slept(store) == []
    assert "eyJ" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ("failed to resolve host 'token-db.localhost': [Errno -2] Name or service not known", Unavailable),
        (
            'connection to server at "token-db.localhost" (::1), port 5432 failed: timeout expired',
            Unavailable,
        ),
        ('connection to server at "::1", port 1 failed: database "token certificate" is busy', Unavailable),
        ('FATAL: password authentication failed for user "token role"', Unauthenticated),
        ("FATAL: the token has expired", Unauthenticated),
    ],
)
def test_names_in_a_failed_login_are_not_its_reason(
    bed: LakebaseBed, monkeypatch: pytest.MonkeyPatch, failure: str, kind: type[BackendError]
) -> None:
    """A host, role or database called after a token, or after TLS, does not make an outage a refusal."""

    def connect(**_: Any) -> Any:
        raise psycopg.OperationalError(failure)

    monkeypatch.setattr(connector.BoundedConnection, "connect", connect)
    store = bed.store(
        lakebase_host="token-db.localhost",
        lakebase_user="token role",
        lakebase_database="token certificate",
    )
    with pytest.raises(BackendError) as caught:
        store.holder(KEY)
    assert type(caught.value) is kind
    assert failure in str(caught.value)


@pytest.mark.parametrize("state", [pg.InvalidPassword, pg.InvalidAuthorizationSpecification])
def test_refused_login_is_known_by_its_sqlstate(
    bed: LakebaseBed, monkeypatch: pytest.MonkeyPatch, state: type[psycopg.OperationalError]
) -> None:
    """Where the SQLSTATE comes with the refusal, its words do not matter, in whatever language."""

    def connect(**_: Any) -> Any:
        raise state("FATAL: Passwort-Authentifizierung fehlgeschlagen")

    monkeypatch.setattr(connector.BoundedConnection, "connect", connect)
    with pytest.raises(Unauthenticated):
        bed.store().holder(KEY)


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"lakebase_project": "none"}, ConfigError, "projects/none/branches/production/endpoints/primary"),
        ({"lakebase_branch": "none"}, ConfigError, "branches/none"),
        ({"lakebase_instance": "none"}, ConfigError, "has no none"),
        ({"lakebase_database": "none"}, ConfigError, "lakebase_database"),
        ({"lakebase_sslmode": "disable"}, ConfigError, "lakebase_sslmode = disable"),
        ({"lakebase_sslmode": "verify-full"}, ConfigError, "lakebase_sslmode = verify-full"),
        ({"lakebase_host": "127.0.0.1", "lakebase_port": "1"}, Unavailable, "refused"),
        ({"token": "dapiwrong"}, Unauthenticated, "token"),
    ],
)
def test_wrong_setting_is_one_clear_line(
    bed: LakebaseBed, settings: dict[str, str], kind: type[BackendError], words: str
) -> None:
    """A setting that cannot work is named, in one line without a secret."""
    with pytest.raises(kind, match=words) as caught:
        bed.store(**settings).acquire(KEY, LockInfo.new("alice"))
    assert caught.value.definite is True
    assert "\n" not in str(caught.value)
    assert "dapi" not in str(caught.value)
    assert "eyJ" not in str(caught.value)


def test_identity_without_a_role_is_told_so(bed: LakebaseBed) -> None:
    """An identity of the workspace that has no Postgres role is told to get one."""
    bed.workspace.create_principal("new@example.com")
    token = bed.workspace.directory.issue(bed.workspace.directory.principals["new@example.com"]).value
    with pytest.raises(PermissionDenied, match="create one"):
        bed.store(token=token).acquire(KEY, LockInfo.new("new"))


def test_instances_of_the_older_api_work_as_well(bed: LakebaseBed) -> None:
    """With lakebase_instance the host and the token come from the database API; a stopped one says so."""
    instance = bed.model.create_instance("locks", bed.workspace.admin)
    store = bed.store(lakebase_instance="locks")
    info = LockInfo.new("alice")
    store.acquire(KEY, info)
    assert store.holder(KEY) == info
    assert bed.store().holder(KEY) is None
    bed.model.stop_instance(instance, True)
    with pytest.raises(ConfigError, match="locks is stopped"):
        bed.store(lakebase_instance="locks").holder(KEY)


def test_pooler_that_takes_no_settings_is_used_without(
    bed: LakebaseBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server refuses settings at login, the connection is made without them, from then on."""
    made: list[str] = []
    real = connector.BoundedConnection.connect

    def connect(**keywords: Any) -> Any:
        made.append(keywords["options"])
        if keywords["options"]:
            raise psycopg.OperationalError("FATAL: unsupported startup parameter in options: lock_timeout")
        return real(**keywords)

    monkeypatch.setattr(connector.BoundedConnection, "connect", connect)
    store = bed.store()
    store.holder(KEY)
    bed.proxy.end_sessions()
    eventually(lambda: not bed.proxy.sessions, "sessions are open")
    store.holder(KEY)
    assert made == [connector.SERVER_SETTINGS, "", ""]


def test_server_certificate_is_verified_when_asked(
    bed: LakebaseBed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """verify-full trusts ca_certificate when it is set, and otherwise what the workspace is trusted by."""
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(certificate()[0])
    verified = {"lakebase_sslmode": "verify-full"}
    assert bed.store(ca_certificate=str(trusted), **verified).holder(KEY) is None
    with pytest.raises(ConfigError, match="verify-full does not work"):
        bed.store(**verified).holder(KEY)
    monkeypatch.setattr(requests.utils, "DEFAULT_CA_BUNDLE_PATH", str(trusted))
    assert bed.store(**verified).holder(KEY) is None


@pytest.mark.parametrize(
    ("path", "body"),
    [(CREDENTIALS, {"token": "t"}), (CREDENTIALS, {"expire_time": "2030-01-01T00:00:00Z"}), ("*/Me", {})],
)
def test_answer_without_what_is_needed_is_malformed(
    bed: LakebaseBed, path: str, body: dict[str, str]
) -> None:
    """A token without expiry, an expiry without token, or a caller without name is a malformed reply."""
    bed.workspace.add_fault(path=path, status=200, body=body)
    with pytest.raises(MalformedReply):
        bed.store().holder(KEY)


def test_compute_without_a_host_is_waited_for(bed: LakebaseBed, store: LockStore) -> None:
    """An endpoint that is still being made has no host; the next look finds it."""
    bed.workspace.add_fault(
        path="*/endpoints/primary", status=200, body={"status": {"current_state": "INIT"}}
    )
    assert store.holder(KEY) is None
    assert len(slept(store)) == 1
