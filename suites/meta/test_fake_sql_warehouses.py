"""The fake's SQL warehouses, grants on them and on tables, and tables in Unity Catalog."""

from __future__ import annotations

from pathlib import Path

import pytest
from databricks.sdk import errors
from databricks.sdk.service.catalog import TableOperation
from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel
from databricks.sdk.service.sql import State, WarehouseAccessControlRequest, WarehousePermissionLevel

from lockproof.suites.meta.fake_bed import UC, Bed
from lockproof.suites.meta.sql_bed import WAREHOUSES, Sql

USE = {"main": ["USE_CATALOG"], "main.default": ["USE_SCHEMA"]}


@pytest.fixture
def sql(fake: Bed) -> Sql:
    """A client of the fake's warehouse."""
    return Sql(fake)


def test_sdk_lists_creates_stops_starts_and_deletes(sql: Sql) -> None:
    """databricks-sdk's warehouses work unchanged through a warehouse's whole life."""
    api = sql.bed.client().warehouses
    (first,) = api.list()
    assert (first.id, first.state, first.name) == (
        sql.warehouse,
        State.RUNNING,
        "Serverless Starter Warehouse",
    )
    made = api.create(name="locks", cluster_size="2X-Small", auto_stop_mins=10).result()
    assert made.id is not None
    assert (made.state, made.cluster_size, made.auto_stop_mins) == (State.RUNNING, "2X-Small", 10)
    stopped = api.stop(made.id).result()
    assert (stopped.state, stopped.num_clusters) == (State.STOPPED, 0)
    assert api.start(made.id).result().state is State.RUNNING
    assert len(list(api.list(page_size=1))) == 2
    api.delete(made.id)
    with pytest.raises(errors.NotFound):
        api.get(made.id)


def test_statement_on_a_stopped_warehouse_waits_for_its_start(sql: Sql) -> None:
    """It starts by itself; until it runs on the fake's clock, the statement is PENDING."""
    sql.control.freeze_clock()
    sql.control.set_warehouse(sql.warehouse, start_seconds=12, running=False)
    waiting = sql.send("SELECT 1", wait_timeout="0s").body["statement_id"]
    ready = sql.control.hold_statements("started", contains="SELECT 1")
    shown = f"{WAREHOUSES}/{sql.warehouse}"
    while sql.bed.http("GET", shown).json()["state"] == "STOPPED":
        pass
    assert sql.bed.http("GET", shown).json()["state"] == "STARTING"
    sql.control.advance_clock(11)
    assert sql.poll(waiting).body == {"statement_id": waiting, "status": {"state": "PENDING"}}
    sql.control.advance_clock(1)
    sql.control.await_statements(ready)
    assert sql.poll(waiting).state == "RUNNING"
    assert sql.bed.http("GET", shown).json()["state"] == "RUNNING"
    sql.control.release_statements(ready)


def test_idle_warehouse_stops(sql: Sql) -> None:
    """After `auto_stop_mins` without a statement it is STOPPED, and the next statement starts it."""
    sql.control.set_warehouse(sql.warehouse, auto_stop_mins=10)
    sql.run("SELECT 1")
    sql.control.advance_clock(599)
    assert sql.control.warehouses()[0]["state"] == "RUNNING"
    sql.control.advance_clock(2)
    assert sql.control.warehouses()[0]["state"] == "STOPPED"
    assert sql.run("SELECT 1") == [["1"]]
    assert sql.control.warehouses()[0]["state"] == "RUNNING"


def test_who_may_not_use_a_warehouse_is_refused_and_does_not_see_it(sql: Sql) -> None:
    """Without CAN_USE a statement is 403 as for an unknown warehouse, and the list leaves it out."""
    token = sql.control.create_principal("eve@example.com")
    assert sql.send("SELECT 1", token=token).status == 200
    sql.control.set_warehouse(sql.warehouse, access={"bob@example.com": "CAN_USE"})
    refused = sql.send("SELECT 1", token=token)
    assert (refused.status, refused.body["error_code"]) == (403, "PERMISSION_DENIED")
    assert sql.bed.http("GET", WAREHOUSES, token=token).json() == {"warehouses": []}
    assert sql.bed.http("GET", f"{WAREHOUSES}/{sql.warehouse}", token=token).status_code == 403
    granted = sql.bed.client().warehouses.update_permissions(
        sql.warehouse,
        access_control_list=[
            WarehouseAccessControlRequest(
                user_name="eve@example.com", permission_level=WarehousePermissionLevel.CAN_USE
            )
        ],
    )
    assert len(granted.access_control_list or ()) == 2
    assert sql.send("SELECT 1", token=token).status == 200
    sql.bed.client().permissions.set(
        "warehouses",
        sql.warehouse,
        access_control_list=[
            AccessControlRequest(group_name="users", permission_level=PermissionLevel.CAN_VIEW)
        ],
    )
    assert sql.send("SELECT 1", token=token).status == 403


