"""How long calls took, from the histories of a run. Described, not judged: no target is set here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lockproof.history import HistoryError, read_history


def summarise(histories: Path, backend: str) -> list[dict[str, Any]]:
    """Per operation: number of acknowledged calls, and their percentiles in milliseconds.

    `target` and `met` are null: the tests of these suites run beside each other.
    """
    taken: dict[str, list[float]] = {}
    for path in sorted(histories.glob("*.jsonl")):
        try:
            history = read_history(path)
        except HistoryError:  # a history that a crash cut off before its header
            continue
        if history.header.get("backend") != backend:
            continue
        for operation in history.operations():
            if operation.kind == "ok":
                taken.setdefault(operation.f, []).append((operation.returned - operation.called) / 1e6)
    return [
        {
            "op": op,
            "n": len(values),
            "p50": percentile(values, 50),
            "p95": percentile(values, 95),
            "p99": percentile(values, 99),
            "target": None,
            "met": None,
        }
        for op, values in sorted(taken.items())
    ]


def percentile(values: Sequence[float], rank: float) -> float:
    """The smallest value that at least `rank` percent of the values do not exceed."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)], 3)
