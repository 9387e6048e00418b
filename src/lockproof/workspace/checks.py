"""What `lockproof doctor` looks at in a workspace: whether a run could begin there, and what is in its way.

Everything is read; nothing is made, started or changed. What cannot be read, such as grants that the caller
may not see, is told as unknown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from lockproof.workspace.runs import FOLDER, leftovers
from lockproof.workspace.target import Target, caller
from tofu_databricks.backend import Backend
from tofu_databricks.errors import (
    BackendError,
    ConfigError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from tofu_databricks.locks.connector import LakebaseConnector
from tofu_databricks.locks.warehouse import WAREHOUSES, SqlError, Warehouse
from tofu_databricks.transport import decode_object

UC = "/api/2.1/unity-catalog"
OWNS = frozenset({"ALL_PRIVILEGES", "MANAGE"})
EVERYBODY = "account users"
STARTED = ("RUNNING", "STARTING")


class Missing(Exception):
    """A run cannot begin: what is missing, and the command or statement that repairs it."""

    def __init__(self, text: str, repair: str) -> None:
        super().__init__(text)
        self.repair = repair


class Undecided(Exception):
    """Nobody can tell from here; the text says why."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: `status` is `ok`, `missing` or `unknown`; `repair` may be empty."""

    status: str
    name: str
    text: str
    repair: str = ""


def examine(target: Target) -> Iterator[Finding]:
    """The findings one after the other; without authentication there is no other."""
    patient = Patient(target)
    opened = _found("auth", patient.auth)
    yield opened
    if opened.status != "ok":
        yield Finding("unknown", "the rest", "not looked at: without authentication nothing can be")
        patient.close()
        return
    checks: list[tuple[str, Callable[[], str]]] = [
        ("catalog", patient.catalog),
        ("schema", patient.schema),
        ("volume", patient.volume),
        ("files api", patient.files),
        ("leftovers", patient.leftovers),
    ]
    if target.variant == "delta":
        checks += [("warehouse", patient.warehouse), ("lock table", patient.lock_table)]
    else:
        checks += [("lakebase", patient.lakebase), ("role", patient.role)]
    for name, look in checks:
        yield _found(name, look)
    patient.close()


