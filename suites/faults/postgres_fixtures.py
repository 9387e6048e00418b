"""Fixtures of the tests of Postgres faults: a plugin of the modules that name it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from lockproof.chaos.postgres_own import OwnPostgres, PostgresArena, own_postgres, postgres_arena
from lockproof.history import HistoryWriter
from lockproof.plugin.fixtures import Backend
from lockproof.provision.cluster import PostgresCluster, provide_cluster
from lockproof.provision.pooler import provide_pooler
from lockproof.provision.postgres import ProvisionError
from lockproof.spec.outcome import NotRun


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """A Postgres of this process alone that may be hurt; each backend has a database of its own in it."""
    try:
        provided = provide_cluster()
        cluster = provided.__enter__()
    except ProvisionError as error:
        raise NotRun(str(error)) from error
    yield cluster
    provided.__exit__(None, None, None)


@pytest.fixture(scope="session")
def on_postgres(
    backend: Backend, postgres_cluster: PostgresCluster, request: pytest.FixtureRequest
) -> Iterator[OwnPostgres]:
    """The backend under test, made a second time on that Postgres."""
    redactor = request.config.pluginmanager.getplugin("lockproof.session").redactor
    with own_postgres(backend, backend.spec, postgres_cluster, redactor.learn) as made:
        yield made


@pytest.fixture(scope="session")
def on_pooler(
    backend: Backend, postgres_cluster: PostgresCluster, request: pytest.FixtureRequest
) -> Iterator[OwnPostgres]:
    """The backend made once more, on that Postgres behind a transaction pooler."""
    redactor = request.config.pluginmanager.getplugin("lockproof.session").redactor
    with own_postgres(backend, backend.spec, postgres_cluster, redactor.learn, provide_pooler) as made:
        yield made


@pytest.fixture
def pooled_arena(
    on_pooler: OwnPostgres, history: HistoryWriter, rng: random.Random
) -> Iterator[PostgresArena]:
    """A fresh scope of the backend behind that pooler."""
    with postgres_arena(on_pooler, history, rng) as opened:
        yield opened


@pytest.fixture
def own_arena(
    on_postgres: OwnPostgres, history: HistoryWriter, rng: random.Random
) -> Iterator[PostgresArena]:
    """A fresh scope of the backend on that Postgres."""
    with postgres_arena(on_postgres, history, rng) as opened:
        yield opened
