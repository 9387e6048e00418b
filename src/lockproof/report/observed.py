"""What histories tell of a run beyond its verdict: who waited for a lock, and when faults were in force."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lockproof.history import Event, HistoryError, HistoryStream, Operation, pair, stream_history
from lockproof.history.faults import Fault, faults

WAITERS = 3  # clients that were made to wait for one lock: fewer are a refusal, not a queue
MOST = 200  # windows, and calls that went badly, that are kept of one test


@dataclass
class _Waiter:
    """One client at one lock."""

    refused: int = 0
    waited: list[float] = field(default_factory=list)  # milliseconds, of every grant
    since: int | None = None  # when its first attempt since its last grant was made


class _Queues:
    """Who waits for which lock, from the operations of a history as they end."""

    def __init__(self) -> None:
        self.waiters: defaultdict[str, dict[str, _Waiter]] = defaultdict(dict)

    def see(self, op: Operation, who: str) -> None:
        if op.f != "lock" or op.ws is None:
            return
        waiter = self.waiters[op.ws].setdefault(who, _Waiter())
        if waiter.since is None:
            waiter.since = op.called
        if op.kind == "ok":
            waiter.waited.append((op.returned - waiter.since) / 1e6)
        elif op.kind == "fail":
            waiter.refused += op.err.get("kind") == "locked"
            return
        waiter.since = None  # granted, or the outcome is unknown: its next attempt begins anew

    def found(self) -> Iterator[dict[str, Any]]:
        """The workspaces whose lock at least three clients had to wait for."""
        for workspace, waiters in sorted(self.waiters.items()):
            if sum(bool(waiter.refused) for waiter in waiters.values()) >= WAITERS:
                yield {
                    "workspace": workspace,
                    "waiters": [_told(name, waiter) for name, waiter in waiters.items()],
                }


def _told(name: str, waiter: _Waiter) -> dict[str, Any]:
    taken = waiter.waited
    return {
        "client": name,
        "granted": len(taken),
        "refused": waiter.refused,
        "median_ms": round(statistics.median(taken), 3) if taken else None,
        "longest_ms": round(max(taken), 3) if taken else None,
    }


def observe(histories: Path) -> dict[str, dict[str, Any]]:
    """By backend, the `contention` and the `windows` of the tests whose histories lie in a folder.

    `contention`: per test and workspace the `waiters`, clients in the order in which they came, with the
    milliseconds from a first attempt to its grant, pauses between attempts included. `windows`: per test
    the faults with `start` and `stop`, and the calls that were refused or have an unknown outcome, in
    milliseconds since the history began; `stop` is null for what lasted to the end. Each history is read
    once, as a stream; of one that a crash cut off the part that is there counts.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(histories.glob("*.jsonl")):
        try:
            stream = stream_history(path)
            seen = _seen(stream)
        except HistoryError:
            continue
        backend = str(stream.header.get("backend"))
        told = found.setdefault(backend, {"contention": [], "windows": []})
        for name, entries in seen.items():
            told[name] += entries
    return found


def _seen(stream: HistoryStream) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    test = {"test": str(stream.header.get("test") or "a test without a name")}
    queues = _Queues()
    struck: list[Event] = []
    bad: list[Operation] = []
    times: list[int] = []  # the first one and the last one
    for op in pair(_watched(stream, struck, times)):
        queues.see(op, stream.names.get(op.p, f"process {op.p}"))
        if op.kind != "ok" and len(bad) < MOST:
            bad.append(op)
    found = faults(struck)
    windows = [_window(fault, times[0]) for fault in found[:MOST]]
    return {
        "contention": [{**test, **queue} for queue in queues.found()],
        "windows": [
            {
                **test,
                "ms": _ms(times[-1], times[0]),
                "faults": windows,
                "calls": [_call(op, times[0]) for op in sorted(bad, key=lambda op: op.i)],
            }
        ]
        if windows
        else [],
    }


def _watched(stream: HistoryStream, struck: list[Event], times: list[int]) -> Iterator[Event]:
    """The events of a stream; its faults, and its first and last time, are kept on the way."""
    for event in stream.events():
        times[1:] = [event.t]  # the first one is set once, the last one each time
        if event.e == "fault":
            struck.append(event)
        yield event


def _window(fault: Fault, origin: int) -> dict[str, Any]:
    return {
        "fault": fault.name,
        "start": _ms(fault.start.t, origin),
        "stop": None if fault.stop is None else _ms(fault.stop.t, origin),
    }


def _call(op: Operation, origin: int) -> dict[str, Any]:
    return {
        "call": op.f,
        "outcome": "refused" if op.kind == "fail" else "unknown",
        "start": _ms(op.called, origin),
        "stop": None if op.outcome is None else _ms(op.outcome.t, origin),
    }


def _ms(at: int, origin: int) -> float:
    return round((at - origin) / 1e6, 3)