def _found(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", name, look())
    except Missing as lack:
        return Finding("missing", name, str(lack), lack.repair)
    except Undecided as doubt:
        return Finding("unknown", name, str(doubt))
    except PermissionDenied as error:
        return Finding("missing", name, str(error), "ask whoever manages it for the grant that is named")
    except BackendError as error:
        return Finding("missing", name, str(error))


class Patient:
    """One workspace under examination. Each check returns what was found, or raises `Missing`, `Undecided`
    or a `BackendError`."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.config = target.base
        self.me = ""
        self.service = False
        self.names: set[str] = set()
        self._backend: Backend | None = None
        self._connection: psycopg.Connection[Any] | None = None

    def close(self) -> None:
        """Drops the connections."""
        if self._connection is not None:
            self._connection.close()
        if self._backend is not None:
            self._backend.close()

    @property
    def backend(self) -> Backend:
        if self._backend is None:
            self._backend = self.target.backend("doctor")
        return self._backend

    # --- who ---

    def auth(self) -> str:
        """Whether there are credentials, and whether the workspace takes them."""
        host = self.config.host or "https://YOUR-WORKSPACE"
        try:
            found = caller(self.backend)
        except ConfigError as error:
            raise Missing(str(error), f"databricks auth login --host {host}") from None
        except Unauthenticated as error:
            login = f"databricks auth login --host {self._host()}"
            if os.environ.get("DATABRICKS_TOKEN"):
                login = f"put a fresh token into DATABRICKS_TOKEN, or: unset DATABRICKS_TOKEN; {login}"
            raise Missing(str(error), login) from None
        except Unavailable as error:
            raise Missing(str(error), "check DATABRICKS_HOST, the network, and REQUESTS_CA_BUNDLE") from None
        self.me = str(found["userName"])
        self.service = "@" not in self.me
        groups = found.get("groups") or []
        self.names = {self.me, EVERYBODY, *(str(g.get("display")) for g in groups if isinstance(g, dict))}
        return f"{self.me} at {self._host()}"

    def _host(self) -> str:
        try:
            return self.target.credentials.host()
        except BackendError:
            return self.config.host or "https://YOUR-WORKSPACE"

    # --- Unity Catalog ---

    def catalog(self) -> str:
        name = self.config.catalog
        return self._granted("catalog", name, ["USE_CATALOG"], f"CREATE CATALOG {_quoted(name)};")

    def schema(self) -> str:
        name = f"{self.config.catalog}.{self.config.schema}"
        return self._granted("schema", name, ["USE_SCHEMA"], f"CREATE SCHEMA {_quoted(name)};")

    def volume(self) -> str:
        name = f"{self.config.catalog}.{self.config.schema}.{self.config.volume}"
        wanted = ["READ_VOLUME", "WRITE_VOLUME"]
        return self._granted("volume", name, wanted, f"CREATE VOLUME {_quoted(name)};")

    def lock_table(self) -> str:
        """That the run may make its own, or use the one that was named."""
        settings = self.backend.config
        schema = f"{settings.catalog}.{settings.lock_schema}"
        if "lock_table" not in self.target.options:
            wanted = ["USE_SCHEMA", "CREATE_TABLE"]
            found = self._granted("schema", schema, wanted, f"CREATE SCHEMA {_quoted(schema)};")
            return f"may be made in {found}"
        table = f"{schema}.{settings.lock_table}"
        return self._granted("table", table, ["SELECT", "MODIFY"], "tofu-databricks init")

    def _granted(self, kind: str, name: str, wanted: list[str], making: str) -> str:
        """`name`, with how its privileges are held."""
        path = f"{UC}/{kind}s/{quote(name, safe='.')}"
        grant = ", ".join(privilege.replace("_", " ") for privilege in wanted)
        repair = f"GRANT {grant} ON {kind.upper()} {_quoted(name)} TO `{self.me}`;"
        try:
            item = self._ask(path, f"looking up {kind} {name}")
        except NotFound as error:
            raise Missing(str(error), making) from None
        except PermissionDenied as error:
            raise Missing(str(error), repair) from None
        if item.get("owner") in self.names:
            return f"{name}, owned"
        held = self._privileges(kind, name)
        lacking = [privilege for privilege in wanted if not held & {privilege, *OWNS}]
        if lacking:
            shown = ", ".join(privilege.replace("_", " ") for privilege in lacking)
            repair = f"GRANT {shown} ON {kind.upper()} {_quoted(name)} TO `{self.me}`;"
            raise Missing(f"{shown} on {kind} {name} is not granted to {self.me}", repair)
        return f"{name}, {grant}"

    def _privileges(self, kind: str, name: str) -> set[str]:
        """What the caller holds on the object, by grants on it or further up, to whom they are."""
        path = f"{UC}/effective-permissions/{kind}/{quote(name, safe='.')}"
        try:
            found = self._ask(path, f"reading the grants on {name}")
        except PermissionDenied as error:
            raise Undecided(f"{name} is there, but its grants may not be read: {error}") from None
        held: set[str] = set()
        for assignment in found.get("privilege_assignments") or []:
            if assignment.get("principal") in self.names:
                held |= {str(item.get("privilege")) for item in assignment.get("privileges") or []}
        return held

    # --- files ---

    def files(self) -> str:
        """By which versions of the Files API the volume can be reached."""
        self._listed()
        if self.backend.conditional is None:
            return "2.0 answers; 3.0 was not asked, since files_host is not set"
        reason = self.backend.conditional.missing(f"{self.config.root}/{FOLDER}/doctor")
        if reason and self.config.files_api == "3.0":
            raise Missing(
                f"Files API 3.0 at {self.config.files_host}: {reason}",
                "enable its preview for the workspace, or leave out files_api",
            )
        return f"2.0 answers; 3.0 {'does not: ' + reason if reason else 'answers, too'}"

    def leftovers(self) -> str:
        """Runs that are under way or have left something; those say nothing against a new one."""
        try:
            count = sum(1 for _ in leftovers(self.backend))
        except PermissionDenied:
            raise Undecided("not looked at: the volume may not be read") from None
        return (
            f"{count} runs under {self.config.root}/{FOLDER}: lockproof sweep lists them" if count else "none"
        )

    def _listed(self) -> None:
        try:
            next(self.backend.volume.entries(self.config.root), None)
        except PermissionDenied as error:
            name = self.config.root.removeprefix("/Volumes/").replace("/", ".")
            raise Missing(
                str(error), f"GRANT READ VOLUME ON VOLUME {_quoted(name)} TO `{self.me}`;"
            ) from None

    # --- locks ---

    def warehouse(self) -> str:
        """That it is there, runs, and takes a statement of the caller's."""
        chosen = self.config.warehouse_id
        kind = "service_principal_name" if self.service else "user_name"
        permit = (
            f"databricks warehouses update-permissions {chosen} --json "
            f'\'{{"access_control_list": [{{"{kind}": "{self.me}", "permission_level": "CAN_USE"}}]}}\''
        )
        try:
            found = self._ask(f"{WAREHOUSES}/{chosen}", f"looking up warehouse {chosen}")
        except PermissionDenied as error:
            raise Missing(str(error), permit) from None
        except NotFound as error:
            raise Missing(
                str(error), "databricks warehouses list   # then --backend-opt warehouse_id=ID"
            ) from None
        name, state = found.get("name"), found.get("state")
        if state not in STARTED:
            raise Missing(f"{name} ({chosen}) is {state}", f"databricks warehouses start {chosen}")
        try:
            Warehouse(self.backend.transport, chosen).run("SELECT 1", read_only=True, what="a statement")
        except PermissionDenied as error:
            raise Missing(str(error), permit) from None
        except SqlError as error:
            raise Missing(
                f"{name} ({chosen}) runs no statement: {error}", "look at it in the workspace"
            ) from None
        return f"{name} ({chosen}) is {state}"

    def lakebase(self) -> str:
        """That the compute is there, can be reached, and lets the caller in."""
        config = self.config
        service = "SERVICE_PRINCIPAL" if self.service else "USER"
        connector = LakebaseConnector(self.backend.config, self.backend.transport.request)
        host = config.lakebase_host
        try:
            host = connector.host()
            self._connection = connector()
        except PermissionDenied as error:
            admit = f"SELECT databricks_create_role('{self.me}', '{service}');"
            raise Missing(str(error), f"{admit}   # as an administrator of the database") from None
        except psycopg.Error as error:
            place = f"{host}, port {config.lakebase_port}" if host else "its host, once it has one"
            said = " ".join(str(error).split())
            raise Missing(
                f"cannot be reached: {said}",
                f"let this machine open TCP connections to {place} (firewall, private link), or name another",
            ) from None
        except ConfigError as error:
            if not config.lakebase_instance:
                raise Missing(str(error), "databricks postgres list-projects") from None
            path = f"/api/2.0/database/instances/{config.lakebase_instance}?update_mask=stopped"
            repair = f"databricks api patch '{path}' --json '{{\"stopped\": false}}'"
            raise Missing(str(error), repair) from None
        version = self._connection.info.parameter_status("server_version")
        return f"{config.lakebase_project or config.lakebase_instance}, PostgreSQL {version}"

    def role(self) -> str:
        """That the caller's role may make the run's lock table, or use the one that was named."""
        connection = self._connection
        if connection is None:
            raise Undecided("not looked at: there is no connection to Lakebase")
        config = self.backend.config
        user = connection.info.user
        role = sql.Identifier(user).as_string()
        if "lock_table" in self.target.options:
            table = sql.Identifier(config.lock_schema, config.lock_table).as_string()
            query = "SELECT has_table_privilege(to_regclass(%s), 'SELECT, INSERT, DELETE')"
            (allowed,) = connection.execute(query, [table]).fetchone() or (None,)
            if allowed is None:
                raise Missing(f"there is no table {table}", "tofu-databricks init")
            what = f"SELECT, INSERT, DELETE on {table}"
            repair = f"GRANT SELECT, INSERT, DELETE ON {table} TO {role};"
        elif "lock_schema" in self.target.options:
            schema = sql.Identifier(config.lock_schema).as_string()
            query = "SELECT has_schema_privilege(to_regnamespace(%s), 'CREATE')"
            (allowed,) = connection.execute(query, [schema]).fetchone() or (None,)
            if allowed is None:
                raise Missing(f"there is no schema {schema}", f"CREATE SCHEMA {schema} AUTHORIZATION {role};")
            what, repair = f"CREATE on schema {schema}", f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role};"
        else:
            query = "SELECT has_database_privilege(current_database(), 'CREATE')"
            (allowed,) = connection.execute(query).fetchone() or (None,)
            database = sql.Identifier(config.lakebase_database).as_string()
            what, repair = f"CREATE on database {database}", f"GRANT CREATE ON DATABASE {database} TO {role};"
        if not allowed:
            raise Missing(f"role {role} has no {what}", repair)
        return f"{user}, {what}"

    def _ask(self, path: str, what: str) -> dict[str, Any]:
        return decode_object(self.backend.transport.request("GET", path, what=what), what)


def _quoted(name: str) -> str:
    return ".".join(f"`{part}`" for part in name.split("."))
