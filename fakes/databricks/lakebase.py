"""Lakebase as plain objects: projects with branches, endpoints, roles and databases; instances; login tokens.

Several tokens are valid at once, each until it expires on the fake's clock, and they are looked at when a
connection is opened (`Lakebase.login`), never afterwards. What is stored lies in a real Postgres behind
`login_proxy`; nothing here touches a socket.

Sources: databricks-sdk service/postgres.py and service/database.py; docs.databricks.com/aws/en/oltp.
"""

from __future__ import annotations

import itertools
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lockproof.fakes.databricks.clock import VirtualClock
from lockproof.fakes.databricks.errors import ApiError, invalid_parameter
from lockproof.fakes.databricks.identity import Principal
from lockproof.fakes.databricks.latency import Latency

BRANCH = "production"
ENDPOINT = "primary"
DATABASE = "databricks_postgres"
TOKEN_SECONDS = (300.0, 3600.0)
IDLE_SECONDS, LONGEST_SECONDS = 24 * 3600.0, 3 * 24 * 3600.0
"""How long a connection may be idle, and how old it may become ("Authentication", Lakebase documentation)."""
_ID = re.compile(r"[a-z0-9-]{1,63}")


class LoginRefused(Exception):
    """A connection is not let in: the server's FATAL message and its SQLSTATE."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate


@dataclass
class Role:
    """A Postgres role of a branch; `owner` may create schemas and databases."""

    id: str
    postgres_role: str
    identity: str
    created: float
    owner: bool = False


@dataclass
class Endpoint:
    """A compute. `suspend_after` seconds without traffic it is suspended (None: never)."""

    name: str
    created: float
    read_only: bool = False
    suspend_after: float | None = None
    disabled: bool = False
    suspended: bool = False
    active: float = 0.0
    refusals: int = 0
    uid: str = field(default_factory=lambda: f"ep-{uuid.uuid4().hex[:16]}")

    @property
    def id(self) -> str:
        return self.name.rpartition("/")[2]


@dataclass
class Branch:
    """Data of its own, with the endpoints, roles and databases that are on it."""

    name: str
    created: float
    default: bool = False
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    databases: dict[str, str] = field(default_factory=lambda: {DATABASE: DATABASE})
    uid: str = field(default_factory=lambda: f"br-{uuid.uuid4().hex[:16]}")

    @property
    def id(self) -> str:
        return self.name.rpartition("/")[2]

    def role(self, postgres_role: str) -> Role | None:
        return next((role for role in self.roles.values() if role.postgres_role == postgres_role), None)


@dataclass
class Project:
    """The unit that is created; it comes with the branch `production` and its endpoint `primary`."""

    id: str
    owner: str
    created: float
    display_name: str
    pg_version: int = 17
    branches: dict[str, Branch] = field(default_factory=dict)
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def name(self) -> str:
        return f"projects/{self.id}"


@dataclass
class Instance:
    """A provisioned instance of the older API: one branch with one endpoint that is not in a project."""

    name: str
    owner: str
    created: float
    branch: Branch
    endpoint: Endpoint
    capacity: str = "CU_1"
    stopped: bool = False
    deleted: bool = False
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class Credential:
    """A login token: for whom, for which endpoint, and until when on the fake's clock."""

    token: str = field(repr=False)
    principal: str
    endpoint: Endpoint
    branch: Branch
    expires: float


@dataclass(frozen=True)
class Login:
    """What a connection is let in to: `role` of `branch` on `endpoint`, `database` by its own name."""

    endpoint: Endpoint
    branch: Branch
    role: Role
    database: str


