"""The table of Lakebase locks: made once by whoever comes first, or told how to make it."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors as pg
from psycopg import sql

from lockproof.suites.meta.lakebase_bed import (
    KEY,
    TABLE,
    FollowingClock,
    LakebaseBed,
    eventually,
    rows,
    slept,
)
from tofu_databricks.errors import (
    ConfigError,
    LockTableMissing,
    PermissionDenied,
    StateLocked,
    Unavailable,
)
from tofu_databricks.lockinfo import LockInfo
from tofu_databricks.locks import LockStore
from tofu_databricks.locks.lakebase import LakebaseLocks

pytest_plugins = ["lockproof.suites.meta.lakebase_fixtures"]


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
