"""The events of a history and the operations that pair them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

EventKind = Literal["invoke", "ok", "fail", "info", "fault", "note"]

OUTCOMES = frozenset({"ok", "fail", "info"})
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a history.

    `i` counts from 0, `t` is nanoseconds of one monotonic clock, `p` the process (-1: the harness),
    `e` the kind: `fail` means no effect, `info` means unknown; of `fault` see `faults`. `f` is the client
    method, `ws` the workspace; `given` and `out` are what went in and came back, `err` a refused or
    unknown outcome.
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


class Operation:
    """A call and its outcome, flat: what the checkers read is computed once.

    `i` is the event number of the call and `end` that of its outcome, `math.inf` when it is unknown
    or never came: operations are ordered by these, never by time. `kind` is `ok`, `fail` (no effect)
    or `info` (unknown). `f`, `ws`, `p` and `given` are the call's, `out` and `err` the outcome's.
    `since` is what a stream knows of its future: no operation that it gives later was called before
    event `since`.
    """

    __slots__ = ("end", "err", "f", "given", "i", "invoke", "kind", "out", "outcome", "p", "since", "ws")

    def __init__(self, invoke: Event, outcome: Event | None) -> None:
        self.invoke = invoke
        self.outcome = outcome
        self.since = 0
        self.i = invoke.i
        self.f = invoke.f
        self.ws = invoke.ws
        self.p = invoke.p
        self.given: Mapping[str, Any] = invoke.given or NOTHING
        self.kind: Literal["ok", "fail", "info"] = "info"
        self.end: float = math.inf
        self.out: Any = None
        self.err: Mapping[str, Any] = NOTHING
        if outcome is not None:
            self.out = outcome.out
            self.err = outcome.err or NOTHING
            if outcome.e != "info":
                self.kind = "ok" if outcome.e == "ok" else "fail"
                self.end = outcome.i

    @property
    def called(self) -> int:
        """When it was called, in nanoseconds of the history's clock."""
        return self.invoke.t

    @property
    def returned(self) -> float:
        """When it returned, in nanoseconds; `math.inf` when the outcome is unknown or never came."""
        return math.inf if self.outcome is None or self.kind == "info" else self.outcome.t

    def __repr__(self) -> str:
        return f"<#{self.i} p{self.p} {self.f} {self.ws or ''} {self.kind} #{self.end}>"


def pair(events: Iterable[Event]) -> Iterator[Operation]:
    """The operations of a stream of events, each as soon as its outcome comes, with `since` set; those
    without an outcome last. Memory: the calls in flight."""
    waiting: dict[int, Event] = {}
    for event in events:
        if event.e == "invoke":
            if event.p in waiting:
                yield Operation(waiting.pop(event.p), None)
            waiting[event.p] = event
        elif event.e in OUTCOMES and event.p in waiting:
            op = Operation(waiting.pop(event.p), event)
            op.since = next(iter(waiting.values())).i if waiting else event.i + 1
            yield op
    for call in waiting.values():
        yield Operation(call, None)


@dataclass(frozen=True)
class History:
    """A header, events in order, and whether the footer was reached (`closed`)."""

    header: Mapping[str, Any]
    events: Sequence[Event]
    closed: bool
    names: Mapping[int, str] = field(default_factory=dict)

    def operations(self) -> Sequence[Operation]:
        """Every call with its outcome, in the order of the calls. Paired once, however often asked."""
        return self._operations

    @cached_property
    def _operations(self) -> Sequence[Operation]:
        calls: list[Event] = []
        outcomes: list[Event | None] = []
        waiting: dict[int, int] = {}
        for event in self.events:
            kind = event.e
            if kind == "invoke":
                waiting[event.p] = len(calls)
                calls.append(event)
                outcomes.append(None)
            elif kind in OUTCOMES:
                position = waiting.pop(event.p, None)
                if position is not None:
                    outcomes[position] = event
        return list(map(Operation, calls, outcomes))
