"""SQL warehouses: list, get, create, start, stop, delete, and who may use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockproof.fakes.databricks.errors import invalid_parameter, permission_denied
from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.sql.warehouses import Warehouse
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("SQL warehouses", scope="sql")
DOC = "docs.databricks.com/api/workspace/warehouses"
WAREHOUSES = "/api/2.0/sql/warehouses"
PERMISSIONS = "/api/2.0/permissions/warehouses"


@routes(
    "GET",
    WAREHOUSES,
    name="List warehouses",
    source=f"{DOC}/list",
    notes="Those that the caller may see; `page_size`, `page_token`.",
)
def list_warehouses(workspace: FakeWorkspace, request: Request) -> Response:
    found = workspace.sql.warehouses.visible(request.caller)
    try:
        size = int(request.query.get("page_size") or 0) or len(found)
        offset = int(request.query.get("page_token") or 0)
    except ValueError:
        raise invalid_parameter("Invalid page_size or page_token.") from None
    page = found[offset : offset + size]
    body: dict[str, Any] = {"warehouses": [item.shown(workspace.url) for item in page]}
    if found[offset + size :]:
        body["next_page_token"] = str(offset + size)
    return Response.of_json(body)


@routes(
    "POST",
    WAREHOUSES,
    name="Create a warehouse",
    source=f"{DOC}/create",
    notes="Admins only. It is created started, as on a workspace.",
)
def create(workspace: FakeWorkspace, request: Request) -> Response:
    if not request.caller.admin:
        raise permission_denied("User does not have permission to create SQL warehouses.")
    body = request.json()
    made = workspace.sql.warehouses.create(str(body.pop("name", "") or ""), request.caller, **body)
    made.start()
    return Response.of_json({"id": made.id})


@routes(
    "GET",
    f"{WAREHOUSES}/{{id}}",
    name="Get a warehouse",
    source=f"{DOC}/get",
    notes="Unknown: 404; not usable by the caller: 403.",
)
def get(workspace: FakeWorkspace, request: Request) -> Response:
    return Response.of_json(_found(workspace, request).shown(workspace.url))


@routes(
    "POST",
    f"{WAREHOUSES}/{{id}}/start",
    name="Start a warehouse",
    source=f"{DOC}/start",
    notes="STARTING for `start_seconds` of the fake's clock, then RUNNING.",
)
def start(workspace: FakeWorkspace, request: Request) -> Response:
    _found(workspace, request).start()
    return Response.of_json({})


@routes("POST", f"{WAREHOUSES}/{{id}}/stop", name="Stop a warehouse", source=f"{DOC}/stop")
def stop(workspace: FakeWorkspace, request: Request) -> Response:
    _found(workspace, request).stop()
    return Response.of_json({})


@routes(
    "DELETE",
    f"{WAREHOUSES}/{{id}}",
    name="Delete a warehouse",
    source=f"{DOC}/delete",
    notes="Its statements that have not ended are cancelled (inferred).",
)
def delete(workspace: FakeWorkspace, request: Request) -> Response:
    found = _managed(workspace, request)
    del workspace.sql.warehouses.by_id[found.id]
    workspace.sql.statements.cancel_all(found)
    return Response.of_json({})


@routes("GET", f"{PERMISSIONS}/{{id}}", name="Get who may use a warehouse", source=f"{DOC}/getpermissions")
def permissions(workspace: FakeWorkspace, request: Request) -> Response:
    return _access(workspace, _managed(workspace, request))


@routes("PUT", f"{PERMISSIONS}/{{id}}", name="Set who may use a warehouse", source=f"{DOC}/setpermissions")
@routes(
    "PATCH",
    f"{PERMISSIONS}/{{id}}",
    name="Change who may use a warehouse",
    source=f"{DOC}/updatepermissions",
    notes="`user_name`, `service_principal_name`, or `group_name` users. PUT replaces, PATCH adds.",
)
def change_permissions(workspace: FakeWorkspace, request: Request) -> Response:
    from lockproof.fakes.databricks.sql.warehouses import LEVELS

    found = _managed(workspace, request)
    access: dict[str, str] = {} if request.method == "PUT" else dict(found.access)
    for item in request.json().get("access_control_list") or []:
        name = item.get("user_name") or item.get("service_principal_name") or item.get("group_name")
        level = item.get("permission_level")
        if not name or level not in LEVELS:
            raise invalid_parameter(f"'{level}' is no permission level of a warehouse.")
        access[str(name)] = str(level)
    found.access = access
    return _access(workspace, found)


def _access(workspace: FakeWorkspace, found: Warehouse) -> Response:
    entries = []
    for name, level in found.access.items():
        principal = workspace.directory.principals.get(name)
        kind = "group_name" if principal is None else "user_name"
        if principal is not None and principal.service:
            kind = "service_principal_name"
        entries.append({kind: name, "all_permissions": [{"permission_level": level, "inherited": False}]})
    return Response.of_json(
        {
            "object_id": f"/sql/warehouses/{found.id}",
            "object_type": "warehouses",
            "access_control_list": entries,
        }
    )


def _found(workspace: FakeWorkspace, request: Request) -> Warehouse:
    found = workspace.sql.warehouses.get(request.params["id"])
    if not found.usable_by(request.caller):
        raise permission_denied(f"User does not have permission to use SQL warehouse {found.id}.")
    return found


def _managed(workspace: FakeWorkspace, request: Request) -> Warehouse:
    found = workspace.sql.warehouses.get(request.params["id"])
    manages = found.access.get(request.caller.name) in ("CAN_MANAGE", "IS_OWNER")
    if not (request.caller.admin or found.creator == request.caller.name or manages):
        raise permission_denied(f"User does not have permission to manage SQL warehouse {found.id}.")
    return found
