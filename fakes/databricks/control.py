"""Steering a fake from a test: the same methods in process and over HTTP.

Over HTTP, because workers of pytest-xdist talk to a server in the controller process.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import requests

from lockproof.fakes.databricks.errors import ApiError
from lockproof.fakes.databricks.faults import Fault
from lockproof.fakes.databricks.requestlog import LogEntry
from lockproof.fakes.databricks.wire import Request, Response
from lockproof.fakes.databricks.workspace import FakeWorkspace

PREFIX = "/__fake/"
TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.01

Operation = Callable[..., Any]
OPERATIONS: dict[str, Operation] = {}


def control_operation(function: Operation) -> Operation:
    """Registers `function(workspace, **arguments)` under its name; it takes and returns JSON values."""
    OPERATIONS[function.__name__] = function
    return function


def operate(workspace: FakeWorkspace, name: str, arguments: dict[str, Any]) -> Any:
    """Runs a control operation. Raises ValueError for an unknown one or for arguments that it refuses."""
    if name not in OPERATIONS:
        raise ValueError(
            f"the fake has no control operation {name!r}; known: {', '.join(sorted(OPERATIONS))}"
        )
    try:
        return OPERATIONS[name](workspace, **arguments)
    except (TypeError, KeyError, LookupError) as error:
        raise ValueError(f"{name}: {error}") from error
    except ApiError as error:
        raise ValueError(f"{name}: {error.message}") from error


def serve_control(workspace: FakeWorkspace, request: Request) -> Response:
    """`POST /__fake/NAME` with a JSON object of arguments; `{"result": …}` or 400 `{"error": …}`."""
    try:
        if request.method != "POST":
            raise ValueError("the control API takes POST only")
        return Response.of_json({"result": operate(workspace, request.path[len(PREFIX) :], request.json())})
    except ValueError as error:
        return Response.of_json({"error": str(error)}, 400)
    except ApiError as error:
        return Response.of_json({"error": error.message}, 400)


class FakeControl:
    """Steers the fake at `target`: a `FakeWorkspace` in this process, or the URL of a `FakeServer`.

    All methods raise ValueError with one clear line when the fake refuses.
    """

    def __init__(self, target: FakeWorkspace | str) -> None:
        self.target = target

    def call(self, operation: str, /, **arguments: Any) -> Any:
        """Any control operation by name, those of attached parts included."""
        if isinstance(self.target, FakeWorkspace):
            return operate(self.target, operation, arguments)
        url = self.target.rstrip("/") + PREFIX + operation
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the environment is not for 127.0.0.1
            answer = session.post(url, data=json.dumps(arguments), timeout=TIMEOUT_SECONDS)
        try:
            body = answer.json()
        except ValueError:
            body = {}
        if answer.status_code != 200 or "result" not in body:
            raise ValueError(body.get("error") or f"no control API of a fake at {self.target}")
        return body["result"]

    # --- faults ---

    def add_fault(self, **fault: Any) -> int:
        """Arms `Fault(**fault)` and returns its id."""
        return int(self.call("add_fault", **fault))

    def fault(self, fault_id: int) -> dict[str, Any]:
        """`id, seen, hits, held, fault` of an armed fault."""
        return dict(self.call("fault", fault_id=fault_id))

    def release(self, fault_id: int) -> None:
        """Lets the requests go that `hold` stopped, now and later."""
        self.call("release", fault_id=fault_id)

    def await_held(self, fault_id: int, count: int = 1, timeout: float = 10.0) -> None:
        """Returns once `count` requests wait at the fault. Raises TimeoutError after `timeout` seconds."""
        self._await(lambda: self.fault(fault_id)["held"] >= count, f"{count} held requests", timeout)

    def await_hits(self, fault_id: int, count: int = 1, timeout: float = 10.0) -> None:
        """Returns once the fault has struck `count` times. Raises TimeoutError after `timeout` seconds."""
        self._await(lambda: self.fault(fault_id)["hits"] >= count, f"{count} hits", timeout)

    def clear_faults(self, fault_id: int | None = None) -> int:
        """Removes one fault or all of them, lets held requests go, and returns how many were removed."""
        return int(self.call("clear_faults", fault_id=fault_id))

    # --- the request log ---

    def requests(
        self,
        *,
        since: int = 0,
        path: str = "*",
        method: str = "*",
        host: str = "*",
        operation: str | None = None,
        unknown: bool = False,
    ) -> list[LogEntry]:
        """Logged requests with `i > since` whose path, method and host match the shell patterns."""
        found = self.call(
            "requests", since=since, path=path, method=method, host=host, operation=operation, unknown=unknown
        )
        return [LogEntry(**entry) for entry in found]

    def mark(self) -> int:
        """The number of the newest request: `requests(since=control.mark())` shows what comes after."""
        return int(self.call("mark"))

    def unknown_routes(self) -> list[str]:
        """The operations that were called and do not exist in the fake, as `METHOD /path`."""
        return list(self.call("unknown_routes"))

    # --- clock and switches ---

    def now(self) -> float:
        """The fake's clock, in epoch seconds."""
        return float(self.call("now"))

    def advance_clock(self, seconds: float) -> float:
        """Moves the clock forward and returns the new time."""
        return float(self.call("advance_clock", seconds=seconds))

    def freeze_clock(self) -> float:
        """Stops the clock (except for `advance_clock`) and returns its time."""
        return float(self.call("freeze_clock"))

    def resume_clock(self) -> float:
        """Lets the clock run again from where it stood."""
        return float(self.call("resume_clock"))

    def fidelity(self, **switches: Any) -> dict[str, Any]:
        """Sets switches of `Fidelity` by name and returns all of them."""
        return dict(self.call("fidelity", **switches))

    # --- objects ---

    def create_catalog(self, name: str) -> str:
        """Returns the full name."""
        return str(self.call("create_catalog", name=name))

    def create_schema(self, full_name: str) -> str:
        """The schema `catalog.schema`; the catalog must exist. Returns the full name."""
        return str(self.call("create_schema", full_name=full_name))

    def create_volume(self, full_name: str, owner: str | None = None) -> str:
        """The volume `catalog.schema.volume`, with what is missing above it. Returns the full name."""
        return str(self.call("create_volume", full_name=full_name, owner=owner))

    def delete_volume(self, full_name: str) -> None:
        """Removes the volume with its files."""
        self.call("delete_volume", full_name=full_name)

    def files(self, full_name: str) -> dict[str, int]:
        """The files of a volume: length in bytes by path inside of the volume."""
        return dict(self.call("files", full_name=full_name))

    # --- principals ---

    def create_principal(
        self,
        name: str,
        *,
        service: bool = False,
        admin: bool = False,
        grants: dict[str, list[str]] | None = None,
    ) -> str:
        """A principal with `grants` (privileges by full name). Returns a token that never expires."""
        return str(
            self.call("create_principal", name=name, service=service, admin=admin, grants=grants or {})
        )

    def grant(self, principal: str, full_name: str, *privileges: str) -> None:
        """Grants privileges such as READ_VOLUME on a catalog, schema or volume."""
        self.call("grant", principal=principal, full_name=full_name, privileges=list(privileges))

    def revoke(self, principal: str, full_name: str, *privileges: str) -> None:
        """Takes them back."""
        self.call("revoke", principal=principal, full_name=full_name, privileges=list(privileges))

    def issue_token(self, principal: str, lifetime: float | None = None) -> str:
        """A new personal access token, living `lifetime` seconds of the fake's clock (None: for ever)."""
        return str(self.call("issue_token", principal=principal, lifetime=lifetime))

    def create_oauth_client(self, principal: str, lifetime: float = 3600.0) -> tuple[str, str]:
        """Client id and secret of a principal; its tokens live `lifetime` seconds of the fake's clock."""
        made = self.call("create_oauth_client", principal=principal, lifetime=lifetime)
        return str(made["client_id"]), str(made["client_secret"])

    def expire_tokens(self, principal: str | None = None, kind: str | None = None) -> int:
        """Expires the tokens of a principal (None: of all), of `kind` `pat` or `oauth`; returns how many."""
        return int(self.call("expire_tokens", principal=principal, kind=kind))

    def _await(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        ticker = threading.Event()
        for _ in range(max(1, int(timeout / POLL_SECONDS))):
            if condition():
                return
            ticker.wait(POLL_SECONDS)
        raise TimeoutError(f"no {what} within {timeout:g} s")


@control_operation
def add_fault(workspace: FakeWorkspace, **fault: Any) -> int:
    return workspace.faults.add(Fault(**fault)).id


@control_operation
def fault(workspace: FakeWorkspace, fault_id: int) -> dict[str, Any]:
    return workspace.faults.get(fault_id).to_json()


@control_operation
def release(workspace: FakeWorkspace, fault_id: int) -> None:
    workspace.faults.get(fault_id).released.set()


@control_operation
def clear_faults(workspace: FakeWorkspace, fault_id: int | None = None) -> int:
    return workspace.faults.remove(fault_id)


@control_operation
def requests_(workspace: FakeWorkspace, **selection: Any) -> list[dict[str, Any]]:
    return [entry.to_json() for entry in workspace.log.select(**selection)]


OPERATIONS["requests"] = OPERATIONS.pop("requests_")  # the name `requests` is the library's in this module


@control_operation
def mark(workspace: FakeWorkspace) -> int:
    return workspace.log.count


@control_operation
def unknown_routes(workspace: FakeWorkspace) -> list[str]:
    return workspace.unknown_routes()


@control_operation
def now(workspace: FakeWorkspace) -> float:
    return workspace.clock.time()


@control_operation
def advance_clock(workspace: FakeWorkspace, seconds: float) -> float:
    return workspace.clock.advance(seconds)


@control_operation
def freeze_clock(workspace: FakeWorkspace) -> float:
    return workspace.clock.freeze()


@control_operation
def resume_clock(workspace: FakeWorkspace) -> float:
    return workspace.clock.resume()


@control_operation
def fidelity(workspace: FakeWorkspace, **switches: Any) -> dict[str, Any]:
    workspace.fidelity.change(**switches)
    return vars(workspace.fidelity).copy()


@control_operation
def create_catalog(workspace: FakeWorkspace, name: str) -> str:
    with workspace.mutex:
        return workspace.metastore.create("catalog", "", name, workspace.admin).full_name


@control_operation
def create_schema(workspace: FakeWorkspace, full_name: str) -> str:
    catalog, _, name = full_name.partition(".")
    with workspace.mutex:
        return workspace.metastore.create("schema", catalog, name, workspace.admin).full_name


@control_operation
def create_volume(workspace: FakeWorkspace, full_name: str, owner: str | None = None) -> str:
    return workspace.create_volume(full_name, owner).full_name


@control_operation
def delete_volume(workspace: FakeWorkspace, full_name: str) -> None:
    with workspace.mutex:
        workspace.metastore.delete("volume", full_name)


@control_operation
def files(workspace: FakeWorkspace, full_name: str) -> dict[str, int]:
    with workspace.mutex:
        return {path: len(file.data) for path, file in workspace.metastore.volume(full_name).tree.files()}


@control_operation
def create_principal(
    workspace: FakeWorkspace, name: str, service: bool, admin: bool, grants: dict[str, list[str]]
) -> str:
    principal = workspace.create_principal(name, service=service, admin=admin, grants=grants)
    return workspace.directory.issue(principal).value


@control_operation
def grant(workspace: FakeWorkspace, principal: str, full_name: str, privileges: list[str]) -> None:
    workspace.grant(principal, full_name, *privileges)


@control_operation
def revoke(workspace: FakeWorkspace, principal: str, full_name: str, privileges: list[str]) -> None:
    workspace.revoke(principal, full_name, *privileges)


@control_operation
def issue_token(workspace: FakeWorkspace, principal: str, lifetime: float | None) -> str:
    return workspace.directory.issue(workspace.directory.principals[principal], lifetime=lifetime).value


@control_operation
def create_oauth_client(workspace: FakeWorkspace, principal: str, lifetime: float) -> dict[str, str]:
    client = workspace.directory.create_client(workspace.directory.principals[principal], lifetime=lifetime)
    return {"client_id": client.client_id, "client_secret": client.secret}


@control_operation
def expire_tokens(workspace: FakeWorkspace, principal: str | None, kind: str | None) -> int:
    return workspace.directory.expire(principal=principal, kind=kind)


# The operations on SQL statements are built on this module; they are known wherever it is.
import lockproof.fakes.databricks.sql.steering  # noqa: E402, F401
