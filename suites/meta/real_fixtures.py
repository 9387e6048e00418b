"""Fixtures of the tests of a workspace that exists: a plugin of the modules that name it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from lockproof.provision.postgres import PostgresServer
from lockproof.suites.meta.real_bed import CATALOG, FULL_NAME, ROBOT, SCHEMA, RealBed, real_bed


@pytest.fixture(scope="module")
def shared_workspace(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealBed]:
    with real_bed(postgres_server, tmp_path_factory.mktemp("workspace")) as made:
        yield made


@pytest.fixture
def real(shared_workspace: RealBed) -> Iterator[RealBed]:
    """A workspace with everything that a run needs, and nothing in its volume."""
    bed, workspace = shared_workspace, shared_workspace.workspace
    given = dict(bed.variables)
    yield bed
    bed.variables = given
    workspace.release_all()
    workspace.grant(ROBOT, f"{CATALOG}.{SCHEMA}", "USE_SCHEMA", "CREATE_TABLE")
    workspace.grant(ROBOT, FULL_NAME, "READ_VOLUME", "WRITE_VOLUME")
    bed.warehouse.access = {ROBOT: "CAN_USE"}
    bed.warehouse.start()
    bed.control.delete_volume(FULL_NAME)
    bed.control.create_volume(FULL_NAME)
    workspace.grant(ROBOT, FULL_NAME, "READ_VOLUME", "WRITE_VOLUME")
    for name in bed.tables():
        workspace.metastore.delete("table", f"{CATALOG}.{SCHEMA}.{name}")
    shutil.rmtree(bed.folder / "run", ignore_errors=True)
