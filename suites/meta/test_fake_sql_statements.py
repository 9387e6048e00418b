"""The fake's Statement Execution API, by the real databricks-sdk and by plain requests."""

from __future__ import annotations

import csv
import io
import threading
from typing import Any

import pytest
import requests
from arro3.io import read_ipc_stream
from databricks.sdk.service.sql import (
    Disposition,
    ExecuteStatementRequestOnWaitTimeout,
    Format,
    StatementParameterListItem,
    StatementState,
)

from lockproof.fakes.databricks.sql import results
from lockproof.suites.meta.fake_bed import Bed
from lockproof.suites.meta.sql_bed import STATEMENTS, Sql

LOCKS = "CREATE TABLE locks (k STRING, holder STRING)"


@pytest.fixture
def sql(fake: Bed) -> Sql:
    """A client of the fake's warehouse."""
    return Sql(fake)


def test_sdk_executes_polls_and_reads_chunks(sql: Sql) -> None:
    """databricks-sdk's statement_execution works unchanged, with and without a result."""
    api = sql.bed.client().statement_execution
    settings: dict[str, Any] = {"warehouse_id": sql.warehouse, "catalog": "main", "schema": "default"}
    made = api.execute_statement(statement=LOCKS, **settings)
    assert made.status is not None
    assert made.status.state is StatementState.SUCCEEDED
    assert made.manifest is not None
    assert made.manifest.as_dict() == {
        "format": "JSON_ARRAY",
        "schema": {"column_count": 0},
        "total_chunk_count": 0,
        "total_row_count": 0,
        "truncated": False,
    }
    parameters = [StatementParameterListItem(name="k", value="a"), StatementParameterListItem(name="h")]
    inserted = api.execute_statement(
        statement="INSERT INTO locks VALUES (:k, :h)", parameters=parameters, **settings
    )
    assert inserted.result is not None
    assert inserted.result.data_array == [["1", "1"]]
    read = api.execute_statement(
        statement="SELECT k, holder, 1 AS n FROM locks", wait_timeout="0s", **settings
    )
    assert read.statement_id
    answer = api.get_statement(read.statement_id)
    while answer.status is not None and answer.status.state is not StatementState.SUCCEEDED:
        assert answer.status.state in (StatementState.PENDING, StatementState.RUNNING)
        answer = api.get_statement(read.statement_id)
    assert answer.manifest is not None
    assert answer.manifest.schema is not None
    assert [column.type_text for column in answer.manifest.schema.columns or ()] == [
        "STRING",
        "STRING",
        "BIGINT",
    ]
    assert api.get_statement_result_chunk_n(read.statement_id, 0).data_array == [["a", None, "1"]]
    api.cancel_execution(read.statement_id)


def test_answers_have_the_recorded_members_in_order(sql: Sql) -> None:
    """A success with rows, one without, and a failure look as recorded."""
    rows = sql.send("SELECT 1 AS one").body
    assert list(rows) == ["statement_id", "status", "manifest", "result"]
    assert list(rows["manifest"]) == [
        "format",
        "schema",
        "total_chunk_count",
        "chunks",
        "total_row_count",
        "truncated",
    ]
    assert rows["result"] == {"chunk_index": 0, "row_offset": 0, "row_count": 1, "data_array": [["1"]]}
    assert sql.send(LOCKS).body["result"] == {}
    failed = sql.send("SELECT * FROM nosuch")
    assert failed.status == 200
    assert failed.body["status"]["state"] == "FAILED"
    assert failed.body["status"]["error"]["error_code"] == "BAD_REQUEST"
    assert failed.message.startswith("[TABLE_OR_VIEW_NOT_FOUND] ")
    assert failed.message.endswith(" SQLSTATE: 42P01")
    assert failed.sql_state == "42P01"
    assert set(failed.body) == {"statement_id", "status"}


