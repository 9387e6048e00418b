"""lockproof's checkers beside Porcupine (Go) on the same histories: time, memory, and whether they agree.

    python benchmarks/checkers_vs_porcupine.py [--operations 1000 10000 100000] [--seconds 20] [--json FILE]

Histories are generated from a seed: one lock, one state, or one state written under its lock; 5, 20 and
100 clients; no lost replies or 5 %; valid, or with one certain violation. Each checker judges each history
in a process of its own; reading the file does not count. Times are processor time, and of several short
runs the fastest counts, so that neighbours on the machine disturb both little; the noise is stated. Porcupine
is limited in time and memory; where it failed on a smaller history of a kind, it is not tried again.
Its model of an unlock is laxer than ours: whatever is free may be released again.

Targets: never slower than Porcupine from 1,000 operations up; 1,000 operations of 100 clients in under 5 ms;
100,000 operations, 5 % of them of unknown outcome, in under 1 s and 500 MB. Needs Go.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lockproof.history.generate import Model, Workload, write

SOURCE = Path(__file__).parent / "porcupine"
MODELS: tuple[Model, ...] = ("lock", "register", "fenced")
FAULTS = {"lock": "double grant", "register": "stale read", "fenced": "zombie write"}
REPEAT = 9
SMALL_MS, SMALL = 5.0, 1_000
LARGE_MS, LARGE_MB, LARGE = 1000.0, 500.0, 100_000
OURS = """
import gc, json, resource, sys, time
from pathlib import Path
from lockproof.checkers import check, check_mutex, check_register
from lockproof.history import read_history
judge = {"lock": check_mutex, "register": check_register, "fenced": check}[sys.argv[1]]
history = read_history(Path(sys.argv[2]))
operations = len(history.operations())
gc.collect()
gc.freeze()
seconds = []
while len(seconds) < int(sys.argv[3]) and sum(seconds) < 2:
    start = time.process_time()
    verdict = judge(history)
    seconds.append(time.process_time() - start)
