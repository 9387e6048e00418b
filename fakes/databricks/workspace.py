"""The root of the fake: one Databricks workspace as plain objects, and `handle`, which answers a request."""

from __future__ import annotations

import logging
import secrets
import threading
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lockproof.fakes.databricks import errors
from lockproof.fakes.databricks.catalog import Metastore, Volume
from lockproof.fakes.databricks.clock import VirtualClock
from lockproof.fakes.databricks.errors import ApiError
from lockproof.fakes.databricks.faults import Armed, Fault, FaultScript
from lockproof.fakes.databricks.fidelity import Fidelity
from lockproof.fakes.databricks.identity import Directory, Principal, Token
from lockproof.fakes.databricks.latency import Latency
from lockproof.fakes.databricks.requestlog import LogEntry, RequestLog
from lockproof.fakes.databricks.router import Route, Router
from lockproof.fakes.databricks.routes.core import CORE
from lockproof.fakes.databricks.transfers import Transfers
from lockproof.fakes.databricks.wire import Request, Response

if TYPE_CHECKING:
    from lockproof.fakes.databricks.sql.service import SqlService

LOG = logging.getLogger("lockproof.fakes.databricks")
T = TypeVar("T")


class UnknownRoute(AssertionError):
    """A client called an operation that the fake does not have; the text names it."""


@dataclass(frozen=True)
class Pause:
    """Wait `seconds`, then until `armed` is released, before going on."""

    seconds: float
    armed: Armed | None


@dataclass(frozen=True)
class Work:
    """Call `route`'s handler in a thread that may wait, then send the response back in."""

    route: Route
    request: Request


Exchange = Generator["Pause | Work", "Response | None", Response]


