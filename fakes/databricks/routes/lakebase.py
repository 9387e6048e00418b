"""Lakebase: `/api/2.0/postgres` (projects with branches, endpoints, roles and login tokens)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lockproof.fakes.databricks.errors import ApiError, invalid_parameter, permission_denied
from lockproof.fakes.databricks.lakebase import Branch, Endpoint, Lakebase, Role, timestamp
from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.routes.lakebase_shapes import (
    READ_ONLY,
    branch_json,
    duration,
    endpoint_json,
    lifetime,
    page,
    project_json,
    read_spec,
    role_json,
    service,
    started,
    update,
    update_mask,
)
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("Lakebase: projects", scope="postgres")

PG = "/api/2.0/postgres"
SDK = "databricks-sdk service/postgres.py"
PROJECT = f"{PG}/projects/{{project}}"
BRANCH = f"{PROJECT}/branches/{{branch}}"
ENDPOINT = f"{BRANCH}/endpoints/{{endpoint}}"
SUSPEND_SECONDS = (60.0, 604_800.0)
NOT_DONE = "Answers an operation that is not done; the first look at it says that it is."


@routes(
    "GET",
    f"{PG}/{{parent...}}/operations/{{operation}}",
    name="Get an operation",
    source=f"{SDK} get_operation",
)
def get_operation(workspace: FakeWorkspace, request: Request) -> Response:
    name = f"{request.params['parent']}/operations/{request.params['operation']}"
    found = service(workspace).operations.get(name)
    if found is None:
        raise ApiError(404, "NOT_FOUND", "operation id not found")
    return Response.of_json(found)


@routes(
    "POST",
    f"{PG}/projects",
    name="Create a project",
    source=f"{SDK} create_project",
    notes=f"With branch `production` and endpoint `primary`. {NOT_DONE} An id that exists: 409.",
)
def create_project(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase, spec = service(workspace), read_spec(request)
    made = lakebase.create_project(
        request.query.get("project_id", ""),
        request.caller,
        display_name=str(spec.get("display_name", "")),
        pg_version=int(spec.get("pg_version", 17)),
    )
    return started(lakebase, made.name, project_json(made))


@routes("GET", f"{PG}/projects", name="List projects", source=f"{SDK} list_projects")
def list_projects(workspace: FakeWorkspace, request: Request) -> Response:
    return page(request, "projects", service(workspace).projects.values(), project_json)


@routes("GET", PROJECT, name="Get a project", source=f"{SDK} get_project")
def get_project(workspace: FakeWorkspace, request: Request) -> Response:
    return Response.of_json(project_json(service(workspace).project(request.params["project"])))


@routes(
    "PATCH", PROJECT, name="Update a project", source=f"{SDK} update_project", notes="`spec.display_name`."
)
def update_project(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase = service(workspace)
    project = lakebase.project(request.params["project"])
    update(
        request, {"spec.display_name": lambda spec: setattr(project, "display_name", spec["display_name"])}
    )
    return started(lakebase, project.name, project_json(project))


@routes(
    "DELETE",
    PROJECT,
    name="Delete a project",
    source=f"{SDK} delete_project",
    notes="Gone at once, with its data; a real one can be undeleted for a time.",
)
def delete_project(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase = service(workspace)
    project = lakebase.project(request.params["project"])
    if not (request.caller.admin or request.caller.name == project.owner):
        raise permission_denied(f"User does not have CAN MANAGE on project '{project.id}'.")
    for branch in project.branches.values():
        for endpoint in branch.endpoints.values():
            lakebase.suspend(endpoint)
    del lakebase.projects[project.id]
    return started(lakebase, project.name, {})


@routes(
    "POST",
    f"{PROJECT}/branches",
    name="Create a branch",
    source=f"{SDK} create_branch",
    notes=f"Its data starts empty, unlike a real branch's. {NOT_DONE}",
)
def create_branch(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase = service(workspace)
    project = lakebase.project(request.params["project"])
    made = lakebase.create_branch(project, request.query.get("branch_id", ""), request.caller)
    return started(lakebase, made.name, branch_json(made))


@routes("GET", f"{PROJECT}/branches", name="List branches", source=f"{SDK} list_branches")
def list_branches(workspace: FakeWorkspace, request: Request) -> Response:
    found = service(workspace).project(request.params["project"]).branches.values()
    return page(request, "branches", found, branch_json)


@routes("GET", BRANCH, name="Get a branch", source=f"{SDK} get_branch")
def get_branch(workspace: FakeWorkspace, request: Request) -> Response:
    return Response.of_json(branch_json(_branch_of(workspace, request)))


@routes(
    "DELETE",
    BRANCH,
    name="Delete a branch",
    source=f"{SDK} delete_branch",
    notes="The one that came with the project: 400 BAD_REQUEST.",
)
def delete_branch(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase = service(workspace)
    branch = _branch_of(workspace, request)
    if branch.default:
        raise _managed_by_parent("branch")
    for endpoint in branch.endpoints.values():
        lakebase.suspend(endpoint)
    del lakebase.project(request.params["project"]).branches[branch.id]
    return started(lakebase, branch.name, {})


@routes(
    "POST",
    f"{BRANCH}/endpoints",
    name="Create an endpoint",
    source=f"{SDK} create_endpoint",
    notes=f"One read-write endpoint for each branch. {NOT_DONE}",
)
def create_endpoint(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase, spec = service(workspace), read_spec(request)
    made = lakebase.create_endpoint(
        _branch_of(workspace, request),
        request.query.get("endpoint_id", ""),
        read_only=spec.get("endpoint_type") == READ_ONLY,
    )
    _configure(lakebase, made, spec, spec.keys())
    return started(lakebase, made.name, endpoint_json(lakebase, made))


@routes("GET", f"{BRANCH}/endpoints", name="List endpoints", source=f"{SDK} list_endpoints")
def list_endpoints(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase = service(workspace)
    found = _branch_of(workspace, request).endpoints.values()
    return page(request, "endpoints", found, lambda endpoint: endpoint_json(lakebase, endpoint))


@routes(
    "GET",
    ENDPOINT,
    name="Get an endpoint",
    source=f"{SDK} get_endpoint",
    notes="`current_state` is IDLE while suspended. All hosts are the login proxy's address; its port is not "
    "5432. There are no pooled hosts: they take no tokens.",
)
def get_endpoint(workspace: FakeWorkspace, request: Request) -> Response:
    return Response.of_json(endpoint_json(service(workspace), _endpoint_of(workspace, request)))


@routes(
    "PATCH",
    ENDPOINT,
    name="Update an endpoint",
    source=f"{SDK} update_endpoint",
    notes="`spec.disabled`, `spec.suspend_timeout_duration` (60 s to 7 days), `spec.no_suspension`. A "
    "disabled endpoint lets nobody in and loses its sessions.",
)
def update_endpoint(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase, endpoint = service(workspace), _endpoint_of(workspace, request)
    mask = [name.removeprefix("spec.") for name in update_mask(request)]
    _configure(lakebase, endpoint, read_spec(request), mask)
    return started(lakebase, endpoint.name, endpoint_json(lakebase, endpoint))


@routes(
    "DELETE",
    ENDPOINT,
    name="Delete an endpoint",
    source=f"{SDK} delete_endpoint",
    notes="The one that came with the project: 400 BAD_REQUEST.",
)
def delete_endpoint(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase, endpoint = service(workspace), _endpoint_of(workspace, request)
    branch = _branch_of(workspace, request)
    if branch.default and not endpoint.read_only:
        raise _managed_by_parent("endpoint")
    lakebase.suspend(endpoint)
    del branch.endpoints[endpoint.id]
    return started(lakebase, endpoint.name, {})


@routes(
    "POST",
    f"{BRANCH}/roles",
    name="Create a role",
    source=f"{SDK} create_role",
    notes="Without one an identity cannot log in. `role_id` is made from the role's name when it is absent.",
)
def create_role(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase, spec = service(workspace), read_spec(request)
    branch = _branch_of(workspace, request)
    role_id = request.query.get("role_id", "")
    postgres_role = str(spec.get("postgres_role") or role_id)
    if not postgres_role:
        raise invalid_parameter(
            "Field 'spec.postgres_role' is required, expected non-default value (not \"\")!"
        )
    identity = str(spec.get("identity_type", "USER"))
    made = lakebase.create_role(branch, postgres_role, role_id=role_id, identity=identity)
    return started(lakebase, branch.name, role_json(branch, made))


@routes("GET", f"{BRANCH}/roles", name="List roles", source=f"{SDK} list_roles")
def list_roles(workspace: FakeWorkspace, request: Request) -> Response:
    branch = _branch_of(workspace, request)
    return page(request, "roles", branch.roles.values(), lambda role: role_json(branch, role))


@routes("GET", f"{BRANCH}/roles/{{role}}", name="Get a role", source=f"{SDK} get_role")
def get_role(workspace: FakeWorkspace, request: Request) -> Response:
    branch = _branch_of(workspace, request)
    return Response.of_json(role_json(branch, _role_of(branch, request)))


@routes("DELETE", f"{BRANCH}/roles/{{role}}", name="Delete a role", source=f"{SDK} delete_role")
def delete_role(workspace: FakeWorkspace, request: Request) -> Response:
    branch = _branch_of(workspace, request)
    del branch.roles[_role_of(branch, request).id]
    return started(service(workspace), branch.name, {})


@routes(
    "POST",
    f"{PG}/credentials",
    name="Mint a login token for an endpoint",
    source=f"{SDK} generate_database_credential",
    notes="`ttl` or `expire_time`, 300 s to 3600 s from now, 3600 s by default. Older tokens stay valid. "
    "`claims` are accepted and narrow nothing.",
)
def mint(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase, body = service(workspace), request.json()
    name = str(body.get("endpoint", ""))
    if not name:
        raise invalid_parameter("Field 'endpoint' is required, expected non-default value (not \"\")!")
    made = lakebase.mint(request.caller, name, seconds=lifetime(lakebase, body))
    return Response.of_json({"token": made.token, "expire_time": timestamp(made.expires)})


def _branch_of(workspace: FakeWorkspace, request: Request) -> Branch:
    return service(workspace).branch(request.params["project"], request.params["branch"])


def _endpoint_of(workspace: FakeWorkspace, request: Request) -> Endpoint:
    return service(workspace).endpoint(
        request.params["project"], request.params["branch"], request.params["endpoint"]
    )


def _role_of(branch: Branch, request: Request) -> Role:
    found = branch.roles.get(request.params["role"])
    if found is None:
        raise ApiError(404, "NOT_FOUND", "role id not found")
    return found


def _configure(lakebase: Lakebase, endpoint: Endpoint, spec: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        if name == "disabled":
            endpoint.disabled = bool(spec.get("disabled"))
            if endpoint.disabled:
                lakebase.suspend(endpoint)
        elif name == "suspend_timeout_duration":
            seconds = duration(name, spec.get(name))
            if not SUSPEND_SECONDS[0] <= seconds <= SUSPEND_SECONDS[1]:
                raise invalid_parameter(f"Field '{name}' must be between 60s and 604800s.")
            endpoint.suspend_after = seconds
        elif name == "no_suspension":
            endpoint.suspend_after = None
        elif name not in ("endpoint_type", "autoscaling_limit_min_cu", "autoscaling_limit_max_cu"):
            raise invalid_parameter(f"Field 'spec.{name}' in update_mask cannot be updated.")


def _managed_by_parent(kind: str) -> ApiError:
    message = f"{kind} was created with its parent and is deleted with it (MANAGED_BY_PARENT)"
    return ApiError(400, "BAD_REQUEST", message)
