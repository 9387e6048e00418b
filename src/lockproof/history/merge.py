"""Histories of several processes as one.

Each process that drives clients writes its own history, with event numbers and a clock of its own:
nanoseconds since `start`, which the header tells as read from the machine's monotonic clock. On Linux that
is CLOCK_MONOTONIC, the same in all processes from one boot to the next (clock_gettime(2)); Python documents
`time.monotonic` as system-wide (since 3.5). So stamps of all files lie on one line, and a stamp is
taken before a call is made and after its answer came: every call lies within its interval there too.

An order is only certain where stamps differ. At equal stamps all calls are put before all returns, so
that operations that touch at one stamp overlap and no order is invented between them. That widens
intervals by less than one tick, which never makes a violation (an order that fits narrow intervals
fits wider ones). A process that returned and called again at one stamp then seems to do two things at
once; the second call gets a process number of its own.

Another machine's clock is known up to an `error` only, which the header of its history tells (`align`). What
happened over there may have been that much earlier or later. `WIDE` widens its calls by the error: what is
a violation then is one however wrong the clock was. `NARROW` narrows them: every order that can have been
is kept to, so that what is valid then needs no luck. A call too short for that is a `ClockError`.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from lockproof.history.event import Event
from lockproof.history.reader import HistoryError, HistoryStream, stream_history
from lockproof.history.writer import HARNESS

OUTCOMES = frozenset({"ok", "fail", "info"})
Clocks = Literal["wide", "narrow"]
WIDE: Clocks = "wide"
NARROW: Clocks = "narrow"


class ClockError(HistoryError):
    """A clock is known too badly for what it timed; the message names the file and the call."""


def merge_histories(paths: Sequence[Path], clocks: Clocks = WIDE) -> HistoryStream:
    """The histories of processes that drove one scope of one backend, as one on one clock.

    Events are ordered by time and numbered anew, processes too; the header is the first file's, with the
    earliest `start`, the sum of `clients` and the greatest `error` of a clock. It is closed when all are.
    Raises `HistoryError` when a header has no `start`, or tells another backend or another boot of a machine
    than the first one; else as `stream_history`. Memory: that of all streams together, and files with an
    `error` whole.
    """
    streams = [stream_history(path) for path in paths]
    for path, stream in zip(paths, streams, strict=True):
        if type(stream.header.get("start")) is not int:
            raise HistoryError(f"{path}: cannot be merged: its header does not tell when its clock started")
        for name in ("backend", "boot"):
            one, other = streams[0].header.get(name), stream.header.get(name)
            if one != other:
                raise HistoryError(
                    f"{path}: cannot be merged: {name} is {other!r}, but {one!r} in {paths[0]}"
                )
    errors = [_error(stream) for stream in streams]
    start = min(stream.header["start"] - error for stream, error in zip(streams, errors, strict=True))
    clients = sum(int(stream.header.get("clients") or 0) for stream in streams)
    header: dict[str, Any] = {**streams[0].header, "start": start, "clients": clients}
    if any(errors):
        header["error"] = max(errors)

    def source(merged: HistoryStream) -> Iterator[Event]:
        processes = _Processes(merged.names)
        files = [
            _placed(number, _timed(paths[number], stream, clocks), stream.header["start"] - start)
            for number, stream in enumerate(streams)
        ]
        for i, (t, _, file, event) in enumerate(heapq.merge(*files, key=itemgetter(0, 1))):
            yield replace(event, i=i, t=t, p=processes.number(file, event))
        merged.closed = all(stream.closed for stream in streams)

    return HistoryStream(header, source)


class _Processes:
    """New numbers for the processes of several files."""

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names
        self._known: dict[tuple[int, int], int] = {}
        self._calling: dict[tuple[int, int], list[int]] = {}
        self._next = 0

    def number(self, file: int, event: Event) -> int:
        """The process of one event; a new one for a call while the process is in a call."""
        if event.p == HARNESS:
            return HARNESS
        key = (file, event.p)
        calling = self._calling.setdefault(key, [])
        if event.e in OUTCOMES and calling:
            return calling.pop(0)
        if key not in self._known or (event.e == "invoke" and calling):
            if key in self._known and self._known[key] in self._names:
                self._names[self._next] = self._names[self._known[key]]
            self._known[key] = self._next
            self._next += 1
        if event.e == "invoke":
            calling.append(self._known[key])
        return self._known[key]


def _placed(
    file: int, events: Iterator[tuple[int, Event]], shift: int
) -> Iterator[tuple[int, bool, int, Event]]:
    """A file's events with their time on the common clock, at each stamp the calls first."""
    for t, together in itertools.groupby(events, key=itemgetter(0)):
        for _, event in sorted(together, key=lambda timed: _late(timed[1])):
            yield t + shift, _late(event), file, event


def _timed(path: Path, stream: HistoryStream, clocks: Clocks) -> Iterator[tuple[int, Event]]:
    """A file's events with the time that they are taken to have happened at, in that order."""
    events = _onward(path, stream)
    if not (error := _error(stream)):
        return events
    by = error if clocks == WIDE else -error
    timed: list[tuple[int, Event]] = []
    calls: dict[int, int] = {}  # by process when it called
    for t, event in events:
        if event.e in OUTCOMES and event.p in calls:
            took = t - calls.pop(event.p)
            if took < -2 * by:
                told = f"{event.f} took {took / 1e6:.3g} ms by a clock known up to {error / 1e6:.3g} ms"
                raise ClockError(f"{path}: {told}")
            timed.append((t + by, event))
        elif event.e == "invoke":
            calls[event.p] = t
            timed.append((t - by, event))
        else:
            timed.append((t, event))
    return iter(sorted(timed, key=itemgetter(0)))


def _onward(path: Path, stream: HistoryStream) -> Iterator[tuple[int, Event]]:
    last = 0
    for event in stream.events():
        if event.t < last:
            raise HistoryError(f"{path}: cannot be merged: its clock went back from {last} to {event.t}")
        last = event.t
        yield event.t, event


def _error(stream: HistoryStream) -> int:
    """What is not known of a file's clock, in nanoseconds."""
    error = stream.header.get("error", 0)
    return error if type(error) is int and error > 0 else 0


def _late(event: Event) -> bool:
    return event.e != "invoke"
