"""How Lakebase's objects look on the wire, and how its requests are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from lockproof.fakes.databricks.errors import invalid_parameter
from lockproof.fakes.databricks.lakebase import (
    TOKEN_SECONDS,
    Branch,
    Endpoint,
    Instance,
    Lakebase,
    Project,
    Role,
    timestamp,
)
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.workspace import FakeWorkspace

T = TypeVar("T")

READ_ONLY = "ENDPOINT_TYPE_READ_ONLY"
READ_WRITE = "ENDPOINT_TYPE_READ_WRITE"
PAGE_SIZE = 100


def service(workspace: FakeWorkspace) -> Lakebase:
    return workspace.service(Lakebase)


def project_json(project: Project) -> dict[str, Any]:
    status = {
        "project_id": project.id,
        "display_name": project.display_name,
        "pg_version": project.pg_version,
        "owner": project.owner,
        "default_branch": next(b.name for b in project.branches.values() if b.default),
        "enable_pg_native_login": False,
    }
    return {
        "name": project.name,
        "project_id": project.id,
        "uid": project.uid,
        "create_time": timestamp(project.created),
        "update_time": timestamp(project.created),
        "spec": {"display_name": project.display_name, "pg_version": project.pg_version},
        "status": status,
    }


def branch_json(branch: Branch) -> dict[str, Any]:
    return {
        "name": branch.name,
        "branch_id": branch.id,
        "parent": branch.name.partition("/branches/")[0],
        "uid": branch.uid,
        "create_time": timestamp(branch.created),
        "status": {
            "branch_id": branch.id,
            "current_state": "READY",
            "default": branch.default,
            "is_protected": False,
        },
    }


def endpoint_json(lakebase: Lakebase, endpoint: Endpoint) -> dict[str, Any]:
    kind = READ_ONLY if endpoint.read_only else READ_WRITE
    hosts = {"host": lakebase.host}
    if endpoint.read_only:
        hosts["read_only_host"] = lakebase.host
    settings: dict[str, Any] = {"endpoint_type": kind, "disabled": endpoint.disabled}
    if endpoint.suspend_after is not None:
        settings["suspend_timeout_duration"] = f"{endpoint.suspend_after:g}s"
    return {
        "name": endpoint.name,
        "endpoint_id": endpoint.id,
        "parent": endpoint.name.partition("/endpoints/")[0],
        "uid": endpoint.uid,
        "create_time": timestamp(endpoint.created),
        "spec": settings if endpoint.suspend_after is not None else {**settings, "no_suspension": True},
        "status": {
            **settings,
            "endpoint_id": endpoint.id,
            "current_state": "IDLE" if endpoint.suspended else "ACTIVE",
            "hosts": hosts,
            "last_active_time": timestamp(endpoint.active),
        },
    }


def role_json(branch: Branch, role: Role) -> dict[str, Any]:
    facts = {
        "postgres_role": role.postgres_role,
        "identity_type": role.identity,
        "auth_method": "LAKEBASE_OAUTH_V1",
    }
    return {
        "name": f"{branch.name}/roles/{role.id}",
        "role_id": role.id,
        "parent": branch.name,
        "create_time": timestamp(role.created),
        "spec": facts,
        "status": {**facts, "role_id": role.id},
    }


def instance_json(lakebase: Lakebase, instance: Instance) -> dict[str, Any]:
    return {
        "name": instance.name,
        "uid": instance.uid,
        "state": "STOPPED" if instance.stopped else "AVAILABLE",
        "capacity": instance.capacity,
        "effective_capacity": instance.capacity,
        "creator": instance.owner,
        "creation_time": timestamp(instance.created),
        "pg_version": "PG_VERSION_16",
        "read_write_dns": lakebase.host,
        "effective_stopped": instance.stopped,
        "effective_node_count": 1,
    }


def read_spec(request: Request) -> dict[str, Any]:
    spec = request.json().get("spec") or {}
    if not isinstance(spec, dict):
        raise invalid_parameter("Field 'spec' must be an object.")
    return spec


def update_mask(request: Request) -> list[str]:
    names = [name for name in request.query.get("update_mask", "").split(",") if name]
    if not names:
        raise invalid_parameter("Field 'update_mask' is required, expected non-default value (not \"\")!")
    return names


def update(request: Request, fields: dict[str, Callable[[dict[str, Any]], object]]) -> None:
    """Applies the fields that `update_mask` names; an unknown one is 400."""
    for name in update_mask(request):
        if name not in fields:
            raise invalid_parameter(f"Field '{name}' in update_mask cannot be updated.")
        fields[name](read_spec(request))


def lifetime(lakebase: Lakebase, body: dict[str, Any]) -> float:
    ttl, until = body.get("ttl"), body.get("expire_time")
    if ttl and until:
        raise invalid_parameter("Only one of 'ttl' and 'expire_time' can be given.")
    seconds = TOKEN_SECONDS[1]
    if ttl:
        seconds = duration("ttl", ttl)
    elif until:
        try:
            seconds = datetime.fromisoformat(str(until)).timestamp() - lakebase.clock.time()
        except ValueError:
            raise invalid_parameter(f"Field 'expire_time' is not a timestamp: '{until}'.") from None
    # In whole seconds: an `expire_time` five minutes from now was written a moment ago.
    if not TOKEN_SECONDS[0] <= round(seconds) <= TOKEN_SECONDS[1]:
        raise invalid_parameter("The lifetime of a credential must be between 300s and 3600s.")
    return seconds


def duration(name: str, text: Any) -> float:
    """Seconds of a protobuf Duration, such as `300s`."""
    if not isinstance(text, str) or not re.fullmatch(r"\d+(\.\d+)?s", text):
        raise invalid_parameter(f"Field '{name}' is not a duration such as '300s'.")
    return float(text[:-1])


def started(lakebase: Lakebase, parent: str, response: dict[str, Any]) -> Response:
    return Response.of_json(lakebase.operation(parent, response))


def page(request: Request, key: str, found: Iterable[T], show: Callable[[T], dict[str, Any]]) -> Response:
    """`page_size` items from the one that `page_token` counts to."""
    everything = list(found)
    numbers = [request.query.get(name) or "0" for name in ("page_token", "page_size")]
    if not all(number.isdigit() for number in numbers):
        raise invalid_parameter("page_token is not from an earlier page, or page_size is not a number.")
    begin = int(numbers[0])
    end = begin + min(int(numbers[1]) or PAGE_SIZE, PAGE_SIZE)
    body: dict[str, Any] = {key: [show(item) for item in everything[begin:end]]}
    if end < len(everything):
        body["next_page_token"] = str(end)
    return Response.of_json(body)
