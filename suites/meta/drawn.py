"""Histories drawn as text: one line per operation, from its call `[` to its return `]`.

    lock a         | [--]             | ok
    lock b         |      [---]       | held a
    unlock a       |        [----]    | ok
    put v @dev     |    [----------   |

Columns are the order of events, above before below in the same column. Without `]` the outcome is unknown.
A request `a` has the id `a` and the token `token a`; `@` names a workspace other than `default`. Answers:

    lock       ok, ok ID (chosen by the backend), held (by nobody named), held NAME, held NAME ID, held - ID
    unlock ID  ok, not held, held NAME
    put V, put V under ID, delete, delete_workspace   ok, not held, held NAME, refused
    get        nothing, V, V torn
    list       the names
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lockproof.history import Event, History
from lockproof.history.event import EventKind

Given = Mapping[str, Any]
Outcome = tuple[EventKind, Any, Given | None]
LOST: Outcome = ("info", None, {"kind": "timeout", "definite": False})


def drawn(text: str) -> History:
    """The history that `text` draws."""
    marks: list[tuple[int, int, Event]] = []
    for line, row in enumerate(row for row in text.splitlines() if row.strip()):
        call, drawing, answer = (cell.strip("\n") for cell in row.split("|"))
        words, _, workspace = call.partition("@")
        f, *arguments = words.split()
        f = {"list": "workspaces"}.get(f, f)
        ws = None if f == "workspaces" else workspace.strip() or "default"
        kind, out, err = _outcome(f, arguments, answer.split()) if "]" in drawing else LOST
        marks.append((drawing.index("["), line, Event(0, 0, line, "invoke", f, ws, _given(f, arguments))))
        end = drawing.index("]") if "]" in drawing else len(drawing)
        marks.append((end, line, Event(0, 0, line, kind, f, ws, None, out, err)))
    ordered = [event for _, _, event in sorted(marks, key=lambda mark: mark[:2])]
    events = [Event(i, i, e.p, e.e, e.f, e.ws, e.given, e.out, e.err) for i, e in enumerate(ordered)]
    return History({"v": 1}, tuple(events), closed=True)


def _given(f: str, arguments: list[str]) -> Given:
    if f == "lock":
        return {"info": {"ID": arguments[0], "Info": f"token {arguments[0]}"}}
    if f == "unlock":
        return {"lock_id": arguments[0]}
    if f == "put":
        value, lock_id = arguments[0], arguments[-1] if "under" in arguments else None
        size = 0 if value == "empty" else 9
        return {"value": value, "sha256": f"digest of {value}", "size": size, "lock_id": lock_id}
    return {}


def _outcome(f: str, arguments: list[str], answer: list[str]) -> Outcome:
    if f == "get":
        value, torn = answer[0], "torn" in answer
        digest = f"digest of {'something else' if torn else value}"
        return "ok", {"value": None} if value == "nothing" else {"value": value, "sha256": digest}, None
    if f == "workspaces":
        return "ok", answer, None
    if answer[0] == "ok":
        return "ok", answer[1] if len(answer) > 1 else arguments[0] if f == "lock" else None, None
    if answer == ["not", "held"]:
        return "fail", None, {"kind": "not_locked", "definite": True}
    if answer[0] == "refused":
        return "fail", None, {"kind": "stale", "definite": True}
    name, lock_id = (*answer[1:], *answer[1:2], "")[:2] if len(answer) > 1 else ("", "")
    holder = {"holder": {"ID": lock_id, "Info": "" if name == "-" else f"token {name}"}} if name else {}
    return "fail", None, {"kind": "locked" if f == "lock" else "lock_mismatch", "definite": True, **holder}
