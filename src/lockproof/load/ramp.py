"""The ramp: open load at rising rates, until the backend no longer follows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lockproof.load.plan import Plan
from lockproof.load.run import Outcome

FACTOR = 1.5
MOST_STEPS = 15
FOLLOWS = 0.9
SLOWER = 5.0


@dataclass(frozen=True)
class Step:
    """One rate: `done` jobs per second came of `rate`, with `p95` of response time in ms. `broke` says what
    broke, `""` where nothing did."""

    rate: float
    done: float
    p95: float
    broke: str
    outcome: Outcome


@dataclass(frozen=True)
class Ramp:
    """All steps; `headline` tells the knee and by what it was decided."""

    steps: Sequence[Step]
    headline: str

    @property
    def knee(self) -> float | None:
        """The greatest rate that the backend followed."""
        return max((step.rate for step in self.steps if not step.broke), default=None)


def climb(plan: Plan, first: float, drive: Callable[[Plan], Outcome], echo: Callable[[str], None]) -> Ramp:
    """Runs `plan` at `first` jobs per second, then each time at half as much again.

    A step breaks when fewer than nine tenths of what arrived was done (throughput no longer grows with the
    rate), or when p95 of the response time, counted from when jobs were due, is more than five times that of
    the first step. The knee is the last rate before that. A history that is not valid ends the ramp, too.
    """
    steps: list[Step] = []
    rate = first
    while len(steps) < MOST_STEPS:
        folder = Path(plan.folder) / f"step-{len(steps) + 1:02}-{rate:g}"
        scope = plan.scope if plan.attach else f"{plan.scope}-{len(steps)}"
        outcome = drive(replace(plan, rate=rate, folder=str(folder), scope=scope))
        step = _step(rate, outcome, steps[0].p95 if steps else None, plan.duration)
        steps.append(step)
        told = f"{rate:g} jobs/s arrive, {step.done:.1f} are done, p95 {step.p95:.1f} ms"
        echo(f"{told}: {step.broke or 'follows'}")
        if step.broke or outcome.verdict.status != "valid":
            break
        rate = round(rate * FACTOR, 2)
    return Ramp(steps, _headline(steps))


def _step(rate: float, outcome: Outcome, first: float | None, duration: float) -> Step:
    p95 = outcome.document["response_ms"]["p95"] or 0.0
    done = outcome.measured.done / max(duration, outcome.measured.seconds)
    broke = ""
    if done < FOLLOWS * rate:
        broke = f"throughput no longer follows: {done:.1f} of {rate:g} jobs/s"
    elif first is not None and p95 > SLOWER * first:
        broke = f"p95 broke: {p95:.1f} ms is over {SLOWER:g} times the {first:.1f} ms of the first step"
    return Step(rate, round(done, 3), p95, broke, outcome)


def _headline(steps: Sequence[Step]) -> str:
    last, knee = steps[-1], Ramp(steps, "").knee
    if last.outcome.verdict.status != "valid":
        return f"the ramp ended at {last.rate:g} jobs/s: {last.outcome.verdict.headline}"
    if not last.broke:
        return f"no knee up to {last.rate:g} jobs/s"
    if knee is None:
        return f"already {last.rate:g} jobs/s is too much ({last.broke})"
    return f"the knee is between {knee:g} and {last.rate:g} jobs/s ({last.broke})"


def write(folder: Path, ramp: Ramp) -> None:
    """Writes `ramp.json` and `ramp.md`; each step has a folder with its own report."""
    rows = [
        {
            "rate": s.rate,
            "done": s.done,
            "p95_ms": s.p95,
            "broke": s.broke,
            "verdict": s.outcome.verdict.status,
        }
        for s in ramp.steps
    ]
    document = {"schema": 1, "knee": ramp.knee, "headline": ramp.headline, "steps": rows}
    (folder / "ramp.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    backend = ramp.steps[0].outcome.document["backend"]
    table = [
        f"| {s.rate:g} | {s.done:g} | {s.p95:g} | {s.outcome.verdict.status} | {s.broke or 'follows'} |"
        for s in ramp.steps
    ]
    head = [f"# Ramp on `{backend['id']}` ({backend['target']})", "", ramp.headline, ""]
    columns = ["| jobs/s that arrive | done per second | p95 (ms) | history | |", "|---:|---:|---:|---|---|"]
    (folder / "ramp.md").write_text("\n".join([*head, *columns, *table, ""]), encoding="utf-8")
