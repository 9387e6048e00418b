"""What a test can do to statements of the fake warehouse while they run, and what is left afterwards."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import arro3.core as arrow
import pytest
import requests
from deltalake import DeltaTable, write_deltalake

from lockproof.fakes.databricks.control import OPERATIONS
from lockproof.fakes.databricks.sql.engine import DeltaStore
from lockproof.fakes.databricks.sql.steering import SqlControl
from lockproof.suites.meta.fake_bed import Bed
from lockproof.suites.meta.sql_bed import STATEMENTS, Sql

SERIALIZABLE = "TBLPROPERTIES ('delta.isolationLevel' = 'Serializable')"
ACQUIRE = "UPDATE locks SET holder = '{who}' WHERE k = '{key}' AND holder IS NULL"
SEED = (
    "MERGE INTO locks t USING (SELECT '{key}' AS k) s ON t.k = s.k "
    "WHEN NOT MATCHED THEN INSERT (k, holder) VALUES (s.k, '{who}')"
)


@pytest.fixture
def sql(fake: Bed) -> Sql:
    """A client of the fake's warehouse, with a Serializable table of two free locks."""
    client = Sql(fake)
    client.run(f"CREATE TABLE locks (k STRING, holder STRING) {SERIALIZABLE}")
    client.run("INSERT INTO locks VALUES ('a', NULL), ('b', NULL)")
    return client


def start(sql: Sql, text: str) -> str:
    """Sends the statement without waiting for it and returns its id."""
    return str(sql.send(text, wait_timeout="0s").body["statement_id"])


def finish(sql: Sql, statement: str) -> Any:
    """The answer of a statement once it has ended."""
    while (answer := sql.poll(statement)).state in ("PENDING", "RUNNING"):
        threading.Event().wait(0.01)
    return answer


def race(sql: Sql, *texts: str) -> list[Any]:
    """Runs the statements at the same time, all on the snapshot before any commit; answers in their order."""
    hold = sql.control.hold_statements("snapshot", times=len(texts))
    running = [start(sql, text) for text in texts]
    sql.control.await_statements(hold, len(texts))
    sql.control.release_statements(hold)
    return [finish(sql, statement) for statement in running]


def test_many_racing_acquirers_have_one_winner(sql: Sql) -> None:
    """Of eight claims of one lock on one snapshot one commits, and seven fail with 2D521."""
    answers = race(sql, *(ACQUIRE.format(who=f"w{number}", key="a") for number in range(8)))
    states = [answer.state for answer in answers]
    assert sorted(states) == ["FAILED"] * 7 + ["SUCCEEDED"]
    for answer in answers:
        if answer.state == "FAILED":
            assert answer.sql_state == "2D521"
            assert answer.error_class == "DELTA_CONCURRENT_APPEND.ROW_LEVEL_CHANGES"
            assert re.search(r"A concurrent UPDATE .* table main\.default\.locks .*version 2", answer.message)
    (winner,) = [number for number, state in enumerate(states) if state == "SUCCEEDED"]
    assert sql.run("SELECT holder FROM locks WHERE k = 'a'") == [[f"w{winner}"]]


def test_claims_of_different_rows_all_commit(sql: Sql) -> None:
    """With row-level concurrency two claims of different locks commit, and both are in the table."""
    answers = race(sql, ACQUIRE.format(who="x", key="a"), ACQUIRE.format(who="y", key="b"))
    assert [answer.rows for answer in answers] == [[["1"]], [["1"]]]
    assert sorted(sql.run("SELECT k, holder FROM locks")) == [["a", "x"], ["b", "y"]]


def test_row_inserted_meanwhile_stays_as_it_is(sql: Sql) -> None:
    """In WriteSerializable an UPDATE leaves alone a row that came after its snapshot, also an equal one."""
    sql.run("CREATE TABLE plain (k STRING, holder STRING)")
    sql.run("INSERT INTO plain VALUES ('a', NULL)")
    hold = sql.control.hold_statements("snapshot", contains="UPDATE plain")
    running = start(sql, "UPDATE plain SET holder = 'me' WHERE k = 'a' AND holder IS NULL")
    sql.control.await_statements(hold)
    sql.run("INSERT INTO plain VALUES ('a', NULL), ('a', NULL)")
    sql.control.release_statements(hold)
    assert finish(sql, running).rows == [["1"]]
    found = sql.run("SELECT k, holder FROM plain")
    assert sorted(found, key=str) == [["a", "me"], ["a", None], ["a", None]]


@pytest.mark.parametrize(("phantoms", "holders"), [(False, 1), (True, 2)], ids=["as-recorded", "worst-case"])
def test_racing_seeds_of_one_key(phantoms: bool, holders: int, sql: Sql) -> None:
    """Two NOT MATCHED inserts of one key conflict; by the switch for what is not documented, both commit."""
    sql.control.fidelity(row_level_phantoms=phantoms)
    answers = race(sql, SEED.format(key="new", who="x"), SEED.format(key="new", who="y"))
    failed = [answer.error_class for answer in answers if answer.state == "FAILED"]
    assert failed == ["DELTA_CONCURRENT_APPEND.ROW_LEVEL_CHANGES"] * (2 - holders)
    assert sql.run("SELECT count(*) FROM locks WHERE k = 'new'") == [[str(holders)]]


