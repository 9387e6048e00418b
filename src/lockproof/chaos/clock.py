"""Clocks that are wrong: of single clients, never of the machine.

A backend whose driver has a method `clock(scope, who)` lets a test set the time of the clients of that name
in this process (`clients.clock`). The clock of a client in a process of its own is the machine's: to set that
for one process alone takes a preloaded library, which is not everywhere; these faults leave such clients be.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from lockproof.chaos.nemesis import Nemesis
from lockproof.chaos.process import RecordedProcess
from lockproof.spec.outcome import Unknown

if TYPE_CHECKING:
    from lockproof.chaos.arena import Arena

HOUR = 3600.0


class Clock(Protocol):
    """A clock that can be set; see `lockproof.driver.databricks_bed.SteeredClock`."""

    offset: float
    asked: int

    def stop(self) -> None:
        """It stands still from now on."""

    def put_right(self) -> None:
        """It tells the machine's time again."""


class ClockNemesis(Nemesis):
    """The clock of the client named `on`, or of one that is drawn, is wrong by `seconds`."""

    on_a_client = True
    seconds: ClassVar[float] = 0.0
    hits: int | None = None

    def missing(self, arena: Arena) -> str:
        if "clients.clock" in arena.backend.capabilities:
            return ""
        return f"{self.name}: the clients of this backend go by the machine's clock"

    def strike(self, arena: Arena, rng: random.Random) -> None:
        who = self.parameters.get("on") or rng.choice(living(arena))
        self.clock = clock_of(arena, who)
        self.asked = self.clock.asked
        self.set(self.clock)

    def set(self, clock: Clock) -> None:
        """Makes it wrong."""
        clock.offset += self.error

    @property
    def error(self) -> float:
        """By how many seconds."""
        return float(self.parameters.get("seconds", self.seconds))

    def lift(self, arena: Arena) -> None:
        self.hits = self.struck()
        self.put_right(self.clock)

    def put_right(self, clock: Clock) -> None:
        """Undoes it, and no other fault of the same clock."""
        clock.offset -= self.error

    def struck(self) -> int:
        """How often the backend looked at it."""
        if self.hits is None:
            return self.clock.asked - self.asked if self.injected else 0
        return self.hits


class Ahead(ClockNemesis):
    """It is an hour ahead, or `seconds`."""

    name: ClassVar[str] = "clock.ahead"
    seconds: ClassVar[float] = HOUR

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {"seconds": rng.uniform(60, 2 * HOUR)}


class Behind(ClockNemesis):
    """It is an hour behind, or `seconds` (below zero)."""

    name: ClassVar[str] = "clock.behind"
    seconds: ClassVar[float] = -HOUR

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, Any]:
        return {"seconds": -rng.uniform(60, 2 * HOUR)}


class Stopped(ClockNemesis):
    """It stands still."""

    name: ClassVar[str] = "clock.stopped"

    def set(self, clock: Clock) -> None:
        clock.stop()

    def put_right(self, clock: Clock) -> None:
        offset = clock.offset
        clock.put_right()
        clock.offset = offset


def living(arena: Arena) -> list[str]:
    """The names of the clients that have a clock to set. Raises `Unknown` when there are none."""
    found = {
        client.who
        for client in arena.scope.clients
        if not client.gone and not isinstance(client, RecordedProcess)
    }
    if not found:
        raise Unknown("there is no client whose clock could be set")
    return sorted(found)


def clock_of(arena: Arena, who: str) -> Clock:
    """The clock of the clients of that name. Raises `Unknown` where they have none of their own."""
    find = getattr(arena.backend.driver, "clock", None)
    if find is None:
        raise Unknown("the clients of this backend go by the machine's clock")
    found: Clock = find(arena.scope.name, who)
    return found


NEMESES: tuple[type[Nemesis], ...] = (Ahead, Behind, Stopped)
