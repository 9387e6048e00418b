"""`--backend=databricks`: the reference backend `tofu_databricks` on a fake workspace and a real Postgres."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

import psycopg
import requests
from psycopg.pq import TransactionStatus

import tofu_databricks
from lockproof.driver.api import Address, Capabilities, DriverInfo, LockInfo, Snapshot
from lockproof.driver.command_line import CommandLine
from lockproof.driver.databricks_bed import SteeredClock, TestBed
from lockproof.driver.databricks_direct import DirectBed
from lockproof.driver.databricks_locks import LOCK_BEDS, LockBed
from lockproof.driver.databricks_services import SERVICES, profile, simulated
from lockproof.driver.errors import DriverError, ErrorKind, Locked, LockMismatch, NotLocked
from lockproof.fakes.databricks.control import FakeControl
from lockproof.fakes.databricks.lakebase_service import PROJECT
from lockproof.workspace.target import ALONE as REAL_OPTIONS
from tofu_databricks import errors
from tofu_databricks.backend import Backend
from tofu_databricks.config import ENV_PREFIX, FENCING, FILES_APIS, Config
from tofu_databricks.lockinfo import LockInfo as TofuLockInfo
from tofu_databricks.locks.lakebase import spoken_to
from tofu_databricks.locks.warehouse import Rows, Warehouse
from tofu_databricks.seams import Clock

if TYPE_CHECKING:
    from lockproof.explore import Subject

T = TypeVar("T")

CATALOG = "lockproof"
SCHEMA = "conformance"
KEY = "terraform.tfstate"
PROVISIONED = ("host", "storage", "token", "lakebase_port", "lock_root")
BEDS: Mapping[str, type[LockBed]] = {**LOCK_BEDS, "delta-direct": DirectBed}
CHOSEN: Mapping[str, Sequence[str]] = {"fencing": FENCING, "files_api": FILES_APIS}
SIMULATED = ("latency", "warehouse")
STORES = ("variant", "postgres_dsn", "lock_storage", "lock_storage_options")
OPTIONS = (*STORES, *SIMULATED, *CHOSEN, *PROVISIONED)

FIELDS = ("ID", "Operation", "Info", "Who", "Version", "Created", "Path")
KINDS: Mapping[type[errors.BackendError], ErrorKind] = {
    errors.Unauthenticated: "unauthorized",
    errors.PermissionDenied: "unauthorized",
    errors.VolumeNotFound: "not_found",
    errors.NotFound: "not_found",
    errors.LockTableMissing: "not_found",
    errors.Throttled: "throttled",
    errors.Unavailable: "unavailable",
    errors.MalformedReply: "malformed",
    errors.StaleWrite: "stale",
    errors.WorkspaceError: "unsupported",
    errors.StateLocked: "locked",
    errors.LockMismatch: "lock_mismatch",
    errors.LockNotHeld: "not_locked",
}
"""What the errors are called; every other one is `internal`."""


class DatabricksClient:
    """One `tofu` process: a `Backend` of its own. The contract is `lockproof.driver.Client`'s."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.held: dict[str, str] = {}

    def get(self, workspace: str) -> Snapshot | None:
        data = translated(lambda: self.backend.client(workspace).get())
        return None if data is None else Snapshot(data)

    def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
        translated(lambda: self.backend.client(workspace).put(data, lock_id=lock_id))

    def delete(self, workspace: str) -> None:
        # Strict fencing lets nobody delete what is locked, unless under that lock: ours, then.
        lock_id = self.held.get(workspace) if self.backend.config.fencing == "strict" else None
        translated(lambda: self.backend.client(workspace).delete(lock_id=lock_id))

    def lock(self, workspace: str, info: LockInfo) -> str:
        given = TofuLockInfo(**info.to_json())
        self.held[workspace] = translated(lambda: self.backend.client(workspace).lock(given))
        return self.held[workspace]

    def unlock(self, workspace: str, lock_id: str) -> None:
        if self.held.get(workspace) == lock_id:
            del self.held[workspace]
        translated(lambda: self.backend.client(workspace).unlock(lock_id))

    def workspaces(self) -> Sequence[str]:
        return translated(self.backend.workspaces)

    def delete_workspace(self, workspace: str, *, force: bool = False) -> None:
        translated(lambda: self.backend.delete_workspace(workspace, force))

    def close(self) -> None:
        self.backend.close()