def test_guarded_insert_slips_past_a_blind_one_unless_serializable(sql: Sql) -> None:
    """`INSERT … WHERE NOT EXISTS` conflicts with a blind INSERT of its key in a Serializable table only."""
    guarded = "INSERT INTO {table} SELECT 'n', 'x' WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE k = 'n')"
    sql.run("CREATE TABLE plain (k STRING, holder STRING)")
    for table, state in (("plain", "SUCCEEDED"), ("locks", "FAILED")):
        hold = sql.control.hold_statements("snapshot", contains="NOT EXISTS")
        running = start(sql, guarded.format(table=table))
        sql.control.await_statements(hold)
        sql.run(f"INSERT INTO {table} VALUES ('n', 'blind')")
        sql.control.release_statements(hold)
        assert finish(sql, running).state == state
        found = sql.run(f"SELECT count(*) FROM {table} WHERE k = 'n'")
        assert found == [["2" if state == "SUCCEEDED" else "1"]]


def test_racing_creations_of_a_table_make_one(sql: Sql) -> None:
    """IF NOT EXISTS succeeds for both, a plain CREATE TABLE fails for the one that is second."""
    tolerant = "CREATE TABLE IF NOT EXISTS made (k STRING)"
    assert [answer.state for answer in race(sql, tolerant, tolerant)] == ["SUCCEEDED", "SUCCEEDED"]
    answers = race(sql, "CREATE TABLE strict (k STRING)", "CREATE TABLE strict (k STRING)")
    assert sorted(answer.state for answer in answers) == ["FAILED", "SUCCEEDED"]
    (failed,) = [answer for answer in answers if answer.state == "FAILED"]
    assert failed.error_class == "TABLE_OR_VIEW_ALREADY_EXISTS"


def test_lost_reply_leaves_the_commit(sql: Sql) -> None:
    """A reply lost after the commit is a broken connection to the client, and the lock is taken."""
    sql.control.add_fault(method="POST", path=STATEMENTS, when="after", drop=True)
    with pytest.raises(requests.ConnectionError):
        sql.send(ACQUIRE.format(who="me", key="a"))
    assert sql.run("SELECT holder FROM locks WHERE k = 'a'") == [["me"]]


def test_post_delivered_twice_runs_twice(sql: Sql) -> None:
    """The client sees the second delivery's answer: a claim that was won by the first one answers 0 rows."""
    mark = len(sql.control.statements())
    sql.control.add_fault(method="POST", path=STATEMENTS, duplicate=True)
    assert sql.run(ACQUIRE.format(who="me", key="a")) == [["0"]]
    assert sql.run("SELECT holder FROM locks WHERE k = 'a'") == [["me"]]
    assert [record["state"] for record in sql.control.statements(mark, "UPDATE")] == [
        "SUCCEEDED",
        "SUCCEEDED",
    ]


def test_statement_outlives_its_client(sql: Sql) -> None:
    """A statement goes on to its commit after a proxy gave up on it with 504."""
    hold = sql.control.hold_statements("snapshot", contains="UPDATE")
    sql.control.add_fault(method="POST", path=STATEMENTS, when="after", status=504)
    body = {
        "statement": ACQUIRE.format(who="late", key="a"),
        "warehouse_id": sql.warehouse,
        "wait_timeout": "0s",
        "schema": "default",
    }
    assert sql.bed.http("POST", STATEMENTS, json=body).status_code == 504
    sql.control.await_statements(hold)
    (running,) = sql.control.held_statements(hold)["statements"]
    assert sql.run("SELECT holder FROM locks WHERE k = 'a'") == [[None]]
    sql.control.release_statements(hold)
    assert finish(sql, running).rows == [["1"]]
    assert sql.run("SELECT holder FROM locks WHERE k = 'a'") == [["late"]]


def test_old_snapshot_reads_old_rows_and_loses_its_commit(sql: Sql) -> None:
    """A statement on a snapshot that lags reads what was; a claim on it meets the commits it did not see."""
    sql.run(ACQUIRE.format(who="me", key="a"))
    sql.control.lag_snapshots(1, contains="SELECT holder")
    assert sql.run("SELECT holder FROM locks WHERE k = 'a'") == [[None]]
    assert sql.run("SELECT holder FROM locks WHERE k = 'a'") == [["me"]]
    sql.control.lag_snapshots(1, contains="UPDATE")
    answer = sql.send(ACQUIRE.format(who="other", key="a"))
    assert (answer.state, answer.sql_state) == ("FAILED", "2D521")


