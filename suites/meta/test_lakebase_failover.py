"""Lakebase locks when a synchronous standby takes over: what is read is not yet what lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest

from lockproof.provision.cluster import PostgresCluster, provide_cluster, until
from lockproof.suites.meta.lock_calls import info
from tofu_databricks.errors import StateLocked
from tofu_databricks.locks.lakebase import LakebaseLocks

KEY = "k"


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    with provide_cluster() as made:
        yield made


@pytest.fixture
def store(cluster: PostgresCluster) -> Iterator[LakebaseLocks]:
    """A store whose table is there, and that finds the primary wherever it is."""
    made = LakebaseLocks(
        lambda: psycopg.connect(**cluster.primary.server.keywords()), schema="s", table="locks"
    )
    made.prepare()
    yield made
    cluster.primary.rows("DELETE FROM s.locks")
    made.close()


def leave_unconfirmed(cluster: PostgresCluster, pool: ThreadPoolExecutor, change: str) -> None:
    """Makes a change that is seen and that no standby has: its session is ended while it waits for one."""

    def make() -> None:
        with suppress(psycopg.OperationalError), cluster.primary.server.connect() as session:
            session.execute(change.encode())

    made = pool.submit(make)
    until(lambda: cluster.primary.waiting("SyncRep") == 1, "the change does not wait")
    cluster.primary.end_sessions()
    made.result(60)


def asked_across_a_fail_over(
    cluster: PostgresCluster, change: str, call: Callable[[], object]
) -> tuple[bool, Future[object]]:
    """Whether `call`, which sees an unconfirmed change, waits for the standby; and what it tells once that
    has taken over without the change."""
    standby = cluster.add_standby(synchronous=True)
    cluster.cut_off(standby)
    with ThreadPoolExecutor(2) as pool:
        leave_unconfirmed(cluster, pool, change)
        asked = pool.submit(call)
        until(lambda: asked.done() or cluster.primary.waiting("SyncRep") == 1, "it neither ends nor waits")
        waited = not asked.done()
        cluster.fail_over(standby)
    return waited, asked


def test_lock_that_is_asked_for_again_is_granted_when_the_standby_has_it(
    cluster: PostgresCluster, store: LakebaseLocks
) -> None:
    """A new call of the same ID finds the row that an earlier call was never told of. It is not granted
    before the standby has the row, and is held after the fail-over."""
    mine = info("ann")
    row = f"INSERT INTO s.locks (key, id, info) VALUES ('{KEY}', '{mine.ID}', '{{}}')"
    waited, asked = asked_across_a_fail_over(cluster, row, lambda: store.acquire(KEY, mine))
    assert asked.result() == mine.ID
    with pytest.raises(StateLocked) as refused:
        store.acquire(KEY, info("bob"))
    assert refused.value.holder == mine
    assert waited


def test_lock_is_called_free_when_the_standby_has_it_free(
    cluster: PostgresCluster, store: LakebaseLocks
) -> None:
    """A release that finds the lock gone says nothing before that would outlive a fail-over: here the lock
    comes back, and the release frees it."""
    mine = info("ann")
    store.acquire(KEY, mine)
    waited, asked = asked_across_a_fail_over(
        cluster, "DELETE FROM s.locks", lambda: store.release(KEY, mine.ID)
    )
    assert asked.exception() is None
    assert store.holder(KEY) is None
    assert waited
