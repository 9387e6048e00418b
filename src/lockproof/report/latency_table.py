"""The tables of a report on times and costs, as rows of text; the first row is the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lockproof.report.latency import told

TIMES = (
    *("call", "state", "n", "p50 ms", "p95 ms", "p95 lies in (95 % confidence)", "p99 ms", "target"),
    *("", "requirement", "round trip ms", "time"),
)
COSTS = ("call", "requests", "statements", "logins", "bytes up", "bytes down")


def times(backend: Mapping[str, Any]) -> list[list[str]]:
    """What was measured for itself; nothing where that was not run."""
    rows = [_time(row) for row in backend["latency"] if row["basis"] == "performance"]
    return [list(TIMES), *rows] if rows else []


def passing(backend: Mapping[str, Any]) -> list[list[str]]:
    """The calls of all other tests, which ran beside each other."""
    found = [row for row in backend["latency"] if row["basis"] != "performance"]
    rows = [[row["op"], *(f"{row[key]}" for key in ("n", "p50", "p95", "p99"))] for row in found]
    return [["call", "n", "p50 ms", "p95 ms", "p99 ms"], *rows] if rows else []


def costs(backend: Mapping[str, Any]) -> list[list[str]]:
    """What one call costs; nothing where that was not counted."""
    rows = [
        [
            cost["operation"],
            _counts(cost["requests"]),
            _counts(cost["statements"]),
            *(f"{cost[key]}" for key in ("logins", "bytes_up", "bytes_down")),
        ]
        for cost in backend["cost"]
    ]
    return [list(COSTS), *rows] if rows else []


def size(count: int | None) -> str:
    """`10 kB`, `100 MB`; empty for None."""
    if count is None:
        return ""
    return f"{count / 1_000_000:g} MB" if count >= 1_000_000 else f"{count / 1000:g} kB"


def _time(row: Mapping[str, Any]) -> list[str]:
    low, high = row["intervals"]["p95"]
    ways = ", ".join(f"{name} {taken:g}" for name, taken in (row["round_trip"] or {}).items())
    return [
        row["op"],
        size(row["size_bytes"]),
        *(f"{row[key]:g}" for key in ("n", "p50", "p95")),
        f"{low:g} to {'?' if high is None else f'{high:g}'}",
        f"{row['p99']:g}",
        "" if row["target"] is None else f"< {row['target']:g}",
        row["status"] or "",
        row["requirement"] or "",
        ways,
        told(row),
    ]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def tables(backend: Mapping[str, Any]) -> list[tuple[str, Sequence[Sequence[str]]]]:
    """All three, those that are not empty, each with what it shows."""
    found = [
        ("Times of single calls of one client:", times(backend)),
        ("What one call costs:", costs(backend)),
        ("Calls of all tests, which ran beside each other:", passing(backend)),
    ]
    return [(title, rows) for title, rows in found if rows]
