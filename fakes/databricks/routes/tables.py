"""Unity Catalog's tables, and the credentials with which clients reach their storage."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.catalog import Table
from lockproof.fakes.databricks.errors import ApiError
from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.routes.securables import UC, require_manage, require_view, required, sees
from lockproof.fakes.databricks.routes.unity_catalog import DOC, PAGE_SIZE
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("Unity Catalog 2.1: tables", scope="unity-catalog")
LIFETIME = 3600.0


@routes(
    "GET",
    f"{UC}/tables",
    name="List tables",
    source=f"{DOC}/tables/list",
    notes="`catalog_name` and `schema_name` are required; `omit_columns`, `omit_properties`.",
)
def list_tables(workspace: FakeWorkspace, request: Request) -> Response:
    parent = f"{required(request.query, 'catalog_name')}.{required(request.query, 'schema_name')}"
    workspace.metastore.get("schema", parent)
    try:
        size = min(int(request.query.get("max_results") or 0) or PAGE_SIZE, workspace.fidelity.max_page)
        offset = int(request.query.get("page_token") or 0)
    except ValueError:
        raise errors.invalid_parameter("Invalid max_results or page_token.") from None
    found = [
        item
        for item in workspace.metastore.children("table", parent)
        if isinstance(item, Table) and sees(workspace.metastore, request.caller, item)
    ]
    page = found[offset : offset + size]
    shown = [_shown(workspace, item, details=request.query.get("omit_columns") != "true") for item in page]
    body: dict[str, Any] = {"tables": shown}
    if found[offset + size :]:
        body["next_page_token"] = str(offset + size)
    return Response.of_json(body)


@routes(
    "GET",
    f"{UC}/tables/{{name}}",
    name="Get a table",
    source=f"{DOC}/tables/get",
    notes="404 names the first of catalog, schema and table that is missing (code TABLE_DOES_NOT_EXIST).",
)
def get(workspace: FakeWorkspace, request: Request) -> Response:
    item = workspace.metastore.table(request.params["name"])
    require_view(workspace.metastore, request.caller, item)
    return Response.of_json(_shown(workspace, item, details=True))


@routes("GET", f"{UC}/tables/{{name}}/exists", name="Whether a table exists", source=f"{DOC}/tables/exists")
def exists(workspace: FakeWorkspace, request: Request) -> Response:
    full_name = request.params["name"].lower()
    workspace.metastore.get("schema", full_name.rpartition(".")[0])
    return Response.of_json({"table_exists": full_name in workspace.metastore.objects["table"]})


@routes("DELETE", f"{UC}/tables/{{name}}", name="Delete a table", source=f"{DOC}/tables/delete")
def delete(workspace: FakeWorkspace, request: Request) -> Response:
    item = workspace.metastore.table(request.params["name"])
    require_manage(workspace.metastore, request.caller, item)
    workspace.sql.tables.drop(item)
    return Response.of_json({})


@routes(
    "POST",
    "/api/2.0/unity-catalog/temporary-table-credentials",
    name="Temporary table credentials",
    source="databricks-sdk service/catalog.py TemporaryTableCredentialsAPI",
    notes="READ needs SELECT, READ_WRITE needs MODIFY besides; both EXTERNAL USE SCHEMA. READ_WRITE on a "
    "managed table is 403 (text inferred): only catalog commits may write these from outside. The "
    "credentials open what the test put into `FakeWorkspace.sql.tables.storage_options`, else nothing.",
)
@routes(
    "POST",
    f"{UC}/temporary-table-credentials",
    name="Temporary table credentials (2.1)",
    source="unitycatalog api/all.yaml",
)
def temporary_table_credentials(workspace: FakeWorkspace, request: Request) -> Response:
    body = request.json()
    item = workspace.metastore.table_by_id(required(body, "table_id"))
    if item is None:
        raise ApiError(404, "TABLE_DOES_NOT_EXIST", f"Table '{body['table_id']}' does not exist.")
    operation = required(body, "operation")
    if operation not in ("READ", "READ_WRITE"):
        raise errors.invalid_parameter(f"operation must be READ or READ_WRITE, got '{operation}'.")
    metastore = workspace.metastore
    metastore.require(request.caller, "SELECT", item)
    if operation == "READ_WRITE":
        metastore.require(request.caller, "MODIFY", item)
        if item.table_type == "MANAGED":
            raise errors.permission_denied(
                f"Table '{item.full_name}' is a managed table, which cannot be written from outside of "
                "Databricks: request READ."
            )
    metastore.require(request.caller, "EXTERNAL_USE_SCHEMA", metastore.get("schema", item.parent_name))
    options = workspace.sql.tables.storage_options
    credentials = {
        "access_key_id": options.get("AWS_ACCESS_KEY_ID") or "ASIA" + secrets.token_hex(8).upper(),
        "secret_access_key": options.get("AWS_SECRET_ACCESS_KEY") or secrets.token_urlsafe(30),
        "session_token": options.get("AWS_SESSION_TOKEN") or secrets.token_urlsafe(120),
        "access_point": "",
    }
    return Response.of_json(
        {
            "aws_temp_credentials": credentials,
            "expiration_time": int((workspace.clock.time() + LIFETIME) * 1000),
            "url": item.storage_location,
        }
    )


def _shown(workspace: FakeWorkspace, item: Table, *, details: bool) -> dict[str, Any]:
    """TableInfo."""
    catalog, schema, name = item.full_name.split(".")
    shown: dict[str, Any] = {
        "name": name,
        "catalog_name": catalog,
        "schema_name": schema,
        "full_name": item.full_name,
        "table_id": item.table_id,
        "table_type": item.table_type,
        "data_source_format": "DELTA",
        "storage_location": item.storage_location,
        "owner": item.owner,
        "metastore_id": workspace.metastore.id,
        "created_at": item.created_at,
        "created_by": item.created_by,
        "updated_at": item.updated_at,
        "updated_by": item.updated_by,
        "securable_type": "TABLE",
        "browse_only": False,
    }
    if item.comment is not None:
        shown["comment"] = item.comment
    if details:
        shown["columns"], shown["properties"] = workspace.sql.describe(item)
        keys = item.extra.get("primary_key")
        if keys:
            constraint = {"name": f"{name}_pk", "child_columns": keys}
            shown["table_constraints"] = [{"primary_key_constraint": constraint}]
    return shown
