"""What several of the project's own tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lockproof.provision.postgres import PostgresServer, provide_postgres
from lockproof.suites.meta.fake_bed import Bed, reach


@pytest.fixture(params=["in-process", "server"])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """The fake Databricks, once in process and once over a server; no ambient DATABRICKS_ settings."""
    for name in ("DATABRICKS_CONFIG_PROFILE", "DATABRICKS_TOKEN", "DATABRICKS_CLIENT_ID", "DATABRICKS_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", "/nonexistent")
    with reach(request.param) as bed:
        yield bed


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A real Postgres for all tests of this process: the one of `--backend-postgres`, or one of our own."""
    with provide_postgres(request.config.getoption("--backend-postgres", default=None)) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The DSN of a database of this process alone; tests take schemas of their own in it."""
    name = f"lockproof_meta_{os.getpid()}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)
