"""Do the lists of workspaces show what was made and deleted?

The specification is a yes or no per workspace name, `default` apart:

- A `put` makes the workspace (WS-CREATE-001; OpenTofu internal/backend/backend.go:109-111), an empty one
  may make it. `delete_workspace` removes it, `delete`, which removes the state alone, may.
- A `lock` of a workspace that does not exist leaves open whether it does, until it is written or
  deleted: some backends make a workspace when a client opens it, some with its first state.
- `workspaces` shows each name at some instant of the call, once; not all names at one instant, since
  backends list page by page. `default` is always listed and cannot be deleted (WS-DEFAULT-002, -003).

Each anomaly, and what is certain of it:

- `lost workspace`: a list lacks a workspace that was there during the whole call.
- `phantom workspace`: a list shows a workspace that was there at no time of the call, or shows one twice.
- `default deleted`: the deletion of `default` was acknowledged.

The algorithm places calls just in time (Lowe, "Testing for Linearizability", Concurrency Computat.
Pract. Exper. 29(4), 2017): nothing is placed before some call returns that needs it. What may have
happened until then is a set of configurations: whether the workspace is there, when it last was and
last was not, and which of the calls in flight are placed. Only when a call returns do they branch:

- a list that finds the wrong answer needs a call in flight that changes it,
- a call that changes something and was not placed is placed now; if it would change nothing, one of the
  opposite kind may go before it, so that pending lists see the other answer for an instant.

*Why that is exact.* A change in hand can do later all that it can do now, except just before a call of
the opposite kind that cannot wait; pending lists are seen for free whenever the answer is theirs; and of
two calls of one kind in flight the one that returns first goes first, since exchanging them keeps both
within their calls. Names are independent (Herlihy and Wing, TOPLAS 12(3), 1990, theorem 1).

Cost: a sort, and a constant for each call while few calls on one workspace are in flight and one
configuration remains, as with locks there always is; at most `CONFIGURATIONS` times that. Beyond, small
histories are given to the search, else the answer is `unknown`. Lists cost their length.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lockproof.checkers.verdict import Undecided, Verdict, Violated
from lockproof.history import History, Operation

DEFAULT = "default"
CONFIGURATIONS = 256
SEARCHED = 500  # operations up to which the search is asked
SETTLED = 4096  # operations that are kept before they are judged

ABSENT, OPEN, PRESENT = "absent", "open", "present"
MAKE, MAY_MAKE, LOCK, REMOVE, MAY_REMOVE = "make", "may make", "lock", "remove", "may remove"
MUST = (MAKE, REMOVE)
MAKERS, REMOVERS = (MAKE, MAY_MAKE, LOCK), (REMOVE, MAY_REMOVE)


_Lists = Mapping[int, frozenset[str]]


def check_workspaces(history: History) -> Verdict:
    """Whether every list of workspaces shows what was there at some time during the call.

    `violated` is certain, with the anomaly of the table above. The scope must have been empty when the
    history began.
    """
    monitor = WorkspacesMonitor()
    for op in history.operations():
        monitor.add(op)
    return monitor.verdict(history.closed)


class WorkspacesMonitor:
    """`check_workspaces`, fed with operations one by one in any order.

    Memory: when operations tell `since` (a stream's do), what is kept is proportional to the calls open
    at one time, to the names, and to the calls of unknown outcome; otherwise to the operations.
    """

    def __init__(self) -> None:
        self._called: list[Operation] = []  # not reached yet
        self._open: list[Operation] = []  # called, but not returned where we are
        self._crowded = SETTLED
        self._names: dict[str, _Listed] = {}
        self._certain: set[str] = set()  # names that a list may not lack, as far as is known
        self._possible: set[str] = set()  # names that a list may show
        self._lists = 0
        self._in_flight: dict[int, frozenset[str]] = {}  # lists, by call, with what they will show
        self._violated: tuple[str, Violated] | None = None
        self._undecided: Undecided | None = None
        self._all: list[Operation] | None = []

    def add(self, op: Operation) -> None:
        """One more operation."""
        f = op.f
        if f == "workspaces":
            if op.kind != "ok":
                return
            self._lists += 1
        elif op.kind == "fail" or f not in ("put", "lock", "delete", "delete_workspace"):
            return
        elif op.ws == DEFAULT:
            if f == "delete_workspace" and op.kind == "ok":
                self._fail(DEFAULT, Violated("default deleted", "the default workspace was deleted", op))
            return
        self._called.append(op)
        if self._all is not None:
            self._all.append(op)
            if len(self._all) > SEARCHED:
                self._all = None
        if op.since and len(self._called) > self._crowded:
            self._settle(op.since)
            self._crowded = SETTLED + 2 * len(self._called)

    def verdict(self, closed: bool) -> Verdict:
        """What is to be said when no more operations come. `closed`: the history has its footer."""
        if self._lists:
            self._settle(math.inf)
        if self._violated is not None:
            ws, violated = self._violated
            return violated.verdict(ws)
        if self._undecided is not None:
            return self._search(self._undecided, closed)
        if not closed:
            return Verdict("unknown", "the history has no footer: it was cut short")
        headline = f"{self._lists} lists of workspaces, each true at some time"
        return Verdict("valid", headline, details={"lists": self._lists})

    def _fail(self, ws: str, violation: Violated) -> None:
        self._violated = self._violated or (ws, violation)

    def _settle(self, horizon: float) -> None:
        """Judges all that returned before event `horizon`; whatever was called before it was added."""
        moments: list[tuple[float, Operation]] = [(op.i, op) for op in self._called if op.i < horizon]
        moments += [(op.end, op) for op in (*self._called, *self._open) if op.end < horizon]
        moments.sort(key=_when)
        self._open += [op for op in self._called if op.i < horizon]
        self._open = [op for op in self._open if horizon <= op.end < math.inf]
        self._called = [op for op in self._called if op.i >= horizon]
        if self._violated is not None or self._undecided is not None:
            return
        try:
            for moment, op in moments:
                if op.f == "workspaces":
                    self._list(op, moment)
                elif moment == op.i:
                    self._listed(op.ws or "").call(op)
                else:
                    listed = self._listed(op.ws or "")
                    if listed.returned(op, self._in_flight):
                        self._note(listed)
        except Violated as violation:
            self._fail(self._at, violation)
        except Undecided as reason:
            self._undecided = reason

    def _listed(self, name: str) -> _Listed:
        self._at = name
        listed = self._names.get(name)
        if listed is None:
            listed = self._names[name] = _Listed(name)
        return listed

    def _note(self, listed: _Listed) -> None:
        """Keeps up which names a list needs a closer look for."""
        states = {config.state for config in listed.configurations}
        for names, inside in ((self._certain, PRESENT in states), (self._possible, ABSENT not in states)):
            if inside:
                names.add(listed.name)
            else:
                names.discard(listed.name)

    def _list(self, op: Operation, moment: float) -> None:
        if moment == op.i:
            self._in_flight[op.i] = frozenset(op.out)
            return
        shown = self._in_flight.pop(op.i)
        self._at = DEFAULT
        if DEFAULT not in shown:
            raise Violated("lost workspace", "the default workspace is not listed", op)
        if len(shown) < len(op.out):
            self._at = next(name for name in op.out if list(op.out).count(name) > 1)
            raise Violated("phantom workspace", f"{self._at!r} is listed twice", op)
        doubtful = [(name, True) for name in shown - self._possible if name != DEFAULT]
        doubtful += [(name, False) for name in self._certain - shown]
        for name, there in sorted(doubtful):
            listed = self._listed(name)
            if listed.seen(op, there, self._in_flight):
                self._note(listed)

    def _search(self, reason: Undecided, closed: bool) -> Verdict:
        """Asks the search, where too many configurations were left."""
        if self._all is None:
            return Verdict("unknown", f"{reason}, and there are too many operations for a search")
        from lockproof.checkers.models import WorkspaceSetModel
        from lockproof.checkers.search import search

        found = search(sorted(self._all, key=lambda op: op.i), WorkspaceSetModel())
        if found.status == "valid" and not closed:
            return Verdict("unknown", "the history has no footer: it was cut short")
        return found


class _Configuration(NamedTuple):
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

    def covers(self, other: _Configuration) -> bool:
        """Whether it can do all that `other` can: no list seen less, no call placed more."""
        return self.there >= other.there and self.gone >= other.gone and self.placed <= other.placed

    def after(self, kind: str, op: Operation, now: float) -> _Configuration:
        """How things stand when `op` has taken effect just before event `now`."""
        there = self.there if self.state == ABSENT else now
        gone = self.gone if self.state == PRESENT else now
        placed = self.placed | {op.i}
        if kind in (MAKE, MAY_MAKE):
            return _Configuration(PRESENT, there, gone, placed)
        if kind == LOCK:
            return _Configuration(OPEN if self.state == ABSENT else self.state, there, gone, placed)
        return _Configuration(ABSENT, there, gone, placed)


class _Listed:
    """Whether the workspace `name` is listed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.configurations = [_Configuration(ABSENT, -math.inf, -math.inf, frozenset())]
        self._calls: dict[str, list[Operation]] = {kind: [] for kind in (*MAKERS, *REMOVERS)}
        self._done: set[int] = set()  # in flight, but placed in every configuration
        self._made: Operation | None = None
        self._removed: Operation | None = None

    def call(self, op: Operation) -> None:
        """An operation that may take effect from now on."""
        self._calls[_kind(op)].append(op)

    def returned(self, op: Operation, lists: _Lists) -> bool:
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
        following: list[_Configuration] = []
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

    def _now(
        self, config: _Configuration, kind: str, op: Operation, lists: _Lists
    ) -> Iterator[_Configuration]:
        """How things may stand after a call in flight that was not placed has returned."""
        if kind in (MAY_MAKE, MAY_REMOVE) or (kind == LOCK and config.state != ABSENT):
            yield config
        for before in self._before(config, kind, op.end, lists):
            yield before.after(kind, op, op.end)

    def _before(
        self, config: _Configuration, kind: str, now: float, lists: _Lists
    ) -> Iterator[_Configuration]:
        """What may be placed just before a call of this kind: calls of the opposite kind, which then need
        not be placed later, or one that need not be placed at all, for a list in flight to see."""
        yield config
        making = kind in MAKERS
        burnt = config
        must = REMOVE if making else MAKE
        for op in sorted(self._unplaced(config, must), key=lambda op: op.end):
            burnt = burnt.after(must, op, now)
            yield burnt
        if kind == LOCK or self._wanted(config, lists, shown=not making):
            for other, op in self._in_hand(config, REMOVERS if making else MAKERS):
                if other != must:
                    yield config.after(other, op, now)

    def _wanted(self, config: _Configuration, lists: _Lists, shown: bool) -> bool:
        """Whether a list in flight still needs to find it, or to find it missing."""
        return any(
            (self.name in names) == shown and not config.answered(call, shown)
            for call, names in lists.items()
        )

    def _in_hand(self, config: _Configuration, kinds: tuple[str, ...]) -> Iterator[tuple[str, Operation]]:
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

    def _unplaced(self, config: _Configuration, kind: str) -> list[Operation]:
        return [op for op in self._calls[kind] if op.i not in config.placed]

    def seen(self, op: Operation, shown: bool, lists: _Lists) -> bool:
        """A list that returned now shows it, or lacks it; whether that tells more than was known.

        Raises `Violated` when that could not be.
        """
        following: list[_Configuration] = []
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
        self, config: _Configuration, kinds: tuple[str, ...], now: float, lists: _Lists
    ) -> Iterator[_Configuration]:
        """How things may stand after one of the calls in flight has changed the answer just before `now`."""
        for kind, op in self._in_hand(config, kinds):
            for before in self._before(config, kind, now, lists):
                yield before.after(kind, op, now)

    def _keep(self, configurations: list[_Configuration], lists: _Lists, returned: int | None = None) -> None:
        """Merges what is alike and forgets what no longer matters."""
        configurations = [c._replace(placed=c.placed - {returned}) for c in configurations]
        if len(configurations) > 1:
            configurations = self._best(configurations, lists)
        self.configurations = configurations
        if len(self.configurations) > CONFIGURATIONS:
            raise Undecided(f"workspace {self.name!r}: too many calls in flight to tell what was listed")
        if done := frozenset.intersection(*(config.placed for config in self.configurations)):
            self._forget(done)

    def _best(self, configurations: list[_Configuration], lists: _Lists) -> list[_Configuration]:
        """Those that no other one covers. When it was there counts only for the lists in flight."""
        shown = sorted(call for call, names in lists.items() if self.name in names)
        lacking = sorted(call for call, names in lists.items() if self.name not in names)
        optional = {op.i for kind, calls in self._calls.items() if kind not in MUST for op in calls}
        best: dict[tuple[str, frozenset[int]], list[_Configuration]] = {}
        for state, there, gone, placed in configurations:
            there = _latest(shown, there) if state == ABSENT else -math.inf
            gone = _latest(lacking, gone) if state == PRESENT else -math.inf
            config = _Configuration(state, there, gone, placed)
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


def _when(moment: tuple[float, Operation]) -> float:
    return moment[0]
