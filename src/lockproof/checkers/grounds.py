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


class Grounds:
    """What operations rest on, for one workspace and the lists that show or lack it."""

    def __init__(self, operations: Sequence[Operation], workspace: str | None) -> None:
        self.workspace = workspace
        self.requests = Requests(operations)
        self._releases: dict[Key, list[Operation]] = defaultdict(list)
        self._writes: dict[str, list[Operation]] = defaultdict(list)
        self._makers: list[Operation] = []
        self._removers: list[Operation] = []
        for op in operations:
            if op.f == "put":
                self._writes[str(op.given.get("value"))].append(op)
            if op.kind == "fail":
                continue
            if op.f in MAKERS:
                self._makers.append(op)
            elif op.f in REMOVERS:
                self._removers.append(op)
            elif op.f == "unlock":
                key = self.requests.by_id(op.given.get("lock_id"), op.i)
                if key is not None:
                    self._releases[key].append(op)

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
        end = op.end
        if op.f == "lock" and op.kind != "fail":
            key = key_of(op)
            last = _last(kept) if last is None else last
            yield from _absent(self.requests.effective(key, op.i), kept)
            yield from _absent((r for r in self._releases.get(key, ()) if r.i < last), kept)
        elif op.f != "lock" and op.given.get("lock_id") is not None:
            yield from self._session(self.requests.by_id(op.given["lock_id"], op.i), end, kept)
        if holder_of(op) is not None:
            yield from self._session(self.requests.named(op), end, kept)
        elif op.f == "lock" and op.kind == "fail":
            yield from _absent((r for r in self._makers if r.f == "lock" and self._may_hold(r, op)), kept)
        if op.kind == "ok" and op.f == "get" and isinstance(op.out, Mapping):
            value = op.out.get("value")
            if value is not None:
                yield from _absent(self._writes.get(str(value), ()), kept)
            else:
                yield from self._explaining(self._removers, end, op.i, kept, {"put"})
        if op.kind == "ok" and op.f == "workspaces" and isinstance(op.out, Sequence):
            if self.workspace in op.out:
                yield from self._explaining(self._makers, end, op.i, kept, {"delete_workspace"})
            else:
                yield from self._explaining(self._removers, end, op.i, kept, {"put"})

    def _session(self, key: Key | None, end: float, kept: Kept) -> Iterator[Operation]:
        """What shows that the request `key` may have held at event `end`."""
        yield from _absent(self.requests.effective(key, end), kept)
        teacher = self.requests.teachers.get(key) if key is not None else None
        if teacher is not None and teacher.i < end and teacher.i not in kept:
            yield teacher

    def _explaining(
        self, causes: Sequence[Operation], end: float, start: int, kept: Kept, contrary: set[str]
    ) -> Iterator[Operation]:
        """Which `causes` may be what a call from `start` to `end` saw: those called before it returned,
        but for what a kept operation that did the contrary came wholly between."""
        undone = max(
            (op.i for op in kept.values() if op.f in contrary and op.kind == "ok" and op.end < start),
            default=-1,
        )
        return _absent((cause for cause in causes if cause.i < end and not cause.end < undone), kept)

    def _may_hold(self, request: Operation, refusal: Operation) -> bool:
        """Whether `request` may have held the lock while `refusal` ran."""
        released = (r.end for r in self._releases.get(key_of(request), ()) if r.kind == "ok")
        return request.i < refusal.end and not min(released, default=math.inf) < refusal.i


def _absent(operations: Iterable[Operation], kept: Kept) -> Iterator[Operation]:
    return (op for op in operations if op.i not in kept)


def _last(kept: Kept) -> float:
    """The last event that the kept operations are known by."""
    return max((op.i if op.outcome is None else op.outcome.i for op in kept.values()), default=-1)