@pytest.mark.parametrize(
    ("text", "error_class", "sql_state"),
    [
        ("SELEC 1", "PARSE_SYNTAX_ERROR", "42601"),
        ("SELECT * FROM main.default.nosuch", "TABLE_OR_VIEW_NOT_FOUND", "42P01"),
        ("CREATE TABLE locks (k STRING)", "TABLE_OR_VIEW_ALREADY_EXISTS", "42P07"),
        ("CREATE TABLE main.nosuch.t (k STRING)", "SCHEMA_NOT_FOUND", "42704"),
        ("CREATE TABLE nosuch.default.t (k STRING)", "NO_SUCH_CATALOG_EXCEPTION", "42704"),
        ("SELECT :p", "UNBOUND_SQL_PARAMETER", "42P02"),
        ("SELECT nosuch FROM locks", "UNRESOLVED_COLUMN.WITH_SUGGESTION", "42703"),
        ("SELECT nosuch(1)", "UNRESOLVED_ROUTINE", "42883"),
        ("SELECT CAST('x' AS INT)", "CAST_INVALID_INPUT", "22018"),
        ("UPDATE locks SET nosuch = 1", "UNRESOLVED_COLUMN.WITH_SUGGESTION", "42703"),
        ("VACUUM locks RETAIN 0 HOURS", "UNSUPPORTED_FEATURE", "0A000"),
    ],
)
def test_failures_carry_class_and_sqlstate(text: str, error_class: str, sql_state: str, sql: Sql) -> None:
    """A statement that fails is 200 with its error class and SQLSTATE."""
    sql.run(LOCKS)
    answer = sql.send(text)
    assert (answer.status, answer.state) == (200, "FAILED")
    assert (answer.error_class, answer.sql_state) == (error_class, sql_state)


@pytest.mark.parametrize(
    ("members", "status", "code", "text"),
    [
        ({"wait_timeout": "4s"}, 400, "INVALID_PARAMETER_VALUE", "between 5 seconds and 50 seconds"),
        ({"wait_timeout": "51s"}, 400, "INVALID_PARAMETER_VALUE", "between 5 seconds and 50 seconds"),
        ({"wait_timeout": "soon"}, 400, "INVALID_PARAMETER_VALUE", "between 5 seconds and 50 seconds"),
        ({"warehouse_id": None}, 400, "BAD_REQUEST", "Required field is not specified: warehouse_id."),
        ({"warehouse_id": "nosuch"}, 400, "BAD_REQUEST", "nosuch is not a valid endpoint id."),
        ({"warehouse_id": "0123456789abcdef"}, 403, "PERMISSION_DENIED", "You do not have permission to use"),
        ({"format": "CSV"}, 400, "INVALID_PARAMETER_VALUE", "must be JSON_ARRAY when the disposition field"),
        ({"text": ""}, 400, "BAD_REQUEST", "Required field is not specified: statement."),
        ({"row_limit": 0}, 400, "INVALID_PARAMETER_VALUE", "row_limit"),
    ],
)
def test_bad_requests_are_refused_as_recorded(
    members: dict[str, Any], status: int, code: str, text: str, sql: Sql
) -> None:
    """What is wrong with the request itself is an HTTP error, and no statement runs."""
    before = len(sql.control.statements())
    answer = sql.send(**{"text": "SELECT 1", **members})
    assert (answer.status, answer.body["error_code"]) == (status, code)
    assert text in answer.body["message"]
    assert len(sql.control.statements()) == before


def test_unknown_members_and_values_are_ignored(sql: Sql) -> None:
    """Unknown members, dispositions and formats count as not given."""
    answer = sql.send(
        "SELECT 1 AS x", nosuch=1, disposition="NOSUCH", format="NOSUCH", on_wait_timeout="NOSUCH"
    )
    assert answer.rows == [["1"]]