class Lakebase:
    """All projects and instances of one workspace.

    `host` is what endpoints report as their host, and `port` where it listens; the login proxy sets both.
    `wake_refusals`: how many connections a suspended endpoint refuses while it wakes up. A session ends
    when it is so old, or idle so long, as `session_limits` say. `latency` makes logins and statements wait.
    `on_suspend` is called with each endpoint that is suspended, so that its sessions end.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.host = "127.0.0.1"
        self.port = 5432
        self.wake_refusals = 1
        self.session_limits = (LONGEST_SECONDS, IDLE_SECONDS)
        self.latency: Latency | None = None
        self.projects: dict[str, Project] = {}
        self.instances: dict[str, Instance] = {}
        self.credentials: dict[str, Credential] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.on_suspend: Callable[[Endpoint], object] | None = None
        self._numbers = itertools.count(1)

    # --- projects ---

    def create_project(
        self, project_id: str, owner: Principal, *, display_name: str = "", pg_version: int = 17
    ) -> Project:
        """A project with its default branch and endpoint. Raises the API's 400 and 409."""
        _check_id("project_id", project_id)
        if project_id in self.projects:
            raise _exists("project")
        project = Project(
            project_id, owner.name, self.clock.time(), display_name or project_id, pg_version=pg_version
        )
        self.projects[project_id] = project
        branch = self._add_branch(project, BRANCH, owner, default=True)
        self._add_endpoint(branch, ENDPOINT)
        return project

    def create_branch(self, project: Project, branch_id: str, owner: Principal) -> Branch:
        """A branch without an endpoint. Its data starts empty, unlike a real one's."""
        _check_id("branch_id", branch_id)
        if branch_id in project.branches:
            raise _exists("branch")
        return self._add_branch(project, branch_id, owner)

    def create_endpoint(self, branch: Branch, endpoint_id: str, *, read_only: bool = False) -> Endpoint:
        """A branch has one read-write endpoint at most."""
        _check_id("endpoint_id", endpoint_id)
        if endpoint_id in branch.endpoints:
            raise _exists("endpoint")
        if not read_only and any(not endpoint.read_only for endpoint in branch.endpoints.values()):
            raise ApiError(409, "ALREADY_EXISTS", "read_write endpoint already exists in the branch")
        return self._add_endpoint(branch, endpoint_id, read_only=read_only)

    def create_role(
        self,
        branch: Branch,
        postgres_role: str,
        *,
        role_id: str = "",
        identity: str = "USER",
        owner: bool = False,
    ) -> Role:
        """Lets an identity of the workspace log in: `postgres_role` is its e-mail or application id."""
        chosen = role_id or re.sub(r"[^a-z0-9-]", "-", postgres_role.lower())[:63]
        if chosen in branch.roles or branch.role(postgres_role):
            raise _exists("role", within="branch")
        role = Role(chosen, postgres_role, identity, self.clock.time(), owner)
        branch.roles[chosen] = role
        return role

    def project(self, project_id: str) -> Project:
        if project_id not in self.projects:
            raise _not_found("project")
        return self.projects[project_id]

    def branch(self, project_id: str, branch_id: str) -> Branch:
        found = self.project(project_id).branches.get(branch_id)
        if found is None:
            raise _not_found("branch")
        return found

    def endpoint(self, project_id: str, branch_id: str, endpoint_id: str) -> Endpoint:
        found = self.branch(project_id, branch_id).endpoints.get(endpoint_id)
        if found is None:
            raise _not_found("endpoint")
        return found

    def endpoint_of(self, name: str) -> Endpoint:
        """By its full resource name. Raises the API's 404 and 400."""
        return self._placed(name)[1]

    def operation(self, parent: str, response: dict[str, Any]) -> dict[str, Any]:
        """A long-running operation: not done in the answer that starts it, done when it is asked for."""
        name = f"{parent}/operations/{uuid.uuid4()}"
        self.operations[name] = {"name": name, "done": True, "metadata": {}, "response": response}
        return {"name": name, "done": False, "metadata": {}}

    def endpoints(self) -> list[Endpoint]:
        """Those of all projects."""
        branches = [b for project in list(self.projects.values()) for b in list(project.branches.values())]
        return [endpoint for branch in branches for endpoint in list(branch.endpoints.values())]

    # --- instances ---

    def create_instance(self, name: str, owner: Principal, *, capacity: str = "CU_1") -> Instance:
        """A provisioned instance, available at once."""
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,62}", name):
            raise invalid_parameter(f"Invalid database instance name '{name}'.")
        if name in self.instances:
            raise ApiError(409, "ALREADY_EXISTS", f"Database instance '{name}' already exists.")
        now = self.clock.time()
        branch = Branch(f"instances/{name}", now, default=True)
        self.create_role(branch, owner.name, identity=_kind(owner), owner=True)
        endpoint = self._add_endpoint(branch, ENDPOINT)
        made = Instance(name, owner.name, now, branch, endpoint, capacity)
        self.instances[name] = made
        return made

    def instance(self, name: str) -> Instance:
        if name not in self.instances:
            raise ApiError(404, "NOT_FOUND", f"Database instance '{name}' not found.")
        return self.instances[name]

    def stop_instance(self, instance: Instance, stopped: bool) -> None:
        instance.stopped = instance.endpoint.disabled = stopped
        if stopped:
            self.suspend(instance.endpoint)

    # --- tokens and logins ---

    def mint(self, principal: Principal, name: str, *, seconds: float = TOKEN_SECONDS[1]) -> Credential:
        """A token for an endpoint (by resource name); older ones stay valid."""
        branch, endpoint = self._placed(name)
        return self._mint(principal, branch, endpoint, seconds)

    def mint_for_instance(self, principal: Principal, name: str) -> Credential:
        """A token for an instance; older ones stay valid."""
        instance = self.instance(name)
        return self._mint(principal, instance.branch, instance.endpoint, TOKEN_SECONDS[1])

    def expire_credentials(self, endpoint: Endpoint) -> int:
        """Ends the life of all tokens for an endpoint now, and returns how many there were."""
        ended = [token for token, made in self.credentials.items() if made.endpoint is endpoint]
        for token in ended:
            del self.credentials[token]
        return len(ended)

    def login(self, user: str, password: str, database: str) -> Login:
        """Looks at a token, when a connection is opened and never again; wakes a suspended endpoint.

        Raises `LoginRefused`. The texts are Postgres' own; a real Lakebase's are not documented (inferred).
        """
        credential = self.credentials.get(password)
        if credential is None or credential.expires <= self.clock.time() or credential.principal != user:
            raise LoginRefused(f'password authentication failed for user "{user}"', "28P01")
        endpoint, branch = credential.endpoint, credential.branch
        role = branch.role(user)
        if role is None:
            raise LoginRefused(f'role "{user}" does not exist', "28000")
        if endpoint.disabled:
            raise LoginRefused("The endpoint is disabled. Enable it using the API and retry.", "55000")
        if endpoint.suspended:
            endpoint.suspended = False
            endpoint.refusals = self.wake_refusals
        if endpoint.refusals:
            endpoint.refusals -= 1
            raise LoginRefused("the database system is starting up", "57P03")
        if database not in branch.databases.values():
            raise LoginRefused(f'database "{database}" does not exist', "3D000")
        self.touch(endpoint)
        return Login(endpoint, branch, role, database)

    # --- scale to zero ---

    def touch(self, endpoint: Endpoint) -> None:
        """Traffic: puts suspension off."""
        endpoint.active = self.clock.time()

    def suspend(self, endpoint: Endpoint) -> None:
        """Scale to zero: every session ends; the next login wakes the endpoint."""
        endpoint.suspended = True
        if self.on_suspend is not None:
            self.on_suspend(endpoint)

    def suspend_idle(self) -> None:
        """Suspends what had no traffic for its `suspend_after`."""
        now = self.clock.time()
        for endpoint in self.endpoints():
            after = endpoint.suspend_after
            if after is not None and not endpoint.suspended and now - endpoint.active >= after:
                self.suspend(endpoint)

    # --- inner workings ---

    def _placed(self, name: str) -> tuple[Branch, Endpoint]:
        match = re.fullmatch(r"projects/([^/]+)/branches/([^/]+)/endpoints/([^/]+)", name)
        if match is None:
            raise invalid_parameter(
                f"Invalid endpoint '{name}', expected projects/PROJECT/branches/BRANCH/endpoints/ENDPOINT."
            )
        return self.branch(match[1], match[2]), self.endpoint(match[1], match[2], match[3])

    def _mint(self, principal: Principal, branch: Branch, endpoint: Endpoint, seconds: float) -> Credential:
        token = f"eyJfake.{next(self._numbers)}.{secrets.token_hex(24)}"
        made = Credential(token, principal.name, endpoint, branch, self.clock.time() + seconds)
        self.credentials[token] = made
        return made

    def _add_branch(
        self, project: Project, branch_id: str, owner: Principal, *, default: bool = False
    ) -> Branch:
        branch = Branch(f"{project.name}/branches/{branch_id}", self.clock.time(), default)
        project.branches[branch_id] = branch
        self.create_role(branch, owner.name, identity=_kind(owner), owner=True)
        return branch

    def _add_endpoint(self, branch: Branch, endpoint_id: str, *, read_only: bool = False) -> Endpoint:
        now = self.clock.time()
        endpoint = Endpoint(f"{branch.name}/endpoints/{endpoint_id}", now, read_only, active=now)
        branch.endpoints[endpoint_id] = endpoint
        return endpoint


def timestamp(seconds: float) -> str:
    """Epoch seconds as the API writes times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _kind(principal: Principal) -> str:
    return "SERVICE_PRINCIPAL" if principal.service else "USER"


def _check_id(what: str, value: str) -> None:
    if not value:
        raise invalid_parameter(f"Field '{what}' is required, expected non-default value (not \"\")!")
    if not _ID.fullmatch(value):
        raise invalid_parameter(
            f"Field '{what}' must be 1 to 63 characters of a-z, 0-9 and '-', got '{value}'."
        )


def _exists(kind: str, *, within: str = "workspace") -> ApiError:
    return ApiError(409, "ALREADY_EXISTS", f"{kind} with such id already exists in the {within}")


def _not_found(kind: str) -> ApiError:
    return ApiError(404, "NOT_FOUND", f"{kind} id not found [TraceId: {uuid.uuid4().hex}]")
