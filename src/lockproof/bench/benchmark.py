"""What a benchmark is: a subject and its named peers, measured by turns.

A benchmark yields cases; a case has one subject and one or more peers, each a `Lane` that can be sampled.
Every round samples each lane once, one after the other (A B A B …), so that whatever else the machine does
meets all of them alike; only ratios within a round count.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lockproof.bench.ratio import Aim

Better = Literal["lower", "higher"]
CHECKOUT = Path(__file__).parents[3]  # of an editable installation; of a wheel, a folder without benchmarks
LEAST_CALLS = 3


class Unavailable(Exception):
    """The benchmark cannot be run on this machine; one line that says why. It counts as skipped."""


class Broken(Exception):
    """Subject or peer answered wrongly: nothing was measured; one line that says what happened."""


class AtLeast(float):
    """A measurement that was stopped at a limit: it would have been at least so much.

    A lane that was stopped once is not asked again in that case; the sample stands for all rounds.
    """


@dataclass(frozen=True)
class Lane:
    """One contestant. `sample` measures for about so many seconds and returns one number in the case's unit.

    `aim` is, on a peer, what the subject is to reach beside it.
    """

    name: str
    sample: Callable[[float], float]
    aim: Aim | None = None


@dataclass(frozen=True)
class Case:
    """One comparison: `subject` beside each of `peers`. `better`: which end of the unit is good."""

    name: str
    subject: Lane
    peers: Sequence[Lane]
    unit: str = "ms"
    better: Better = "lower"


@dataclass(frozen=True)
class Need:
    """What a benchmark cannot do without. `missing` returns the reason, or `None` where it is there."""

    missing: Callable[[], str | None]


@dataclass(frozen=True)
class Benchmark:
    """One entry of `lockproof bench`.

    `sizes` are what is varied, in the words of `varied`; `quick` those of a quick run. `cases` is a generator
    that keeps its servers running while it is open. It may raise `Unavailable` or `Broken`.
    """

    name: str
    sentence: str
    subject: str
    peer: str
    unit: str
    cases: Callable[[Sequence[int]], Iterator[Case]]
    needs: Sequence[Need] = ()
    varied: str = ""
    sizes: Sequence[int] = ()
    quick: Sequence[int] = ()
    packages: Sequence[str] = ()
    """Distributions whose versions belong into the record."""
    programs: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    """The same of programs, as what tells the version."""

    def missing(self) -> str | None:
        """Why it cannot be run here: all that is missing, in one line."""
        reasons = [reason for need in self.needs if (reason := need.missing())]
        return "; ".join(reasons) or None

    def versions(self) -> dict[str, str]:
        """What was measured, by name."""
        found = {name: importlib.metadata.version(name) for name in self.packages}
        return {**found, **{name: told() for name, told in self.programs.items()}}


def package(module: str, install: str) -> Need:
    """A Python package that can be imported."""

    def missing() -> str | None:
        there = importlib.util.find_spec(module) is not None
        return None if there else f'no Python package {module}: pip install "{install}"'

    return Need(missing)


def program(name: str, install: str, find: Callable[[str], object] = shutil.which) -> Need:
    """A program that `find` finds, by default on PATH."""
    return Need(lambda: None if find(name) else f"no program {name}: {install}")


def checkout(path: str) -> Need:
    """A file of the source tree that no wheel holds."""
    return Need(lambda: None if (CHECKOUT / path).exists() else f"{path} is only in a checkout of lockproof")


def latency(call: Callable[[], Any], scale: float = 1000) -> Callable[[float], float]:
    """Samples how long `call` takes: the median of many, in ms unless `scale` says otherwise."""

    def sample(seconds: float) -> float:
        taken: list[float] = []
        end = time.perf_counter() + seconds
        while len(taken) < LEAST_CALLS or time.perf_counter() < end:
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        return scale * statistics.median(taken)

    return sample


def rate(call: Callable[[], Any], amount: float = 1) -> Callable[[float], float]:
    """Samples how many times a second `call` can be made, times `amount`."""
    return counted(lambda: (call(), amount)[1])


def counted(runs: Callable[[], float]) -> Callable[[float], float]:
    """Samples how much a second is done, where each call returns how much it did."""

    def sample(seconds: float) -> float:
        calls, done, start = 0, 0.0, time.perf_counter()
        while calls < LEAST_CALLS or time.perf_counter() - start < seconds:
            done += runs()
            calls += 1
        return done / (time.perf_counter() - start)

    return sample


def size_name(size: int) -> str:
    """A number of bytes in kB or MB."""
    return f"{size // 1_000_000} MB" if size >= 1_000_000 else f"{size // 1_000} kB"
