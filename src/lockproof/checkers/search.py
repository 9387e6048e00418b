"""A general linearizability search: for any sequential specification, exact, and slow in the worst case.

It is the reference that the fast checkers are compared with, and decides what they cannot. A history
is linearizable when its operations fit one order that the specification allows and in which whatever
returned before another was called comes first.

The search is Wing and Gong's ("Testing and Verifying Concurrent Objects", J. Parallel Distrib. Comput.
17, 1993): take the operations one by one, each among those that no untaken operation precedes, and go
back where the specification says no. With Lowe's memory of what was tried ("Testing for
Linearizability", Concurrency Computat. Pract. Exper. 29(4), 2017): the operations taken and the state
reached decide what can follow, so no such pair is tried twice. With partitions, as in Porcupine: each
object of the history is searched by itself. With Knossos' rule for unknown outcomes: once every
operation that returned is taken, the rest may never have happened.

A read is taken as soon as the state allows it, without going back: it stays out of the way of all others,
so that any order with it later has a twin with it now. An operation of unknown outcome that nothing
depended on by the time of the next change is left out.

Cost: the problem is NP-complete (Gibbons and Korach, SIAM J. Comput. 26(4), 1997). The number of pairs
tried is bounded by `steps`, and by memory; a history of `n` operations costs at least `n` steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lockproof.checkers.models import Model, Part
from lockproof.checkers.verdict import Verdict
from lockproof.history import Operation

STEPS = 200_000
MEMORY = 256 << 20
"""Bytes that the tried pairs of one object may take, about."""
WITNESS = 2
"""How many of the operations that made the last state a witness shows."""


def search(
    operations: Iterable[Operation], model: Model, *, steps: int = STEPS, seconds: float | None = None
) -> Verdict:
    """Whether `operations` are linearizable under `model`.

    `violated` is certain. Its witness is what cannot be placed after the longest order found, with the
    operations that made the state which forbids it; `details` tells `linearized` (how many could be
    placed), `operations` (of how many), and `order` (event numbers of the calls, as placed). `unknown`
    when more than `steps` pairs were tried, or `seconds` or the memory ran out; the headline says which.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    undecided: list[str] = []
    budget, placed, objects = steps, 0, 0
    for part in sorted(model.parts(operations), key=lambda part: len(part.operations)):
        attempt = _Attempt(part, budget, deadline)
        found = attempt.run()
        if found is False:
            return attempt.violation()
        if found is None:
            undecided.append(f"{part.name!r}: {attempt.reason}")
        budget -= attempt.tried
        placed += len(part.operations)
        objects += 1
    details = {"operations": placed, "steps": steps - budget}
    if undecided:
        return Verdict("unknown", f"not decided: {'; '.join(undecided)}", details=details)
    return Verdict("valid", f"{placed} operations on {objects} objects fit an order", details=details)


@dataclass(slots=True)
class _Place:
    """Where the search stands: what is taken (bit n: operation n), the state, and what to try next."""

    taken: int
    state: Any
    low: int  # every operation before it is taken
    due: int  # every operation before it, in the order of returns, is taken
    order: tuple[Any, ...]  # what was taken, as a linked list of (earlier, operation, whether it changed)
    without: tuple[Any, ...]  # the state without the last operation, if that is of unknown outcome and unread
    choices: Iterator[tuple[int, Any]] = field(default_factory=lambda: iter(()))


