"""What the evidence of an operation rests on, so that a history can be cut without making things up.

Leave a release out of a history and its two sessions look like two holders at once. An honest cut keeps
with every operation whatever else could explain what it saw. Then a cut that is violated shows that the
whole history is:

- What only observes can go: a refusal, a read, a list.
- A whole session can go: the requests of one lock with its releases and all that names it. The order
  that explains the rest is the same without it.
- A whole written value can go, its write with all its reads; a deletion with the reads of nothing that it
  may explain, and with the lists that it may explain.
- The end can go: all that was called after everything else had returned.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lockproof.history import Operation
from lockproof.history.requests import Key, Requests, holder_of, key_of

MAKERS = frozenset({"put", "lock"})
REMOVERS = frozenset({"delete", "delete_workspace"})

Kept = dict[int, Operation]
"""Operations of a cut by the event number of their call."""


class _Space:
    """The operations of one workspace that others rest on."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.requests = Requests(operations)
        self.releases: dict[Key, list[Operation]] = defaultdict(list)
        self.writes: dict[str, list[Operation]] = defaultdict(list)
        self.makers: list[Operation] = []
        self.removers: list[Operation] = []
        for op in operations:
            if op.f == "put":
                self.writes[str(op.given.get("value"))].append(op)
            if op.kind == "fail":
                continue
            if op.f in MAKERS:
                self.makers.append(op)
            elif op.f in REMOVERS:
                self.removers.append(op)
            elif op.f == "unlock":
                key = self.requests.by_id(op.given.get("lock_id"), op.i)
                if key is not None:
                    self.releases[key].append(op)

    def may_hold(self, request: Operation, refusal: Operation) -> bool:
        """Whether `request` may have held the lock while `refusal` ran."""
        released = (r.end for r in self.releases.get(key_of(request), ()) if r.kind == "ok")
        return request.i < refusal.end and not min(released, default=math.inf) < refusal.i


class Grounds:
    """What `operations` rest on, for a violation in `workspace`.

    A list of workspaces tells of others too. Of each of those one operation is enough that makes it so.
    """

    def __init__(self, operations: Sequence[Operation], workspace: str | None) -> None:
        self.workspace = workspace
        by_workspace: dict[str | None, list[Operation]] = defaultdict(list)
        for op in operations:
            by_workspace[op.ws].append(op)
        self._spaces = {name: _Space(found) for name, found in by_workspace.items()}
        self._nothing = _Space(())

    def close(self, kept: Kept) -> Kept:
        """`kept` with all that it rests on."""
        closed = dict(kept)
        while True:
            missing = [other for op in closed.values() for other in self._missing(op, closed)]
            if not missing:
                return dict(sorted(closed.items()))
            closed.update((op.i, op) for op in missing)

    def prune(self, kept: Kept) -> Kept:
        """`kept` without what no longer has all that it rests on."""
        pruned = dict(kept)
        while True:
            last = _last(pruned)
            bare = [n for n, op in pruned.items() if next(self._missing(op, pruned, last), None) is not None]
            if not bare:
                return pruned
            for number in bare:
                del pruned[number]

    def _missing(self, op: Operation, kept: Kept, last: float | None = None) -> Iterator[Operation]:
        """What `op` rests on and is not in `kept`, whose last return is `last`."""
        end, space = op.end, self._spaces.get(op.ws, self._nothing)
        if op.f == "lock" and op.kind != "fail":
            key = key_of(op)
            last = _last(kept) if last is None else last
            yield from _absent((r for r in space.releases.get(key, ()) if r.i < last), kept)
        elif op.f != "lock" and op.given.get("lock_id") is not None:
            used = space.requests.by_id(op.given["lock_id"], op.i)
            yield from _absent(_holding(space.requests, used, end), kept)
        if holder_of(op) is not None:
            yield from _absent(_holding(space.requests, space.requests.named(op), end), kept)
        elif op.f == "lock" and op.kind == "fail":
            yield from _absent((r for r in space.makers if r.f == "lock" and space.may_hold(r, op)), kept)
        if op.kind == "ok" and op.f == "get" and isinstance(op.out, Mapping):
            value = op.out.get("value")
            if value is not None:
                yield from _absent(space.writes.get(str(value), ()), kept)
            else:
                yield from _explaining(space.removers, op, kept, "put")
        if op.kind == "ok" and op.f == "workspaces" and isinstance(op.out, Sequence):
            yield from self._listed(op, op.out, kept)

    def _listed(self, op: Operation, names: Sequence[object], kept: Kept) -> Iterator[Operation]:
        """What the list `op` of `names` rests on."""
        space = self._spaces.get(self.workspace, self._nothing)
        if self.workspace in names:
            yield from _explaining(space.makers, op, kept, "delete_workspace")
        else:
            yield from _explaining(space.removers, op, kept, "put")
        for name in names:
            if isinstance(name, str) and name in self._spaces:
                yield from _absent(_latest(self._spaces[name].makers, op.end), kept)
        made = {other.ws for other in kept.values() if other.f in MAKERS and other.i < op.end}
        for name in made.difference((*names, self.workspace)):
            yield from _absent(_latest(self._spaces[name].removers, op.end), kept)


def _holding(requests: Requests, key: Key | None, end: float) -> Iterator[Operation]:
    """What shows that the request `key` may have held at event `end`."""
    yield from requests.effective(key, end)
    teacher = requests.teachers.get(key) if key is not None else None
    if teacher is not None and teacher.i < end:
        yield teacher


def _explaining(causes: Sequence[Operation], op: Operation, kept: Kept, contrary: str) -> Iterator[Operation]:
    """Which `causes` may be what `op` saw and are not kept: those called before it returned, but for
    what a kept operation that did the contrary came wholly between."""
    if not any(cause.i < op.end and cause.i not in kept for cause in causes):
        return iter(())
    undoing = (o.i for o in kept.values() if o.f == contrary and o.ws == causes[0].ws and o.kind == "ok")
    undone = max((i for i in undoing if kept[i].end < op.i), default=-1)
    return _absent((cause for cause in causes if cause.i < op.end and not cause.end < undone), kept)


def _latest(causes: Sequence[Operation], end: float) -> Sequence[Operation]:
    """The last of `causes` that was called before event `end`, one that says for certain when there is."""
    before = [cause for cause in causes if cause.i < end]
    sure = [cause for cause in before if cause.f != "lock" and cause.kind == "ok"]
    return (sure or before)[-1:]


def _absent(operations: Iterable[Operation], kept: Kept) -> Iterator[Operation]:
    return (op for op in operations if op.i not in kept)


def _last(kept: Kept) -> float:
    """The last event that the kept operations are known by."""
    return max((op.i if op.outcome is None else op.outcome.i for op in kept.values()), default=-1)
