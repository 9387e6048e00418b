"""What lock and state tell of each other: written values, and the sessions they were written under."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from lockproof.checkers.mutex_sessions import Session
from lockproof.checkers.precedence import NOWHERE, Span
from lockproof.checkers.verdict import Violated
from lockproof.history import Operation

ROUNDS = 3
K = TypeVar("K")


class Value:
    """One written value: its write, what returned `first` of all that shows that it was stored, and what
    was called `last`. `twice`: written more than once, so that nobody can say which write was read."""

    __slots__ = ("first", "first_end", "last", "last_call", "told", "twice", "write")

    def __init__(self) -> None:
        self.write: Operation | None = None
        self.first: Operation | None = None
        self.first_end = math.inf
        self.last: Operation | None = None
        self.last_call: float = -math.inf
        self.twice = False
        self.told = False

    def add(self, op: Operation) -> None:
        """It was written, with known or unknown outcome, or read."""
        if op.f == "put":
            if self.write is None:
                self.write = op
            else:
                self.twice = True
        if op.end < self.first_end:
            self.first, self.first_end = op, op.end
        if op.i > self.last_call:
            self.last, self.last_call = op, op.i


class Writer:
    """All that was written under one lock id, or one value written under none.

    `held` is the zone of its session, `stored` that of its values; no write takes effect after `latest`
    or before `earliest`. Tuples of operations prove the bound that they are named after. `values` are
    those that may still be read.
    """

    def __init__(self, name: str, session: Session | None = None) -> None:
        self.name = name
        self.session = session
        self.values: dict[Any, Value] = {}
        self.held = self.stored = NOWHERE
        self.latest, self.earliest = math.inf, -math.inf
        self.held_first: tuple[Operation, ...] = ()
        self.held_last: tuple[Operation, ...] = ()
        self.stored_first: tuple[Operation, ...] = ()
        self.stored_last: tuple[Operation, ...] = ()
        self.latest_by: tuple[Operation, ...] = ()
        self.earliest_by: tuple[Operation, ...] = ()

    def hold(self, session: Session, span: Span) -> None:
        """Takes over what is certain of its session."""
        self.session, self.name = session, session.name
        self.held = Span(min(self.held.first, span.first), max(self.held.last, span.last))
        self.held_first, self.held_last = session.edges()[:1], (session.asked, *session.edges()[1:])
        if session.gone < self.latest:
            self.latest, self.latest_by = session.gone, (session.freed,) if session.freed else ()
        if session.asked.i > self.earliest:
            self.earliest, self.earliest_by = session.asked.i, (session.asked,)

    def store(self, value: Value) -> None:
        """Takes over what is certain of one of its values."""
        if value.first is None or value.last is None or value.write is None:
            return
        first, last = self.stored
        if value.first_end < first:
            first, self.stored_first = value.first_end, (value.write, value.first)
        if value.last_call > last:
            last, self.stored_last = value.last_call, (value.write, value.last)
        self.stored = Span(first, last)

    def stored_within(self) -> Span:
        """When its values were surely stored by, and surely not replaced yet, with the session's bounds."""
        if self.stored == NOWHERE:
            return NOWHERE
        return Span(min(self.stored.first, self.latest), max(self.stored.last, self.earliest))

    def real(self) -> list[Value]:
        """Its values that something shows to have been stored."""
        return [value for value in self.values.values() if value.first_end < math.inf]


def refine(writers: Sequence[Writer]) -> None:
    """Tightens what is certain: a session lies between those that must come before and after it, each of
    its values was stored meanwhile, and between those that were certainly stored before and after."""
    for _ in range(ROUNDS):
        _bound(writers)
        known = [(writer, value) for writer in writers for value in writer.real()]
        spans = [
            (min(value.first_end, writer.latest), max(value.last_call, writer.earliest), value)
            for writer, value in known
        ]
        later = Extremes((last, first, value) for first, last, value in spans)
        sooner = Extremes((-first, -last, value) for first, last, value in spans)
        changed = False
        for (writer, value), (first, last, _) in zip(known, spans, strict=True):
            other = later.least(first, value)
            if other < last:
                _require_own(value, later.owner, writer)
            if writer.session is None or value.write is None:
                continue
            by = min(first, other)
            since = max(value.write.i, writer.earliest, -sooner.least(-last, value))
            held = Span(min(writer.held.first, by), max(writer.held.last, since))
            changed |= held != writer.held
            if held.first < writer.held.first:
                writer.held_first = (value.write, *(() if value.first is None else (value.first,)))
            if held.last > writer.held.last:
                writer.held_last = (value.write,)
            writer.held = held
        if not changed:
            return


def _require_own(one: Value, other: Value, writer: Writer) -> None:
    """Two values that are in each other's way within their sessions' bounds refute the lock, unless they
    are so by themselves: then the register is refuted, and not here."""
    if one.first_end < other.last_call and other.first_end < one.last_call:
        return
    shown = [op for op in (one.write, one.last, other.first, *writer.latest_by) if op is not None]
    headline = f"a value written under {writer.name} became visible when {writer.name} no longer held"
    raise Violated("stale write", headline, *shown)


def _bound(writers: Sequence[Writer]) -> None:
    """Bounds each session by those that must come after it and before it."""
    held = [writer for writer in writers if writer.held != NOWHERE]
    later = Extremes((writer.held.last, writer.held.first, writer) for writer in held)
    sooner = Extremes((-writer.held.first, -writer.held.last, writer) for writer in held)
    for writer in held:
        latest = later.least(writer.held.first, writer)
        if latest < writer.latest:
            writer.latest, writer.latest_by = latest, later.owner.held_first
        earliest = -sooner.least(-writer.held.last, writer)
        if earliest > writer.earliest:
            writer.earliest, writer.earliest_by = earliest, sooner.owner.held_last


class Extremes(Generic[K]):
    """The least number among all owners whose key is above a bound, but for one owner."""

    owner: K
    """Whose number was found last."""

    def __init__(self, items: Iterable[tuple[float, float, K]]) -> None:
        ordered = sorted(items, key=lambda item: item[0])
        self._keys = [key for key, _, _ in ordered]
        self._best: list[list[tuple[float, K]]] = []
        best: list[tuple[float, K]] = []
        for _, number, owner in reversed(ordered):
            best = sorted([*best, (number, owner)], key=lambda pair: pair[0])[:2]
            self._best.append(best)
        self._best.reverse()

    def least(self, above: float, but: K) -> float:
        place = bisect.bisect_right(self._keys, above)
        for number, owner in self._best[place] if place < len(self._best) else ():
            if owner is not but:
                self.owner = owner
                return number
        return math.inf
