"""How long the fake makes its clients wait, so that a run on it takes what a run on a real one would.

The numbers are data with their sources, in `latency.toml`. Everything measured under a profile is simulated:
it shows how many round trips and statements an operation is worth, not how fast Databricks is.
"""

from __future__ import annotations

import json
import math
import random
import re
import threading
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import NormalDist
from typing import Any

from lockproof.fakes.databricks.wire import Request

NETWORKS = ("lan", "same-region", "cross-region")
WAREHOUSES = ("warm", "cold")
LOGIN_ROUND_TRIPS = 4
"""TCP, TLS 1.3, the request for a password and its answer (postgresql.org, protocol-flow)."""
_TAIL = NormalDist().inv_cdf(0.95)
_FIRST_WORD = re.compile(r"\s*(\w+)")


@dataclass(frozen=True)
class Distribution:
    """A lognormal distribution of milliseconds, by its median and its 95th percentile."""

    median: float
    p95: float

    def at(self, deviation: float) -> float:
        """The value that lies `deviation` standard deviations from the median."""
        if not self.median:
            return 0.0
        return self.median * math.exp(deviation * math.log(self.p95 / self.median) / _TAIL)


class Latency:
    """Draws waiting times, in seconds, for one network and one state of the warehouse.

    Each kind of request has random numbers of its own, so that what one kind draws depends on no other;
    equal sequences of requests wait equally long. Raises `ValueError` for a name that there is not.
    """

    def __init__(self, network: str, warehouse: str = "warm") -> None:
        numbers = _numbers()
        for given, known, what in ((network, NETWORKS, "latency"), (warehouse, WAREHOUSES, "warehouse")):
            if given not in known:
                raise ValueError(f"{what} must be {', '.join(known[:-1])} or {known[-1]}, not {given!r}")
        self.network, self.warehouse = network, warehouse
        self.round_trip = float(numbers["network"][network]["round_trip"])
        self.bandwidth = float(numbers["network"][network]["bandwidth"])
        self.seed = int(numbers["seed"])
        self.services = {name: _distribution(entry) for name, entry in numbers["service"].items()}
        self.start = _distribution(numbers["warehouse"][warehouse])
        self._mutex = threading.Lock()
        self._draws: Counter[str] = Counter()

    def __str__(self) -> str:
        """`cross-region (80.5 ms round trip), warehouse warm`."""
        return f"{self.network} ({self.round_trip:g} ms round trip), warehouse {self.warehouse}"

    def request(self, operation: str | None, request: Request) -> float:
        """What a request waits for before it is answered: the way there and back, and the service."""
        return (self.round_trip + self.draw(kind_of(operation, request))) / 1000 + self.transfer(
            len(request.body)
        )

    def transfer(self, size: int) -> float:
        """How long `size` bytes are under way, beyond the first."""
        return size * 8 / (self.bandwidth * 1e6)

    def object_request(self) -> float:
        """A request to the object store that keeps direct locks."""
        return (self.round_trip + self.draw("object-store")) / 1000

    def statement(self) -> float:
        """One exchange with Lakebase on an open connection."""
        return (self.round_trip + self.draw("postgres")) / 1000

    def login(self) -> float:
        """Opening a connection to Lakebase; the token is a request of its own."""
        return (LOGIN_ROUND_TRIPS * self.round_trip + self.draw("postgres")) / 1000

    def warehouse_start(self) -> float:
        """Until a stopped warehouse runs."""
        return self.start.at(self._deviation("warehouse")) / 1000

    def draw(self, kind: str) -> float:
        """The next service time of that kind, in milliseconds."""
        return self.services[kind].at(self._deviation(kind))

    def _deviation(self, kind: str) -> float:
        with self._mutex:
            self._draws[kind] += 1
            number = self._draws[kind]
        return random.Random(f"{self.seed}:{kind}:{number}").gauss()


def kind_of(operation: str | None, request: Request) -> str:
    """Which of the services of `latency.toml` answers a request; `operation` is its route's name."""
    name = operation or ""
    if name == "Execute a statement":
        return "sql-read" if first_word(request) in ("SELECT", "DESCRIBE", "SHOW") else "sql-write"
    if name.startswith("Mint a login token"):
        return "credential"
    if request.host == "storage" or "/fs/files" in request.path:
        return "file-read" if request.method in ("GET", "HEAD") else "file-write"
    return "file-read" if "/fs/directories" in request.path else "api"


def first_word(request: Request) -> str:
    """The first word of the SQL statement that a request asks to execute, in capitals."""
    try:
        text = json.loads(request.body).get("statement")
    except (ValueError, AttributeError):
        return ""
    found = _FIRST_WORD.match(text) if isinstance(text, str) else None
    return found[1].upper() if found else ""


@cache
def _numbers() -> Mapping[str, Any]:
    text = files("lockproof.fakes.databricks").joinpath("latency.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _distribution(entry: Mapping[str, Any]) -> Distribution:
    return Distribution(float(entry["median"]), float(entry["p95"]))
