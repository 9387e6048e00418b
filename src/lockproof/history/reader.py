"""Reads history files back: whole, or as a stream of operations in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lockproof.history.event import Event, History, Operation, pair
from lockproof.history.records import Calls, event_of, look_at_header
from lockproof.history.writer import VERSION


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
    ignored, calls that never ended are none of its business. Raises `HistoryError` for anything else that
    is not a history of version 1: a field of another type, an outcome that no call of its process, method
    and workspace waits for, anything after the footer. Raises `OSError` when the file cannot be read.
    """
    lines = _records(path)
    first = next(lines, None)
    if first is None:
        raise HistoryError(f"{path}: empty file")
    header = first[1].get("header")
    if not isinstance(header, dict) or header.get("v") != VERSION:
        raise HistoryError(f"{path}:1: not a lockproof history of version {VERSION}")

    try:
        look_at_header(header)
    except ValueError as wrong:
        raise HistoryError(f"{path}:1: {wrong}") from None

    def source(stream: HistoryStream) -> Iterator[Event]:
        last, ended, calls = -1, False, Calls()
        for number, record in lines:
            try:
                if ended:
                    raise ValueError("a line after the footer: a history ends there")
                footer = record.get("footer")
                if isinstance(footer, dict):
                    ended, stream.closed = True, footer.get("closed") is True
                    continue
                event = event_of(record)
                if event.i <= last:
                    raise ValueError(f"event {event.i} after event {last}")
                calls.follow(event)
            except ValueError as wrong:
                raise HistoryError(f"{path}:{number}: {wrong}") from None
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
                if b"\\u" in line:  # half a surrogate pair is JSON, but no text that can be written anywhere
                    json.dumps(record, ensure_ascii=False).encode()
            except (ValueError, RecursionError) as failure:
                if number > 1 and next(file, None) is None:
                    return
                raise HistoryError(f"{path}:{number}: not JSON: {_reason(failure)}") from None
            if not isinstance(record, dict):
                raise HistoryError(f"{path}:{number}: not a JSON object")
            yield number, record


def _reason(failure: Exception) -> str:
    if isinstance(failure, json.JSONDecodeError):
        return failure.msg
    if isinstance(failure, UnicodeError):
        return "not UTF-8"
    return "nested too deeply" if isinstance(failure, RecursionError) else str(failure)
