"""What the page says of times, costs, contention and faults; matplotlib is imported only to draw."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

ENOUGH = 100  # calls: the 99th percentile of fewer is the slowest one
MOST_PLOTS = 3  # of contention: the tests with the most refusals; the table has all
FAULT_COLUMNS = ("fault", "tests", "injected", "hits", "operations", "unknown", "violations")
Row = Mapping[str, Any]


def measured(backend: Mapping[str, Any], key: str, *, plotted: bool) -> Mapping[str, Any]:
    """The rows of the tables, and the plots (`""` and none where there is nothing to draw)."""
    aimed = [row for row in backend["latency"] if row.get("basis") == "performance"]
    passing = [row for row in backend["latency"] if row.get("basis") != "performance"]
    often = [row for row in passing if row["n"] >= ENOUGH]
    queues = backend.get("contention") or []
    windows = backend.get("windows") or []
    return {
        "targets": [_against_target(row) for row in aimed],
        "targets_head": ["call", "state", "calls", "p50", "p95", "p99", "target", "result"],
        "targets_plot": _latencies(aimed, f"{key}-targets") if plotted and aimed else "",
        "simulated": any(row.get("simulated") for row in aimed),
        "profiles": sorted({row["profile"] for row in aimed if row.get("profile")}),
        "latencies": [[row["op"], row["n"], *map(_ms, _percentiles(row))] for row in passing],
        "latency_plot": _latencies(often, f"{key}-latency") if plotted and often else "",
        "costs": [_cost(row) for row in backend.get("cost") or ()],
        "queues": [_queue(queue) for queue in queues],
        "queue_plots": _queues(backend, queues, f"{key}-queue") if plotted else [],
        "fault_rows": [
            [
                row[name]
                for name in ("fault", "tests", "injected", "hits", "operations", "unknown", "violations")
            ]
            for row in backend["faults"]
        ],
        "window_plots": _windows(windows, f"{key}-windows") if plotted else [],
    }


def _percentiles(row: Row) -> Sequence[float]:
    return row["p50"], row["p95"], row["p99"]


def _against_target(row: Row) -> Sequence[object]:
    low, high = (row.get("intervals") or {}).get("p95") or (None, None)
    between = "" if low is None else f" ({_ms(low)} to {'?' if high is None else _ms(high)})"
    target = "" if row["target"] is None else f"{row['target']:g}"
    cited = f" {row['requirement']}" if row.get("requirement") else ""
    p50, p95, p99 = map(_ms, _percentiles(row))
    status = f"{row.get('status') or 'no target'}{cited}"
    return [row["op"], _size(row.get("size_bytes")), row["n"], p50, f"{p95}{between}", p99, target, status]


def _latencies(rows: Sequence[Row], name: str) -> Markup:
    from lockproof.report.html import plots  # costs half a second, which most runs need not spend

    labels = [f"{row['op']} {_size(row.get('size_bytes'))}".strip() for row in rows]
    return Markup(plots.latencies(list(zip(labels, rows, strict=True)), name))


def _cost(row: Row) -> Sequence[object]:
    requests, statements = (
        ", ".join(f"{count} {kind}" for kind, count in sorted(row[part].items()))
        for part in ("requests", "statements")
    )
    return [
        row["operation"],
        requests,
        statements,
        row.get("logins", 0),
        _size(row["bytes_up"]),
        _size(row["bytes_down"]),
    ]


def _queue(queue: Row) -> Sequence[object]:
    waiters = queue["waiters"]
    medians = [w["median_ms"] for w in waiters if w["median_ms"] is not None]
    longest = max((w["longest_ms"] for w in waiters if w["longest_ms"] is not None), default=None)
    return [
        queue["test"].rpartition("::")[2],
        queue["workspace"],
        len(waiters),
        sum(w["granted"] for w in waiters),
        sum(w["refused"] for w in waiters),
        f"{_ms(statistics.median(medians))} ms" if medians else "",
        "" if longest is None else f"{_ms(longest)} ms",
    ]


def _queues(backend: Mapping[str, Any], queues: Sequence[Row], name: str) -> Sequence[Mapping[str, Any]]:
    """The plots of the locks that were refused most often, of each test one."""
    by_test: dict[str, tuple[int, Row]] = {}
    for queue in queues:
        refused = sum(w["refused"] for w in queue["waiters"])
        if refused > by_test.get(queue["test"], (0, queue))[0]:
            by_test[queue["test"]] = refused, queue
    chosen = sorted(by_test.values(), key=lambda found: -found[0])[:MOST_PLOTS]
    if not chosen:
        return []
    from lockproof.report.html import plots

    summaries = {result["id"]: result["summary"] for result in backend["results"]}
    return [
        {
            "plot": Markup(plots.waiting(queue["waiters"], f"{name}-{n}")),
            "summary": summaries.get(queue["test"]) or queue["test"],
            "never": sum(not w["granted"] for w in queue["waiters"]),
        }
        for n, (_, queue) in enumerate(chosen)
    ]


def _windows(tests: Sequence[Row], name: str) -> Sequence[tuple[str, int, Markup]]:
    """A plot for each family of faults (`net`, `kill`, …) of the tests in which one of it was injected."""
    families: dict[str, list[tuple[str, Row]]] = {}
    for test in tests:
        for family in sorted({window["fault"].partition(".")[0] for window in test["faults"]}):
            own = [window for window in test["faults"] if window["fault"].partition(".")[0] == family]
            label = _label(test["test"], own)
            families.setdefault(family, []).append((label, {**test, "faults": own}))
    if not families:
        return []
    from lockproof.report.html import plots

    return [
        (family, len(chosen), Markup(plots.windows(chosen, f"{name}-{n}")))
        for n, (family, chosen) in enumerate(sorted(families.items()))
    ]


def _label(test: str, windows: Sequence[Row]) -> str:
    """What tells a line apart: the faults where they are few, and the test."""
    faults = sorted({window["fault"].partition(".")[2] or window["fault"] for window in windows})
    told = ", ".join(faults) if len(faults) < 3 else f"{len(faults)} kinds"
    case = test.rpartition("::")[2].partition("[")[0].removeprefix("test_").replace("_", " ")
    return f"{case if len(case) <= 44 else case[:43] + '…'}: {told}"


def _ms(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _size(size: int | None) -> str:
    if size is None:
        return ""
    for factor, unit in ((1_000_000, "MB"), (1_000, "kB")):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"
