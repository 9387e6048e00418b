"""Writes a history while it happens."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lockproof.history.event import Event, EventKind, History

VERSION = 1
HARNESS = -1
BOOT = Path("/proc/sys/kernel/random/boot_id")


class HistoryWriter:
    """An append-only history, kept in memory and, given a `path`, flushed line by line to a file.

    Safe for use by many threads: a line's number and time are taken under one lock, so that the
    order of lines is the order of time. `redact` takes secrets out of what people wrote, the messages
    of errors and the remarks of notes; what checkers match is kept as it was.

    The header tells `start`, the monotonic clock in nanoseconds at time 0, and `boot`, which run
    of a machine that clock belongs to, so that histories of several processes can be merged. `boot` is a
    digest: equal in one run of one machine, and nothing that tells which machine.
    """

    def __init__(
        self,
        header: Mapping[str, Any],
        path: Path | None = None,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        self._start = time.monotonic_ns()
        self.header = {"v": VERSION, "clock": "monotonic_ns", "start": self._start, **boot(), **header}
        self.path = path
        self._redact = redact
        self._events: list[Event] = []
        self._names: dict[int, str] = {}
        self._mutex = threading.Lock()
        self._closed = False
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
            self._write({"header": self.header})

    def new_process(self, who: str) -> int:
        """A process number that was never used; `who` is its name for a reader."""
        with self._mutex:
            number = len(self._names)
            self._names[number] = who
        self.append(number, "note", "process", given={"who": who})
        return number

    def append(
        self,
        p: int,
        e: EventKind,
        f: str,
        *,
        ws: str | None = None,
        given: Mapping[str, Any] | None = None,
        out: Any = None,
        err: Mapping[str, Any] | None = None,
    ) -> Event:
        """Adds one event with the time of now and returns it."""
        if self._redact is not None:
            err = _readable(err, "message", self._redact)
            given = _readable(given, "text", self._redact) if e == "note" else given
        with self._mutex:
            elapsed = time.monotonic_ns() - self._start
            event = Event(len(self._events), elapsed, p, e, f, ws, given, out, err)
            self._events.append(event)
            if not self._closed:
                self._write(event.to_json())
            return event

    @property
    def size(self) -> int:
        """How many events were recorded so far."""
        return len(self._events)

    def history(self) -> History:
        """What was recorded so far, as the checkers take it."""
        with self._mutex:
            return History(self.header, tuple(self._events), closed=True, names=dict(self._names))

    def close(self) -> None:
        """Writes the footer. Closing twice is harmless."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            self._write({"footer": {"ops": sum(e.e == "invoke" for e in self._events), "closed": True}})
            if self._file is not None:
                self._file.close()
                self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
            self._file.flush()


def boot() -> Mapping[str, str]:
    """Which run of a machine the monotonic clock belongs to, as a digest, where the system tells. The
    kernel's own id stays here: histories are shown to others."""
    try:
        boot = BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return {}
    return {"boot": hashlib.sha256(f"lockproof {boot}".encode()).hexdigest()[:16]}


def _readable(
    record: Mapping[str, Any] | None, name: str, redact: Callable[[str], str]
) -> Mapping[str, Any] | None:
    """`record` with the text `name`, where it has one, redacted."""
    return {**record, name: redact(record[name])} if record is not None and name in record else record
