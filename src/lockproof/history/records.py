"""One line of a history as the event that it is; refused where it is not what the checkers rely on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import NoneType
from typing import Any

from lockproof.history.event import OUTCOMES, Event

KINDS = frozenset({"invoke", "ok", "fail", "info", "fault", "note"})
BOUND = 2**63
"""Above every event number and every time in nanoseconds."""

Types = frozenset[type]
TEXT: Types = frozenset({str, NoneType})
WHOLE: Types = frozenset({int, NoneType})
OBJECT: Types = frozenset({dict, NoneType})
PLAIN: Types = frozenset({str, int, float, bool, NoneType})
WORDS = {TEXT: "a text", WHOLE: "a whole number", OBJECT: "an object", PLAIN: "a text or a number"}

STATE: Mapping[str, Types] = {"value": PLAIN, "sha256": PLAIN}
CALLS: Mapping[str, Mapping[str, Types]] = {
    "get": {},
    "put": {**STATE, "lock_id": PLAIN},
    "delete": {},
    "lock": {"info": OBJECT},
    "unlock": {"lock_id": PLAIN},
    "workspaces": {},
    "delete_workspace": {},
}
"""What is called, and what `in` may have. An `f` that is not here could not be judged."""
NEEDED = {"put": "value", "lock": "info", "unlock": "lock_id"}
"""What a call's `in` cannot be judged without."""
RESULTS: Mapping[str, type] = {"get": dict, "workspaces": list}
"""What an `ok` outcome's `out` must be."""
REFUSAL: Mapping[str, Types] = {"kind": TEXT, "message": TEXT, "holder": OBJECT}
LOCK: Mapping[str, Types] = {"ID": TEXT, "Info": TEXT}


def event_of(record: Mapping[str, Any]) -> Event:
    """The event of one line; fields that are not known are ignored. Raises `ValueError`: what is wrong."""
    try:
        i, t, p, kind, f = record["i"], record["t"], record["p"], record["e"], record["f"]
    except KeyError as missing:
        raise ValueError(f"event without {missing}") from None
    ws, given, err = record.get("ws"), record.get("in"), record.get("err")
    if type(i) is not int or type(t) is not int or type(kind) is not str or kind not in KINDS:
        raise ValueError(f"not an event: i and t are whole numbers, e is one of {', '.join(sorted(KINDS))}")
    if not (i < BOUND and 0 <= t < BOUND):
        raise ValueError("not an event: i is no event number, or t no time in nanoseconds")
    if type(p) is not int:
        raise ValueError(f"p is {_shown(p)}, not a whole number")
    if type(f) is not str:
        raise ValueError(f"f is {_shown(f)}, not a text")
    if type(ws) not in TEXT or type(given) not in OBJECT or type(err) not in OBJECT:
        _look(record, "", {"ws": TEXT, "in": OBJECT, "err": OBJECT})
    event = Event(i, t, p, kind, f, ws, given, record.get("out"), err)  # type: ignore[arg-type]
    if kind == "invoke":
        _look_at_call(event, given or {})
    elif kind in OUTCOMES:
        if kind == "ok":
            _look_at_result(f, event.out)
        if err:
            _look(err, "err.", REFUSAL)
            _look(err.get("holder") or {}, "err.holder.", LOCK)
    return event


def look_at_header(header: Mapping[str, Any]) -> None:
    """Raises `ValueError` where a header is not what checkers and merging rely on."""
    claimed = header.get("capabilities", [])
    if not _texts(claimed):
        raise ValueError(f"capabilities is {_shown(claimed)}, not a list of texts")
    _look(header, "", {"clients": WHOLE})


class Calls:
    """The calls in flight, as the events come: every outcome belongs to one."""

    def __init__(self) -> None:
        self._waiting: dict[int, Event] = {}

    def follow(self, event: Event) -> None:
        """Raises `ValueError` for an outcome of no call, or of one of another method or workspace."""
        if event.e == "invoke":
            self._waiting[event.p] = event
        elif event.e in OUTCOMES:
            call = self._waiting.pop(event.p, None)
            if call is None:
                raise ValueError(f"outcome of {event.f} without a call: process {event.p} is in none")
            if call.f != event.f or call.ws != event.ws:
                raise ValueError(f"outcome of {_called(event)}, but the call is {_called(call)}")


def _look_at_call(event: Event, given: Mapping[str, Any]) -> None:
    f = event.f
    if f not in CALLS:
        raise ValueError(f"no call named {_shown(f)}: f is one of {', '.join(sorted(CALLS))}")
    if f in NEEDED and NEEDED[f] not in given:
        raise ValueError(f"{f} without in.{NEEDED[f]}")
    _look(given, "in.", CALLS[f])
    if f == "lock":
        if given["info"] is None:
            raise ValueError("in.info is null, not an object")
        _look(given["info"], "in.info.", LOCK)
    if event.ws is None and f != "workspaces":
        raise ValueError(f"{f} without ws, its workspace")


def _look_at_result(f: str, out: Any) -> None:
    if f in RESULTS and type(out) is not RESULTS[f]:
        raise ValueError(f"{f} without the {RESULTS[f].__name__} that it answered in out")
    if f == "get":
        if "value" not in out:
            raise ValueError("get without out.value")
        _look(out, "out.", STATE)
    elif f == "lock" and type(out) not in PLAIN:
        raise ValueError(f"out is {_shown(out)}, not the lock id")
    elif f == "workspaces" and not _texts(out):
        raise ValueError(f"out is {_shown(out)}, not a list of texts")


def _look(record: Mapping[str, Any], where: str, fields: Mapping[str, Types]) -> None:
    for name, types in fields.items():
        if type(record.get(name)) not in types:
            raise ValueError(f"{where}{name} is {_shown(record[name])}, not {WORDS[types]}")


def _texts(value: Any) -> bool:
    return type(value) is list and all(type(item) is str for item in value)


def _called(event: Event) -> str:
    return event.f if event.ws is None else f"{event.f} {_shown(event.ws)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:40]}…"
