"""What a suite's tests ask for by name."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lockproof.driver.api import Capabilities, Driver
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history.writer import HistoryWriter


@dataclass(frozen=True)
class Backend:
    """One backend under test: id, driver, effective capabilities, deadline of a call in seconds."""

    id: str
    driver: Driver
    capabilities: Capabilities
    timeout: float


@pytest.fixture
def history(backend: Backend, request: pytest.FixtureRequest) -> Iterator[HistoryWriter]:
    """The history of this test: every call of every client of its scopes."""
    with HistoryWriter({"test": request.node.nodeid, "backend": backend.id}) as writer:
        yield writer


@pytest.fixture
def scope(backend: Backend, history: HistoryWriter) -> Iterator[RecordedScope]:
    """A fresh key space of the backend; `scope.client(who)` is one more `tofu` process."""
    name = f"lp-{uuid.uuid4().hex[:12]}"
    with RecordedScope(backend.driver.open_scope(name), history, backend.timeout) as opened:
        yield opened


@pytest.fixture
def alice(scope: RecordedScope) -> RecordedClient:
    """A client of the scope."""
    return scope.client("alice")


@pytest.fixture
def bob(scope: RecordedScope) -> RecordedClient:
    """Another client of the scope."""
    return scope.client("bob")


@pytest.fixture
def carol(scope: RecordedScope) -> RecordedClient:
    """A third client of the scope."""
    return scope.client("carol")
