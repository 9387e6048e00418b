"""Puts Lakebase into a fake workspace: its routes, a project that is ready to use, and the login proxy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lockproof.fakes.databricks.control import control_operation
from lockproof.fakes.databricks.lakebase import BRANCH, ENDPOINT, Lakebase
from lockproof.fakes.databricks.login_proxy import LoginProxy
from lockproof.fakes.databricks.routes import lakebase, lakebase_instances
from lockproof.fakes.databricks.workspace import FakeWorkspace

PROJECT = "lockproof"


@contextmanager
def serve_lakebase(
    workspace: FakeWorkspace, postgres: Mapping[str, Any], *, port: int = 0, tls: bool = True
) -> Iterator[LoginProxy]:
    """Lakebase for `workspace`; `.lakebase` is the model, `.lakebase.port` where it listens.

    `postgres` holds the psycopg keywords of a real server on which roles and databases may be made. The
    project `lockproof` is there, owned by the workspace's administrator.
    """
    model = Lakebase(workspace.clock)
    model.create_project(PROJECT, workspace.admin)
    workspace.attach(model)
    workspace.router.install([lakebase.routes, lakebase_instances.routes])
    with LoginProxy(model, postgres, port=port, tls=tls) as proxy:
        workspace.attach(proxy)
        yield proxy


# --- control operations (`FakeControl.call`) ---


@control_operation
def lakebase_address(workspace: FakeWorkspace) -> dict[str, Any]:
    """`host, port, project`: where Lakebase is; `sessions, overdue, logins`: how many connections are open,
    how many of them are about to be ended by the clock, and how many there have been."""
    proxy = workspace.service(LoginProxy)
    counts = {"sessions": len(proxy.sessions), "overdue": len(proxy.overdue()), "logins": proxy.logins}
    return {"host": proxy.lakebase.host, "port": proxy.lakebase.port, "project": PROJECT, **counts}


@control_operation
def lakebase_fault(workspace: FakeWorkspace, **fault: Any) -> int:
    """Arms `SessionFault(**fault)` and returns its id."""
    return workspace.service(LoginProxy).faults.add(**fault).id


@control_operation
def lakebase_fault_counts(workspace: FakeWorkspace, fault_id: int) -> dict[str, Any]:
    """`id, seen, hits, held, done, fault` of a session fault."""
    return workspace.service(LoginProxy).faults.get(fault_id).to_json()


@control_operation
def lakebase_log(workspace: FakeWorkspace, since: int, role: str) -> dict[str, Any]:
    """`count`, the number of the newest entry, and the `entries` with `i > since` of a role's sessions: see
    `lockproof.fakes.databricks.sessionlog.SessionEntry`."""
    log = workspace.service(LoginProxy).log
    return {"count": log.count, "entries": [entry.to_json() for entry in log.select(since, role)]}


@control_operation
def lakebase_release(workspace: FakeWorkspace, fault_id: int) -> None:
    """Lets the statements go that a session fault holds, now and later."""
    workspace.service(LoginProxy).faults.get(fault_id).released.set()


@control_operation
def lakebase_clear_faults(workspace: FakeWorkspace) -> int:
    """Removes all session faults and returns how many there were."""
    return workspace.service(LoginProxy).faults.clear()


@control_operation
def lakebase_end_sessions(workspace: FakeWorkspace) -> int:
    """Breaks all connections and returns how many there were."""
    return workspace.service(LoginProxy).end_sessions()


@control_operation
def lakebase_suspend(
    workspace: FakeWorkspace,
    project: str = PROJECT,
    branch: str = BRANCH,
    endpoint: str = ENDPOINT,
    wake_refusals: int | None = None,
) -> None:
    """Scales an endpoint to zero: its sessions end, and the next login wakes it. `wake_refusals`: how many
    logins are refused until it is awake, from now on, of all endpoints."""
    model = workspace.service(Lakebase)
    if wake_refusals is not None:
        model.wake_refusals = wake_refusals
    model.suspend(model.endpoint(project, branch, endpoint))


@control_operation
def lakebase_expire_tokens(
    workspace: FakeWorkspace, project: str = PROJECT, branch: str = BRANCH, endpoint: str = ENDPOINT
) -> int:
    """Expires all login tokens for an endpoint now and returns how many there were."""
    model = workspace.service(Lakebase)
    return model.expire_credentials(model.endpoint(project, branch, endpoint))
