"""The plots of a report: latencies against targets, waiting for a lock, when faults were in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import NullLocator

from lockproof.report.html.themed import FAULT, INK, LINE, OK, REFUSED, SOFT, TARGET, UNKNOWN, drawing, themed

ROW = 0.26  # inches
SLIGHT = 0.6  # percent of the width that a moment takes


def latencies(rows: Sequence[tuple[str, Mapping[str, Any]]], name: str) -> str:
    """One line for each row, under its label: the samples, where there are any, as faint points, p50, p95 and
    p99 as marks, the 95 % interval of p95, and the target."""
    labels = [label for label, _ in rows]
    found = [row for _, row in rows]
    lines = range(len(rows))
    samples = [(ms, y) for y, row in enumerate(found) for ms in row.get("samples") or ()]
    bounds = [(y, *row["intervals"]["p95"]) for y, row in enumerate(found) if row.get("intervals")]
    known = [(y, low, high) for y, low, high in bounds if low is not None and high is not None]
    aims = [(y, row["target"]) for y, row in enumerate(found) if row["target"] is not None]
    p50, p95, p99 = ([row[part] for row in found] for part in ("p50", "p95", "p99"))
    with drawing(0.7 + ROW * len(rows), labels) as (figure, axes):
        axes.plot([ms for ms, _ in samples], [y for _, y in samples], ".", color=OK, alpha=0.25, zorder=2)
        axes.hlines(lines, p50, p99, color=OK, linewidth=1.5, zorder=3)
        axes.plot(p50, lines, "o", color=OK, markersize=5, zorder=4)
        axes.plot(p99, lines, "|", color=OK, markersize=8, zorder=4)
        ys, lows, highs = ([bound[n] for bound in known] for n in range(3))
        axes.hlines(ys, lows, highs, color=INK, linewidth=4, alpha=0.4, zorder=4)
        axes.plot(p95, lines, "D", color=INK, markersize=5.5, zorder=5)
        at = [y for y, _ in aims]
        below, above = [y + 0.38 for y in at], [y - 0.38 for y in at]
        axes.vlines([ms for _, ms in aims], below, above, color=TARGET, linewidth=2.5, zorder=5)
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: _time(value))
        axes.set_xlabel("time of a call, logarithmic")
        axes.set_yticks(lines, [_safe(label) for label in labels])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="x", linewidth=0.6)
        return themed(figure, name, "How long calls took; the table has the numbers")


def waiting(waiters: Sequence[Mapping[str, Any]], name: str) -> str:
    """A column for each client, in the order in which they came: up to the longest time that it waited, a
    point at the median; a cross for a client that never got the lock."""
    with drawing(2.6) as (figure, axes):
        got = [(n, w) for n, w in enumerate(waiters, start=1) if w["granted"]]
        axes.bar([n for n, _ in got], [w["longest_ms"] for _, w in got], color=OK, alpha=0.45, width=0.7)
        axes.plot([n for n, _ in got], [w["median_ms"] for _, w in got], "o", color=INK, markersize=4)
        never = [n for n, w in enumerate(waiters, start=1) if not w["granted"]]
        axes.plot(never, [0] * len(never), "x", color=REFUSED, markersize=7, markeredgewidth=2)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: _time(value))
        few = len(waiters) <= 12
        names = [_safe(w["client"])[:10] for w in waiters] if few else None
        axes.set_xticks(range(1, len(waiters) + 1) if few else _some(len(waiters)), names)
        axes.set_xlim(0.4, len(waiters) + 0.6)
        axes.tick_params(axis="x", pad=7)  # clear of the crosses
        axes.set_xlabel("clients, in the order in which they came")
        axes.grid(axis="y", linewidth=0.6)
        return themed(figure, name, f"Time to get the lock, of each of {len(waiters)} clients")


def windows(tests: Sequence[tuple[str, Mapping[str, Any]]], name: str) -> str:
    """A line for each test, under its label, from its begin to its end: shaded while a fault was in force,
    with marks where a call was refused and where the outcome of one is unknown."""
    labels = [label for label, _ in tests]
    lines = range(len(tests))
    forces: list[tuple[int, float, float]] = []
    marks: list[tuple[str, float, int]] = []
    for y, (_, test) in enumerate(tests):
        percent = 100 / max(test["ms"], 0.001)
        for window in test["faults"]:
            start = window["start"] * percent
            stop = 100.0 if window["stop"] is None else window["stop"] * percent
            forces.append((y, start, max(stop, start + SLIGHT)))
        for call in test["calls"]:
            at = call["start"] if call["stop"] is None else call["stop"]
            marks.append((call["outcome"], at * percent, y))
    with drawing(0.7 + ROW * len(tests), labels) as (figure, axes):
        axes.hlines(lines, 0, 100, color=LINE, linewidth=1, zorder=1)
        ys, starts, stops = ([force[n] for force in forces] for n in range(3))
        axes.hlines(ys, starts, stops, color=FAULT, linewidth=72 * ROW * 0.7, alpha=0.6, zorder=2)
        for outcome, mark, colour in (("refused", "|", REFUSED), ("unknown", "x", UNKNOWN)):
            there = [(at, y) for kind, at, y in marks if kind == outcome]
            when, rows = [at for at, _ in there], [y for _, y in there]
            axes.plot(when, rows, mark, color=colour, markersize=7, markeredgewidth=1.5, zorder=4)
        axes.set_xlim(0, 101)
        axes.set_xticks([0, 25, 50, 75, 100], ["begin", "25 %", "50 %", "75 %", "end"])
        axes.set_yticks(lines, [_safe(label) for label in labels])
        axes.set_ylim(len(tests) - 0.4, -0.6)
        axes.tick_params(axis="y", labelcolor=SOFT)
        return themed(figure, name, "When faults were in force, and which calls went badly")


def _some(count: int) -> Sequence[int]:
    step = max(1, count // 10)
    return [1, *range(step, count + 1, step)] if step > 1 else range(1, count + 1)


def _time(ms: float) -> str:
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"


def _safe(text: str) -> str:
    """A label as it is: dollars would begin a formula, and XML has no word for control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text).replace("$", r"\$")
