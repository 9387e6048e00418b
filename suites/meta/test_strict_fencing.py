"""Heads in the lock stores: one statement moves them, for the holder of the lock alone."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from lockproof.suites.meta.lakebase_bed import eventually
from lockproof.suites.meta.lock_calls import info, together
from lockproof.suites.meta.strict_bed import ROOT, Steps, StrictBed
from tofu_databricks.errors import LockTableMissing, PermissionDenied, Unavailable
from tofu_databricks.locks import Head

pytest_plugins = ("lockproof.suites.meta.strict_fixtures",)

KEY = f"{ROOT}/terraform.tfstate"


def test_the_holder_alone_moves_the_head(strict: StrictBed) -> None:
    """Another id, an id that was released, and any id while the lock is free move nothing."""
    store, other = strict.heads(), strict.heads()
    mine, theirs = info("ann"), info("bob")
    assert not store.move_head(KEY, mine.ID, None, "one")
    store.acquire(KEY, mine)
    assert not other.move_head(KEY, theirs.ID, None, "theirs")
    assert store.move_head(KEY, mine.ID, None, "one")
    assert not other.move_head(KEY, theirs.ID, "one", "theirs")
    other.release(KEY, mine.ID)
    assert not store.move_head(KEY, mine.ID, "one", "two")
    other.acquire(KEY, theirs)
    assert not store.move_head(KEY, mine.ID, "one", "two")
    assert other.head(KEY) == Head(theirs, "one")


def test_the_head_is_moved_from_what_it_is(strict: StrictBed) -> None:
    """Whoever has seen another head moves nothing, the lock's holder too."""
    store, mine = strict.heads(), info("ann")
    store.acquire(KEY, mine)
    assert not store.move_head(KEY, mine.ID, "never", "one")
    assert store.head(KEY) == Head(mine, None)
    assert store.move_head(KEY, mine.ID, None, "one")
    assert not store.move_head(KEY, mine.ID, None, "two")
    assert not store.move_head(KEY, mine.ID, "never", "two")
    assert store.move_head(KEY, mine.ID, "one", "two")
    assert strict.heads().head(KEY) == Head(mine, "two")


def test_the_head_outlives_its_lock(strict: StrictBed) -> None:
    """A release leaves the head, and so does the next lock; other keys have heads of their own."""
    store, mine, theirs = strict.heads(), info("ann"), info("bob")
    store.acquire(KEY, mine)
    store.move_head(KEY, mine.ID, None, "é'\\%s one")
    store.release(KEY, mine.ID)
    assert store.head(KEY) == Head(None, "é'\\%s one")
    store.acquire(KEY, theirs)
    assert store.head(KEY) == Head(theirs, "é'\\%s one")
    assert store.head(f"{KEY}2") == Head(None, None)


def test_without_an_id_the_head_alone_decides(strict: StrictBed) -> None:
    """Also where there has never been a lock; a lock that is held stays as it is."""
    store = strict.heads()
    assert store.move_head(KEY, None, None, "one")
    assert not store.move_head(KEY, None, None, "two")
    mine = info("ann")
    store.acquire(KEY, mine)
    assert store.move_head(KEY, None, "one", "two")
    assert store.head(KEY) == Head(mine, "two")


def test_heads_are_listed_by_prefix(strict: StrictBed) -> None:
    """Those of the directory alone, however like a pattern its name is."""
    store = strict.heads()
    for key in ("/v/a_b%/x", "/v/a_b%/y", "/v/aXb/z", "/v/a_b%"):
        store.move_head(key, None, None, key.upper())
    store.acquire("/v/a_b%/locked", info("ann"))
    assert store.heads("/v/a_b%/") == {"/v/a_b%/x": "/V/A_B%/X", "/v/a_b%/y": "/V/A_B%/Y"}


def test_of_many_moves_at_once_one_is_made(strict: StrictBed) -> None:
    """Four processes that move one head from the same place: one does, under the lock and without it."""
    stores = [strict.heads() for _ in range(4)]
    mine = info("ann")
    stores[0].acquire(KEY, mine)
    old = None
    for turn, lock_id in enumerate((mine.ID, mine.ID, None)):
        made = together(
            *(
                lambda s=s, n=n: s.move_head(KEY, lock_id, old, f"{turn} {n}")  # noqa: B023
                for n, s in enumerate(stores)
            )
        )
        assert sorted(made, key=bool) == [False, False, False, True]
        old = stores[0].head(KEY).text
        assert old == f"{turn} {made.index(True)}"


