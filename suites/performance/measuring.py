"""How calls are timed: one client, one call after the other, only the backend's own time."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import pytest

from lockproof.checkers.percentiles import needed
from lockproof.driver.api import Address
from lockproof.driver.recorder import OwnThread, RecordedClient, RecordedScope
from lockproof.plugin.fixtures import Backend
from lockproof.plugin.session import COUNTS
from lockproof.spec.marks import TIERS

T = TypeVar("T")

SAMPLES = needed(95) + 8
"""Enough that the 95th percentile has an upper bound, with 95 % confidence, in two samples of 80."""
ATTEMPTS = 9
CONNECT_SECONDS = 5.0


class TimedCalls(OwnThread):
    """Makes the calls of a client as `OwnThread` does; `taken` are their times in milliseconds. What the
    recorder does with a call is not in them."""

    def __init__(self, who: str, timeout: float) -> None:
        super().__init__(who, timeout)
        self.taken: list[float] = []

    def call(
        self, step: str, begin: Callable[[], object], act: Callable[[], T], late: Callable[[], object]
    ) -> T:
        def timed() -> T:
            start = time.perf_counter_ns()
            try:
                return act()
            finally:
                self.taken.append(round((time.perf_counter_ns() - start) / 1e6, 4))

        return super().call(step, begin, timed, late)


class Measuring:
    """What a test measures with, and tells the report of.

    `seconds` is what one operation may be measured for: with too few samples the result is undecided. Tier
    `full` gives every operation the time that it needs, within two minutes.
    """

    def __init__(self, backend: Backend, scope: RecordedScope, request: pytest.FixtureRequest) -> None:
        self.backend, self.scope, self.node = backend, scope, request.node
        tier = request.config.pluginmanager.getplugin("lockproof.session").settings.tier
        self.patient = TIERS.index(tier) >= TIERS.index("full")
        self.workers = int(getattr(request.config, "workerinput", {}).get("workercount", 1))
        self._found: list[dict[str, object]] = []

    def client(self, who: str) -> tuple[RecordedClient, list[float]]:
        """A client of the scope, and the times of its calls."""
        calls = TimedCalls(who, self.backend.timeout)
        client = RecordedClient(self.scope.scope.client(who), who, self.scope.history, calls)
        self.scope.clients.append(client)
        return client, calls.taken

    def rounds(self, seconds: float, most: int = SAMPLES) -> Iterator[int]:
        """Numbers of repetitions: `most`, fewer where `seconds` are over before; one at least."""
        end = time.monotonic() + (120.0 if self.patient else seconds)
        for number in range(most):
            if number and time.monotonic() >= end:
                return
            yield number

    @property
    def profile(self) -> str:
        """The latency profile of a fake behind the backend; empty where there is none."""
        return str(self._bed("simulated") or "")

    def cool(self) -> None:
        """Brings a simulated warehouse into the state in which the profile says that a run finds it."""
        if self.profile:
            self._bed("cool")()  # type: ignore[operator]

    def tell(
        self, operation: str, samples: list[float], requirement: str | None = None, size: int | None = None
    ) -> None:
        """Puts a measurement into the report."""
        self._found.append(
            {
                "operation": operation,
                "size_bytes": size,
                "requirement": requirement,
                "samples": list(samples),
                "profile": self.profile,
                "round_trip": round_trips(self.backend.driver.links()),
                "workers": self.workers,
            }
        )
        self.node.user_properties[:] = [p for p in self.node.user_properties if p[0] != COUNTS]
        self.node.user_properties.append((COUNTS, self._found))

    def _bed(self, name: str) -> object:
        if "test-bed" not in self.backend.capabilities:
            return None
        return getattr(self.scope.scope.test_bed(), name, None)  # type: ignore[attr-defined]


@pytest.fixture
def measuring(backend: Backend, scope: RecordedScope, request: pytest.FixtureRequest) -> Measuring:
    """The means of this test to measure calls of its scope."""
    return Measuring(backend, scope, request)


def round_trips(links: Mapping[str, Address]) -> dict[str, float]:
    """The median time in milliseconds that opening a TCP connection takes, one round trip, by link. A link
    that cannot be reached has none."""
    found = {}
    for name, address in links.items():
        times = [taken for _ in range(ATTEMPTS) if (taken := _connected(address)) is not None]
        if times:
            found[name] = round(statistics.median(times), 3)
    return found


def _connected(address: Address) -> float | None:
    start = time.perf_counter_ns()
    try:
        socket.create_connection((address.host, address.port), CONNECT_SECONDS).close()
    except OSError:
        return None
    return (time.perf_counter_ns() - start) / 1e6
