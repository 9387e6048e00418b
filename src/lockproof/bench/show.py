"""A run for people: text as it is measured, and Markdown for a README."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lockproof.bench.benchmark import Benchmark
from lockproof.bench.compare import MARGIN, Change, Comparison
from lockproof.bench.machine import Machine, Unrest
from lockproof.bench.record import Record
from lockproof.bench.row import Row

MICROSECONDS = 0.1  # milliseconds below which a table says µs


def head(machine: Machine, before: Unrest) -> str:
    """What stands above the table, before anything is measured."""
    return f"{machine.cpu}, {machine.cpus} CPUs; {machine.python}; {machine.system}\nbefore: {before.text()}"


def line(row: Row, last: Row | None) -> str:
    """One row; the names of its benchmark and case only where they differ from the `last`."""
    title = "" if last and last.benchmark == row.benchmark else f"{row.benchmark}\n"
    case = "" if last and (last.benchmark, last.case) == (row.benchmark, row.case) else row.case
    ours, theirs = (figure(values, row.unit) for values in (row.ours, row.theirs))
    return (
        f"{title}  {case:32} {row.subject} {ours} beside {row.peer} {theirs}: "
        f"{ratio(row)}, n {row.ratio.n}{aimed(row)}"
    )


def ratio(row: Row) -> str:
    """The ratio with its interval, and which end of it is good."""
    found = row.ratio
    return f"{row.bound}{x(found.median)}x ({x(found.low)} to {x(found.high)}; {row.better} is better)"


def aimed(row: Row) -> str:
    """The aim, if there is one, and whether it is reached."""
    return "" if row.aim is None else f"; {row.aim.text(row.unit)}: {row.met}"


def figure(values: Sequence[float], unit: str) -> str:
    """The median of samples in their unit."""
    ordered = sorted(values)
    middle = (ordered[len(ordered) // 2] + ordered[(len(ordered) - 1) // 2]) / 2
    if unit == "ms" and middle < MICROSECONDS:
        middle, unit = 1000 * middle, "µs"
    return f"{x(middle)} {unit}"


def x(value: float) -> str:
    """A number with two or three digits that count, without an exponent."""
    size = abs(value)
    if size >= 100 or not size:
        return f"{value:,.0f}"
    return f"{value:.{1 - math.floor(math.log10(size)) + (size >= 0.1)}f}" if size < 10 else f"{value:.1f}"


def foot(record: Record) -> Iterator[str]:
    """What stands below the table."""
    yield f"after:  {record.after.text()}; {record.seconds:.0f} s"
    for word, reasons in (("skipped", record.skipped), ("FAILED", record.failed)):
        yield from (f"{word} {name}: {reason}" for name, reason in reasons.items())


def markdown(record: Record) -> str:
    """The table and what it was measured on, for a README or a report."""
    lines = [
        "| benchmark | what | subject | peer | subject / peer | aim |",
        "|---|---|---|---|---|---|",
    ]
    for row in record.rows:
        found = row.ratio
        cells = (
            row.benchmark,
            row.case,
            f"{row.subject}: {figure(row.ours, row.unit)}",
            f"{row.peer}: {figure(row.theirs, row.unit)}",
            f"{row.bound}{x(found.median)}x ({x(found.low)}–{x(found.high)})"  # noqa: RUF001 - a range
            + (" ↑" if row.better == "higher" else ""),
            "" if row.aim is None else f"{row.aim.text(row.unit)}: {row.met}",
        )
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    lines.append("")
    kind = "quick, " if record.quick else ""
    lines.append(
        f"Medians of {record.rounds} rounds ({kind}{record.seconds:.0f} s) with the interval that holds the "
        "true ratio in 95 of 100 runs; ↑: higher is better, else lower is. ≤ and ≥: a side was stopped "
        "at a limit."
    )
    machine = record.machine
    lines.append(
        f"{machine.cpu}, {machine.cpus} CPUs, {machine.python}. Before: {record.before.text()}. "
        f"After: {record.after.text()}."
    )
    versions = [f"lockproof {record.lockproof}", *(f"{k} {v}" for k, v in sorted(record.versions.items()))]
    lines.append(f"Versions: {', '.join(versions)}.")
    for word, reasons in (("Skipped", record.skipped), ("Failed", record.failed)):
        lines.extend(f"{word}: {name}: {reason}." for name, reason in reasons.items())
    return "\n".join(lines)


def compared(found: Comparison, against: str) -> Iterator[str]:
    """What `--against` says."""
    yield f"against {against}, by ratio:"
    yield from (f"  not the same: {condition}" for condition in found.conditions)
    still = [change for change in found.changes if change.moved == "same"]
    yield from (f"  {told(change)}" for change in found.changes if change.moved != "same")
    yield f"  {len(still)} of {len(found.changes)} did not move: both intervals share a value"
    for word, rows in (("new", found.new), ("no longer there", found.gone)):
        yield from (f"  {word}: {name(row)}" for row in rows)
    yield f"  {len(found.worse)} clearly worse (intervals apart, and worse by at least {MARGIN - 1:.0%})"


def told(change: Change) -> str:
    """One ratio that is not the same."""
    words = {"worse": "WORSE", "better": "better", "moved": "moved, by less than counts"}
    was, now = ratio(change.earlier), ratio(change.now)
    return f"{words.get(change.moved, change.moved)}: {name(change.now)}: {was}, now {now}"


def name(row: Row) -> str:
    """A comparison, for a sentence."""
    return f"{row.benchmark}, {row.case}, {row.subject} beside {row.peer}"


def listed(benchmarks: Sequence[Benchmark]) -> Iterator[str]:
    """What `--list` says: each benchmark, and why it cannot be run here."""
    for one in benchmarks:
        yield f"{one.name}: {one.sentence}"
        yield f"    {one.subject} beside {one.peer}, in {one.unit}"
        if one.varied:
            sizes, quick = (", ".join(f"{size:,}" for size in some) for some in (one.sizes, one.quick))
            yield f"    {one.varied}: {sizes}; quick: {quick}"
        reason = one.missing()
        if reason is not None:
            yield f"    would be skipped: {reason}"
