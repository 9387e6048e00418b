"""Do the values of a state, its deletions and the reads of nothing fit on one line? Exactly, by a sweep.

Each written value has one author, so its write and its reads form a cluster with a zone (see `zones`):
forward when it surely was current from `first` to `last`, else an instant between `last` and `first`
is enough for all of its members. Absence has many authors, the start and every deletion, and which of
them a read of nothing saw is not recorded. It need not be known:

**Theorem.** A history is linearizable exactly when (1) forward zones are disjoint, (2) no backward zone,
deletion or read of nothing lies inside one, and (3) the sweep below finds a deletion for every read of
nothing that needs one.

*Proof sketch.* (1) and (2) are Gibbons and Korach's conditions, and necessary. Given them, a
linearization is a choice of instants outside forward zones: one in each backward zone, for a write with
its reads; one in each acknowledged deletion, perhaps one in an unknown one; and for each read of nothing
one at which the last thing before it is a deletion or the start. So at each instant the state is either
empty or full. While it is full a pending write costs nothing (place it at once), while it is empty a
pending read of nothing does. Empty is never worse than full with the same deletions in hand: it can be
filled by the first pending write that must not wait. A deletion in hand is never worse than one used
before it is needed: it can be used later, and just before a deletion all pending writes are free. Hence
nothing need be done before a deadline, the return of a write, a deletion or a read, and at a read's
deadline in a full state any deletion that is called and unused may serve; the one that must be placed
first is the best choice, by the exchange argument of earliest-deadline-first (Jackson 1955: two
choices swapped stay within their windows). Deadlines inside a forward zone move to its start. If no
deletion is left, no other choices would have left one. ∎

Cost: sorting and a heap, O(n log n). Memory: what is not settled yet; see `Sweep.advance`.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence

from lockproof.checkers.register_values import Written, alternating, resurrected, swallowed, vanished
from lockproof.history import Operation

DELETION, READ, WRITE, ZONE = range(4)  # the order in which equal deadlines are met


class Sweep:
    """The line of one workspace, up to some event number.

    `empty` is whether the state is absent there, `left` when it last was the other way.
    """

    def __init__(self) -> None:
        self.empty = True
        self.left = -math.inf
        self._filled_by: Written | None = None
        self._explained: tuple[Operation, ...] = ()  # the last deletion, and the read that needed it
        self._known: list[tuple[int, float, Operation]] = []  # deletions, by call
        self._in_hand: list[tuple[float, int, Operation]] = []  # those called by now, by return
        self._placed: set[int] = set()  # placed, and either still in hand or not due yet

    def offer(self, op: Operation) -> None:
        """A deletion that took effect or may have, given before `advance` passes its call."""
        heapq.heappush(self._known, (op.i, op.end, op))

    def advance(
        self, values: Sequence[Written], deletions: Sequence[Operation], reads: Sequence[Operation]
    ) -> None:
        """Moves on over real values, acknowledged deletions and reads of nothing.

        May be called again for what comes later: zones and windows given now end before those given
        then do, and forward zones before those given then begin. Raises `Violated` when something does
        not fit.
        """
        zones = sorted((v for v in values if v.first < v.last), key=lambda v: v.first)
        for older, newer in itertools.pairwise(zones):
            if newer.first < older.last:
                raise alternating(older, newer)
        starts = [zone.first for zone in zones]

        def deadline(start: float, end: float) -> tuple[float, Written | None]:
            """When the window must be used at last; the forward zone that leaves no room in it."""
            position = bisect_left(starts, end) - 1
            if position < 0 or zones[position].last < end:
                return end, None
            return starts[position], zones[position] if starts[position] < start else None

        agenda: list[tuple[float, int, float, Written | Operation]] = []
        for value in values:
            if value.first < value.last:
                agenda.append((value.first, ZONE, value.first, value))
                continue
            by, inside = deadline(value.last, value.first)
            if inside is not None:
                raise swallowed(value, inside)
            agenda.append((by, WRITE, value.first, value))
        for op in deletions:
            by, inside = deadline(op.i, op.end)
            if inside is not None:
                raise resurrected(op, inside)
            agenda.append((by, DELETION, op.i, op))
        for op in reads:
            by, inside = deadline(op.i, op.end)
            if inside is not None:
                raise vanished(op, inside)
            agenda.append((by, READ, op.i, op))
        agenda.sort(key=lambda entry: entry[:3])
        for now, rank, _, item in agenda:
            if isinstance(item, Written):
                self._write(item, now, rank)
            elif rank == DELETION:
                self._due(item, now)
            elif not self.empty and self.left < item.i:
                self._delete(self._take(item, now), now)
                self._explained = (*self._explained, item)
        self._tidy()

    def _write(self, value: Written, now: float, rank: int) -> None:
        """A forward zone begins, or a write that cannot wait any longer."""
        if self.empty and (rank == ZONE or self.left < value.last):
            self.empty, self.left, self._filled_by = False, now, value

    def _delete(self, op: Operation, now: float) -> None:
        self.empty, self.left, self._explained = True, now, (op,)

    def _due(self, op: Operation, now: float) -> None:
        """A deletion that cannot wait any longer, unless it was placed."""
        if op.i in self._placed:
            self._placed.discard(op.i)
        else:
            self._placed.add(op.i)
            self._delete(op, now)

    def _take(self, read: Operation, now: float) -> Operation:
        """The deletion in hand that must be placed first, for a read of nothing that needs one."""
        while self._known and self._known[0][0] < now:
            called, end, op = heapq.heappop(self._known)
            heapq.heappush(self._in_hand, (end, called, op))
        while self._in_hand:
            end, called, op = heapq.heappop(self._in_hand)
            if called in self._placed:
                self._placed.discard(called)
                continue
            if end < math.inf:
                self._placed.add(called)
            return op
        assert self._filled_by is not None, "only a write fills the state"
        raise vanished(read, self._filled_by, *self._explained)

    def _tidy(self) -> None:
        """Forgets deletions that were placed when they were due."""
        past = self._placed.intersection(op.i for *_, op in (*self._known, *self._in_hand))
        if past:
            self._known = [entry for entry in self._known if entry[2].i not in past]
            self._in_hand = [entry for entry in self._in_hand if entry[2].i not in past]
            heapq.heapify(self._known)
            heapq.heapify(self._in_hand)
            self._placed -= past