found = {"result": verdict.status, "operations": operations, "seconds": seconds}
print(json.dumps({**found, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


@dataclass(frozen=True)
class Measured:
    """What one checker said of one history: `valid`, `violated`, or which limit it ran into."""

    result: str
    operations: int
    seconds: list[float]
    megabytes: float

    @property
    def decided(self) -> bool:
        return self.result in {"valid", "violated"}

    @property
    def ms(self) -> float:
        """Milliseconds of the fastest run."""
        return 1000 * min(self.seconds)

    def __str__(self) -> str:
        return f"{self.ms:.2f}" if self.decided else f">{self.ms:.0f} ({self.result})"


@dataclass(frozen=True)
class Row:
    """One history, and what both said of it. `porcupine` is `None` where it was not tried."""

    workload: Workload
    expected: str
    ours: Measured
    porcupine: Measured | None

    @property
    def ratio(self) -> float | None:
        """How many times faster than Porcupine; at least so many, where it was stopped."""
        return None if self.porcupine is None else self.porcupine.ms / self.ours.ms


def workloads(sizes: list[int]) -> Iterator[Workload]:
    """All histories, small ones first."""
    for size in sizes:
        for model in MODELS:
            for clients in (5, 20, 100):
                for unknown in (0.0, 0.05):
                    for fault in (None, FAULTS[model]):
                        zombies = 0.5 if fault == "zombie write" else 0.0
                        yield Workload(
                            model=model,
                            operations=size,
                            clients=clients,
                            seed=5,
                            unknown=unknown,
                            fault=fault,
                            zombies=zombies,
                        )


def measured(command: list[str], seconds: float) -> Measured:
    """What a checker prints. It stops itself; one that does not is killed long after."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * seconds + 120, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed: {done.stderr.strip() or done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return Measured(**found)


def compare(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Both checkers on every history."""
    porcupine = folder / "porcupine"
    subprocess.run(["go", "build", "-o", porcupine, "."], cwd=SOURCE, check=True)
    failed: set[tuple[object, ...]] = set()
    limits = ["-seconds", str(options.seconds), "-megabytes", str(options.megabytes), "-repeat", str(REPEAT)]
    for workload in workloads(options.operations):
        path = folder / "history.jsonl"
        write(workload, path)
        ours = measured([sys.executable, "-c", OURS, workload.model, str(path), str(REPEAT)], 60)
        kind = (workload.model, workload.clients, workload.unknown, workload.fault)
        theirs = None
        if kind not in failed:
            theirs = measured([str(porcupine), *limits, str(path)], options.seconds)
            if not theirs.decided:
                failed.add(kind)
        yield Row(workload, "valid" if workload.fault is None else "violated", ours, theirs)


HEAD = (
    "model",
    "ops",
    "clients",
    "lost",
    "history",
    "ours ms",
    "MB",
    "porcupine ms",
    "MB",
    "faster",
    "agree",
)


def show(row: Row) -> None:
    """Prints one line of the table."""
    load, theirs = row.workload, row.porcupine
    agree = (
        "" if theirs is None or not theirs.decided else "yes" if theirs.result == row.ours.result else "NO"
    )
    ratio = "" if row.ratio is None else f"{'' if theirs and theirs.decided else '>'}{row.ratio:.1f}x"
    cells = (
        load.model,
        str(load.operations),
        str(load.clients),
        f"{load.unknown:.0%}",
        row.expected,
        str(row.ours),
        f"{row.ours.megabytes:.0f}",
        "-" if theirs is None else str(theirs),
        "" if theirs is None else f"{theirs.megabytes:.0f}",
        ratio,
        agree,
    )
    print(line(cells), flush=True)


def line(cells: tuple[str, ...]) -> str:
    """Columns of fixed width."""
    widths = (9, 7, 8, 5, 9, 9, 6, 16, 6, 10, 6)
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def verdict(rows: list[Row]) -> bool:
    """Prints whether the targets are met, and says so."""
    compared = [row for row in rows if row.porcupine is not None]
    decided = [row for row in compared if row.porcupine and row.porcupine.decided]
    slowest = min(compared, key=lambda row: row.ratio or 0)
    small = [row.ours.ms for row in rows if row.workload.operations == SMALL and row.workload.clients == 100]
    large = [row.ours for row in rows if row.workload.operations == LARGE and row.workload.unknown]
    wrong = [row for row in rows if row.ours.result != row.expected]
    differ = [row for row in decided if row.porcupine and row.porcupine.result != row.ours.result]
    spread = [max(m.seconds) / min(m.seconds) for row in compared for m in (row.ours, row.porcupine) if m]
    least = slowest.ratio or 0
    met = {
        f"{len(rows) - len(wrong)} of {len(rows)} verdicts are as generated": not wrong,
        f"{len(decided) - len(differ)} of the {len(decided)} that Porcupine decided agree": not differ,
        f"never slower than Porcupine: {least:.2f} times as fast at the least": least >= 1,
    }
    if small:
        text = f"{SMALL} operations of 100 clients in {max(small):.1f} ms at most (under {SMALL_MS:g})"
        met[text] = max(small) < SMALL_MS
    if large:
        worst, size = max(item.ms for item in large), max(item.megabytes for item in large)
        text = f"{LARGE} operations, 5 % lost, in {worst:.0f} ms and {size:.0f} MB at most"
        met[f"{text} (under {LARGE_MS:g} and {LARGE_MB:g})"] = worst < LARGE_MS and size < LARGE_MB
    print(f"\nPorcupine decided {len(decided)} of {len(rows)}.")
    for text, yes in met.items():
        print(f"{'met   ' if yes else 'MISSED'} {text}")
    middle, most = statistics.median(spread), max(spread)
    print(f"noise: slowest / fastest run of one history {middle:.2f} (median), {most:.1f} (most)")
    return all(met.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--operations",
        type=int,
        nargs="+",
        default=[1_000],
        help="of a history; 1000 10000 100000: half an hour",
    )
    parser.add_argument("--seconds", type=float, default=20, help="limit of one run of Porcupine")
    parser.add_argument("--megabytes", type=int, default=5120, help="limit of its heap")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    options = parser.parse_args()
    if shutil.which("go") is None:
        raise SystemExit("Porcupine is built with Go, and there is no `go` on PATH: install Go 1.24 or newer")
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}; Porcupine v1.3.1, at most {options.seconds:g} s")
    print(line(HEAD))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in compare(options, Path(folder)):
            show(row)
            rows.append(row)
    met = verdict(rows)
    if options.json:
        document = {"machine": machine, "load": os.getloadavg()[0], "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
