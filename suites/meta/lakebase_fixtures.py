"""Fixtures of the tests of Lakebase locks: a plugin of the modules that name it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lockproof.provision.postgres import PostgresServer
from lockproof.suites.meta.lakebase_bed import LakebaseBed, lakebase_bed
from tofu_databricks.locks import LockStore


@pytest.fixture(scope="module")
def shared_bed(postgres_server: PostgresServer) -> Iterator[LakebaseBed]:
    with lakebase_bed(postgres_server) as made:
        yield made


@pytest.fixture
def bed(shared_bed: LakebaseBed) -> Iterator[LakebaseBed]:
    """A bed with an empty database, no faults and no connections."""
    yield shared_bed
    shared_bed.stack.close()
    shared_bed.proxy.faults.clear()
    shared_bed.model.wake_refusals = 1
    shared_bed.endpoint.suspended = False
    shared_bed.endpoint.refusals = 0
    with shared_bed.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS tofu_databricks CASCADE")


@pytest.fixture
def store(bed: LakebaseBed) -> LockStore:
    return bed.store()
