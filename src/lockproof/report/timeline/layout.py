"""Where the operations of a history stand in a drawing: one lane for each client."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from lockproof.history import History, Operation
from lockproof.report.operations import plain


@dataclass
class Lane:
    """A client's lane: all its process numbers, and as many rows as it had calls at the same time."""

    name: str
    busy: list[int] = field(default_factory=list)  # per row: the event number up to which it is taken

    @property
    def rows(self) -> int:
        return max(1, len(self.busy))

    def place(self, op: Operation) -> int:
        """The first row that is free while `op` is known to run."""
        end = op.i if op.outcome is None else op.outcome.i
        for row, taken in enumerate(self.busy):
            if taken < op.i:
                self.busy[row] = end
                return row
        self.busy.append(end)
        return len(self.busy) - 1


@dataclass(frozen=True, slots=True)
class Bar:
    """An operation in its place."""

    op: Operation
    lane: int
    row: int


@dataclass(frozen=True, slots=True)
class Hold:
    """A lock held for certain: from the grant `bar` to the call that released it (`None`: to the end)."""

    bar: Bar
    release: Operation | None


@dataclass(frozen=True)
class Layout:
    """Lanes in the order in which their clients began, bars in the order of the calls."""

    lanes: Sequence[Lane]
    bars: Sequence[Bar]
    holds: Sequence[Hold]


def layout(history: History, operations: Sequence[Operation] | None = None) -> Layout:
    """The places of `operations`, those of the whole history when not given."""
    chosen = history.operations() if operations is None else operations
    numbers: dict[str, int] = {}
    lanes: list[Lane] = []
    bars: list[Bar] = []
    for op in chosen:
        name = plain(history.names.get(op.p, f"process {op.p}"))
        lane = numbers.setdefault(name, len(lanes))
        if lane == len(lanes):
            lanes.append(Lane(name))
        bars.append(Bar(op, lane, lanes[lane].place(op)))
    return Layout(lanes, bars, _holds(bars, history))


def _holds(bars: Sequence[Bar], history: History) -> Sequence[Hold]:
    releases: dict[tuple[str | None, str], list[Operation]] = defaultdict(list)
    for op in history.operations():
        if op.f == "unlock" and op.kind != "fail":
            releases[op.ws, str(op.given.get("lock_id"))].append(op)
    grants = [bar for bar in bars if bar.op.f == "lock" and bar.op.kind == "ok"]
    return [
        Hold(bar, next((op for op in releases[bar.op.ws, str(bar.op.out)] if op.i > bar.op.i), None))
        for bar in grants
    ]
