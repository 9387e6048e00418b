"""What one load run does, as its processes are told."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from lockproof.driver.registry import BackendSpec

VARIABLE = "LOCKPROOF_LOAD_PLAN"
PRIVATE = ("options", "entry", "folder", "role", "processes")


@dataclass(frozen=True)
class Plan:
    """One load run. Plain data.

    `options` may hold secrets: a plan is written to files of this user alone, and what goes over the network
    is `shared()`. `scope` is the name of the key space; `attach`: another process has it open. `rate` is
    the arrivals per second of all users together, `None` for closed load. `retry_every` replaces OpenTofu's
    pauses between attempts for a held lock; `lock_timeout` is how long one asks, `None`: as long as the run
    lasts. Seconds everywhere. `workers` is the number of processes that drive users, `processes` how many of
    them run on this machine under one locust.
    """

    backend: str
    entry: str
    scope: str
    scenario: str
    users: int
    duration: float
    seed: int
    timeout: float
    folder: str
    capabilities: tuple[str, ...] = ()
    target: str = "local"
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    attach: bool = False
    spawn_rate: float = 20.0
    rate: float | None = None
    lock_timeout: float | None = None
    retry_every: float | None = None
    role: Literal["local", "master", "worker"] = "local"
    workers: int = 1
    processes: int = 1

    @property
    def spec(self) -> BackendSpec:
        """The backend, as any process connects to it."""
        return BackendSpec(self.backend, self.entry, self.options)

    @property
    def histories(self) -> Path:
        """The folder of the histories, one file for each process."""
        return Path(self.folder) / "histories"

    def write(self, path: Path) -> None:
        """Writes the plan for processes of this user."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The plan that `write` wrote."""
        return cls._from(json.loads(path.read_text(encoding="utf-8")))

    def shared(self) -> dict[str, Any]:
        """What a worker on another machine must know; it has its own way to the backend."""
        return {name: value for name, value in asdict(self).items() if name not in PRIVATE}

    def told(self, shared: Mapping[str, Any]) -> Plan:
        """A worker's plan with what the master told. Raises `ValueError` for another backend."""
        if shared["backend"] != self.backend:
            raise ValueError(f"this worker has backend {self.backend}, but the master {shared['backend']}")
        return replace(self, **{**shared, "capabilities": tuple(shared["capabilities"]), "attach": True})

    @classmethod
    def _from(cls, document: Mapping[str, Any]) -> Self:
        known = {f.name: document[f.name] for f in fields(cls)}
        return cls(**{**known, "capabilities": tuple(document["capabilities"])})