class _Attempt:
    """The search of one object."""

    def __init__(self, part: Part, steps: int, deadline: float | None) -> None:
        self.part = part
        self.operations = part.operations
        self.steps = steps
        self.deadline = deadline
        self.reason = ""
        self.tried = 0
        returned = [n for n, op in enumerate(self.operations) if op.kind != "info"]
        self.returns = sorted(returned, key=lambda n: self.operations[n].end)
        self.most = -1
        self.best: _Place | None = None

    def run(self) -> bool | None:
        """Whether an order exists; `None` when the bounds were reached, with `reason`."""
        place = self._settle(_Place(0, self.part.start, 0, 0, (), ()))
        if place.due == len(self.returns):
            return True
        limit = min(self.steps, MEMORY // (200 + len(self.operations) // 8))
        seen = {(place.taken, place.state)}
        stack = [self._open(place)]
        while stack:
            place = stack[-1]
            choice = next(place.choices, None)
            if choice is None:
                stack.pop()
                continue
            after = self._settle(self._take(place, *choice))
            if after.due == len(self.returns):
                return True
            if (after.taken, after.state) in seen:
                continue
            self.tried += 1
            if self.tried >= limit:
                cause = "memory ran out" if limit < self.steps else "stopped"
                self.reason = f"{cause} after {self.tried} steps"
                return None
            if self.deadline is not None and time.monotonic() > self.deadline:
                self.reason = f"time ran out after {self.tried} steps"
                return None
            seen.add((after.taken, after.state))
            stack.append(self._open(after))
        return False

    def _open(self, place: _Place) -> _Place:
        """`place` with its choices, those that returned first before the others."""
        place.choices = self._choices(place)
        taken = place.taken.bit_count()
        if taken > self.most:
            self.most, self.best = taken, place
        return place

    def _choices(self, place: _Place) -> Iterator[tuple[int, Any]]:
        candidates = sorted(self._callable(place), key=lambda n: self.operations[n].end)
        for n in candidates:
            op = self.operations[n]
            same = [place.state] if op.kind == "info" else []
            for before in place.without:
                same.extend(self.part.step(before, op))
            for state in self.part.step(place.state, op):
                if state not in same:
                    yield n, state

    def _callable(self, place: _Place) -> Iterator[int]:
        """The untaken operations that no untaken operation precedes."""
        horizon = self.operations[self.returns[place.due]].end
        for n in range(place.low, len(self.operations)):
            if self.operations[n].i > horizon:
                return
            if not place.taken >> n & 1:
                yield n

    def _take(self, place: _Place, n: int, state: Any) -> _Place:
        op = self.operations[n]
        changed = state != place.state and not self.part.reads(op)
        without = (place.state,) if op.kind == "info" else ()
        taken, low, due = place.taken | 1 << n, place.low, place.due
        while low < len(self.operations) and taken >> low & 1:
            low += 1
        while due < len(self.returns) and taken >> self.returns[due] & 1:
            due += 1
        return _Place(taken, state, low, due, (place.order, op, changed), without)

    def _settle(self, place: _Place) -> _Place:
        """`place` after all operations that the state allows and that leave it as it is."""
        settled = False
        while not settled and place.due < len(self.returns):
            settled = True
            for n in self._callable(place):
                op = self.operations[n]
                if self.part.reads(op) and (states := self.part.step(place.state, op)):
                    place = self._take(place, n, states[0])
                    settled = False
        return place

    def violation(self) -> Verdict:
        """What the longest order found says of the history that has none."""
        place = self.best
        assert place is not None
        stuck = self.operations[self.returns[place.due]]
        order, cause = _unlink(place.order)
        shown = [*cause[-WITNESS:], stuck]
        details = {
            "anomaly": "not linearizable",
            "workspace": self.part.name,
            "linearized": len(order),
            "operations": len(self.operations),
            "order": [op.i for op in order],
        }
        events = (event for op in shown for event in (op.invoke, op.outcome) if event is not None)
        return Verdict(
            "violated",
            f"not linearizable: {stuck.f} fits no order, nor in the longest one, of {len(order)} "
            f"of {len(self.operations)} operations",
            tuple(sorted({event.i for event in events})),
            details,
        )


def _unlink(order: tuple[Any, ...]) -> tuple[Sequence[Operation], Sequence[Operation]]:
    """The operations of a linked list in order, and those among them that changed the state."""
    operations: list[Operation] = []
    changes: list[Operation] = []
    while order:
        order, op, changed = order
        operations.append(op)
        if changed:
            changes.append(op)
    return operations[::-1], changes[::-1]
