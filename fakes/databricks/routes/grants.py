"""Unity Catalog 2.1: grants on catalogs, schemas and volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.catalog import PRIVILEGES, Securable
from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.routes.securables import UC, known_principal, require_manage, require_view
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("Unity Catalog 2.1: grants", scope="unity-catalog")
DOC = "docs.databricks.com/api/workspace"


@routes(
    "GET",
    f"{UC}/permissions/{{kind}}/{{name}}",
    name="Get grants",
    source=f"{DOC}/grants/get",
    notes="`principal` narrows. Types are lower-case: catalog, schema, volume, table.",
)
def get_permissions(workspace: FakeWorkspace, request: Request) -> Response:
    item = _securable(workspace, request)
    require_view(workspace.metastore, request.caller, item)
    return Response.of_json(_assignments(item, request.query.get("principal")))


@routes(
    "PATCH",
    f"{UC}/permissions/{{kind}}/{{name}}",
    name="Change grants",
    source=f"{DOC}/grants/update",
    notes="Unknown principal: 404 PRINCIPAL_DOES_NOT_EXIST; unknown privilege: 400 (text inferred).",
)
def change_permissions(workspace: FakeWorkspace, request: Request) -> Response:
    item = _securable(workspace, request)
    require_manage(workspace.metastore, request.caller, item)
    changes = request.json().get("changes") or []
    for change in changes:
        principal = known_principal(workspace, str(change.get("principal", "")))
        workspace.metastore.change_grants(
            item, principal, list(change.get("add") or []), list(change.get("remove") or [])
        )
    return Response.of_json(_assignments(item, None))


@routes(
    "GET",
    f"{UC}/effective-permissions/{{kind}}/{{name}}",
    name="Get effective grants",
    source=f"{DOC}/grants/geteffective",
    notes="With `inherited_from_type` and `inherited_from_name` for grants further up.",
)
def effective_permissions(workspace: FakeWorkspace, request: Request) -> Response:
    item = _securable(workspace, request)
    require_view(workspace.metastore, request.caller, item)
    wanted = request.query.get("principal")
    found: dict[str, list[dict[str, str]]] = {}
    for level in workspace.metastore.chain(item):
        for principal, privileges in level.grants.items():
            if wanted in (None, principal):
                for privilege in sorted(privileges):
                    entry = {"privilege": privilege}
                    if level is not item:
                        entry["inherited_from_type"] = level.kind.upper()
                        entry["inherited_from_name"] = level.full_name
                    found.setdefault(principal, []).append(entry)
    return Response.of_json(
        {
            "privilege_assignments": [
                {"principal": principal, "privileges": privileges} for principal, privileges in found.items()
            ]
        }
    )


def _securable(workspace: FakeWorkspace, request: Request) -> Securable:
    kind = request.params["kind"].lower()
    if kind not in PRIVILEGES:
        raise errors.invalid_parameter(
            f"Securable type '{request.params['kind']}' is not supported by this fake."
        )
    return workspace.metastore.get(kind, request.params["name"])


def _assignments(item: Securable, principal: str | None) -> dict[str, Any]:
    chosen = {name: held for name, held in item.grants.items() if principal in (None, name)}
    if not chosen:
        return {}
    return {
        "privilege_assignments": [
            {"principal": name, "privileges": sorted(privileges)}
            for name, privileges in sorted(chosen.items())
        ]
    }