def test_unknown_statement_is_404_and_its_cancel_is_not(sql: Sql) -> None:
    """Polling an unknown statement is 404, cancelling or deleting one is 200 `{}`."""
    unknown = f"{STATEMENTS}/01f00000-0000-1000-8000-000000000000"
    answer = sql.bed.http("GET", unknown)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "NOT_FOUND")
    assert sql.bed.http("POST", f"{unknown}/cancel").json() == {}
    assert sql.bed.http("DELETE", unknown).json() == {}


def test_cells_are_text_and_timestamps_end_after_milliseconds(sql: Sql) -> None:
    """Every cell is a string in the API's spelling; NULL is null; types are named in the manifest."""
    answer = sql.send(
        "SELECT true AS b, 42 AS n, CAST(1 AS DOUBLE) AS f, CAST('1.50' AS DECIMAL(5,2)) AS d, "
        "TIMESTAMP'2024-01-02T03:04:05.123987Z' AS t, DATE'2024-01-02' AS day, NULL AS nothing, 'x' AS s"
    )
    assert answer.rows == [["true", "42", "1.0", "1.50", "2024-01-02T03:04:05.123Z", "2024-01-02", None, "x"]]
    types = [column["type_name"] for column in answer.body["manifest"]["schema"]["columns"]]
    assert types == ["BOOLEAN", "LONG", "DOUBLE", "DECIMAL", "TIMESTAMP", "DATE", "NULL", "STRING"]


def test_parameters_are_values_and_never_text(sql: Sql) -> None:
    """A parameter of any type and content is bound as a value; text that is no value of its type fails."""
    nasty = "x'; DROP TABLE locks; -- \\ \" :k ` ünï \n"
    sql.run(LOCKS)
    sql.run("INSERT INTO locks VALUES (:k, NULL)", [["k", nasty]])
    assert sql.run("SELECT k FROM locks WHERE k = :k", [["k", nasty]]) == [[nasty]]
    typed = [["i", "7", "INT"], ["b", "TRUE", "BOOLEAN"], ["t", "2024-01-02T03:04:05Z", "TIMESTAMP"], ["n"]]
    assert sql.run("SELECT :i + 1 AS i, NOT :b AS b, :t AS t, :n IS NULL AS n", typed) == [
        ["8", "false", "2024-01-02T03:04:05.000Z", "true"]
    ]
    answer = sql.send("SELECT :i", [["i", "seven", "INT"]])
    assert answer.error_class == "CAST_INVALID_INPUT"
    refused = sql.send("SELECT * FROM IDENTIFIER(:t)", [["t", "locks; DROP TABLE locks"]])
    assert refused.error_class == "PARSE_SYNTAX_ERROR"


def test_each_statement_is_a_session_of_its_own(sql: Sql) -> None:
    """USE carries over to no other statement, catalogue and schema come with each request."""
    sql.run("CREATE SCHEMA other")
    sql.run("USE SCHEMA other")
    sql.run(LOCKS)
    assert sql.run("SHOW TABLES IN main.default") == [["default", "locks", "false"]]
    assert sql.run("SHOW TABLES", schema="other") == []


def test_long_statement_answers_after_the_wait_and_goes_on(sql: Sql) -> None:
    """After `wait_timeout` the answer is RUNNING and nothing else; the statement goes on to its end."""
    sql.run(LOCKS)
    hold = sql.control.hold_statements("snapshot", contains="INSERT")
    sql.control.freeze_clock()
    found: list[Any] = []
    sender = threading.Thread(
        target=lambda: found.append(sql.send("INSERT INTO locks VALUES ('a', 'b')", wait_timeout="5s"))
    )
    sender.start()
    sql.control.await_statements(hold)
    sql.control.advance_clock(5)
    sender.join(30)
    (answer,) = found
    assert answer.body == {"statement_id": answer.body["statement_id"], "status": {"state": "RUNNING"}}
    sql.control.release_statements(hold)
    while sql.poll(answer.body["statement_id"]).state == "RUNNING":
        threading.Event().wait(0.01)
    assert sql.poll(answer.body["statement_id"]).state == "SUCCEEDED"
    assert sql.run("SELECT * FROM locks") == [["a", "b"]]


