"""Plain histories of one lock, accepted in one pass.

Most histories hold little but fresh requests, refusals that name their holder by token and id, and one
release by the id that was granted. Their zones are found here as in `mutex`, at less than half the cost.
Whatever is out of the ordinary, or looks like a violation, is left to `mutex`: this pass only ever says
yes, of the same zones and by the same theorem. Where no order fits, it tells which sessions are in each
other's way: mostly these alone refute the lock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from lockproof.checkers.fencing_plain import writes_fit
from lockproof.checkers.zones import Line, Zone
from lockproof.history import Operation

NOT_HELD = frozenset({"lock_mismatch", "not_locked"})


NO_OPINION: Collection[str] = frozenset()


def plain_sessions(operations: Sequence[Operation], *, fencing: bool) -> int | Collection[str]:
    """How many sessions held one after the other, in the history of one workspace; or, when that takes a
    closer look, the lock ids of those that seem to be in each other's way, or none.

    With `fencing`, also every write under an id can have taken effect while the id held; see
    `fencing_plain`.
    """
    by_token: dict[str, str] = {}
    asked: dict[str, Operation] = {}  # this and what follows is by lock id
    let_go: dict[str, Operation] = {}  # the release called first
    gone: dict[str, float] = {}
    repeated: list[Operation] = []  # acknowledged releases of what was released more than once
    refused: list[Operation] = []
    writes: list[Operation] = []
    for op in operations:
        f = op.f
        if op.kind == "fail":
            refused.append(op)
        elif f == "lock":
            info = op.given["info"]
            token, lock_id = info.get("Info"), op.out if op.kind == "ok" else info.get("ID")
            if not token or not lock_id or token in by_token or lock_id in asked:
                return NO_OPINION
            by_token[token], asked[lock_id] = lock_id, op
        elif f == "unlock":
            lock_id = op.given["lock_id"]
            earlier = let_go.setdefault(lock_id, op)
            if op.kind == "ok":
                gone[lock_id] = min(op.end, gone.get(lock_id, math.inf))
            if earlier is not op:
                repeated += [other for other in (earlier, op) if other.kind == "ok"]
        elif fencing and f == "put" and op.given.get("lock_id") is not None:
            writes.append(op)
    if not gone.keys() <= asked.keys():
        return NO_OPINION
    first = {lock_id: min(op.end, gone.get(lock_id, math.inf)) for lock_id, op in asked.items()}
    last = {lock_id: op.i for lock_id, op in asked.items()}
    denied: list[tuple[Operation, str]] = []
    for op in writes:
        if op.kind == "ok":
            lock_id = op.given["lock_id"]
            if lock_id not in asked:
                return NO_OPINION
            if op.end < first[lock_id]:
                first[lock_id] = op.end
            if op.i > last[lock_id]:
                last[lock_id] = op.i
    for op in refused:
        holder = op.err.get("holder")
        held = None
        if holder:
            held = by_token.get(holder.get("Info"))
            if held is None or held != holder.get("ID"):
                return NO_OPINION
            if op.end < first[held]:
                first[held] = op.end
            if op.i > last[held]:
                last[held] = op.i
        if op.f == "lock":
            if held is None and op.err.get("kind") == "locked":
                return NO_OPINION
        elif op.err.get("kind") in NOT_HELD and (fencing or op.f == "unlock"):
            lock_id = op.given.get("lock_id")
            if lock_id == held:
                return NO_OPINION
            if lock_id in asked:
                denied.append((op, lock_id))
    zones = []
    for lock_id, op in asked.items():
        start, end = first[lock_id], last[lock_id]
        if start < op.i or end > gone.get(lock_id, math.inf):
            return {lock_id}
        if start < math.inf:
            zones.append(Zone(lock_id, start, max(end, let_go[lock_id].i if lock_id in let_go else math.inf)))
    line = Line(zones)
    if line.overlap:
        return {zone.key for zone in line.overlap}
    for zone in zones:
        if not zone.forward and (outer := line.around(zone.last, zone.first)):
            return {zone.key, outer.key}
    for op, lock_id in denied:
        outer = line.around(op.i, op.end)
        if outer is not None and outer.key == lock_id:
            return {lock_id}
    for op in repeated:
        outer = line.around(op.i, op.end)
        if outer is not None and outer.key != op.given["lock_id"]:
            return {op.given["lock_id"], outer.key}
    return len(zones) if not writes or writes_fit(operations, writes, line) else NO_OPINION


def told_of(operations: Sequence[Operation], lock_ids: Collection[str]) -> list[Operation]:
    """What `operations` tell of the sessions with these lock ids, when the histories of all sessions are
    plain: their requests, their releases, writes under them, and refusals that name them. Whole sessions
    and what only observes are left out, so that a violation of the rest is one of all; see `grounds`."""
    found = []
    for op in operations:
        if op.kind == "fail":
            lock_id = (op.err.get("holder") or {}).get("ID") or op.given.get("lock_id")
        elif op.f == "lock":
            lock_id = op.out if op.kind == "ok" else op.given["info"].get("ID")
        elif op.f == "unlock" or op.f == "put":
            lock_id = op.given.get("lock_id")
        else:
            continue
        if lock_id in lock_ids:
            found.append(op)
    return found
