"""An arena before a server in this process, for tests of what is done in arenas."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lockproof.chaos.arena import Arena
from lockproof.driver.api import Capabilities, Driver
from lockproof.driver.memory import MemoryDriver
from lockproof.driver.recorder import RecordedScope
from lockproof.fakes.drivers.served import Served
from lockproof.history import HistoryWriter


@dataclass(frozen=True)
class Tested:
    """What an arena asks of a backend. Its driver is made in this process and stays."""

    driver: Driver
    capabilities: Capabilities
    target: str = "fake"
    timeout: float = 10.0
    faults: Sequence[str] = ()
    allow_destructive: bool = False

    def connect(self) -> Driver:
        return self.driver


@contextmanager
def served(kind: type[Served] = Served, **settings: object) -> Iterator[Arena]:
    """An arena before the gateway over a backend in memory, reached over the link `http`."""
    options: Mapping[str, str] = {}
    with kind.provision(options) as added:
        driver = kind(added)
        with arena_of(driver, Capabilities({*driver.capabilities(), "links.http"}), **settings) as arena:
            yield arena


@contextmanager
def in_memory(**settings: object) -> Iterator[Arena]:
    """An arena without links."""
    driver = MemoryDriver({})
    with arena_of(driver, driver.capabilities(), **settings) as arena:
        yield arena


@contextmanager
def arena_of(driver: Driver, capabilities: Capabilities, **settings: object) -> Iterator[Arena]:
    backend = Tested(driver, capabilities, **settings)  # type: ignore[arg-type]
    header = {"test": "arena", "backend": "tested", "capabilities": sorted(capabilities), "seed": 1}
    with (
        HistoryWriter(header) as history,
        RecordedScope(driver.open_scope("arena"), history, backend.timeout, "arena") as scope,
        Arena(backend, scope, history, random.Random(1)) as arena,
    ):
        yield arena
