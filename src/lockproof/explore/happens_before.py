"""Which runs are the same but for the order of independent steps.

Two steps of one client are ordered; so are two of different clients that conflict: both touch the same
thing and one writes it, or one holds the return of an operation and the other an invocation (their
order is what a history shows). A prefix of a run is the partial order of its steps; prefixes with the same
partial order reach the same state and the same history up to what a judge may look at (Mazurkiewicz
traces). The order is kept as vector clocks (Mattern 1989), which determine it.
"""

from __future__ import annotations

from collections.abc import Collection

from lockproof.explore.steps import ANYTHING

INVOKES, RETURNS = "an invocation", "a return"

Clock = tuple[int, ...]
Footprint = Collection[tuple[str, bool]]


class Orders:
    """Numbers for what one client did, in its order with the others: equal histories, equal numbers.

    One instance for all runs of an exploration.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, str | None, Clock], int] = {}

    def number(self, before: int, fault: str | None, clock: Clock) -> int:
        """The number of a client that stood at `before` and took a step, with `fault`, at vector `clock`."""
        return self._numbers.setdefault((before, fault, clock), len(self._numbers) + 1)


class Trace:
    """The partial order of one run so far, of `clients` clients."""

    def __init__(self, clients: int, orders: Orders) -> None:
        self._orders = orders
        self._zero: Clock = (0,) * clients
        self._clocks = [self._zero] * clients
        self._numbers = [0] * clients
        self._written: dict[str, Clock] = {}
        self._touched: dict[str, Clock] = {}
        self._all_written = self._zero
        self._all_touched = self._zero

    def add(self, client: int, fault: str | None, footprint: Footprint) -> None:
        """`client` took a step that touched the things of `footprint`, each with whether it wrote them."""
        clock = self._clocks[client]
        for thing, write in footprint:
            clock = _join(clock, self._before(thing, write))
        clock = (*clock[:client], clock[client] + 1, *clock[client + 1 :])
        self._clocks[client] = clock
        for thing, write in footprint:
            self._remember(thing, write, clock)
        self._numbers[client] = self._orders.number(self._numbers[client], fault, clock)

    def key(self) -> tuple[int, ...]:
        """Equal for two runs of the same program just when their steps so far are the same partial order."""
        return tuple(self._numbers)

    def _before(self, thing: str, write: bool) -> Clock:
        zero = self._zero
        if thing == INVOKES:
            return self._touched.get(RETURNS, zero)
        if thing == RETURNS:
            return self._touched.get(INVOKES, zero)
        if thing == ANYTHING:
            return self._all_touched if write else self._all_written
        earlier = self._touched if write else self._written
        return _join(earlier.get(thing, zero), earlier.get(ANYTHING, zero))

    def _remember(self, thing: str, write: bool, clock: Clock) -> None:
        self._touched[thing] = _join(self._touched.get(thing, self._zero), clock)
        if thing in {INVOKES, RETURNS}:
            return
        self._all_touched = _join(self._all_touched, clock)
        if write:
            self._written[thing] = _join(self._written.get(thing, self._zero), clock)
            self._all_written = _join(self._all_written, clock)


def _join(one: Clock, other: Clock) -> Clock:
    return one if one == other else tuple(map(max, one, other))
