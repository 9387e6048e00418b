"""Measures: each round samples every lane once, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from lockproof.bench.benchmark import AtLeast, Benchmark, Broken, Case, Lane, Unavailable
from lockproof.bench.row import Row


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds of each case, and seconds of each sample."""

    rounds: int
    seconds: float
    quick: bool = False


FULL = Effort(15, 0.3)
INTERRUPTED = "interrupted before all of it was measured"
QUICK = Effort(7, 0.1, quick=True)


@dataclass
class Findings:
    """What a run found: rows, and by benchmark why there are none."""

    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def run(benchmarks: Sequence[Benchmark], effort: Effort, show: Callable[[Row], object]) -> Findings:
    """Runs all of them; `show` is called with each row as soon as it is measured.

    A benchmark that cannot be run here is skipped, and one that breaks is told: neither ends the run. An
    interrupt does, and what was measured until then is kept.
    """
    found = Findings()
    for number, benchmark in enumerate(benchmarks):
        reason = benchmark.missing()
        if reason is not None:
            found.skipped[benchmark.name] = reason
            continue
        try:
            found.versions.update(benchmark.versions())
            for row in rows(benchmark, effort):
                found.rows.append(row)
                show(row)
        except Unavailable as error:
            found.skipped[benchmark.name] = one_line(error)
        except KeyboardInterrupt:
            found.skipped.update((left.name, INTERRUPTED) for left in benchmarks[number:])
            break
        except Exception as error:  # noqa: BLE001 - whatever it was, the others can still be measured
            kind = "" if isinstance(error, Broken) else f"{type(error).__name__}: "
            found.failed[benchmark.name] = kind + one_line(error)
    return found


def rows(benchmark: Benchmark, effort: Effort) -> Iterator[Row]:
    """The rows of one benchmark."""
    sizes = benchmark.quick if effort.quick else benchmark.sizes
    with closing(benchmark.cases(sizes)) as cases:  # type: ignore[type-var]  # a generator
        for case in cases:
            yield from measured(benchmark.name, case, effort)


def measured(benchmark: str, case: Case, effort: Effort) -> list[Row]:
    """A row for each peer of the case. The first sample of each lane warms up and does not count."""
    lanes = [case.subject, *case.peers]
    stopped: dict[str, float] = {}

    def sample(lane: Lane, seconds: float) -> float:
        value = stopped[lane.name] if lane.name in stopped else lane.sample(seconds)
        if isinstance(value, AtLeast):
            stopped[lane.name] = value
        if not value > 0:
            raise Broken(f"{case.name}: {lane.name} measured {value:g} {case.unit}")
        return value

    for lane in lanes:
        sample(lane, effort.seconds / 3)
    samples: dict[str, list[float]] = {lane.name: [] for lane in lanes}
    for _ in range(effort.rounds):
        for lane in lanes:
            samples[lane.name].append(float(sample(lane, effort.seconds)))
    mine = case.subject.name
    return [
        Row(
            benchmark,
            case.name,
            mine,
            peer.name,
            case.unit,
            case.better,
            samples[mine],
            samples[peer.name],
            tuple(name for name in (mine, peer.name) if name in stopped),
            peer.aim,
        )
        for peer in case.peers
    ]


def one_line(error: BaseException) -> str:
    """The first line of what an error says, without secrets."""
    from lockproof.report.redact import Redactor  # with all of the report, which servers need not

    lines = Redactor().text(str(error)).strip().splitlines()
    return lines[0] if lines else "it says nothing"
