"""Fixtures of the tests of strict fencing: a plugin of the modules that name it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lockproof.provision.postgres import PostgresServer
from lockproof.suites.meta.lakebase_bed import LakebaseBed, lakebase_bed
from lockproof.suites.meta.strict_bed import STORES, StrictBed, strict_bed


@pytest.fixture(scope="module")
def strict_service(postgres_server: PostgresServer) -> Iterator[LakebaseBed]:
    """One workspace, with Lakebase, for all tests of a module."""
    with lakebase_bed(postgres_server) as made:
        yield made


@pytest.fixture(params=STORES)
def strict(
    request: pytest.FixtureRequest, strict_service: LakebaseBed, tmp_path: Path
) -> Iterator[StrictBed]:
    """A bed for each kind of lock store; copies are published by Files API 2.0."""
    with strict_bed(strict_service, request.param, tmp_path / "locks") as made:
        yield made


@pytest.fixture
def lakebase(strict_service: LakebaseBed, tmp_path: Path) -> Iterator[StrictBed]:
    """A bed with locks in Postgres."""
    with strict_bed(strict_service, "lakebase", tmp_path / "locks") as made:
        yield made


@pytest.fixture
def delta(strict_service: LakebaseBed, tmp_path: Path) -> Iterator[StrictBed]:
    """A bed with locks in a table of a SQL warehouse."""
    with strict_bed(strict_service, "delta", tmp_path / "locks") as made:
        yield made


@pytest.fixture
def conditional(strict_service: LakebaseBed, tmp_path: Path) -> Iterator[StrictBed]:
    """A bed with locks in Postgres, whose copies are published by Files API 3.0."""
    with strict_bed(strict_service, "lakebase", tmp_path / "locks", "3.0") as made:
        yield made