class DatabricksScope:
    """A volume in the fake workspace and a schema for its lock table, both removed on exit."""

    def __init__(
        self, driver: DatabricksDriver, name: str, links: Mapping[str, Address], *, attach: bool
    ) -> None:
        self.driver = driver
        self.links = {**driver.links(), **links}
        self.attach = attach
        self.volume = volume_name(name)
        self.lock_schema = f"locks_{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        self.control = FakeControl(driver.options["host"])
        self.extra: list[DatabricksClient] = []
        self.locks = BEDS[driver.variant](self)

    @property
    def full_name(self) -> str:
        """The volume, `catalog.schema.volume`."""
        return f"{CATALOG}.{SCHEMA}.{self.volume}"

    def config(self, **overrides: Any) -> Config:
        """The settings of a client of this scope, as a user would write them."""
        settings: dict[str, Any] = {
            "host": url_of(self.links["workspace"]),
            "token": self.driver.options["token"],
            "catalog": CATALOG,
            "schema": SCHEMA,
            "volume": self.volume,
            "key": KEY,
            "lock_backend": self.driver.variant,
            "lock_schema": self.lock_schema,
            **self.driver.fencing(self.links["storage"]),
            "lakebase_project": PROJECT,
            "lakebase_host": self.links["postgres"].host,
            "lakebase_port": self.links["postgres"].port,
            "ca_certificate": authority_of(self.links),
        }
        return Config.load({**settings, **self.locks.settings(), **overrides}, environ={})

    def client(self, who: str) -> DatabricksClient:
        return self.open(self.config(), self.driver.clock(self.volume, who))

    def open(self, config: Config, clock: Clock | None = None) -> DatabricksClient:
        """A client with any settings and clock."""
        return DatabricksClient(
            self.driver.backend_class(config, clock=clock, checkpoint=self.locks.checkpoint)
        )

    def prepare_locks(self) -> None:
        """Makes the lock table as the administrator's first client does."""
        with self.driver.backend_class(self.config()) as backend:
            backend.locks.prepare()

    def command_line(self, workspace: str) -> CommandLine:
        """Stock clients go through `tofu-databricks exec`."""
        config = self.config()
        settings = {
            f"{ENV_PREFIX}{option.name.upper()}": str(getattr(config, option.name))
            for option in fields(config)
            if option.type in {"str", "int"} and getattr(config, option.name) != option.default
        }
        program = (sys.executable, "-m", "tofu_databricks.cli", "exec", "--workspace", workspace, "--")
        return CommandLine(program, settings)

    def test_bed(self) -> TestBed:
        """What stands behind the scope."""
        return TestBed(self)

    def __enter__(self) -> Self:
        if not self.attach:
            self.control.create_volume(self.full_name)
            self.locks.create()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        for client in self.extra:
            client.close()
        if self.attach:
            return
        self.control.delete_volume(self.full_name)
        self.locks.remove()


