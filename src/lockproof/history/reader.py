"""Reads history files back: whole, or as a stream of operations in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lockproof.history.event import Event, History, Operation, pair
from lockproof.history.writer import VERSION

KINDS = frozenset({"invoke", "ok", "fail", "info", "fault", "note"})
NEEDED = {"put": "value", "lock": "info", "unlock": "lock_id"}
"""What a call's `in` cannot be judged without."""
RESULTS: Mapping[str, type] = {"get": dict, "workspaces": list}
"""What an `ok` outcome's `out` must be."""


class HistoryError(ValueError):
    """A file that is no history; the message names file, line and what is wrong."""


class HistoryStream:
    """A history as it is read: a header, then its events or its operations, once.

    `closed` (whether the footer was reached), `names` (of processes) and `counted` (operations given) are
    complete when all was read.
    Memory: the calls in flight, and the names.
    """

    def __init__(self, header: Mapping[str, Any], source: Callable[[HistoryStream], Iterator[Event]]) -> None:
        self.header = header
        self.names: dict[int, str] = {}
        self.closed = False
        self.counted = 0
        self._source = source

    def events(self) -> Iterator[Event]:
        """All events in order. Raises `HistoryError` for a line that is none, `OSError`."""
        for event in self._source(self):
            if event.e == "note" and event.f == "process" and event.given:
                self.names[event.p] = str(event.given.get("who", event.p))
            yield event

    def operations(self) -> Iterator[Operation]:
        """Each operation as soon as its outcome was read, those without one last; raises as `events`."""
        for op in pair(self.events()):
            self.counted += 1
            yield op


def stream_history(path: Path) -> HistoryStream:
    """The history in `path`, of which the header is read now and the rest as it is asked for.

    A last line cut short by a crash is dropped; `closed` is then false. Fields that are not known are
    ignored. Raises `HistoryError` for anything else that is not a history of version 1, `OSError` when
    the file cannot be read.
    """
    lines = _records(path)
    first = next(lines, None)
    if first is None:
        raise HistoryError(f"{path}: empty file")
    header = first[1].get("header")
    if not isinstance(header, dict) or header.get("v") != VERSION:
        raise HistoryError(f"{path}:1: not a lockproof history of version {VERSION}")

    def source(stream: HistoryStream) -> Iterator[Event]:
        last = -1
        for number, record in lines:
            footer = record.get("footer")
            if isinstance(footer, dict):
                stream.closed = footer.get("closed") is True
                continue
            event = _event(record, f"{path}:{number}")
            if event.i <= last:
                raise HistoryError(f"{path}:{number}: event {event.i} after event {last}")
            last = event.i
            yield event

    return HistoryStream(header, source)


def read_history(path: Path) -> History:
    """The whole history in `path`; as `stream_history`, but all at once."""
    stream = stream_history(path)
    events = tuple(stream.events())
    return History(stream.header, events, stream.closed, stream.names)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a file with their numbers. One that is cut is dropped where it is the last."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line.decode())
            except ValueError as failure:
                if number > 1 and next(file, None) is None:
                    return
                reason = failure.msg if isinstance(failure, json.JSONDecodeError) else "not UTF-8"
                raise HistoryError(f"{path}:{number}: not JSON: {reason}") from None
            if not isinstance(record, dict):
                raise HistoryError(f"{path}:{number}: not a JSON object")
            yield number, record


def _event(record: Mapping[str, Any], place: str) -> Event:
    """The event of one line; `place` names it. What the checkers rely on is looked at."""
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
        raise HistoryError(f"{place}: event without {failure}") from None
    kind, f = event.e, event.f
    if type(event.i) is not int or type(event.t) is not int or kind not in KINDS:
        raise HistoryError(f"{place}: not an event: i and t are whole numbers, e is one of {_listing(KINDS)}")
    if kind == "invoke":
        if f in NEEDED and not (isinstance(event.given, dict) and NEEDED[f] in event.given):
            raise HistoryError(f"{place}: {f} without in.{NEEDED[f]}")
    elif kind == "ok" and f in RESULTS and not isinstance(event.out, RESULTS[f]):
        raise HistoryError(f"{place}: {f} without the {RESULTS[f].__name__} that it answered in out")
    return event


def _listing(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))
