"""Lakebase: `/api/2.0/database` (provisioned instances, the older API)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockproof.fakes.databricks.errors import ApiError, invalid_parameter
from lockproof.fakes.databricks.lakebase import timestamp
from lockproof.fakes.databricks.router import Routes
from lockproof.fakes.databricks.routes.lakebase_shapes import instance_json, page, service, update
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

routes = Routes("Lakebase: provisioned instances", scope="database")

DB = "/api/2.0/database"
SDK = "databricks-sdk service/database.py"


@routes(
    "POST",
    f"{DB}/instances",
    name="Create an instance",
    source=f"{SDK} create_database_instance",
    notes="AVAILABLE at once.",
)
def create_instance(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase, body = service(workspace), request.json()
    capacity = str(body.get("capacity", "CU_1"))
    made = lakebase.create_instance(str(body.get("name", "")), request.caller, capacity=capacity)
    return Response.of_json(instance_json(lakebase, made))


@routes("GET", f"{DB}/instances", name="List instances", source=f"{SDK} list_database_instances")
def list_instances(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase = service(workspace)
    found = lakebase.instances.values()
    return page(request, "database_instances", found, lambda one: instance_json(lakebase, one))


@routes(
    "GET",
    f"{DB}/instances:findByUid",
    name="Find an instance by uid",
    source=f"{SDK} find_database_instance_by_uid",
)
def find_instance(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase, uid = service(workspace), request.query.get("uid", "")
    for instance in lakebase.instances.values():
        if instance.uid == uid:
            return Response.of_json(instance_json(lakebase, instance))
    raise ApiError(404, "NOT_FOUND", f"Database instance with uid '{uid}' not found.")


@routes("GET", f"{DB}/instances/{{name}}", name="Get an instance", source=f"{SDK} get_database_instance")
def get_instance(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase = service(workspace)
    return Response.of_json(instance_json(lakebase, lakebase.instance(request.params["name"])))


@routes(
    "PATCH",
    f"{DB}/instances/{{name}}",
    name="Update an instance",
    source=f"{SDK} update_database_instance",
    notes="`stopped` and `capacity`. A stopped instance lets nobody in and loses its sessions.",
)
def update_instance(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase, body = service(workspace), request.json()
    instance = lakebase.instance(request.params["name"])
    update(
        request,
        {
            "stopped": lambda _: lakebase.stop_instance(instance, bool(body.get("stopped"))),
            "capacity": lambda _: setattr(instance, "capacity", str(body.get("capacity"))),
        },
    )
    return Response.of_json(instance_json(lakebase, instance))


@routes(
    "DELETE",
    f"{DB}/instances/{{name}}",
    name="Delete an instance",
    source=f"{SDK} delete_database_instance",
    notes="Needs `purge=true`.",
)
def delete_instance(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase = service(workspace)
    instance = lakebase.instance(request.params["name"])
    if request.query.get("purge") != "true":
        raise invalid_parameter("Deleting a database instance requires purge=true.")
    lakebase.suspend(instance.endpoint)
    del lakebase.instances[instance.name]
    return Response.of_json({})


@routes(
    "POST",
    f"{DB}/credentials",
    name="Mint a login token for an instance",
    source=f"{SDK} generate_database_credential",
    notes="For one instance; lives 3600 s. Older tokens stay valid.",
)
def mint_for_instance(workspace: FakeWorkspace, request: Request) -> Response:
    lakebase, body = service(workspace), request.json()
    names = body.get("instance_names")
    if not isinstance(names, list) or len(names) != 1:
        raise invalid_parameter("instance_names must name one database instance.")
    made = lakebase.mint_for_instance(request.caller, str(names[0]))
    return Response.of_json({"token": made.token, "expiration_time": timestamp(made.expires)})
