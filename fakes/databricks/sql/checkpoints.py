"""Named points in the life of a statement where a test may hold it.

In their order: `queued` (accepted, before its warehouse runs it), `started` (parsed, no snapshot yet),
`snapshot` (snapshot taken and change computed, nothing committed), `committed` (committed, its end not yet
told). A statement that commits nothing does not reach `committed`.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from typing import Any

POINTS = ("queued", "started", "snapshot", "committed")


@dataclass
class Hold:
    """Stops statements at `point` until `release`: of those whose text holds `contains` and whose principal
    is `principal` (None: any), `first` (1 = the first) begins a series of `times` (None: for ever)."""

    id: int
    point: str
    contains: str = ""
    principal: str | None = None
    first: int = 1
    times: int | None = 1
    seen: int = 0
    held: int = 0
    statements: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def stops(self, point: str, text: str, principal: str) -> bool:
        if point != self.point or self.contains not in text or self.principal not in (None, principal):
            return False
        self.seen += 1
        return self.seen >= self.first and (self.times is None or self.seen < self.first + self.times)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "point": self.point,
            "contains": self.contains,
            "principal": self.principal,
            "first": self.first,
            "times": self.times,
            "seen": self.seen,
            "held": self.held,
            "statements": list(self.statements),
        }


class Checkpoints:
    """The holds in force. Several may hold one statement, one after the other."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.holds: list[Hold] = []
        self.ids = itertools.count(1)

    def hold(
        self,
        point: str,
        *,
        contains: str = "",
        principal: str | None = None,
        first: int = 1,
        times: int | None = 1,
    ) -> Hold:
        """Raises ValueError for an unknown point or for counts below 1."""
        if point not in POINTS:
            raise ValueError(f"no checkpoint {point!r}; known: {', '.join(POINTS)}")
        if first < 1 or (times is not None and times < 1):
            raise ValueError("first and times count from 1")
        with self.changed:
            made = Hold(next(self.ids), point, contains, principal, first, times)
            self.holds.append(made)
        return made

    def get(self, hold_id: int) -> Hold:
        """Raises KeyError for an unknown id."""
        for hold in self.holds:
            if hold.id == hold_id:
                return hold
        raise KeyError(f"no hold with id {hold_id}")

    def await_held(self, hold: Hold, count: int = 1, timeout: float = 30.0) -> None:
        """Returns once `count` statements wait there. Raises TimeoutError."""
        with self.changed:
            if not self.changed.wait_for(lambda: hold.held >= count, timeout):
                raise TimeoutError(f"{hold.held} of {count} statements at {hold.point} within {timeout:g} s")

    def release(self, hold_id: int | None = None) -> int:
        """Lets go, now and later, what one hold or all of them stop; returns how many holds there were."""
        with self.changed:
            gone = [hold for hold in self.holds if hold_id in (None, hold.id)]
            self.holds = [hold for hold in self.holds if hold not in gone]
        for hold in gone:
            hold.released.set()
        return len(gone)

    def reach(self, point: str, statement_id: str, text: str, principal: str) -> None:
        """A statement arrives; returns when no hold stops it any more."""
        with self.changed:
            stopping = [hold for hold in self.holds if hold.stops(point, text, principal)]
        for hold in stopping:
            with self.changed:
                hold.held += 1
                hold.statements.append(statement_id)
                self.changed.notify_all()
            hold.released.wait()
            with self.changed:
                hold.held -= 1
                self.changed.notify_all()
