"""Do lock and state bind each other no more than real time does?

Given sessions that fit an order in which each one holds throughout its forward zone (see `mutex`): where
each write lies within the zone of its session, at whatever instant it takes effect, lock and state are two
objects (Herlihy and Wing, "Linearizability", TOPLAS 12(3), 1990, theorem 1). A write that reaches beyond
is clipped to the zone: the call is taken to be as short as its part within. What is linearizable with
shorter calls is linearizable; so if the state is, by its zones (see `zones`), both are together. A lost
write that nobody read is taken to have had no effect.

This only ever says yes. What it leaves open is for `fencing` to judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lockproof.checkers.models import DELETIONS
from lockproof.checkers.register import EMPTY
from lockproof.checkers.zones import Line, Zone
from lockproof.history import Operation

NOTHING: Mapping[str, Any] = {}
MOMENT = 0.25
"""How long a session holds before its first and after its last event, less than until any other one."""


def writes_fit(operations: Sequence[Operation], writes: Sequence[Operation], held: Line[str]) -> bool:
    """Whether all `writes` under an id can have taken effect while their sessions held, by the forward
    zones `held`, as far as all `operations` of the workspace tell."""
    sessions = {zone.key: zone for zone in held.zones}
    beyond: dict[Any, Zone[str] | None] = {}  # by value
    for op in writes:
        session = sessions.get(op.given["lock_id"])
        if session is None or op.i > session.last or op.end < session.first:
            if op.kind == "ok":
                return False
            beyond[op.given["value"]] = None
        elif op.i < session.first or op.end > session.last:
            beyond[op.given["value"]] = session
    return not beyond or _clipped_fit(operations, beyond)


def _clipped_fit(operations: Sequence[Operation], sessions: Mapping[Any, Zone[str] | None]) -> bool:
    """Whether the state has an order with the writes of some values clipped to zones of `sessions`, by
    value; to nothing, where there is `None`. Deletions and values that were written twice: no opinion."""
    reads: list[Operation] = []
    zones: dict[Any, Zone[Any]] = {}
    for op in operations:
        f = op.f
        if f == "get" and op.kind == "ok":
            reads.append(op)
        elif f == "put" and op.kind != "fail":
            value = op.given["value"]
            if value in zones or value == EMPTY or op.given.get("size") == 0:
                return False
            zones[value] = Zone(op, op.end, op.i)
        elif f in DELETIONS and op.kind != "fail":
            return False
    absent = Zone(None, -math.inf, -math.inf)
    for op in reads:
        value = (op.out or NOTHING).get("value")
        zone = absent if value is None else zones.get(value)
        if zone is None:
            return False
        if op.end < zone.first:
            zone.first = op.end
        if op.i > zone.last:
            zone.last = op.i
    for value, session in sessions.items():
        zone = zones[value]
        if zone.first == math.inf:
            continue  # lost, and read by nobody
        if session is None or zone.first < session.first:
            return False
        zone.first = min(zone.first, session.last + MOMENT)
        zone.last = max(zone.last, session.first - MOMENT)
    real = [zone for zone in zones.values() if zone.first < math.inf]
    line = Line([absent, *real])
    return line.overlap is None and not any(
        zone.first < zone.key.i or (not zone.forward and line.around(zone.last, zone.first)) for zone in real
    )