class DatabricksDriver:
    """The reference backend under test.

    Options are what `provision` yields, so that any process of the run can connect: `host` and `storage`
    (the fake's addresses), `token` (its administrator's), `lakebase_port`, `lock_root` and
    `lock_storage_options` (where direct locks are kept). `postgres_dsn` is the user's own, and `lock_storage`
    his choice for direct locks: `local` (a folder of this machine) or `s3` (moto's server). `fencing` and
    `files_api` are the backend's settings of that name; the fake serves Files API 3.0 unless that is `2.0`.
    `latency` (a network) and `warehouse` (`warm` or `cold`) make the fake take as long as a real workspace
    would: see `lockproof.fakes.databricks.latency`.
    """

    variants = ("lakebase", "delta", "delta-direct")
    default_variants = ("lakebase", "delta")
    real = "lockproof.workspace.driver:RealDatabricksDriver"
    backend_class: type[Backend] = Backend

    def __init__(self, options: Mapping[str, str]) -> None:
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown and unknown[0] in REAL_OPTIONS:
            raise ValueError(
                f"option {unknown[0]} is about a real workspace: add --backend-real, or leave it out to test "
                "on the fake"
            )
        if unknown:
            raise ValueError(
                f"the databricks driver has no option {', '.join(unknown)} (known: {', '.join(OPTIONS)})"
            )
        missing = [name for name in PROVISIONED if not options.get(name)]
        if missing:
            raise ValueError(f"the databricks driver was not provisioned: {', '.join(missing)} missing")
        for name, choices in CHOSEN.items():
            if options.get(name, choices[0]) not in choices:
                raise ValueError(f"{name} must be {' or '.join(choices)}, not {options[name]!r}")
        self.options = dict(options)
        self.strict = options.get("fencing") == "strict"
        self.variant = options.get("variant", self.variants[0])
        self.simulated = simulated(options)
        self._mutex = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._warehouse: Warehouse | None = None
        self._clocks: defaultdict[tuple[str, str], SteeredClock] = defaultdict(SteeredClock)
        on = (
            " on S3 by moto" if self.variant == "delta-direct" and options.get("lock_storage") == "s3" else ""
        )
        self.info = DriverInfo(
            "databricks",
            tofu_databricks.__version__,
            f"tofu_databricks, locks in {self.variant}{on}{self._described_fencing()}{self._waiting()}",
            target="fake",
        )

    @staticmethod
    @contextmanager
    def provision(options: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """A fake workspace with Lakebase on a real Postgres, for all processes of the run, stopped on exit.

        Several backends of one run that ask for the same Postgres share them: scopes keep apart.
        """
        with SERVICES.shared(
            options.get("postgres_dsn"), options.get("lock_storage", "local"), profile(options)
        ) as provisioned:
            if options.get("files_api", "2.0") != "2.0":
                FakeControl(provisioned["host"]).fidelity(files_api_3=True)
            yield provisioned

    def fencing(self, files_v3: Address) -> Mapping[str, str]:
        """The settings of how writes are fenced; `files_v3` serves Files API 3.0 where that is chosen."""
        chosen = {name: self.options[name] for name in CHOSEN if name in self.options}
        if chosen.get("files_api", "2.0") != "2.0":
            chosen["files_host"] = url_of(files_v3)
        return chosen

    def _described_fencing(self) -> str:
        return f", strict fencing by Files API {self.options.get('files_api', '2.0')}" if self.strict else ""

    def _waiting(self) -> str:
        return f", simulated latency: {self.simulated}" if self.simulated else ""

    def capabilities(self) -> Capabilities:
        return Capabilities(
            {
                "state.delete",
                "state.large",
                "state.atomic-replace",
                "workspaces",
                "places",
                "locking.holder-info",
                "locking.force-unlock",
                "locking.release-nonce",
                "locking.fencing",
                "clients.clock",
                "clients.process",
                "test-bed",
                "in-process",
                "databricks",
                "http",
                *(("locking.fencing-strict",) if self.strict else ()),
                *BEDS[self.variant].capabilities,
            }
        )

    def links(self) -> Mapping[str, Address]:
        return {
            "workspace": address_of(self.options["host"]),
            "storage": address_of(self.options["storage"]),
            "postgres": Address(
                "127.0.0.1", int(self.options["lakebase_port"]), tls=True, protocol="postgres"
            ),
        }

    def clock(self, scope: str, who: str) -> SteeredClock:
        """The clock of the clients of that name, in this process."""
        return self._clocks[volume_name(scope), who]

    def rest(self, method: str, path: str, body: bytes | dict[str, Any] | None = None) -> None:
        """One call to the fake as its administrator, past the backend. Raises `requests.HTTPError`."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"Authorization": f"Bearer {self.options['token']}"}
        with requests.Session() as session:
            session.trust_env = False  # the fake is on this machine: no proxy, no netrc
            answer = session.request(
                method, self.options["host"] + path, data=data, headers=headers, timeout=30
            )
        answer.raise_for_status()

    @contextmanager
    def housekeeping(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection to Lakebase as its administrator, kept from use to use."""
        with self._mutex:
            connection = self._connection
            idle = connection is not None and connection.info.transaction_status == TransactionStatus.IDLE
            if connection is None or not idle or spoken_to(connection):
                scope = DatabricksScope(self, "housekeeping", {}, attach=True)
                config = scope.config(lock_backend="lakebase")
                connection = self._connection = Backend(config).connector()()
            yield connection

    def statement(self, text: str) -> Rows:
        """The result of a SQL statement of the workspace's administrator. Raises `SqlError`."""
        with self._mutex:
            if self._warehouse is None:
                scope = DatabricksScope(self, "housekeeping", {}, attach=True)
                self._warehouse = Warehouse(Backend(scope.config(lock_backend="delta")).transport)
        return self._warehouse.run(text, read_only=False, what="housekeeping")

    def open_scope(
        self, name: str, links: Mapping[str, Address] | None = None, *, attach: bool = False
    ) -> DatabricksScope:
        return DatabricksScope(self, name, links or {}, attach=attach)

    def explored(self, *, pristine: bool = False) -> AbstractContextManager[Subject]:
        """The backend under a controlled scheduler; see `lockproof.driver.databricks_explored`."""
        from lockproof.driver.databricks_explored import explored

        return explored(self, pristine=pristine)


def translated(call: Callable[[], T]) -> T:
    """`call()`, its `BackendError` as the `DriverError` that it means."""
    try:
        return call()
    except errors.BackendError as error:
        raise driver_error(error) from error


def driver_error(error: errors.BackendError) -> DriverError:
    """The same failure in the driver interface's terms."""
    holder = getattr(error, "holder", None)
    info = None if holder is None else LockInfo(**{name: getattr(holder, name) for name in FIELDS})
    kinds = (kind for cls, kind in KINDS.items() if isinstance(error, cls))
    found = DriverError(next(kinds, "internal"), error.definite, str(error))
    # A refusal that is not definite: an earlier attempt of this very call went unanswered.
    if error.definite and isinstance(error, errors.StateLocked):
        found = Locked(str(error))
    elif error.definite and isinstance(error, errors.LockMismatch):
        found = LockMismatch(str(error))
    elif error.definite and isinstance(error, errors.LockNotHeld):
        found = NotLocked(str(error))
    found.holder = info
    return found


def volume_name(scope: str) -> str:
    """A Unity Catalog name for a scope; the scope's own where that is one."""
    if re.fullmatch(r"[a-z0-9_-]{1,100}", scope):
        return scope
    return f"scope_{hashlib.sha256(scope.encode()).hexdigest()[:24]}"


def address_of(url: str) -> Address:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Address(parts.hostname or "", parts.port or (443 if tls else 80), tls, protocol="http")


def authority_of(links: Mapping[str, Address]) -> str:
    """The PEM file of the authority to trust, which the backend has one setting for; empty: none of its own.

    Raises `ValueError` for links of several authorities.
    """
    files = sorted({address.ca_file for address in links.values() if address.ca_file})
    if len(files) > 1:
        raise ValueError(f"links of several authorities ({', '.join(files)}): give all one file")
    return files[0] if files else ""


def url_of(address: Address) -> str:
    return f"{'https' if address.tls else 'http'}://{address.host}:{address.port}"