def test_a_table_of_locks_alone_is_made_fit_for_heads(strict: StrictBed) -> None:
    """The first use of heads adds what is missing, also by many at once; locks that are held stay held."""
    locks = strict.backend(fencing="checked").locks
    held, mine = info("ann"), info("bob")
    locks.acquire(f"{KEY}2", held)
    stores = [strict.heads() for _ in range(4)]
    stores[0].acquire(KEY, mine)
    made = together(*(lambda s=s: s.move_head(KEY, mine.ID, None, "one") for s in stores))
    assert sorted(made, key=bool) == [False, False, False, True]
    assert stores[0].head(f"{KEY}2") == Head(held, None)
    locks.release(KEY, mine.ID)
    locks.acquire(KEY, held)
    assert stores[0].head(KEY) == Head(held, "one")


def test_a_table_that_may_not_be_changed_is_asked_for(strict: StrictBed) -> None:
    """With create_lock_table = false the error has the DDL, and running that is all that is needed."""
    mine = info("ann")
    strict.backend(fencing="checked").locks.acquire(KEY, mine)
    store = strict.heads(create_lock_table=False)
    with pytest.raises(LockTableMissing, match="create_lock_table is off; create it with: ") as failure:
        store.move_head(KEY, mine.ID, None, "one")
    assert failure.value.definite
    ddl = str(failure.value).partition("create it with: ")[2]
    if (
        strict.kind == "delta-direct"
    ):  # its table is in no catalog: what the statement says is done by storage
        assert ddl == "ALTER TABLE `main`.`default`.`state_locks` ADD COLUMNS (head STRING)"
        strict.heads().prepare()
    else:
        strict.run(ddl)
    assert store.move_head(KEY, mine.ID, None, "one")


@pytest.mark.parametrize("strict", ["lakebase", "delta"], indirect=True)
def test_the_ddl_of_a_new_table_has_heads(strict: StrictBed) -> None:
    """What an administrator is asked to run makes everything that strict fencing needs."""
    store = strict.heads(create_lock_table=False)
    with pytest.raises(LockTableMissing) as failure:
        store.acquire(KEY, info("ann"))
    strict.run(str(failure.value).partition("create it with: ")[2])
    assert store.move_head(KEY, store.acquire(KEY, info("ann")), None, "one")


def test_lakebase_release_waits_for_a_move_or_comes_before_it(lakebase: StrictBed) -> None:
    """A release that is not committed yet holds a move up, which then finds the lock gone: what the move saw
    of the lock when it began counts for nothing."""
    store, mine = lakebase.heads(), info("ann")
    store.acquire(KEY, mine)
    session, watcher = lakebase.connect(), lakebase.connect()
    with session.transaction():
        session.execute("DELETE FROM tofu_databricks.state_locks WHERE key = %s", (KEY,))
        result: list[bool] = []
        mover = threading.Thread(target=lambda: result.append(store.move_head(KEY, mine.ID, None, "stale")))
        mover.start()
        eventually(lambda: waits(watcher) or not mover.is_alive(), "the move waits for the release")
        session.execute(
            "INSERT INTO tofu_databricks.state_locks (key, id, info) VALUES (%s, 'bob', '{}')", (KEY,)
        )
    mover.join(30)
    assert result == [False]
    head = store.head(KEY)
    assert (head.holder.ID if head.holder else None, head.text) == ("bob", None)


def waits(connection: psycopg.Connection[Any]) -> bool:
    """Whether a statement about heads waits for a lock of another transaction."""
    found = connection.execute(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%state_locks_heads%'"
    ).fetchone()
    return found is not None


def test_lakebase_role_is_told_what_it_needs(lakebase: StrictBed) -> None:
    """Holding on to a lock's row takes UPDATE, which locks alone do not: the error has the GRANT."""
    lakebase.heads().prepare()
    connection = lakebase.connect()
    name = "eve@example.com"
    token = lakebase.control.create_principal(name)
    branch = next(iter(lakebase.lakebase.model.projects.values())).branches["production"]
    lakebase.lakebase.model.create_role(branch, name)
    eve = lakebase.heads(token=token)
    eve.head(KEY)
    with pytest.raises(PermissionDenied, match="let its owner run: GRANT USAGE") as refused:
        eve.move_head(KEY, "id", None, "one")
    grant = str(refused.value).partition("owner run: ")[2]
    assert "UPDATE" in grant
    connection.execute(grant.encode())
    assert not eve.move_head(KEY, "id", None, "one")


