"""A fault as an object: its precondition, how it is injected and healed, and whether it hit anything."""

from __future__ import annotations

import difflib
import importlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from lockproof.history.faults import START, STOP
from lockproof.history.writer import HARNESS

if TYPE_CHECKING:
    from lockproof.chaos.arena import Arena

FAMILIES: Mapping[str, str] = {
    "net": "lockproof.chaos.network",
    "kill": "lockproof.chaos.process",
    "postgres": "lockproof.chaos.postgres",
    "warehouse": "lockproof.chaos.warehouse",
    "clock": "lockproof.chaos.clock",
}
"""The families of faults, which `--backend-faults` names, and the module that each is in: it lists its
nemeses in a tuple `NEMESES`."""


class Nemesis(ABC):
    """One fault, with its `parameters` (plain data: they stand in plans and histories).

    A subclass says what it does in `strike`, and how that is undone in `lift`; the `fault` events of the
    history, and that nothing is healed twice, are seen to here. An object is injected once.
    """

    name: ClassVar[str]
    """`family.what`, as plans and histories name it, for example `net.drop_reply`."""
    destructive: ClassVar[bool] = False
    """Whether it hurts a service, and not only a client's own link or process."""
    on_a_client: ClassVar[bool] = False
    """Whether a plan names by parameter `on` the client that it strikes."""

    def __init__(self, **parameters: Any) -> None:
        self.parameters: dict[str, Any] = parameters
        self.injected = False
        self.healed = False

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        """Parameters for a plan, drawn by `rng`."""
        return {}

    @property
    def family(self) -> str:
        """The part of the name before the dot."""
        return family_of(self.name)

    def missing(self, arena: Arena) -> str:
        """Why it cannot be injected here, in one line; empty when it can."""
        return ""

    def check_health(self, arena: Arena) -> None:
        """Raises when the arena is not healthy: before any fault `Unknown`, as that proves nothing; after
        healing `Violation`, as the backend ought to have recovered."""
        arena.check_health()

    def inject(self, arena: Arena, rng: random.Random) -> None:
        """From now on the fault is there; the history says so before it is."""
        assert not self.injected, f"{self.name} is injected twice"
        self.injected = True
        arena.history.append(HARNESS, "fault", self.name, given={"phase": START, **self.parameters})
        self.strike(arena, rng)

    def heal(self, arena: Arena) -> None:
        """The fault is gone, and the history says so and how much it has hit. Harmless when there is
        nothing to heal."""
        if not self.injected or self.healed:
            return
        self.healed = True
        self.lift(arena)
        given = {"phase": STOP, **self.parameters}
        arena.history.append(HARNESS, "fault", self.name, given=given, out={"hits": self.struck()})

    @abstractmethod
    def strike(self, arena: Arena, rng: random.Random) -> None:
        """Does what the fault is."""

    @abstractmethod
    def lift(self, arena: Arena) -> None:
        """Undoes it; called once."""

    @abstractmethod
    def struck(self) -> int:
        """How many operations, messages or processes it has hit since it was injected. Still known after
        it was healed."""

    def __repr__(self) -> str:
        shown = "".join(f" {key}={value}" for key, value in self.parameters.items())
        return f"<{self.name}{shown}>"


@cache
def nemeses() -> Mapping[str, type[Nemesis]]:
    """Every nemesis by its name, in the order of families."""
    found: dict[str, type[Nemesis]] = {}
    for module in FAMILIES.values():
        for nemesis in importlib.import_module(module).NEMESES:
            found[nemesis.name] = nemesis
    return found


def family_of(name: str) -> str:
    """The family of a nemesis, by its name."""
    return name.partition(".")[0]


def require_families(names: Iterable[str]) -> None:
    """Raises `LookupError`, one line for a person, for a name that is no family."""
    for name in names:
        if name not in FAMILIES:
            near = difflib.get_close_matches(name, FAMILIES, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise LookupError(f"no family of faults named {name!r}{hint}: {', '.join(FAMILIES)}")