class FakeWorkspace:
    """One workspace. Everything in it may be changed directly by code in the same process.

    It starts with one admin, whose personal access token is `token`, and the catalog `main` with the schema
    `default`. `url` and `storage_url` are where clients reach it; a server sets them to its own addresses.
    `clock` is the one that everything in it goes by. `latency` makes requests wait as a real workspace would;
    without one they wait for nothing but this machine.
    """

    def __init__(self, *, admin: str = "admin@example.com", clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock()
        self.fidelity = Fidelity()
        self.faults = FaultScript()
        self.log = RequestLog()
        self.directory = Directory(self.clock)
        self.metastore = Metastore(self.clock, self.fidelity)
        self.transfers = Transfers(self.clock)
        self.mutex = threading.RLock()
        self.version = 0
        self.id = str(secrets.randbelow(9 * 10**15) + 10**15)
        self.url = "https://workspace.databricks.test"
        self.storage_url = "https://storage.databricks.test"
        self.services: dict[type, Any] = {}
        self.storage_root: Path | None = None
        self.latency: Latency | None = None
        self._sql: SqlService | None = None
        self.router = Router()
        self.admin = self.directory.create(admin, admin=True)
        self.token = self.directory.issue(self.admin).value
        self.metastore.create("catalog", "", "main", self.admin)
        self.metastore.create("schema", "main", "default", self.admin)
        self.router.install(CORE)

    # --- for code in the same process ---

    def create_volume(self, full_name: str, owner: str | None = None) -> Volume:
        """The volume `catalog.schema.volume`, with its catalog and schema where these are missing."""
        catalog, schema, name = full_name.lower().split(".")
        principal = self.admin if owner is None else self.directory.principals[owner]
        with self.mutex:
            if catalog not in self.metastore.objects["catalog"]:
                self.metastore.create("catalog", "", catalog, principal)
            if f"{catalog}.{schema}" not in self.metastore.objects["schema"]:
                self.metastore.create("schema", catalog, schema, principal)
            made = self.metastore.create("volume", f"{catalog}.{schema}", name, principal)
        return cast(Volume, made)

    def create_principal(
        self,
        name: str,
        *,
        service: bool = False,
        admin: bool = False,
        grants: dict[str, list[str]] | None = None,
    ) -> Principal:
        """A principal with `grants`: privileges by full name (`main`, `main.default`, `main.default.v`)."""
        with self.mutex:
            for full_name in grants or {}:
                self.metastore.get(self._kind(full_name), full_name)
            principal = self.directory.create(name, admin=admin, service=service)
            for full_name, privileges in (grants or {}).items():
                self.grant(name, full_name, *privileges)
        return principal

    def grant(self, principal: str, full_name: str, *privileges: str) -> None:
        self._change_grants(principal, full_name, list(privileges), [])

    def revoke(self, principal: str, full_name: str, *privileges: str) -> None:
        self._change_grants(principal, full_name, [], list(privileges))

    def add_fault(self, **fault: Any) -> Armed:
        """Arms `Fault(**fault)`."""
        return self.faults.add(Fault(**fault))

    def unknown_routes(self) -> list[str]:
        """The operations that were called and do not exist here, each once, as `METHOD /path`."""
        return list(dict.fromkeys(f"{entry.method} {entry.path}" for entry in self.log.select(unknown=True)))

    def attach(self, service: object) -> None:
        """Adds a part (such as Lakebase) that its routes find again by its type with `service`."""
        self.services[type(service)] = service

    def service(self, kind: type[T]) -> T:
        """The attached part of that type. Raises LookupError when there is none."""
        if kind not in self.services:
            raise LookupError(f"this fake workspace has no {kind.__name__}")
        return cast(T, self.services[kind])

    def next_version(self) -> int:
        self.version += 1
        return self.version

    @property
    def sql(self) -> SqlService:
        """SQL warehouses, statements and Delta tables; made, and the engine loaded, on first use.

        Managed tables lie in `storage_root`, by default in a temporary folder.
        """
        with self.mutex:
            if self._sql is None:
                from lockproof.fakes.databricks.sql.service import SqlService

                self._sql = SqlService(self, self.storage_root)
            return self._sql

    def release_all(self) -> None:
        """Removes all faults and holds, and lets the requests and statements go that wait at them."""
        self.faults.remove()
        if self._sql is not None:
            self._sql.statements.checkpoints.release()

    # --- answering ---

    def handle(self, request: Request) -> Response:
        """Answers one request; waits (really) where a fault says so. Thread-safe."""
        request.began = request.began or self.version
        exchange = self.exchange(request)
        answer: Response | None = None
        while True:
            try:
                step = exchange.send(answer)
            except StopIteration as end:
                return cast(Response, end.value)
            answer = None
            if isinstance(step, Work):
                answer = self.perform(step.route, step.request)
            else:
                if step.seconds:
                    time.sleep(step.seconds)
                if step.armed is not None:
                    step.armed.released.wait()

    def exchange(self, request: Request) -> Exchange:
        """One request as steps: yields each `Pause` and each blocking `Work`, returns the response."""
        started = time.perf_counter()
        entry = self.log.open(
            self.clock.time(), request.method, request.path, request.query, request.host, len(request.body)
        )
        found = self.router.find(request)
        refusal = self._admit(request, found, entry)
        armed = self.faults.strike(request)
        fault = armed.fault if armed else None
        entry.fault = armed.id if armed else None
        pause = None
        if armed and fault and (fault.delay or fault.hold):
            pause = Pause(fault.delay, armed if fault.hold else None)
        if pause and fault and fault.when == "before":
            yield from _paused(pause)
        latency = self.latency
        if latency is not None:
            yield Pause(latency.request(entry.operation, request), None)

        if fault and fault.answers and fault.when == "before":
            response = Response()
        elif refusal is not None or found is None:
            response = (refusal or errors.endpoint_not_found(request.method, request.path)).response()
        else:
            request.stale = bool(fault and fault.stale)
            for _ in range(2 if fault and fault.duplicate else 1):
                if found[0].blocking:
                    answer = yield Work(found[0], request)
                    assert answer is not None
                    response = answer
                else:
                    response = self.perform(found[0], request)

        if pause and fault and fault.when == "after":
            yield from _paused(pause)
        if fault:
            response = self._apply(fault, response)
        if request.method == "HEAD":
            response.body = b""
        if latency is not None:
            yield Pause(latency.transfer(len(response.body)), None)
        self._finish(request, response, started)
        entry.status = 0 if response.drop else response.status
        entry.bytes_out = len(response.body)
        return response

    def abandon(self, request: Request) -> None:
        """The client went away in the middle of its request: that has no effect, like on an object store."""
        now = self.clock.time()
        self.log.open(now, request.method, request.path, request.query, request.host, 0).status = 0

    def perform(self, route: Route, request: Request) -> Response:
        """Calls the route's handler; an `ApiError` becomes its answer."""
        try:
            if route.blocking:
                return route.handler(self, request)
            with self.mutex:
                return route.handler(self, request)
        except ApiError as error:
            return error.response()

    def authenticate(self, request: Request, scope: str) -> Principal:
        """The caller. Raises 401 without a bearer token, 403 for a wrong, expired or too narrow one."""
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not value:
            raise errors.credential_missing()
        token: Token | None = self.directory.find(value.strip())
        if token is None:
            raise errors.invalid_token()
        if not token.scopes & {"all-apis", scope}:
            raise errors.missing_scope(scope)
        return token.principal

    def _admit(
        self, request: Request, found: tuple[Route, dict[str, str]] | None, entry: LogEntry
    ) -> ApiError | None:
        """Fills in route parameters and caller; the error is the answer, None: go on."""
        if found is None:
            entry.unknown = True
            LOG.error("the fake Databricks has no route %s %s", request.method, request.path)
            return None
        route, request.params = found
        entry.operation = route.name
        if route.scope is None:
            return None
        try:
            request.principal = self.authenticate(request, route.scope)
        except ApiError as error:
            return error
        entry.principal = request.principal.name
        return None

    def _apply(self, fault: Fault, response: Response) -> Response:
        if fault.status is not None:
            if isinstance(fault.body, dict):
                response = Response.of_json(fault.body, fault.status)
            elif fault.body is not None:
                response = Response(fault.status, fault.body.encode(), {"Content-Type": "text/plain"})
            else:
                response = errors.typical(fault.status)
            if fault.status in (429, 503) and not fault.headers and self.fidelity.retry_after:
                response.headers["Retry-After"] = "1"
        response.headers.update(fault.headers)
        response.drop = fault.drop
        response.truncate_at = fault.truncate
        return response

    def _finish(self, request: Request, response: Response, started: float) -> None:
        """The headers that every answer carries, and those of a workspace; a fault's own `Date` stays."""
        headers = response.headers
        headers.setdefault("Date", formatdate(int(self.clock.time()), usegmt=True))
        if request.host != "workspace":
            return
        headers["Server"] = "databricks"
        headers["X-Request-Id"] = str(uuid.uuid4())
        headers["X-Databricks-Org-Id"] = self.id
        headers["Server-Timing"] = f"request_id;dur={(time.perf_counter() - started) * 1000:.0f}"
        headers["Vary"] = "Accept-Encoding"
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains; preload"

    def _change_grants(self, principal: str, full_name: str, add: list[str], remove: list[str]) -> None:
        if principal not in self.directory.principals:
            raise ValueError(f"no principal {principal!r} in the fake workspace")
        with self.mutex:
            item = self.metastore.get(self._kind(full_name), full_name)
            self.metastore.change_grants(item, principal, add, remove)

    def _kind(self, full_name: str) -> str:
        if full_name.lower() in self.metastore.objects["table"]:
            return "table"
        return ("catalog", "schema", "volume")[full_name.count(".")]


def _paused(pause: Pause) -> Generator[Pause | Work, Response | None, None]:
    if pause.armed is None:
        yield pause
    else:
        pause.armed.held += 1
        try:
            yield pause
        finally:
            pause.armed.held -= 1
