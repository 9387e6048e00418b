"""Unity Catalog 2.1: catalogs, schemas, volumes and temporary credentials."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.catalog import Securable, Volume
from lockproof.fakes.databricks.errors import ApiError
from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.routes.securables import (
    UC,
    known_principal,
    require_manage,
    require_view,
    required,
    sees,
)
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("Unity Catalog 2.1", scope="unity-catalog")
DOC = "docs.databricks.com/api/workspace"
PAGE_SIZE = 100
CREDENTIAL_LIFETIME = 3600.0


@routes(
    "POST",
    f"{UC}/catalogs",
    name="Create a catalog",
    source=f"{DOC}/catalogs/create",
    notes="Admins only. Exists: `*_ALREADY_EXISTS` with status 400 (switch `conflict_status`: 409).",
)
def create_catalog(workspace: FakeWorkspace, request: Request) -> Response:
    body = request.json()
    name = required(body, "name")
    if not request.caller.admin:
        raise errors.permission_denied("User does not have CREATE CATALOG on Metastore 'fake-metastore'.")
    return _create(workspace, request, "catalog", "", name, body, ("storage_root", "properties", "options"))


@routes(
    "POST",
    f"{UC}/schemas",
    name="Create a schema",
    source=f"{DOC}/schemas/create",
    notes="Needs USE CATALOG and CREATE SCHEMA.",
)
def create_schema(workspace: FakeWorkspace, request: Request) -> Response:
    body = request.json()
    catalog, name = required(body, "catalog_name"), required(body, "name")
    parent = workspace.metastore.get("catalog", catalog)
    workspace.metastore.require(request.caller, "USE_CATALOG", parent)
    workspace.metastore.require(request.caller, "CREATE_SCHEMA", parent)
    return _create(workspace, request, "schema", catalog, name, body, ("storage_root", "properties"))


@routes(
    "POST",
    f"{UC}/volumes",
    name="Create a volume",
    source=f"{DOC}/volumes/create",
    notes="Needs USE CATALOG, USE SCHEMA, CREATE VOLUME. MANAGED with a storage_location: 400. A new "
    "volume may stay unseen by the Files API for some requests (switch `hidden_volume_requests`).",
)
def create_volume(workspace: FakeWorkspace, request: Request) -> Response:
    body = request.json()
    schema = f"{required(body, 'catalog_name')}.{required(body, 'schema_name')}"
    name = required(body, "name")
    kind = str(body.get("volume_type", "MANAGED"))
    if kind not in ("MANAGED", "EXTERNAL"):
        raise errors.invalid_parameter(f"CreateVolume volume_type must be MANAGED or EXTERNAL, got '{kind}'.")
    if kind == "MANAGED" and body.get("storage_location"):
        raise errors.invalid_parameter("CreateVolume storage_location can not be provided.")
    if kind == "EXTERNAL" and not body.get("storage_location"):
        raise errors.invalid_parameter(
            "CreateVolume storage_location must be provided for an external volume."
        )
    parent = workspace.metastore.get("schema", schema)
    workspace.metastore.require(request.caller, "USE_SCHEMA", parent)
    workspace.metastore.require(request.caller, "CREATE_VOLUME", parent)
    return _create(workspace, request, "volume", schema, name, body, ("volume_type", "storage_location"))


@routes(
    "GET",
    f"{UC}/catalogs",
    name="List catalogs",
    source=f"{DOC}/catalogs/list",
    notes="`max_results`, `page_token`; only objects on which the caller has some privilege. Pages may be "
    "empty with a token (switch `empty_pages`).",
)
def list_catalogs(workspace: FakeWorkspace, request: Request) -> Response:
    return _list(workspace, request, "catalog", "", "catalogs")


@routes(
    "GET",
    f"{UC}/schemas",
    name="List schemas",
    source=f"{DOC}/schemas/list",
    notes="`catalog_name` is required.",
)
def list_schemas(workspace: FakeWorkspace, request: Request) -> Response:
    parent = required(request.query, "catalog_name")
    workspace.metastore.get("catalog", parent)
    return _list(workspace, request, "schema", parent, "schemas")


@routes(
    "GET",
    f"{UC}/volumes",
    name="List volumes",
    source=f"{DOC}/volumes/list",
    notes="`catalog_name` and `schema_name` are required.",
)
def list_volumes(workspace: FakeWorkspace, request: Request) -> Response:
    parent = f"{required(request.query, 'catalog_name')}.{required(request.query, 'schema_name')}"
    workspace.metastore.get("schema", parent)
    return _list(workspace, request, "volume", parent, "volumes")


@routes("GET", f"{UC}/catalogs/{{name}}", name="Get a catalog", source=f"{DOC}/catalogs/get")
@routes("GET", f"{UC}/schemas/{{name}}", name="Get a schema", source=f"{DOC}/schemas/get")
@routes(
    "GET",
    f"{UC}/volumes/{{name}}",
    name="Get a volume",
    source=f"{DOC}/volumes/read",
    notes="404 `CATALOG_DOES_NOT_EXIST`, `SCHEMA_DOES_NOT_EXIST` or `VOLUME_DOES_NOT_EXIST` for the first "
    "that is missing; without any privilege: 403 that names the first one missing.",
)
def get(workspace: FakeWorkspace, request: Request) -> Response:
    item = workspace.metastore.get(_kind_of(request), request.params["name"])
    require_view(workspace.metastore, request.caller, item)
    return Response.of_json(_shown(workspace, item))


@routes("PATCH", f"{UC}/catalogs/{{name}}", name="Update a catalog", source=f"{DOC}/catalogs/update")
@routes("PATCH", f"{UC}/schemas/{{name}}", name="Update a schema", source=f"{DOC}/schemas/update")
@routes(
    "PATCH",
    f"{UC}/volumes/{{name}}",
    name="Update a volume",
    source=f"{DOC}/volumes/update",
    notes="`new_name`, `comment`, `owner`; owner, MANAGE or admin only.",
)
def update(workspace: FakeWorkspace, request: Request) -> Response:
    item = workspace.metastore.get(_kind_of(request), request.params["name"])
    require_manage(workspace.metastore, request.caller, item)
    body = request.json()
    if body.get("new_name"):
        workspace.metastore.rename(item, str(body["new_name"]))
    if "comment" in body:
        item.comment = str(body["comment"])
    if body.get("owner"):
        item.owner = known_principal(workspace, str(body["owner"]))
    item.updated_at = int(workspace.clock.time() * 1000)
    item.updated_by = request.caller.name
    return Response.of_json(_shown(workspace, item))


@routes(
    "DELETE",
    f"{UC}/catalogs/{{name}}",
    name="Delete a catalog",
    source=f"{DOC}/catalogs/delete",
    notes="200 `{}`. Not empty without `force=true`: 400 (text inferred).",
)
@routes("DELETE", f"{UC}/schemas/{{name}}", name="Delete a schema", source=f"{DOC}/schemas/delete")
@routes(
    "DELETE",
    f"{UC}/volumes/{{name}}",
    name="Delete a volume",
    source=f"{DOC}/volumes/delete",
    notes="With the files in it.",
)
def delete(workspace: FakeWorkspace, request: Request) -> Response:
    kind = _kind_of(request)
    item = workspace.metastore.get(kind, request.params["name"])
    require_manage(workspace.metastore, request.caller, item)
    workspace.metastore.delete(kind, item.full_name, force=request.query.get("force") == "true")
    return Response.of_json({})


@routes(
    "POST",
    "/api/2.0/unity-catalog/temporary-volume-credentials",
    name="Temporary volume credentials",
    source="databricks-sdk service/catalog.py TemporaryVolumeCredentialsAPI",
    notes="READ_VOLUME or WRITE_VOLUME; needs EXTERNAL USE SCHEMA besides. The credentials open nothing.",
)
@routes(
    "POST",
    f"{UC}/temporary-volume-credentials",
    name="Temporary volume credentials (2.1)",
    source="unitycatalog api/all.yaml",
)
def temporary_volume_credentials(workspace: FakeWorkspace, request: Request) -> Response:
    body = request.json()
    volume = workspace.metastore.volume_by_id(required(body, "volume_id"))
    if volume is None:
        raise ApiError(404, "VOLUME_DOES_NOT_EXIST", f"Volume '{body['volume_id']}' does not exist.")
    operation = required(body, "operation")
    if operation not in ("READ_VOLUME", "WRITE_VOLUME"):
        raise errors.invalid_parameter(f"operation must be READ_VOLUME or WRITE_VOLUME, got '{operation}'.")
    schema = workspace.metastore.get("schema", volume.parent_name)
    workspace.metastore.require(request.caller, operation, volume)
    workspace.metastore.require(request.caller, "EXTERNAL_USE_SCHEMA", schema)
    credentials: dict[str, Any] = {
        "aws": {
            "aws_temp_credentials": {
                "access_key_id": "ASIA" + secrets.token_hex(8).upper(),
                "secret_access_key": secrets.token_urlsafe(30),
                "session_token": secrets.token_urlsafe(120),
                "access_point": "",
            }
        },
        "azure": {"azure_user_delegation_sas": {"sas_token": f"sig={secrets.token_urlsafe(32)}"}},
        "gcp": {"gcp_oauth_token": {"oauth_token": secrets.token_urlsafe(60)}},
    }[workspace.fidelity.cloud]
    expires = int((workspace.clock.time() + CREDENTIAL_LIFETIME) * 1000)
    return Response.of_json({**credentials, "expiration_time": expires, "url": volume.storage_location})


@routes(
    "GET",
    f"{UC}/current-metastore-assignment",
    name="Current metastore assignment",
    source=f"{DOC}/metastores/current",
)
def current_metastore(workspace: FakeWorkspace, request: Request) -> Response:
    return Response.of_json(
        {
            "workspace_id": int(workspace.id),
            "metastore_id": workspace.metastore.id,
            "default_catalog_name": "main",
        }
    )


def _create(
    workspace: FakeWorkspace,
    request: Request,
    kind: str,
    parent: str,
    name: str,
    body: dict[str, Any],
    extra: tuple[str, ...],
) -> Response:
    comment = body.get("comment")
    item = workspace.metastore.create(
        kind,
        parent,
        name,
        request.caller,
        comment=None if comment is None else str(comment),
        extra={key: body[key] for key in extra if body.get(key)},
    )
    return Response.of_json(_shown(workspace, item))


def _list(workspace: FakeWorkspace, request: Request, kind: str, parent: str, key: str) -> Response:
    try:
        size = int(request.query.get("max_results") or 0)
        start, _, filled = request.query.get("page_token", "0").partition("-")
        offset = int(start)
    except ValueError:
        raise errors.invalid_parameter("Invalid max_results or page_token.") from None
    size = min(size or PAGE_SIZE, workspace.fidelity.max_page)
    visible = [
        item
        for item in workspace.metastore.children(kind, parent)
        if sees(workspace.metastore, request.caller, item)
    ]
    if workspace.fidelity.empty_pages and not filled and visible[offset:]:
        return Response.of_json({"next_page_token": f"{offset}-filled"})
    body: dict[str, Any] = {
        key: [_shown(workspace, item) for item in visible[offset : offset + size]],
    }
    if visible[offset + size :]:
        body["next_page_token"] = str(offset + size)
    return Response.of_json(body)


def _shown(workspace: FakeWorkspace, item: Securable) -> dict[str, Any]:
    """CatalogInfo, SchemaInfo or VolumeInfo."""
    parts = item.full_name.split(".")
    shown: dict[str, Any] = {
        "name": item.name,
        "full_name": item.full_name,
        "owner": item.owner,
        "metastore_id": workspace.metastore.id,
        "created_at": item.created_at,
        "created_by": item.created_by,
        "updated_at": item.updated_at,
        "updated_by": item.updated_by,
        "browse_only": False,
        **item.extra,
    }
    if item.comment is not None:
        shown["comment"] = item.comment
    if item.kind != "catalog":
        shown["catalog_name"] = parts[0]
    if item.kind == "catalog":
        shown["catalog_type"] = "MANAGED_CATALOG"
        shown["securable_type"] = "CATALOG"
    if isinstance(item, Volume):
        shown["schema_name"] = parts[1]
        shown["volume_id"] = item.volume_id
        shown["volume_type"] = item.volume_type
        shown["storage_location"] = item.storage_location
    return shown


def _kind_of(request: Request) -> str:
    return request.path.removeprefix(f"{UC}/").partition("/")[0].removesuffix("s")
