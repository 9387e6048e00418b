"""Zones: the near-linear test that the uses of one exclusive thing can be put in an order.

A cluster is everything that needs one and the same value to be current: a lock's session, or a
written value with the reads that saw it. Its members are intervals on the line of event numbers. The
first return `first` and the last call `last` bound its zone: with `first < last` the value was
current all the way between them (a forward zone); otherwise one instant between `last` and `first`
suffices (a backward zone). An order exists exactly when forward zones are disjoint and no backward
zone lies inside a forward one. Source: Gibbons and Korach, "Testing Shared Memories", SIAM J. Comput.
26(4), 1997, section 4; zones as Golab, Li and Shah name them (PODC 2011).
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")


@dataclass(slots=True, eq=False)
class Zone(Generic[K]):
    """The zone of cluster `key`. Ends are event numbers, `math.inf` where nothing bounds them."""

    key: K
    first: float
    last: float

    @property
    def forward(self) -> bool:
        return self.first < self.last


class Line(Generic[K]):
    """The forward zones of one workspace, disjoint and in order.

    `overlap` is a pair of forward zones that are not disjoint, or `None`.
    """

    def __init__(self, zones: Sequence[Zone[K]]) -> None:
        self.zones = sorted((z for z in zones if z.forward), key=lambda z: z.first)
        self._starts = [z.first for z in self.zones]
        self._ends = [z.last for z in self.zones]
        self.overlap: tuple[Zone[K], Zone[K]] | None = None
        for earlier, later in zip(self.zones, self.zones[1:], strict=False):
            if later.first < earlier.last:
                self.overlap = (earlier, later)
                break

    def meets(self, start: float, end: float, but: K | None = None) -> bool:
        """Whether a forward zone, but for that of `but`, has an instant between `start` and `end`. Zones
        must be disjoint."""
        position = bisect.bisect_left(self._starts, end) - 1
        if position >= 0 and but is not None and self.zones[position].key is but:
            position -= 1
        return position >= 0 and start < self.zones[position].last

    def after(self, instant: float, key: K) -> Zone[K] | None:
        """The first forward zone, but for that of `key`, that ends after `instant`, or `None`."""
        position = bisect.bisect_right(self._ends, instant)
        if position < len(self.zones) and self.zones[position].key is key:
            position += 1
        return self.zones[position] if position < len(self.zones) else None

    def around(self, start: float, end: float) -> Zone[K] | None:
        """The forward zone that holds all of `start` to `end`, or `None`. Zones must be disjoint."""
        position = bisect.bisect_right(self._starts, start) - 1
        if position < 0:
            return None
        zone = self.zones[position]
        return zone if zone.first < start and end < zone.last else None
