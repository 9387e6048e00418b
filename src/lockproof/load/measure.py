"""All figures of a load run, from its histories alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from lockproof.history import Event, stream_history

MICROSECOND = 1000
SECOND = 1_000_000_000
LONGEST = 24 * 3600 * 1_000_000  # microseconds that a histogram can hold
DIGITS = 3
RANKS = (50, 90, 95, 99, 99.9)
OUTCOMES = frozenset({"ok", "fail", "info"})


class Latencies:
    """Durations in an HDR histogram: microseconds to three digits, given and told in other units."""

    def __init__(self) -> None:
        self.histogram = HdrHistogram(1, LONGEST, DIGITS)

    def add(self, ns: float) -> None:
        """One duration, in nanoseconds."""
        self.histogram.record_value(min(max(1, round(ns / MICROSECOND)), LONGEST))

    def ms(self, rank: float) -> float | None:
        """The percentile in milliseconds; `None` without any duration."""
        if not self.histogram.get_total_count():
            return None
        return round(float(self.histogram.get_value_at_percentile(rank)) / 1000, 3)

    def to_json(self) -> dict[str, Any]:
        """Count, percentiles, mean and greatest, in milliseconds."""
        n = self.histogram.get_total_count()
        told = {f"p{rank:g}".replace(".", "_"): self.ms(rank) for rank in RANKS}
        mean = round(self.histogram.get_mean_value() / 1000, 3) if n else None
        return {"n": n, "mean": mean, **told, "max": self.ms(100)}


class Measured:
    """What happened in a load run; times in nanoseconds until they are told.

    `service` has, by method, how long granted calls took; `response` has, by kind of job, the time from when
    it was due to its end, where jobs that nobody began count with the time that they had waited at the end;
    `acquiring` has how long lock requests took until they were granted, those that never were likewise.
    """

    def __init__(self) -> None:
        self.calls: dict[str, Counter[str]] = defaultdict(Counter)
        self.jobs: dict[str, Counter[str]] = defaultdict(Counter)
        self.service: dict[str, Latencies] = defaultdict(Latencies)
        self.response: dict[str, Latencies] = defaultdict(Latencies)
        self.acquiring = Latencies()
        self.granted: Counter[str] = Counter()
        self.starved: list[tuple[int, str]] = []
        self.longest = (0, "")
        self.unserved = 0
        self.oldest = 0
        self.ended: Counter[int] = Counter()
        self.first: int | None = None
        self.last = 0

    @property
    def seconds(self) -> float:
        """From the first call to the last outcome."""
        return max(0, self.last - (self.first or 0)) / SECOND

    @property
    def done(self) -> int:
        """Jobs that were done."""
        return sum(outcomes["done"] for outcomes in self.jobs.values())

    @property
    def operations(self) -> int:
        """Calls, whatever came of them."""
        return sum(counter.total() for counter in self.calls.values())

    def responses(self) -> Latencies:
        """Those of all kinds of job together."""
        together = Latencies()
        for latencies in self.response.values():
            together.histogram.add(latencies.histogram)
        return together

    def read(self, path: Path) -> None:
        """Adds the history of one process. Raises as `stream_history`."""
        stream = stream_history(path)
        start: int = stream.header.get("start", 0)
        one = _Process(self, stream.names)
        for event in stream.events():
            one.see(event)
            if event.e in OUTCOMES or event.e == "invoke":
                self.first = min(start + event.t, self.first or start + event.t)
                self.last = max(start + event.t, self.last)
            elif event.f == "job":
                self.ended[(start + event.t) // SECOND] += 1
        one.end()

    def fairness(self) -> dict[str, Any] | None:
        """How evenly the lock was granted; `None` where nobody asked for one."""
        counts = sorted(self.granted.values())
        if not counts:
            return None
        return {
            "users": len(counts),
            "jain": jain(counts),
            "fewest": counts[0],
            "median": counts[len(counts) // 2],
            "most": counts[-1],
        }


class _Process:
    """The events of one history, as they come."""

    def __init__(self, total: Measured, names: Mapping[int, str]) -> None:
        self.total = total
        self.names = names
        self.calling: dict[int, Event] = {}
        self.asking: dict[str, tuple[str, int]] = {}
        self.last = 0

    def see(self, event: Event) -> None:
        self.last = max(self.last, event.t)
        if event.e == "invoke":
            self.calling[event.p] = event
            if event.f == "lock":
                self.asking.setdefault(_token(event), (self.names.get(event.p, ""), event.t))
                self.total.granted[self.names.get(event.p, "")] += 0
        elif event.e in OUTCOMES and event.p in self.calling:
            self._returned(self.calling.pop(event.p), event)
        elif event.e == "note" and event.given:
            self._noted(event, event.given)

    def _returned(self, call: Event, outcome: Event) -> None:
        total = self.total
        kind = {"ok": "ok", "info": "unknown"}.get(outcome.e, (outcome.err or {}).get("kind", "failed"))
        total.calls[call.f][kind] += 1
        if outcome.e == "ok":
            total.service[call.f].add(outcome.t - call.t)
            if call.f == "lock":
                who, since = self.asking.pop(_token(call), ("", call.t))
                total.acquiring.add(outcome.t - since)
                total.granted[who] += 1
                total.longest = max(total.longest, (outcome.t - since, who))
        elif call.f == "lock" and kind not in {"locked", "unknown"}:
            self.asking.pop(_token(call), None)  # given up for another reason than the lock

    def _noted(self, event: Event, given: Mapping[str, Any]) -> None:
        total = self.total
        if event.f == "job":
            total.jobs[given["kind"]][given["outcome"]] += 1
            if given["outcome"] == "done":
                total.response[given["kind"]].add(event.t - given["due"])
        elif event.f == "arrivals" and given["n"]:
            total.unserved += given["n"]
            total.oldest = max(total.oldest, given["oldest"])
            for number in range(given["n"]):
                total.response["not begun"].add(given["oldest"] - number * given["interval"])

    def end(self) -> None:
        for who, since in self.asking.values():
            self.total.starved.append((self.last - since, who))
            self.total.acquiring.add(self.last - since)


def measure(paths: Iterable[Path]) -> Measured:
    """The figures of a run whose processes wrote these histories. Raises as `stream_history`."""
    total = Measured()
    for path in paths:
        total.read(path)
    return total


def jain(counts: Sequence[int]) -> float | None:
    """Jain's index of fairness: 1 when all got the same, 1/n when one got all; `None` when nobody got any.

    Source: R. Jain, D. Chiu, W. Hawe, DEC-TR-301 (1984).
    """
    squares = sum(count * count for count in counts)
    return round(sum(counts) ** 2 / (len(counts) * squares), 4) if squares else None


def _token(event: Event) -> str:
    info = (event.given or {}).get("info") or {}
    return str(info.get("Info") or info.get("ID") or math.nan)
