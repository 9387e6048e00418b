"""The events of a history and the operations that pair them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

EventKind = Literal["invoke", "ok", "fail", "info", "fault", "note"]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a history.

    `i` counts from 0, `t` is nanoseconds of one monotonic clock, `p` the process (-1: the harness),
    `e` the kind: `fail` means no effect, `info` means unknown. `f` is the client method, `ws` the
    workspace; `given` and `out` are what went in and came back, `err` a refused or unknown outcome.
    """

    i: int
    t: int
    p: int
    e: EventKind
    f: str
    ws: str | None = None
    given: Mapping[str, Any] | None = None
    out: Any = None
    err: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The event as its line is written."""
        line: dict[str, Any] = {"i": self.i, "t": self.t, "p": self.p, "e": self.e, "f": self.f}
        if self.ws is not None:
            line["ws"] = self.ws
        if self.given is not None:
            line["in"] = self.given
        if self.out is not None:
            line["out"] = self.out
        if self.err is not None:
            line["err"] = self.err
        return line


@dataclass(frozen=True, slots=True)
class Operation:
    """A call and its outcome: `ok`, `fail` (no effect) or `info` (unknown; `returned` is infinite)."""

    invoke: Event
    outcome: Event | None

    @property
    def kind(self) -> Literal["ok", "fail", "info"]:
        if self.outcome is None or self.outcome.e == "info":
            return "info"
        return "ok" if self.outcome.e == "ok" else "fail"

    @property
    def called(self) -> int:
        return self.invoke.t

    @property
    def returned(self) -> float:
        return math.inf if self.outcome is None or self.kind == "info" else self.outcome.t

    @property
    def f(self) -> str:
        return self.invoke.f

    @property
    def ws(self) -> str | None:
        return self.invoke.ws


@dataclass(frozen=True)
class History:
    """A header, events in order, and whether the footer was reached (`closed`)."""

    header: Mapping[str, Any]
    events: Sequence[Event]
    closed: bool
    names: Mapping[int, str] = field(default_factory=dict)

    def operations(self) -> Iterator[Operation]:
        """Every call with its outcome, in the order of the calls."""
        outcomes: dict[int, Event] = {}
        waiting: dict[int, Event] = {}
        for event in self.events:
            if event.e == "invoke":
                waiting[event.p] = event
            elif event.e in {"ok", "fail", "info"} and event.p in waiting:
                outcomes[waiting.pop(event.p).i] = event
        for event in self.events:
            if event.e == "invoke":
                yield Operation(event, outcomes.get(event.i))