def test_delta_release_between_snapshot_and_commit_undoes_the_move(delta: StrictBed) -> None:
    """A move whose lock is forced while it runs conflicts with that, is judged again, and moves nothing."""
    store, other, mine = delta.heads(), delta.heads(), info("ann")
    store.acquire(KEY, mine)
    store.move_head(KEY, mine.ID, None, "one")
    hold = delta.sql.hold_statements("snapshot", contains="SET head")
    result: list[bool] = []
    mover = threading.Thread(target=lambda: result.append(store.move_head(KEY, mine.ID, "one", "stale")))
    mover.start()
    delta.sql.await_statements(hold)
    other.release(KEY, mine.ID)
    delta.sql.release_statements(hold)
    mover.join(30)
    assert (result, other.head(KEY)) == ([False], Head(None, "one"))


def test_delta_rows_that_were_seeded_twice_have_one_head(delta: StrictBed) -> None:
    """Rows of one key are moved together, and a row that was seeded late is passed over."""
    table = "main.default.state_locks"
    row = f"('{KEY}', NULL, NULL, NULL, NULL)"
    store, mine = delta.heads(), info("ann")
    store.prepare()
    delta.run(f"INSERT INTO {table} VALUES {row}, {row}")
    store.acquire(KEY, mine)
    assert store.move_head(KEY, mine.ID, None, "one")
    delta.run(f"INSERT INTO {table} VALUES {row}")
    assert store.head(KEY) == Head(mine, "one")
    store.release(KEY, mine.ID)
    store.acquire(KEY, mine)
    assert not store.move_head(KEY, mine.ID, None, "beside")
    assert store.move_head(KEY, mine.ID, "one", "two")
    assert store.head(KEY) == Head(mine, "two")


def test_storage_and_warehouse_move_the_same_heads(delta: StrictBed) -> None:
    """A table that is shared has one head for both kinds of client, and clients that only lock leave it."""
    location = delta.folder.as_uri()
    direct = delta.heads(lock_backend="delta-direct", lock_location=location)
    ddl = direct.ddl(location)  # type: ignore[attr-defined]
    delta.run(ddl)
    mine = info("ann")
    warehouse = delta.heads()
    warehouse.acquire(KEY, mine)
    assert direct.move_head(KEY, mine.ID, None, "one")
    assert warehouse.move_head(KEY, mine.ID, "one", "two")
    plain = delta.backend(fencing="checked", lock_backend="delta-direct", lock_location=location).locks
    plain.release(KEY, mine.ID)
    plain.acquire(KEY, info("bob"))
    assert warehouse.head(KEY).text == direct.head(KEY).text == "two"


@pytest.mark.parametrize("strict", ["delta-direct"], indirect=True)
def test_lost_commit_of_a_direct_move_is_known(strict: StrictBed) -> None:
    """A commit whose reply was lost is known by its token: the move was made, once."""

    def lose() -> None:
        raise ConnectionResetError("the reply to the commit was lost")

    steps = Steps()
    store, mine = strict.heads(checkpoint=steps), info("ann")
    store.acquire(KEY, mine)
    steps.at, steps.then = len(steps.names) + 3, lose
    assert store.move_head(KEY, mine.ID, None, "one")
    assert steps.names[-4:] == ["lock.move", "lock.commit", "lock.committed", "lock.move"]
    assert strict.heads().head(KEY) == Head(mine, "one")


def test_a_move_that_nobody_answers_is_unknown(lakebase: StrictBed) -> None:
    """Every reply is lost: the error leaves open whether the head was moved."""
    store, mine = lakebase.heads(), info("ann")
    store.acquire(KEY, mine)
    lakebase.lakebase.proxy.faults.add(what="drop_reply", match="_heads", times=None)
    with pytest.raises(Unavailable) as failure:
        store.move_head(KEY, mine.ID, None, "one")
    assert not failure.value.definite
