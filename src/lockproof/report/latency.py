"""How long calls took, and what they cost.

The suite `performance` measures under conditions of its own; what it found is judged against the targets of
the registry. The calls of all other tests ran beside each other: they are described, from their histories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lockproof.checkers.percentiles import Interval, interval, judge, percentile
from lockproof.history import HistoryError, read_history
from lockproof.spec import requirements

MEASURING = "suites/performance/"
RANKS = (50, 95, 99)
JUDGED = 95
SIMULATED = frozenset({"fake"})
"""The targets whose times are their own, and not those of what they stand for."""


def measured(results: Sequence[Mapping[str, Any]], target: str) -> list[dict[str, Any]]:
    """A row for each measurement that the tests told of: percentiles in milliseconds with their 95 %
    confidence intervals, and whether the 95th is `met`, `missed` or `undecided`.

    What was measured beside other workers can only have taken longer: it is never `missed`.
    """
    found = [count for result in results for count in result.get("counts") or () if "samples" in count]
    return [_row(measurement, target) for measurement in found]


def costs(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each operation cost, as the tests told."""
    return [dict(c) for result in results for c in result.get("counts") or () if "bytes_up" in c]


def judged(
    rolled: Sequence[dict[str, Any]], rows: Sequence[Mapping[str, Any]], target: str
) -> list[dict[str, Any]]:
    """The requirements, those with a target by what was measured: the worst of `pass` (met), `fail` (missed)
    and `unknown` (undecided or not measured). On a fake none of them applies. A test that did not pass
    says more than its measurement: its status stays."""
    registry = requirements()
    known = (registry.get(entry["id"]) for entry in rolled)
    return [
        {**entry, "status": _status(entry["id"], rows, target)}
        if requirement is not None and requirement.target_ms is not None and entry["status"] == "pass"
        else entry
        for entry, requirement in zip(rolled, known, strict=True)
    ]


def summarise(histories: Path, backend: str, target: str) -> list[dict[str, Any]]:
    """Per operation of the tests that measure nothing: number of acknowledged calls, and their percentiles
    in milliseconds. No target is set for them: these tests ran beside each other."""
    taken: dict[str, list[float]] = {}
    for path in sorted(histories.glob("*.jsonl")):
        try:
            history = read_history(path)
        except HistoryError:  # a history that a crash cut off before its header
            continue
        if history.header.get("backend") != backend or MEASURING in history.header.get("test", ""):
            continue
        for operation in history.operations():
            if operation.kind == "ok":
                taken.setdefault(operation.f, []).append((operation.returned - operation.called) / 1e6)
    unset = ("target", "met", "size_bytes", "status", "requirement", "intervals", "profile", "round_trip")
    return [
        {
            "op": op,
            "n": len(values),
            **{f"p{rank}": round(percentile(values, rank), 3) for rank in RANKS},
            **dict.fromkeys(unset),
            "basis": "histories",
            "simulated": target in SIMULATED,
            "workers": None,
            "samples": [],
        }
        for op, values in sorted(taken.items())
    ]


def told(row: Mapping[str, Any]) -> str:
    """What a reader must know of a row beside its numbers: `simulated: same-region (…), warehouse warm`."""
    if not row["simulated"]:
        return "measured"
    return f"simulated: {row['profile'] or 'the time of the fake itself'}"


def _row(measurement: Mapping[str, Any], target: str) -> dict[str, Any]:
    samples = measurement["samples"]
    found = {rank: interval(samples, rank) for rank in RANKS}
    name = measurement["requirement"]
    limit = requirements()[name].target_ms if name in requirements() else None
    status = None if limit is None else judge(found[JUDGED], limit)
    if status == "missed" and measurement["workers"] > 1:
        status = "undecided"
    return {
        "op": measurement["operation"],
        "n": len(samples),
        **{f"p{rank}": round(found[rank].estimate, 3) for rank in RANKS},
        "target": limit,
        "met": {"met": True, "missed": False}.get(status or ""),
        "basis": "performance",
        "size_bytes": measurement["size_bytes"],
        "status": status,
        "requirement": name,
        "intervals": {f"p{rank}": _ends(found[rank]) for rank in RANKS},
        "simulated": target in SIMULATED,
        "profile": measurement["profile"] or None,
        "round_trip": measurement["round_trip"],
        "workers": measurement["workers"],
        "samples": samples,
    }


def _ends(found: Interval) -> list[float | None]:
    return [round(found.low, 3), None if found.high is None else round(found.high, 3)]


def _status(name: str, rows: Sequence[Mapping[str, Any]], target: str) -> str:
    if target in SIMULATED:
        return "skip"
    found = {row["status"] for row in rows if row["requirement"] == name}
    if "missed" in found:
        return "fail"
    return "pass" if found == {"met"} else "unknown"