def test_statements_need_grants(sql: Sql) -> None:
    """Each missing grant is INSUFFICIENT_PERMISSIONS 42501 and names itself; with all of them it works."""
    sql.run("CREATE TABLE locks (k STRING, holder STRING)")
    token = sql.control.create_principal("eve@example.com")
    update = "UPDATE locks SET holder = 'eve' WHERE k = 'a'"
    steps = [
        ("SELECT * FROM locks", "USE CATALOG on Catalog 'main'", "main", "USE_CATALOG"),
        ("SELECT * FROM locks", "USE SCHEMA on Schema 'main.default'", "main.default", "USE_SCHEMA"),
        ("SELECT * FROM locks", "SELECT on Table 'main.default.locks'", "main.default.locks", "SELECT"),
        (update, "MODIFY on Table 'main.default.locks'", "main.default.locks", "MODIFY"),
        (
            "CREATE TABLE mine (k STRING)",
            "CREATE TABLE on Schema 'main.default'",
            "main.default",
            "CREATE_TABLE",
        ),
    ]
    for text, missing, full_name, privilege in steps:
        answer = sql.send(text, token=token)
        assert (answer.error_class, answer.sql_state) == ("INSUFFICIENT_PERMISSIONS", "42501")
        assert f"User does not have {missing}." in answer.message
        sql.control.grant("eve@example.com", full_name, privilege)
        if text != "SELECT * FROM locks":
            assert sql.run(text, token=token) in ([["0"]], [])
    assert sql.run("SELECT * FROM locks", token=token) == []
    drop = sql.send("DROP TABLE locks", token=token)
    assert drop.error_class == "INSUFFICIENT_PERMISSIONS"
    sql.run("DROP TABLE mine", token=token)


def test_insert_needs_no_select_and_its_subquery_does(sql: Sql) -> None:
    """A blind INSERT is content with MODIFY; one that reads the table wants SELECT."""
    sql.run("CREATE TABLE locks (k STRING)")
    token = sql.control.create_principal("eve@example.com", grants={**USE, "main.default.locks": ["MODIFY"]})
    assert sql.run("INSERT INTO locks VALUES ('a')", token=token) == [["1", "1"]]
    answer = sql.send("INSERT INTO locks SELECT k FROM locks", token=token)
    assert "SELECT on Table" in answer.message


def test_tables_are_in_unity_catalog(sql: Sql, tmp_path: Path) -> None:
    """What SQL creates, the SDK lists, gets and deletes, with type, location, columns and properties."""
    sql.run(
        "CREATE TABLE locks (k STRING NOT NULL, n BIGINT) "
        "TBLPROPERTIES ('delta.isolationLevel' = 'Serializable')"
    )
    sql.run(f"CREATE TABLE ext (k STRING) LOCATION '{tmp_path}/ext'")
    api = sql.bed.client().tables
    assert [table.full_name for table in api.list("main", "default")] == [
        "main.default.ext",
        "main.default.locks",
    ]
    managed, external = api.get("main.default.locks"), api.get("main.default.ext")
    assert managed.table_type is not None
    assert external.table_type is not None
    assert (managed.table_type.value, external.table_type.value) == ("MANAGED", "EXTERNAL")
    assert external.storage_location == f"file://{tmp_path}/ext"
    assert managed.properties == {"delta.isolationLevel": "Serializable"}
    assert [(column.name, column.type_text, column.nullable) for column in managed.columns or ()] == [
        ("k", "string", False),
        ("n", "bigint", True),
    ]
    assert api.exists("main.default.locks").table_exists
    assert not api.exists("main.default.nosuch").table_exists
    with pytest.raises(errors.NotFound, match=r"Table 'main\.default\.nosuch' does not exist\."):
        api.get("main.default.nosuch")
    api.delete("main.default.ext")
    assert sql.send("SELECT * FROM ext").error_class == "TABLE_OR_VIEW_NOT_FOUND"
    sql.run(f"CREATE TABLE again LOCATION '{tmp_path}/ext'")
    assert sql.run("SELECT * FROM again") == []


def test_storage_credentials_follow_grants_and_table_type(sql: Sql, tmp_path: Path) -> None:
    """READ_WRITE on a managed table is refused, and either needs EXTERNAL USE SCHEMA."""
    sql.run("CREATE TABLE locks (k STRING)")
    sql.run(f"CREATE TABLE ext (k STRING) LOCATION '{tmp_path}/ext'")
    tables = sql.bed.client().tables
    ids = {name: str(tables.get(f"main.default.{name}").table_id) for name in ("locks", "ext")}
    token = sql.control.create_principal(
        "eve@example.com", grants={**USE, "main.default.ext": ["SELECT", "MODIFY"]}
    )
    api = sql.bed.client(token).temporary_table_credentials
    with pytest.raises(errors.PermissionDenied, match="EXTERNAL USE SCHEMA"):
        api.generate_temporary_table_credentials(table_id=ids["ext"], operation=TableOperation.READ_WRITE)
    sql.control.grant("eve@example.com", "main.default", "EXTERNAL_USE_SCHEMA")
    got = api.generate_temporary_table_credentials(table_id=ids["ext"], operation=TableOperation.READ_WRITE)
    assert got.url == f"file://{tmp_path}/ext"
    assert got.aws_temp_credentials is not None
    sql.control.grant("eve@example.com", "main.default", "SELECT", "MODIFY")
    assert api.generate_temporary_table_credentials(table_id=ids["locks"], operation=TableOperation.READ).url
    with pytest.raises(errors.PermissionDenied, match="managed table"):
        api.generate_temporary_table_credentials(table_id=ids["locks"], operation=TableOperation.READ_WRITE)
    missing = sql.bed.http(
        "POST", f"{UC}/temporary-table-credentials", json={"table_id": "x", "operation": "READ"}
    )
    assert missing.status_code == 404


def test_grants_on_tables_by_the_permissions_api(sql: Sql) -> None:
    """Tables are securables of the permissions API; a privilege of volumes is none of theirs."""
    sql.run("CREATE TABLE locks (k STRING)")
    sql.control.create_principal("eve@example.com")
    path = f"{UC}/permissions/table/main.default.locks"
    change = {"changes": [{"principal": "eve@example.com", "add": ["SELECT"]}]}
    assert sql.bed.http("PATCH", path, json=change).json() == {
        "privilege_assignments": [{"principal": "eve@example.com", "privileges": ["SELECT"]}]
    }
    change["changes"][0]["add"] = ["READ_VOLUME"]
    assert sql.bed.http("PATCH", path, json=change).status_code == 400
