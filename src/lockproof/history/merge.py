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
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

from lockproof.history.event import Event
from lockproof.history.reader import HistoryError, HistoryStream, stream_history
from lockproof.history.writer import HARNESS

OUTCOMES = frozenset({"ok", "fail", "info"})


def merge_histories(paths: Sequence[Path]) -> HistoryStream:
    """The histories of processes that drove one scope of one backend on one machine, as one.

    Events are ordered by time and numbered anew, processes too; the header is the first file's, with the
    earliest `start` and the sum of `clients`. It is closed when all are. Raises `HistoryError` when a
    header has no `start`, or tells another backend or another boot of a machine than the first one;
    else as `stream_history`. Memory: that of all streams together.
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
    start = min(stream.header["start"] for stream in streams)
    clients = sum(int(stream.header.get("clients") or 0) for stream in streams)
    header: dict[str, Any] = {**streams[0].header, "start": start, "clients": clients}

    def source(merged: HistoryStream) -> Iterator[Event]:
        processes = _Processes(merged.names)
        files = [_placed(number, paths[number], stream, start) for number, stream in enumerate(streams)]
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
    file: int, path: Path, stream: HistoryStream, start: int
) -> Iterator[tuple[int, bool, int, Event]]:
    """A file's events with their time on the common clock, at each stamp the calls first."""
    shift, last = stream.header["start"] - start, 0
    for t, together in itertools.groupby(stream.events(), key=attrgetter("t")):
        if t < last:
            raise HistoryError(f"{path}: cannot be merged: its clock went back from {last} to {t}")
        last = t
        for event in sorted(together, key=_late):
            yield t + shift, _late(event), file, event


def _late(event: Event) -> bool:
    return event.e != "invoke"
