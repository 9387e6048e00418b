"""Benchmarks: ratios against named peers that are measured in the same run, by turns.

`run_bench` measures and makes a record; `compare` puts two records beside each other. What is measured is in
`lockproof.bench.subjects`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import lockproof
from lockproof.bench.benchmark import AtLeast, Benchmark, Broken, Case, Lane, Need, Unavailable
from lockproof.bench.compare import Comparison, compare
from lockproof.bench.machine import Machine, Unrest
from lockproof.bench.measure import FULL, INTERRUPTED, QUICK, Effort, run
from lockproof.bench.record import BadRecord, Record, read_record
from lockproof.bench.row import Row

__all__ = [
    "FULL",
    "INTERRUPTED",
    "QUICK",
    "AtLeast",
    "BadRecord",
    "Benchmark",
    "Broken",
    "Case",
    "Comparison",
    "Effort",
    "Lane",
    "Machine",
    "Need",
    "Record",
    "Row",
    "Unavailable",
    "Unrest",
    "compare",
    "read_record",
    "run_bench",
]


def run_bench(
    benchmarks: Sequence[Benchmark],
    effort: Effort,
    began: Callable[[Machine, Unrest], object],
    show: Callable[[Row], object],
) -> Record:
    """Measures all of them. `began` is told the machine before, `show` each row once it is measured."""
    machine, before = Machine.this(), Unrest.now()
    began(machine, before)
    made, start = datetime.now(UTC), time.monotonic()
    found = run(benchmarks, effort, show)
    return Record(
        lockproof=lockproof.__version__,
        made=made.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - start, 1),
        quick=effort.quick,
        rounds=effort.rounds,
        machine=machine,
        before=before,
        after=Unrest.now(),
        versions=found.versions,
        rows=found.rows,
        skipped=found.skipped,
        failed=found.failed,
    )
