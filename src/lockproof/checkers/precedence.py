"""Can things be put in one order that fits two timelines at once?

On each timeline a thing has a zone as in `zones`: it was there by event `first`, and still (or only then)
at event `last`. One must come before another if it was there before the other one was last:
`first < last`. Each timeline by itself is an interval order, in which two things in each other's way are
the only cycles (Gibbons and Korach 1997; Fishburn, "Interval Orders and Interval Graphs", 1985). On two
timelines longer cycles exist, so things are taken one by one (Kahn, "Topological Sorting of Large
Networks", CACM 5(11), 1962): one that no other must precede is one whose `last` is not after the least
`first` of all others. Taking it is never wrong, since it only makes room.

Cost: O(n log n) time and O(n) memory; the edges are never written down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """The zone of a thing on one timeline; `NOWHERE` is in nobody's way."""

    first: float
    last: float


NOWHERE = Span(math.inf, -math.inf)


class Before(NamedTuple):
    """Thing `earlier` must come before thing `later`, on timeline `timeline`."""

    earlier: int
    later: int
    timeline: int


def arrange(spans: Sequence[tuple[Span, ...]]) -> tuple[list[int], list[Before]]:
    """The things (by their positions) in an order that fits all timelines, and no cycle; or those that
    could be taken, and a cycle of the rest."""
    if not spans:
        return [], []
    timelines = [_Timeline([span[k] for span in spans]) for k in range(len(spans[0]))]
    free = [0] * len(spans)
    order: list[int] = []
    taken = [False] * len(spans)
    ready: list[int] = []
    while len(order) < len(spans):
        for timeline in timelines:
            for n in timeline.freed():
                free[n] += 1
                if free[n] == len(timelines):
                    ready.append(n)
        if not ready:
            return order, _cycle(timelines, taken)
        n = ready.pop()
        taken[n] = True
        order.append(n)
        for timeline in timelines:
            timeline.take(n)
    return order, []


class _Timeline:
    """What is left on one timeline."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self._by_first = sorted(range(len(spans)), key=lambda n: spans[n].first)
        self._by_last = sorted(range(len(spans)), key=lambda n: spans[n].last)
        self._place = [0] * len(spans)
        for place, n in enumerate(self._by_first):
            self._place[n] = place
        self._next = list(range(len(spans) + 1))  # the first place from here on that is not taken
        self._seen = 0
        self._free = [False] * len(spans)

    def take(self, n: int) -> None:
        self._next[self._place[n]] = self._place[n] + 1

    def least(self) -> tuple[int | None, int | None]:
        """The things with the least and second least `first` of those that are left."""
        one = self._find(0)
        other = self._find(one + 1) if one < len(self.spans) else one
        found = [self._by_first[place] if place < len(self.spans) else None for place in (one, other)]
        return found[0], found[1]

    def freed(self) -> list[int]:
        """The things that nothing left must precede any more, each told once."""
        one, other = self.least()
        found: list[int] = []
        if one is None:
            return found
        bound = self.spans[one].first
        while self._seen < len(self.spans) and self.spans[self._by_last[self._seen]].last <= bound:
            found.append(self._by_last[self._seen])
            self._seen += 1
        if other is None or self.spans[one].last <= self.spans[other].first:
            found.append(one)
        found = [n for n in dict.fromkeys(found) if not self._free[n]]
        for n in found:
            self._free[n] = True
        return found

    def _find(self, place: int) -> int:
        root = place
        while self._next[root] != root:
            root = self._next[root]
        while self._next[place] != root and place != root:
            self._next[place], place = root, self._next[place]
        return root


def _cycle(timelines: Sequence[_Timeline], taken: Sequence[bool]) -> list[Before]:
    """Each thing left has one that must precede it: going from one to the next leads into a cycle."""
    steps: list[Before] = []
    met: dict[int, int] = {}
    current = taken.index(False)
    while current not in met:
        met[current] = len(steps)
        steps.append(_predecessor(timelines, current))
        current = steps[-1].earlier
    return steps[met[current] :][::-1]


def _predecessor(timelines: Sequence[_Timeline], later: int) -> Before:
    found = (
        Before(earlier, later, k)
        for k, timeline in enumerate(timelines)
        for earlier in timeline.least()
        if earlier is not None
        and earlier != later
        and timeline.spans[earlier].first < timeline.spans[later].last
    )
    return next(found)
