"""A workspace as a stranger's: the fake over sockets and TLS of an authority of its own, with a principal who
is no administrator and holds only what was granted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lockproof.chaos.proxy.certificates import Authority
from lockproof.fakes.databricks.control import FakeControl
from lockproof.fakes.databricks.identity import OAuthClient
from lockproof.fakes.databricks.lakebase import BRANCH, Lakebase
from lockproof.fakes.databricks.lakebase_service import PROJECT, serve_lakebase
from lockproof.fakes.databricks.server import FakeServer
from lockproof.fakes.databricks.sql.warehouses import Warehouse
from lockproof.fakes.databricks.workspace import FakeWorkspace
from lockproof.provision.postgres import PostgresServer

ROBOT = "7d1e7f3a-5a0c-4c1e-9a3e-0b6f2f6f6a11"
"""A service principal's name is its application id."""
CATALOG, SCHEMA, VOLUME = "platform", "terraform", "states"
FULL_NAME = f"{CATALOG}.{SCHEMA}.{VOLUME}"
ROOT = f"/Volumes/{CATALOG}/{SCHEMA}/{VOLUME}"
QUICK = ("-q", "-pno:cacheprovider", "-pno:hypothesispytest", "-pno:anyio")
AMBIENT = ("DATABRICKS_", "LOCKPROOF_", "TOFU_DATABRICKS_", "PYTEST_", "COV_")


@dataclass
class RealBed:
    """The workspace, its one warehouse and the credentials of `ROBOT`; `variables` are the environment that a
    user of it has."""

    workspace: FakeWorkspace
    control: FakeControl
    warehouse: Warehouse
    client: OAuthClient
    lakebase: Lakebase
    authority: Path
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    patience: float = 120.0

    @property
    def options(self) -> dict[str, str]:
        """What a user names, of both lock backends."""
        return {
            "catalog": CATALOG,
            "schema": SCHEMA,
            "volume": VOLUME,
            "warehouse_id": self.warehouse.id,
            "lakebase_project": PROJECT,
            "lakebase_port": str(self.lakebase.port),
        }

    def given(self, **changes: str) -> list[str]:
        """The options as a command line has them."""
        return [f"--backend-opt={name}={value}" for name, value in {**self.options, **changes}.items()]

    def run(self, arguments: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
        """A command of this environment with the user's variables, and others besides, in `folder`."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=self.patience,
        )

    def pytest(self, *arguments: str, backend: str = "databricks:delta") -> subprocess.CompletedProcess[str]:
        """A run of the suites on this workspace."""
        aimed = (f"--backend={backend}", "--backend-real", "--backend-report=run", *self.given())
        return self.run(["pytest", *QUICK, *aimed, *arguments])

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(AMBIENT)}
        return {**kept, **self.variables, **variables}

    def files(self) -> dict[str, int]:
        """The files of the volume by their path in it."""
        return self.control.files(FULL_NAME)

    def put(self, path: str, data: bytes = b"theirs") -> None:
        """A file of somebody else's, at `path` of the volume."""
        with self.workspace.mutex:
            self.workspace.metastore.volume(FULL_NAME).tree.write(
                path, data, self.workspace.clock.time(), self.workspace.next_version()
            )

    def tables(self) -> list[str]:
        """The Delta tables of the schema."""
        return [table.name for table in self.workspace.metastore.children("table", f"{CATALOG}.{SCHEMA}")]


@contextmanager
def real_bed(postgres: PostgresServer, folder: Path) -> Iterator[RealBed]:
    """The bed, whose files are in `folder`; everything is granted that a run needs, and nothing else."""
    authority = Authority(folder)
    certificate = folder / "workspace.pem"
    certificate.write_bytes(authority.issue())
    with (
        FakeServer(certificate=certificate) as server,
        serve_lakebase(server.workspace, postgres.keywords()) as proxy,
    ):
        workspace = server.workspace
        workspace.create_volume(FULL_NAME)
        robot = workspace.create_principal(ROBOT, service=True)
        workspace.grant(ROBOT, CATALOG, "USE_CATALOG")
        workspace.grant(ROBOT, f"{CATALOG}.{SCHEMA}", "USE_SCHEMA", "CREATE_TABLE")
        workspace.grant(ROBOT, FULL_NAME, "READ_VOLUME", "WRITE_VOLUME")
        warehouse = next(iter(workspace.sql.warehouses.by_id.values()))
        warehouse.access = {ROBOT: "CAN_USE"}
        branch = proxy.lakebase.branch(PROJECT, BRANCH)
        proxy.lakebase.create_role(branch, ROBOT, identity="SERVICE_PRINCIPAL", owner=True)
        client = workspace.directory.create_client(robot)
        bed = RealBed(
            workspace, FakeControl(workspace), warehouse, client, proxy.lakebase, authority.ca_file, folder
        )
        bed.variables = {
            "DATABRICKS_HOST": server.url,
            "DATABRICKS_CLIENT_ID": client.client_id,
            "DATABRICKS_CLIENT_SECRET": client.secret,
            "DATABRICKS_CONFIG_FILE": str(folder / "no-profile"),
            "REQUESTS_CA_BUNDLE": str(authority.ca_file),
            "SSL_CERT_FILE": str(authority.ca_file),
        }
        yield bed
