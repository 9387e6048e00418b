"""`events.ndjson`: what happened in a run, one line each, written when it happened.

Everything else in the run folder is derived from it. A run that was killed leaves every line that it
had written; a line cut short at the end is dropped when read.

Events: `start` (run, suite, backends), `manifest` (every expected test), `result` (one test on one
backend), `finish`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

VERSION = 1


class EventError(ValueError):
    """A file that is no event log; the message names file, line and what is wrong."""


class EventLog:
    """Appends events to a file, flushed line by line. Safe for use by many threads."""

    def __init__(self, path: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._file = path.open("w", encoding="utf-8")
        self._mutex = threading.Lock()

    def append(self, event: str, **content: Any) -> None:
        """Writes one event. After `close` it is kept in memory only."""
        record = {"event": event, **content}
        with self._mutex:
            self.events.append(record)
            if not self._file.closed:
                self._file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
                self._file.flush()

    def close(self) -> None:
        """No more events. Closing twice is harmless."""
        with self._mutex:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a log. Raises `EventError` for a file that is none, or of another version."""
    events: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as failure:
            if number == len(lines) and events:
                break
            raise EventError(f"{path}:{number}: not JSON: {failure.msg}") from failure
        if not isinstance(record, Mapping) or "event" not in record:
            raise EventError(f"{path}:{number}: not an event")
        events.append(dict(record))
    if not events or events[0]["event"] != "start" or events[0].get("v") != VERSION:
        raise EventError(f"{path}: not a lockproof event log of version {VERSION}")
    return events