def test_sdk_wait_timeout_can_cancel(sql: Sql) -> None:
    """`on_wait_timeout=CANCEL` answers CANCELED, and what was not committed never is."""
    sql.run(LOCKS)
    hold = sql.control.hold_statements("snapshot", contains="INSERT")
    sql.control.freeze_clock()
    found: list[Any] = []
    api = sql.bed.client().statement_execution

    def send() -> None:
        found.append(
            api.execute_statement(
                statement="INSERT INTO locks VALUES ('a', 'b')",
                warehouse_id=sql.warehouse,
                wait_timeout="5s",
                on_wait_timeout=ExecuteStatementRequestOnWaitTimeout.CANCEL,
            )
        )

    sender = threading.Thread(target=send)
    sender.start()
    sql.control.await_statements(hold)
    sql.control.advance_clock(5)
    sender.join(30)
    assert found[0].status.state is StatementState.CANCELED
    sql.control.release_statements(hold)
    assert sql.run("SELECT count(*) FROM locks") == [["0"]]
    assert sql.send("SELECT 1", wait_timeout="0s", on_wait_timeout="CANCEL").status == 400


def test_cancel_after_the_commit_cannot_undo_it(sql: Sql) -> None:
    """A statement cancelled when it had committed is CANCELED to its client, and its rows are there."""
    sql.run(LOCKS)
    hold = sql.control.hold_statements("committed", contains="INSERT")
    running = sql.send("INSERT INTO locks VALUES ('a', 'b')", wait_timeout="0s").body["statement_id"]
    sql.control.await_statements(hold)
    assert sql.bed.http("POST", f"{STATEMENTS}/{running}/cancel").json() == {}
    assert sql.poll(running).state == "CANCELED"
    sql.control.release_statements(hold)
    assert sql.run("SELECT * FROM locks") == [["a", "b"]]


