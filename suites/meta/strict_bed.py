"""What the tests of strict fencing share: backends on one fake workspace, with each kind of lock store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psycopg

from lockproof.fakes.databricks.control import FakeControl
from lockproof.fakes.databricks.lakebase_service import PROJECT
from lockproof.fakes.databricks.sql.steering import SqlControl
from lockproof.suites.meta.hurried import Hurried
from lockproof.suites.meta.lakebase_bed import LakebaseBed
from tofu_databricks.backend import Backend
from tofu_databricks.client import StateClient
from tofu_databricks.config import Config
from tofu_databricks.fenced import FencedState
from tofu_databricks.locks import HeadStore
from tofu_databricks.locks.warehouse import Warehouse
from tofu_databricks.volume import Volume

STORES = ("lakebase", "delta", "delta-direct")
KEY = "terraform.tfstate"
OBJECTS = f"{KEY}.tofu-workspaces/objects"
RECORD = f"{KEY}.tofu-workspaces/lock-store.json"
ROOT = "/Volumes/main/default/v"
VOLUME = "main.default.v"


@dataclass
class Steps:
    """A checkpoint that counts the steps of a backend, and at the one that is number `at` does `then`."""

    at: int = -1
    then: Callable[[], object] = lambda: None
    names: list[str] = field(default_factory=list)

    def __call__(self, step: str) -> None:
        self.names.append(step)
        if len(self.names) == self.at:
            self.then()


@dataclass
class StrictBed:
    """Backends whose locks and heads are kept in `kind`, as processes of their own would have them."""

    kind: str
    lakebase: LakebaseBed
    folder: Path
    files_api: str
    stack: ExitStack

    @property
    def control(self) -> FakeControl:
        return FakeControl(self.lakebase.workspace)

    @property
    def sql(self) -> SqlControl:
        return SqlControl(self.lakebase.workspace)

    def backend(self, checkpoint: Callable[[str], None] | None = None, **settings: Any) -> Backend:
        workspace = self.lakebase.workspace
        chosen: dict[str, Any] = {
            "host": workspace.url,
            "token": workspace.token,
            "catalog": "main",
            "schema": "default",
            "volume": "v",
            "key": KEY,
            "lock_backend": self.kind,
            "lakebase_project": PROJECT,
            "lakebase_port": self.lakebase.model.port,
            "lock_location": self.folder.as_uri() if self.kind == "delta-direct" else "",
            "fencing": "strict",
            "files_api": self.files_api,
            "files_host": workspace.storage_url if self.files_api != "2.0" else "",
            **settings,
        }
        config = Config.load(chosen, environ={})
        return self.stack.enter_context(Backend(config, clock=Hurried(), checkpoint=checkpoint))

    def client(self, checkpoint: Callable[[str], None] | None = None, **settings: Any) -> StateClient:
        """The default workspace, as one more process sees it."""
        return self.backend(checkpoint, **settings).client()

    def heads(self, **settings: Any) -> HeadStore:
        """The lock store of one more process."""
        return cast("HeadStore", self.backend(**settings).locks)

    def run(self, statement: str) -> None:
        """Runs a statement as the administrator of the lock table."""
        if self.kind == "lakebase":
            with self.lakebase.connect() as connection:
                connection.execute(statement.encode())
            return
        transport = self.backend().transport
        Warehouse(transport, clock=Hurried()).run(statement, read_only=False, what="administration")

    def connect(self) -> psycopg.Connection[Any]:
        """A session of Lakebase's administrator."""
        return self.stack.enter_context(self.lakebase.connect())

    def files(self) -> dict[str, int]:
        """The files of the volume by their size."""
        return dict(self.control.files(VOLUME))

    def objects(self) -> list[str]:
        """The names of the objects of the default workspace."""
        place = f"{OBJECTS}/default.tfstate/"
        return sorted(path.removeprefix(place) for path in self.files() if path.startswith(place))

    def copy(self) -> bytes | None:
        """What people find at the key."""
        return self.volume().read(f"{ROOT}/{KEY}")

    def volume(self) -> Volume:
        return self.backend().volume


def fenced(client: StateClient) -> FencedState:
    """The strictly fenced state of a client."""
    assert client.fenced is not None
    return client.fenced


@contextmanager
def strict_bed(lakebase: LakebaseBed, kind: str, folder: Path, files_api: str = "2.0") -> Iterator[StrictBed]:
    """A bed with an empty volume and no lock table."""
    workspace = lakebase.workspace
    before = vars(workspace.fidelity).copy()
    workspace.fidelity.change(files_api_3=files_api != "2.0")
    with ExitStack() as stack:
        bed = StrictBed(kind, lakebase, folder, files_api, stack)
        yield bed
        bed.control.clear_faults()
        lakebase.proxy.faults.clear()
    workspace.fidelity.change(**before)
    workspace.metastore.delete("volume", VOLUME)
    workspace.create_volume(VOLUME)
    tables = workspace.sql.tables
    for entry in filter(None, map(tables.find, list(workspace.metastore.objects["table"]))):
        tables.drop(entry)
    with lakebase.connect() as connection:
        connection.execute(b"DROP SCHEMA IF EXISTS tofu_databricks CASCADE")
