"""What a suite's tests, and a project's own, ask for by name in a run with `--backend`."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockproof.driver.api import Capabilities, Driver, Target
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.driver.registry import BackendSpec
from lockproof.history.writer import HARNESS, HistoryWriter
from lockproof.report.redact import Redactor

if TYPE_CHECKING:
    from lockproof.chaos.arena import Arena


@dataclass(frozen=True, eq=False)  # hashable: pytest then runs a backend's tests one after the other
class Backend:
    """One backend under test.

    `capabilities` are those declared and not switched off; `target` is where the backend runs; `timeout` is
    the deadline of one call in seconds; `seed` is the run's; `clients` is what `--backend-clients` asked
    for, `None` where a test should take its own number; `histories` is the folder that histories go to.
    `spec` is what it was made of; `connect` makes a driver in any process (it pickles); `ready` is the one
    that this process has already.
    `faults` are the families of faults that are wanted, all when empty; `duration` is for how many seconds
    a soak goes on; `allow_destructive`: a service of a real target may be hurt.
    """

    id: str
    declared: Capabilities
    capabilities: Capabilities
    target: Target
    timeout: float
    seed: int
    clients: int | None
    keep: bool
    histories: Path
    spec: BackendSpec
    connect: Callable[[], Driver]
    ready: Driver | None = None
    faults: Sequence[str] = ()
    duration: float = 60.0
    allow_destructive: bool = False

    @cached_property
    def driver(self) -> Driver:
        """The driver of this process, made when first asked for."""
        return self.ready or self.connect()

    def __repr__(self) -> str:
        return self.id


def history_name(test: str) -> str:
    """A file name for the history of a test: readable, safe, and different for different ids."""
    head, _, parameters = test.removeprefix("suites/").replace(".py::", ".").partition("[")
    name = re.sub(r"[^\w-]+", ".", f"{head}-{parameters.removesuffix(']')}" if parameters else head)
    if len(name) > 150 or re.search(r"[^\w:-]", parameters.removesuffix("]")):
        name = f"{name[:140]}-{zlib.crc32(test.encode()):08x}"
    return f"{name}.jsonl"


@pytest.fixture
def rng(backend: Backend, request: pytest.FixtureRequest) -> random.Random:
    """Random numbers that `--backend-seed` repeats, independent of the other tests' numbers."""
    return random.Random(f"{backend.seed}:{request.node.nodeid}")


@pytest.fixture
def history(backend: Backend, request: pytest.FixtureRequest) -> Iterator[HistoryWriter]:
    """The history of this test: every call of every client of its scopes."""
    with _writer(backend, request, history_name(request.node.nodeid)) as writer:
        yield writer


def _writer(backend: Backend, request: pytest.FixtureRequest, name: str) -> HistoryWriter:
    session = request.config.pluginmanager.getplugin("lockproof.session")
    header = {
        "test": request.node.nodeid,
        "backend": backend.id,
        "target": session.described[backend.id]["target"],
        "capabilities": sorted(backend.capabilities),
        "seed": backend.seed,
        "clients": backend.clients,
    }
    redactor: Redactor = session.redactor
    return HistoryWriter(header, backend.histories / name, redactor.text)


@pytest.fixture
def scope(backend: Backend, history: HistoryWriter) -> Iterator[RecordedScope]:
    """A fresh key space of the backend; `scope.client(who)` is one more `tofu` process."""
    yield from _opened(backend, history)


@pytest.fixture
def history_beside(backend: Backend, request: pytest.FixtureRequest) -> Iterator[Callable[[], HistoryWriter]]:
    """Makes histories beside the test's, for clients of another place: a history is of one key space."""
    made = itertools.count(1)
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(
            _writer(backend, request, f"{history_name(request.node.nodeid)[:-6]}.other-{next(made)}.jsonl")
        )


@pytest.fixture
def other_place(backend: Backend, history_beside: Callable[[], HistoryWriter]) -> Iterator[RecordedScope]:
    """A second key space of the backend, with a history of its own."""
    yield from _opened(backend, history_beside())


def _opened(backend: Backend, history: HistoryWriter) -> Iterator[RecordedScope]:
    name = f"lp-{uuid.uuid4().hex[:12]}"
    history.append(HARNESS, "note", "scope", given={"name": name, "kept": backend.keep})
    opened = RecordedScope(backend.driver.open_scope(name), history, backend.timeout, name)
    if backend.keep:
        opened.scope.__enter__()
        yield opened
        for client in opened.clients:
            client.close()
    else:
        with opened:
            yield opened


@pytest.fixture
def arena(
    backend: Backend, scope: RecordedScope, history: HistoryWriter, rng: random.Random
) -> Iterator[Arena]:
    """The scope as faults are injected into it: `arena.client(who)` has network links of its own."""
    from lockproof.chaos.arena import Arena

    with Arena(backend, scope, history, rng) as opened:
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
