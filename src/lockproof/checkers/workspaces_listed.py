"""Whether one workspace is listed, as far as the calls on it tell.

The algorithm places calls just in time (Lowe, "Testing for Linearizability", Concurrency Computat.
Pract. Exper. 29(4), 2017): nothing is placed before some call returns that needs it. What may have
happened until then is a set of configurations: whether the workspace is there, when it last was and
last was not, and which of the calls in flight are placed. Only when a call returns do they branch:

- a list that finds the wrong answer needs a call in flight that changes it,
- a call that was not placed is placed now, after any of the opposite kind that are in flight: those that
  must take effect have done so then, and pending lists see the other answer for an instant; a lock, which
  leaves the answer open, after any of both kinds,
- one that need not take effect may as well have had none.

*Why that is exact.* A change in hand can do later all that it can do now, except just before a call of
the opposite kind that cannot wait; pending lists are seen for free whenever the answer is theirs; of two
calls of one kind in flight the one that returns first goes first, since exchanging them keeps both
within their calls; and one that must take effect goes before one that need not and returns later, which
can stand in for it. A configuration that another one covers leads nowhere that the other does not.
Names are independent (Herlihy and Wing, TOPLAS 12(3), 1990, theorem 1).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lockproof.checkers.verdict import Undecided, Violated
from lockproof.history import Operation

CONFIGURATIONS = 256
ABSENT, OPEN, PRESENT = "absent", "open", "present"
MAKE, MAY_MAKE, LOCK, REMOVE, MAY_REMOVE = "make", "may make", "lock", "remove", "may remove"
MUST = (MAKE, REMOVE)
MAKERS, REMOVERS = (MAKE, MAY_MAKE, LOCK), (REMOVE, MAY_REMOVE)

Lists = Mapping[int, frozenset[str]]
"""Lists in flight: by event number of the call, the names that they will show."""


class Configuration(NamedTuple):
    """One way in which things may stand. `placed`: the calls in flight that have taken effect."""

    state: str
    there: float  # when a list could last show it, unless it can now
    gone: float  # when a list could last lack it, unless it can now
    placed: frozenset[int]

    def answered(self, call: int, shown: bool) -> bool:
        """Whether a list called at `call` can have shown it by now, or lacked it."""
        if shown:
            return self.state != ABSENT or self.there >= call
        return self.state != PRESENT or self.gone >= call

    def covers(self, other: Configuration) -> bool:
        """Whether it can do all that `other` can: no list seen less, no call placed more."""
        return self.there >= other.there and self.gone >= other.gone and self.placed <= other.placed

    def after(self, kind: str, op: Operation, now: float) -> Configuration:
        """How things stand when `op` has taken effect just before event `now`."""
        there = self.there if self.state == ABSENT else now
        gone = self.gone if self.state == PRESENT else now
        placed = self.placed | {op.i}
        if kind in (MAKE, MAY_MAKE):
            return Configuration(PRESENT, there, gone, placed)
        if kind == LOCK:
            return Configuration(OPEN if self.state == ABSENT else self.state, there, gone, placed)
        return Configuration(ABSENT, there, gone, placed)


class Listed:
    """Whether the workspace `name` is listed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.configurations = [Configuration(ABSENT, -math.inf, -math.inf, frozenset())]
        self._calls: dict[str, list[Operation]] = {kind: [] for kind in (*MAKERS, *REMOVERS)}
        self._done: set[int] = set()  # in flight, but placed in every configuration
        self._made: Operation | None = None
        self._removed: Operation | None = None

    def call(self, op: Operation) -> None:
        """An operation that may take effect from now on."""
        self._calls[_kind(op)].append(op)

    def returned(self, op: Operation, lists: Lists) -> bool:
        """It has taken effect by now; whether that changed anything. `lists`: those in flight."""
        kind = _kind(op)
        if kind == MAKE:
            self._made = op
        elif kind == REMOVE:
            self._removed = op
        if op.i in self._done:
            self._done.remove(op.i)
            return False
        self._calls[kind].remove(op)
        only = self.configurations[0]
        if len(self.configurations) == 1 and not only.placed and self._idle(only.state, kind):
            return False
        following: list[Configuration] = []
        for config in self.configurations:
            if op.i in config.placed:
                following.append(config)
            else:
                following += self._now(config, kind, op, lists)
        self._keep(following, lists, op.i)
        return True

    def _idle(self, state: str, kind: str) -> bool:
        """Whether such a call finds its work done, with no call of the opposite kind in flight."""
        if kind in MAKERS:
            return state == PRESENT and not any(self._calls[other] for other in REMOVERS)
        return state == ABSENT and not any(self._calls[other] for other in MAKERS)

    def _now(self, config: Configuration, kind: str, op: Operation, lists: Lists) -> Iterator[Configuration]:
        """How things may stand after a call in flight that was not placed has returned."""
        if kind in (MAY_MAKE, MAY_REMOVE) or (kind == LOCK and config.state != ABSENT):
            yield config
        for before in self._before(config, kind, op.end, lists):
            yield before.after(kind, op, op.end)

    def _before(self, config: Configuration, kind: str, now: float, lists: Lists) -> Iterator[Configuration]:
        """What may be placed just before a call of this kind: calls of the opposite kind, which then need
        not be placed later, or one that need not be placed at all, for a list in flight to see."""
        must, may = (REMOVE, (MAY_REMOVE,)) if kind in MAKERS else (MAKE, (MAY_MAKE, LOCK))
        for start in self._burning(config, MAKE, now) if kind == LOCK else (config,):
            yield from self._burning(start, must, now)
            if kind == LOCK or self._wanted(config, lists, shown=kind in REMOVERS):
                for other, op in self._in_hand(start, (must, *may)):
                    if other != must:
                        yield start.after(other, op, now)

    def _burning(self, config: Configuration, kind: str, now: float) -> Iterator[Configuration]:
        """With none, one, two of the calls of a kind that must take effect placed, and so on."""
        yield config
        for op in sorted(self._unplaced(config, kind), key=lambda op: op.end):
            config = config.after(kind, op, now)
            yield config

    def _wanted(self, config: Configuration, lists: Lists, shown: bool) -> bool:
        """Whether a list in flight still needs to find it, or to find it missing."""
        return any(
            (self.name in names) == shown and not config.answered(call, shown)
            for call, names in lists.items()
        )

    def _in_hand(self, config: Configuration, kinds: tuple[str, ...]) -> Iterator[tuple[str, Operation]]:
        """Of each kind the call in flight that is not placed and returns first. One that need not be
        placed and does not return before one that must is no better than that one."""
        limit = math.inf
        for kind in kinds:
            if calls := self._unplaced(config, kind):
                op = min(calls, key=lambda op: op.end)
                if kind in MUST:
                    limit = op.end
                elif kind != LOCK and op.end > limit:
                    continue
                yield kind, op

    def _unplaced(self, config: Configuration, kind: str) -> list[Operation]:
        return [op for op in self._calls[kind] if op.i not in config.placed]

    def seen(self, op: Operation, shown: bool, lists: Lists) -> bool:
        """A list that returned now shows it, or lacks it; whether that tells more than was known.

        Raises `Violated` when that could not be.
        """
        following: list[Configuration] = []
        changed = False
        for config in self.configurations:
            if config.answered(op.i, shown):
                following.append(config)
            else:
                changed = True
                following += self._change(config, MAKERS if shown else REMOVERS, op.end, lists)
        if not following:
            raise self._wrong(op, shown)
        if changed:
            self._keep(following, lists)
        return changed

    def _wrong(self, op: Operation, shown: bool) -> Violated:
        if not shown:
            headline = f"{self.name!r} is not listed though it was made and no deletion fits between"
            return Violated("lost workspace", headline, *_known(self._made, op))
        why = "nothing ever made it" if self._removed is None else f"#{self._removed.i} had removed it"
        return Violated(
            "phantom workspace", f"{self.name!r} is listed though {why}", *_known(self._removed, op)
        )

    def _change(
        self, config: Configuration, kinds: tuple[str, ...], now: float, lists: Lists
    ) -> Iterator[Configuration]:
        """How things may stand after one of the calls in flight has changed the answer just before `now`."""
        for kind, op in self._in_hand(config, kinds):
            for before in self._before(config, kind, now, lists):
                yield before.after(kind, op, now)

    def _keep(self, configurations: list[Configuration], lists: Lists, returned: int | None = None) -> None:
        """Merges what is alike and forgets what no longer matters."""
        configurations = [c._replace(placed=c.placed - {returned}) for c in configurations]
        if len(configurations) > 1:
            configurations = self._best(configurations, lists)
        self.configurations = configurations
        if len(self.configurations) > CONFIGURATIONS:
            raise Undecided(f"workspace {self.name!r}: too many calls in flight to tell what was listed")
        if done := frozenset.intersection(*(config.placed for config in self.configurations)):
            self._forget(done)

    def _best(self, configurations: list[Configuration], lists: Lists) -> list[Configuration]:
        """Those that no other one covers. When it was there counts only for the lists in flight."""
        shown = sorted(call for call, names in lists.items() if self.name in names)
        lacking = sorted(call for call, names in lists.items() if self.name not in names)
        optional = {op.i for kind, calls in self._calls.items() if kind not in MUST for op in calls}
        best: dict[tuple[str, frozenset[int]], list[Configuration]] = {}
        for state, there, gone, placed in configurations:
            there = _latest(shown, there) if state == ABSENT else -math.inf
            gone = _latest(lacking, gone) if state == PRESENT else -math.inf
            config = Configuration(state, there, gone, placed)
            alike = best.setdefault((state, placed - optional), [])
            if not any(other.covers(config) for other in alike):
                alike[:] = [other for other in alike if not config.covers(other)]
                alike.append(config)
        return [config for alike in best.values() for config in alike]

    def _forget(self, done: frozenset[int]) -> None:
        """Calls in flight that have taken effect whatever happened."""
        for calls in self._calls.values():
            self._done.update(op.i for op in calls if op.i in done and op.end < math.inf)
            calls[:] = [op for op in calls if op.i not in done]
        self.configurations = [c._replace(placed=c.placed - done) for c in self.configurations]


def _kind(op: Operation) -> str:
    """What a call does to the set of workspaces."""
    if op.f == "lock":
        return LOCK
    if op.f == "put":
        return MAY_MAKE if op.kind == "info" or op.given.get("size") == 0 else MAKE
    return MAY_REMOVE if op.kind == "info" or op.f == "delete" else REMOVE


def _known(*operations: Operation | None) -> tuple[Operation, ...]:
    return tuple(op for op in operations if op is not None)


def _latest(calls: Sequence[int], before: float) -> float:
    """The latest of the sorted `calls` that is before an event, or was it."""
    position = bisect_left(calls, before)
    if position < len(calls) and calls[position] == before:
        return before
    return calls[position - 1] if position else -math.inf
