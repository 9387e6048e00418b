"""Nemeses of the family `postgres` that only Lakebase knows: what the service does to connections by itself.

They strike the fake of a backend on a Postgres of the suite's own, which no other test uses: also its clock.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar

from lockproof.chaos.nemesis import Nemesis
from lockproof.driver.api import HasTestBed
from lockproof.provision.cluster import until

if TYPE_CHECKING:
    from lockproof.chaos.arena import Arena
    from lockproof.fakes.databricks.control import FakeControl

HOUR = 3600.0
DAY = 24 * HOUR


class OfLakebase(Nemesis):
    """Strikes the sessions of the fake Lakebase behind the arena, and hits those that end."""

    destructive = True

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.hits = 0

    def missing(self, arena: Arena) -> str:
        from lockproof.chaos.postgres_own import PostgresArena

        if not isinstance(arena, PostgresArena) or not isinstance(arena.scope.scope, HasTestBed):
            return "no Lakebase of the suite's own is behind this backend"
        return ""

    def strike(self, arena: Arena, rng: random.Random) -> None:
        control = control_of(arena)
        before = control.call("lakebase_address")
        self.hurt(control)

        def only_new_ones() -> bool:
            now = control.call("lakebase_address")
            return bool(now["sessions"] <= now["logins"] - before["logins"])

        until(only_new_ones, "the sessions do not end")
        self.hits = before["sessions"]

    def hurt(self, control: FakeControl) -> None:
        """Does what ends the sessions."""

    def lift(self, arena: Arena) -> None:
        """The next login finds all well."""

    def struck(self) -> int:
        return self.hits


class Suspend(OfLakebase):
    """Scale to zero; the compute refuses the first `refusals` logins while it wakes up."""

    name = "postgres.suspend"

    def hurt(self, control: FakeControl) -> None:
        control.call("lakebase_suspend", wake_refusals=self.parameters.get("refusals", 2))


class TokenExpired(OfLakebase):
    """The login tokens expire, and then the connections break."""

    name = "postgres.token-expired"

    def hurt(self, control: FakeControl) -> None:
        control.call("lakebase_expire_tokens")
        control.call("lakebase_end_sessions")


class Waiting(OfLakebase):
    """So many `hours` pass on the fake's clock in which nobody asks anything."""

    hours: ClassVar[float]

    def hurt(self, control: FakeControl) -> None:
        control.advance_clock(self.hours * HOUR + 1)


class IdleDay(Waiting):
    """A connection that is idle for a day is ended."""

    name = "postgres.idle-day"
    hours = 24


def control_of(arena: Arena) -> FakeControl:
    """What steers the fake behind an arena that has one."""
    scope = arena.scope.scope
    assert isinstance(scope, HasTestBed)
    control: FakeControl = scope.test_bed().control
    return control


LAKEBASE_NEMESES: tuple[type[Nemesis], ...] = (Suspend, TokenExpired, IdleDay)