def test_limits_cut_the_result_and_say_so(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    """`row_limit` and `byte_limit` cut and set `truncated`; too many bytes for INLINE fail the statement."""
    many = "SELECT * FROM (VALUES ('aaaa'), ('bbbb'), ('cccc')) AS v(x)"
    cut = sql.send(many, row_limit=2)
    assert (len(cut.rows), cut.body["manifest"]["truncated"]) == (2, True)
    exact = sql.send(many, row_limit=3)
    assert (len(exact.rows), exact.body["manifest"]["truncated"]) == (3, False)
    short = sql.send(many, byte_limit=12)
    assert (len(short.rows), short.body["manifest"]["truncated"]) == (1, True)
    monkeypatch.setattr(results, "INLINE_BYTES", 12)
    large = sql.send(many)
    assert large.state == "FAILED"
    assert "disposition=EXTERNAL_LINKS" in large.message


def test_chunks_follow_one_another(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large result comes in chunks that link to the next; out of range is 400."""
    monkeypatch.setitem(results.CHUNK_BYTES, "INLINE", 10)
    answer = sql.send("SELECT * FROM (VALUES ('aaaa'), ('bbbb'), ('cccc')) AS v(x)")
    assert answer.body["manifest"]["total_chunk_count"] == 3
    part, rows = answer.body["result"], []
    rows += part["data_array"]
    while "next_chunk_internal_link" in part:
        part = sql.bed.http("GET", part["next_chunk_internal_link"]).json()
        rows += part["data_array"]
    assert rows == [["aaaa"], ["bbbb"], ["cccc"]]
    chunk = f"{STATEMENTS}/{answer.body['statement_id']}/result/chunks/3"
    assert sql.bed.http("GET", chunk).status_code == 400


@pytest.mark.parametrize("kind", ["JSON_ARRAY", "CSV"])
def test_external_links_hold_the_rows(kind: str, sql: Sql) -> None:
    """EXTERNAL_LINKS answers links that need no token of the workspace and expire with the fake's clock."""
    api = sql.bed.client().statement_execution
    answer = api.execute_statement(
        statement="SELECT * FROM (VALUES ('a', 1), ('b,\"', NULL)) AS v(x, n)",
        warehouse_id=sql.warehouse,
        disposition=Disposition.EXTERNAL_LINKS,
        format=Format(kind),
    )
    assert answer.result is not None
    assert answer.result.external_links is not None
    (link,) = answer.result.external_links
    assert link.external_link is not None
    found = requests.get(link.external_link, timeout=30)
    if kind == "CSV":
        assert list(csv.reader(io.StringIO(found.text))) == [["x", "n"], ["a", "1"], ['b,"', ""]]
    else:
        assert found.json() == [["a", "1"], ['b,"', None]]
    assert link.byte_count == len(found.content)
    assert requests.get(link.external_link + "x", timeout=30).status_code == 403
    sql.control.advance_clock(901)
    assert requests.get(link.external_link, timeout=30).status_code == 403


def test_results_live_for_an_hour_and_are_the_callers_own(sql: Sql) -> None:
    """Another principal, and anybody after an hour, gets 404 for a statement."""
    token = sql.control.create_principal("eve@example.com")
    statement = sql.send("SELECT 1").body["statement_id"]
    path = f"{STATEMENTS}/{statement}"
    assert sql.bed.http("GET", path).status_code == 200
    assert sql.bed.http("GET", path, token=token).status_code == 404
    sql.control.advance_clock(3601)
    assert sql.bed.http("GET", path).status_code == 404


def test_a_result_waits_for_its_first_answer(sql: Sql) -> None:
    """However far the clock is moved meanwhile, the first answer about an end is given; the next is 404."""
    hold = sql.control.hold_statements("queued")
    statement = sql.send("SELECT 1", wait_timeout="0s").body["statement_id"]
    sql.control.release_statements(hold)
    while sql.control.statements(contains="SELECT 1")[-1]["state"] != "SUCCEEDED":
        threading.Event().wait(0.01)
    sql.control.advance_clock(3601)
    assert sql.poll(statement).rows == [["1"]]
    assert sql.poll(statement).status == 404


def test_arrow_streams_hold_typed_columns(sql: Sql) -> None:
    """ARROW_STREAM behind a link is an Arrow IPC stream with the result's types and rows."""
    answer = sql.send(
        "SELECT * FROM (VALUES ('a', 1), ('b', 2)) AS v(x, n) ORDER BY n",
        disposition="EXTERNAL_LINKS",
        format="ARROW_STREAM",
    )
    (link,) = answer.body["result"]["external_links"]
    found = requests.get(link["external_link"], timeout=30)
    table = read_ipc_stream(io.BytesIO(found.content)).read_all()
    assert table.column("n").to_pylist() == [1, 2]
    assert table.column("x").to_pylist() == ["a", "b"]
    assert answer.body["manifest"]["total_row_count"] == 2


def test_vacuum_disturbs_no_statement_that_runs(sql: Sql) -> None:
    """VACUUM answers the table's place, changes no row, and conflicts with nothing."""
    sql.run("CREATE TABLE locks (k STRING, holder STRING)")
    sql.run("INSERT INTO locks VALUES ('a', NULL)")
    hold = sql.control.hold_statements("snapshot", contains="UPDATE")
    answer = sql.send("UPDATE locks SET holder = 'ann' WHERE k = 'a'", wait_timeout="0s")
    sql.control.await_statements(hold)
    (place,) = sql.run("VACUUM locks")
    assert str(place[0]).startswith("file://")
    sql.control.release_statements(hold)
    sql.run("SELECT 1")
    while sql.poll(answer.body["statement_id"]).state == "RUNNING":
        sql.run("SELECT 1")
    assert sql.run("SELECT holder FROM locks") == [["ann"]]
