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

The algorithm places calls just in time, exact; it and its proof are in `workspaces_listed`.

Cost: a sort, and a constant for each call while few calls on one workspace are in flight and one
configuration remains, as with locks there always is; at most `CONFIGURATIONS` times that. Beyond, small
histories are given to the search, else the answer is `unknown`. Lists cost their length.
"""

from __future__ import annotations

import math
from operator import itemgetter

from lockproof.checkers.verdict import Undecided, Verdict, Violated
from lockproof.checkers.workspaces_listed import ABSENT, PRESENT, Listed
from lockproof.history import History, Operation

DEFAULT = "default"
SEARCHED = 500  # operations up to which the search is asked
SETTLED = 4096  # operations that are kept before they are judged


def check_workspaces(history: History) -> Verdict:
    """Whether every list of workspaces shows what was there at some time during the call.

    `violated` is certain, with one of the anomalies above. The scope must have been empty when the
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
        self._names: dict[str, Listed] = {}
        self._certain: set[str] = set()  # names that a list may not lack, as far as is known
        self._possible: set[str] = set()  # names that a list may show
        self._lists = 0
        self._in_flight: dict[int, frozenset[str]] = {}  # lists, by call, with what they will show
        self._violated: tuple[str, Violated] | None = None
        self._undecided: Undecided | None = None
        self._all: list[Operation] | None = []

    @property
    def kept(self) -> int:
        """How many operations are not judged yet."""
        return len(self._called) + len(self._open)

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
        moments.sort(key=itemgetter(0))
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

    def _listed(self, name: str) -> Listed:
        self._at = name
        listed = self._names.get(name)
        if listed is None:
            listed = self._names[name] = Listed(name)
        return listed

    def _note(self, listed: Listed) -> None:
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
        """Asks the search, where too many configurations were left. What locks leave open it cannot tell."""
        if self._all is None or any(op.f == "lock" for op in self._all):
            why = "there are too many operations" if self._all is None else "locks leave too much open"
            return Verdict("unknown", f"{reason}, and {why} for a search")
        from lockproof.checkers.models import WorkspaceSetModel
        from lockproof.checkers.search import search

        found = search(self._all, WorkspaceSetModel())
        if found.status == "valid" and not closed:
            return Verdict("unknown", "the history has no footer: it was cut short")
        return found
