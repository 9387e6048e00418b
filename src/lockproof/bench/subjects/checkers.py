"""The checkers beside Porcupine (Go) on the same generated histories.

Both count processor time, and reading the file does not count. Porcupine is limited in time and memory; where
it was stopped its time is a lower bound. Its model of an unlock is laxer: what is free may be released again.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lockproof.bench.benchmark import CHECKOUT, AtLeast, Benchmark, Broken, Case, Lane, checkout, program
from lockproof.bench.ratio import Aim
from lockproof.checkers import Verdict, check, check_mutex, check_register
from lockproof.history import History, read_history
from lockproof.history.generate import Model, Workload, write

SOURCE = CHECKOUT / "benchmarks" / "porcupine"
JUDGES: Mapping[Model, Callable[[History], Verdict]] = {
    "lock": check_mutex,
    "register": check_register,
    "fenced": check,
}
FAULTS = {"lock": "double grant", "register": "stale read", "fenced": "zombie write"}
NAMES = {"lock": "locks", "register": "states", "fenced": "locks and states"}
LIMIT_S, LIMIT_MB = 3.0, 1024
LARGE = 10_000  # operations from which fewer kinds are tried: Porcupine decides none of them
AIMS = {1_000: Aim("subject", under=5), 100_000: Aim("subject", under=1000)}
MEMORY = Aim("subject", under=500)


def workloads(sizes: Sequence[int]) -> Iterator[Workload]:
    """All histories, small ones first."""
    for size in sizes:
        for model in JUDGES:
            for clients in (5, 20, 100) if size < LARGE else (20,):
                for unknown in (0.0, 0.05) if size < LARGE else (0.05,):
                    yield Workload(model=model, operations=size, clients=clients, seed=5, unknown=unknown)
            if size < LARGE:
                fault = FAULTS[model]
                zombies = 0.5 if fault == "zombie write" else 0.0
                yield Workload(model=model, operations=size, clients=20, seed=5, fault=fault, zombies=zombies)


def beside(sizes: Sequence[int]) -> Iterator[Case]:
    """A case for each history; verdicts that differ break the benchmark."""
    with tempfile.TemporaryDirectory() as directory:
        porcupine = built(Path(directory))
        for number, workload in enumerate(workloads(sizes)):
            path = Path(directory, f"{number}.jsonl")
            write(workload, path)
            ours = Ours(workload, path)
            lost = f", {workload.unknown:.0%} lost" if workload.unknown else ""
            told = ", violated" if workload.fault else ""
            title = f"{NAMES[workload.model]}, {workload.operations:,} ops, {workload.clients} clients"
            yield Case(
                f"{title}{lost}{told}",
                Lane("lockproof", ours.sample),
                [Lane("Porcupine", by_porcupine(porcupine, path, ours.expected), aim_of(workload))],
            )
            if workload.operations >= LARGE:
                yield Case(
                    f"{title}{lost}, memory",
                    Lane("lockproof check", peak_of(path)),
                    [Lane("Porcupine", memory_of(porcupine, path), MEMORY)],
                    "MB",
                )
            path.unlink()


def aim_of(workload: Workload) -> Aim | None:
    """1,000 operations of 100 clients, and 100,000 with lost replies, have a time; all others have none."""
    demanding = workload.clients == 100 or workload.operations >= LARGE
    return AIMS.get(workload.operations) if demanding else None


class Ours:
    """The fast checker of a history's kind, in this process."""

    def __init__(self, workload: Workload, path: Path) -> None:
        self.judge = JUDGES[workload.model]
        self.history = read_history(path)
        self.expected = "violated" if workload.fault else "valid"
        self.history.operations()

    def sample(self, seconds: float) -> float:
        """Milliseconds of processor time, the median of runs."""
        gc.collect()
        gc.freeze()
        try:
            taken: list[float] = []
            while not taken or sum(taken) < seconds:
                start = time.process_time()
                verdict = self.judge(self.history)
                taken.append(time.process_time() - start)
        finally:
            gc.unfreeze()
        if verdict.status != self.expected:
            raise Broken(f"lockproof says {verdict.status} of a history that is {self.expected}")
        return 1000 * statistics.median(taken)


def built(folder: Path) -> Path:
    """Porcupine, built from the checkout."""
    target = folder / "porcupine"
    done = subprocess.run(
        ["go", "build", "-o", target, "."], cwd=SOURCE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Broken(f"Porcupine was not built: {done.stderr.strip()}")
    return target


def asked(porcupine: Path, path: Path, seconds: float, repeat: int) -> dict[str, Any]:
    """What Porcupine says of a history: its result, and the processor time of each run."""
    limits = ["-seconds", f"{seconds:g}", "-megabytes", str(LIMIT_MB), "-repeat", str(repeat)]
    done = subprocess.run(
        [porcupine, *limits, path], capture_output=True, text=True, timeout=8 * seconds + 120, check=False
    )
    if done.returncode:
        raise Broken(f"Porcupine failed: {done.stderr.strip() or done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def by_porcupine(porcupine: Path, path: Path, expected: str) -> Callable[[float], float]:
    """Samples its time; a verdict that it does not reach within its limits is `AtLeast`."""

    def sample(_: float) -> float:
        found = asked(porcupine, path, LIMIT_S, 1)
        milliseconds: float = 1000 * statistics.median(found["seconds"])
        if found["result"] not in ("valid", "violated"):
            return AtLeast(milliseconds)
        if found["result"] != expected:
            raise Broken(f"Porcupine says {found['result']} of a history that is {expected}")
        return milliseconds

    return sample


def memory_of(porcupine: Path, path: Path) -> Callable[[float], float]:
    """Samples its peak size; where it does not decide, at least that."""

    def sample(_: float) -> float:
        found = asked(porcupine, path, LIMIT_S, 1)
        megabytes: float = found["megabytes"] or LIMIT_MB  # 0: it was stopped at the limit
        return megabytes if found["result"] in ("valid", "violated") else AtLeast(megabytes)

    return sample


def peak_of(path: Path) -> Callable[[float], float]:
    """Samples the peak size in MB of `lockproof check FILE`."""

    def sample(_: float) -> float:
        command = [sys.executable, "-m", "lockproof", "check", str(path)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        ended, status, usage = os.wait4(process.pid, 0)
        assert ended == process.pid
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise Broken(f"lockproof check ended with {process.returncode}")
        return float(usage.ru_maxrss) * 1024 / 1_000_000

    return sample


def go_version() -> str:
    """The compiler's."""
    done = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False)
    return done.stdout.strip().removeprefix("go") or "unknown"


def porcupine_version() -> str:
    """The one that go.mod names."""
    (line,) = (
        line for line in (SOURCE / "go.mod").read_text().splitlines() if "anishathalye/porcupine" in line
    )
    return line.split()[-1].removeprefix("v")


CHECKERS = Benchmark(
    "checkers",
    "Whether a history is linearizable: locks, states, and states written under locks.",
    "lockproof's checkers, in Python",
    "Porcupine, in Go",
    "ms of processor time",
    beside,
    (
        program("go", "install Go 1.24 or newer", shutil.which),
        checkout("benchmarks/porcupine"),
    ),
    "operations of a history",
    (1_000, 100_000),
    (1_000,),
    programs={"go": go_version, "porcupine": porcupine_version},
)
