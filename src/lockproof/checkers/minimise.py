"""Cuts a violated history to a minimal one that shows the same violation.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE
28(2), 2002, algorithm ddmin) on clients and operations, with the checkers as the oracle: a cut counts
when the same anomaly is found in the same workspace. Only honest cuts are tried, see `grounds`, so that
the small history shows what the whole one does. The witness and what it rests on is the first guess;
where that does not do, what happened beside it is added. So the cost is that of one check of the whole
history, as long as the checkers' witness is what they go by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from lockproof.checkers.grounds import Grounds, Kept
from lockproof.checkers.verdict import Verdict
from lockproof.history import Event, History, Operation
from lockproof.history.faults import faults

Oracle = Callable[[History], Verdict]
GROWTH = 4  # how many times more operations around the witness the next guess has


class NothingToCut(Exception):
    """The history is not violated; `verdict` says what it is."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.headline)
        self.verdict = verdict


@dataclass(frozen=True)
class Cut:
    """A minimal history, its verdict, and how many operations the whole one had."""

    history: History
    verdict: Verdict
    before: int


def minimise(history: History, oracle: Oracle, *, source: str = "") -> Cut:
    """The history cut to operations of which none can be left out.

    Without any single operation, and what rests on it, the anomaly is another one or there is none. The
    cut is a history of its own: its events are numbered anew, times and processes stay, and `minimised`
    in its header tells from what (`source`) and from how many operations it was cut. Raises
    `NothingToCut` when the history is not violated.
    """
    whole = oracle(history)
    if whole.status != "violated":
        raise NothingToCut(whole)
    cutter = _Cutter(history, whole, oracle)
    kept = cutter.smaller(cutter.start())
    operations = history.operations()
    header = {**history.header, "minimised": {"from": source, "operations": len(operations)}}
    cut = replace(_part(history, kept, cutter.surroundings(kept)), header=header)
    return Cut(cut, oracle(cut), len(operations))


class _Cutter:
    """Tries cuts of one history."""

    def __init__(self, history: History, whole: Verdict, oracle: Oracle) -> None:
        self.history = history
        self.oracle = oracle
        self.wanted = _identity(whole)
        workspace = whole.details.get("workspace")
        self.all = {
            op.i: op
            for op in history.operations()
            if workspace is None or op.ws is None or op.ws == workspace
        }
        self.grounds = Grounds(history.operations(), workspace)
        witness = set(whole.witness)
        self.witness = [
            op for op in self.all.values() if op.i in witness or (op.outcome and op.outcome.i in witness)
        ]

    def holds(self, kept: Kept) -> bool:
        """Whether the cut to `kept` shows the same violation."""
        return bool(kept) and _identity(self.oracle(_part(self.history, kept))) == self.wanted

    def start(self) -> Kept:
        """The witness with what it rests on, or as much around it as shows the violation."""
        guess = self.grounds.close({op.i: op for op in self.witness})
        size = max(1, len(guess))
        near = sorted(self.all.values(), key=self._distance) if not self.holds(guess) else []
        while near and len(guess) < len(self.all):
            size *= GROWTH
            guess = self.grounds.close({**guess, **{op.i: op for op in near[:size]}})
            if self.holds(guess):
                return guess
        return guess

    def smaller(self, kept: Kept) -> Kept:
        """`kept` without clients, then ever smaller pieces, until no single operation can go."""
        for group in self._clients(kept):
            kept = self._without(kept, group) or kept
        size = len(kept) // 2
        while size >= 1:
            before = len(kept)
            for group in _pieces(kept, size):
                kept = self._without(kept, group) or kept
            if size == 1 and len(kept) < before:
                continue
            size //= 2
        return kept

    def surroundings(self, kept: Kept) -> Iterator[Event]:
        """The notes that name the clients, and the faults while they worked."""
        processes = {op.p for op in kept.values()}
        for event in self.history.events:
            if event.e == "note" and event.f == "process" and event.p in processes:
                yield event
        first = min(kept)
        last = max(op.i if op.outcome is None else op.outcome.i for op in kept.values())
        for fault in faults(self.history.events):
            if fault.start.i <= last and (fault.stop is None or fault.stop.i >= first):
                yield fault.start
                if fault.stop is not None and fault.stop is not fault.start:
                    yield fault.stop

    def _without(self, kept: Kept, group: Iterable[int]) -> Kept | None:
        """`kept` without `group` and what rests on it, `None` when that shows something else."""
        left = dict(kept)
        for number in group:
            left.pop(number, None)
        if len(left) == len(kept):
            return None
        left = self.grounds.prune(left)
        return left if self.holds(left) else None

    def _clients(self, kept: Kept) -> Iterator[list[int]]:
        names = self.history.names
        groups: dict[str, list[int]] = {}
        for number, op in kept.items():
            groups.setdefault(names.get(op.p, str(op.p)), []).append(number)
        yield from groups.values() if len(groups) > 1 else ()

    def _distance(self, op: Operation) -> int:
        return min((abs(op.i - other.i) for other in self.witness), default=op.i)


def _pieces(kept: Kept, size: int) -> Iterator[list[int]]:
    """Pieces of so many operations, the last ones first: what came late explains least."""
    numbers = sorted(kept, reverse=True)
    return (numbers[at : at + size] for at in range(0, len(numbers), size))


def _part(history: History, kept: Kept, surroundings: Iterable[Event] = ()) -> History:
    """The history of the operations in `kept` alone, its events numbered anew."""
    calls = [event for op in kept.values() for event in (op.invoke, op.outcome) if event is not None]
    events = sorted((*calls, *surroundings), key=lambda event: event.i)
    renumbered = tuple(replace(event, i=number) for number, event in enumerate(events))
    processes = {event.p for event in events}
    names = {p: name for p, name in history.names.items() if p in processes}
    return History(history.header, renumbered, history.closed, names)


def _identity(verdict: Verdict) -> tuple[object, ...]:
    """What must stay the same: that it is violated, by which anomaly, in which workspace."""
    return verdict.status, verdict.details.get("anomaly"), verdict.details.get("workspace")
