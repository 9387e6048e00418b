"""The faults of a history and how long each lasted.

A fault that lasts is two events `fault` with the same `f` (its name) and the same `in` but for
`in.phase`, which is `start` in the first and `stop` in the second; without a `stop` it lasted to the
end. A `fault` without a phase happened at once:

    {"i":7,"t":120394,"p":-1,"e":"fault","f":"net.partition","in":{"phase":"start","on":"bob"}}
    {"i":9,"t":190100,"p":-1,"e":"fault","f":"net.partition","in":{"phase":"stop","on":"bob"}}
    {"i":12,"t":200312,"p":-1,"e":"fault","f":"kill.kill","in":{"on":"alice"}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lockproof.history.event import Event

START, STOP = "start", "stop"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its name, its first event, its last one (`None`: it lasted to the end; the same as
    `start` when it happened at once), and what else `in` says."""

    name: str
    start: Event
    stop: Event | None
    given: Mapping[str, Any]


def faults(events: Iterable[Event]) -> Sequence[Fault]:
    """The faults among `events`, in the order of their first events. A `stop` that no `start` belongs
    to is a fault that happened at once."""
    found: list[Fault] = []
    running: dict[str, list[int]] = {}
    for event in events:
        if event.e != "fault":
            continue
        given = {name: value for name, value in (event.given or {}).items() if name != "phase"}
        phase = (event.given or {}).get("phase")
        key = json.dumps([event.f, given], sort_keys=True, default=str)
        if phase == STOP and running.get(key):
            at = running[key].pop()
            found[at] = Fault(event.f, found[at].start, event, given)
            continue
        if phase == START:
            running.setdefault(key, []).append(len(found))
        found.append(Fault(event.f, event, None if phase == START else event, given))
    return found