def test_holds_choose_by_point_text_principal_and_turn(sql: Sql) -> None:
    """A hold stops the statements that it names and no other; an unknown point is refused by name."""
    hold = sql.control.hold_statements("committed", contains="'b'", first=2)
    sql.run(ACQUIRE.format(who="x", key="a"))
    sql.run(ACQUIRE.format(who="x", key="b"))
    running = start(sql, "DELETE FROM locks WHERE k = 'b'")
    sql.control.await_statements(hold)
    assert sql.control.held_statements(hold)["statements"] == [running]
    assert sql.run("SELECT k FROM locks") == [["a"]]
    assert sql.poll(running).state == "RUNNING"
    assert sql.control.release_statements() == 1
    assert finish(sql, running).rows == [["1"]]
    with pytest.raises(
        ValueError, match="no checkpoint 'nosuch'; known: queued, started, snapshot, committed"
    ):
        sql.control.hold_statements("nosuch")


def test_many_held_statements_leave_room_for_others(sql: Sql) -> None:
    """Forty statements that wait keep neither the control API nor another statement from being served."""
    hold = sql.control.hold_statements("started", contains="UPDATE", times=None)
    senders = [
        threading.Thread(target=sql.send, args=(ACQUIRE.format(who=f"w{number}", key="a"),))
        for number in range(40)
    ]
    for sender in senders:
        sender.start()
    sql.control.await_statements(hold, 40)
    assert sql.run("SELECT count(*) FROM locks") == [["2"]]
    sql.control.release_statements(hold)
    for sender in senders:
        sender.join(60)
    assert not any(sender.is_alive() for sender in senders)
    assert sql.run("SELECT count(*) FROM locks WHERE holder IS NOT NULL") == [["1"]]


def test_commits_from_outside_count(sql: Sql, tmp_path: Path) -> None:
    """A commit by another Delta writer between snapshot and commit goes to the arbiter like any other."""
    place = f"{tmp_path}/ext"
    sql.run(f"CREATE TABLE ext (k STRING, holder STRING) LOCATION '{place}' {SERIALIZABLE}")
    sql.run("INSERT INTO ext VALUES ('a', NULL), ('b', NULL)")
    text = arrow.DataType.utf8()
    added = arrow.Table.from_pydict({"k": arrow.Array(["a"], text), "holder": arrow.Array(["blind"], text)})
    outside: list[tuple[Any, str]] = [
        (lambda: DeltaTable(place).update(updates={"holder": "'out'"}, predicate="k = 'b'"), "SUCCEEDED"),
        (lambda: DeltaTable(place).update(updates={"holder": "'out'"}, predicate="k = 'a'"), "FAILED"),
        (lambda: write_deltalake(place, added, mode="append"), "FAILED"),
    ]
    for number, (commit, state) in enumerate(outside):
        hold = sql.control.hold_statements("snapshot", contains="UPDATE ext")
        running = start(sql, f"UPDATE ext SET holder = 'in{number}' WHERE k = 'a'")
        sql.control.await_statements(hold)
        commit()
        sql.control.release_statements(hold)
        assert finish(sql, running).state == state
    assert sorted(sql.run("SELECT k, holder FROM ext")) == [["a", "blind"], ["a", "out"], ["b", "out"]]


def test_log_tells_engine_time_apart_and_no_parameter(sql: Sql) -> None:
    """A statement is logged with engine, held and total seconds and versions, without parameter values."""
    sql.run("UPDATE locks SET holder = :h WHERE k = 'a'", [["h", "s3cret-value"]])
    sql.send("SELECT * FROM nosuch")
    update, failed = sql.control.statements()[-2:]
    assert "s3cret-value" not in str(update)
    assert 0 < update["engine_seconds"] < update["total_seconds"]
    parts = update["engine_seconds"] + update["held_seconds"] + update["overhead_seconds"]
    assert parts == pytest.approx(update["total_seconds"])
    assert (update["versions"], update["committed"]) == ({"main.default.locks": 1}, {"main.default.locks": 2})
    assert (failed["state"], failed["error_class"], failed["sql_state"]) == (
        "FAILED",
        "TABLE_OR_VIEW_NOT_FOUND",
        "42P01",
    )


def test_every_steering_method_has_its_operation() -> None:
    """Each public method of SqlControl calls an operation that exists, and no operation lacks a method."""
    public = {name for name in vars(SqlControl) if not name.startswith("_")}
    known = {name for name, made in OPERATIONS.items() if made.__module__ == SqlControl.__module__}
    assert public - {"await_statements"} == known


def test_schema_is_dropped_while_a_table_is_made_elsewhere(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who drops a schema with its tables and who makes a table in another one both come to their end."""
    sql.run("CREATE SCHEMA main.going")
    sql.run("CREATE TABLE main.going.inside (n INT)")
    dropping = threading.Thread(target=sql.send, args=("DROP SCHEMA main.going CASCADE",), daemon=True)
    create = DeltaStore.create

    def meeting(store: DeltaStore, *arguments: Any) -> None:
        dropping.start()
        dropping.join(0.5)  # as far as it comes while the table is being made
        create(store, *arguments)

    monkeypatch.setattr(DeltaStore, "create", meeting)
    making = threading.Thread(target=sql.send, args=("CREATE TABLE made (n INT)",), daemon=True)
    making.start()
    making.join(30)
    dropping.join(30)
    assert not making.is_alive()
    assert not dropping.is_alive()
    assert ["going"] not in sql.run("SHOW SCHEMAS IN main")
    assert sql.run("SELECT * FROM made") == []
