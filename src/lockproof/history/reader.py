"""Reads a history file back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lockproof.history.event import Event, History
from lockproof.history.writer import VERSION


class HistoryError(ValueError):
    """A file that is no history; the message names file, line and what is wrong."""


def read_history(path: Path) -> History:
    """The history in `path`. A last line cut short by a crash is dropped; `closed` is then false.

    Raises `HistoryError` for anything else that is not a history of version 1.
    """
    header: dict[str, Any] | None = None
    events: list[Event] = []
    names: dict[int, str] = {}
    closed = False
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as failure:
            if number == len(lines) and header is not None:
                break
            raise HistoryError(f"{path}:{number}: not JSON: {failure.msg}") from failure
        if header is None:
            header = record.get("header") if isinstance(record, dict) else None
            if not isinstance(header, dict) or header.get("v") != VERSION:
                raise HistoryError(f"{path}:1: not a lockproof history of version {VERSION}")
        elif "footer" in record:
            closed = bool(record["footer"].get("closed"))
        else:
            try:
                event = Event(
                    record["i"],
                    record["t"],
                    record["p"],
                    record["e"],
                    record["f"],
                    record.get("ws"),
                    record.get("in"),
                    record.get("out"),
                    record.get("err"),
                )
            except KeyError as failure:
                raise HistoryError(f"{path}:{number}: event without {failure}") from failure
            events.append(event)
            if event.e == "note" and event.f == "process" and event.given:
                names[event.p] = event.given["who"]
    if header is None:
        raise HistoryError(f"{path}: empty file")
    return History(header, tuple(events), closed, names)
