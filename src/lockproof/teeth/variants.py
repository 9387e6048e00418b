"""Judges a correct variant: whatever fails on it is a false alarm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lockproof.fakes.saboteurs.catalogue import CorrectVariant
from lockproof.teeth.runs import Result


@dataclass(frozen=True)
class VariantRuns:
    """What became of one correct variant in `runs` runs: `alarms` say which test had which status in
    which run, and why."""

    variant: str
    runs: int
    passed: int
    alarms: tuple[str, ...] = ()


def judge_variant(variant: CorrectVariant, runs: Sequence[Iterable[Result]]) -> VariantRuns:
    """Judges one variant by the results of its tests. A test that passes, or does not apply since a
    capability is not claimed, is none."""
    passed = 0
    alarms = []
    for n, results in enumerate(runs, 1):
        for result in results:
            passed += result["status"] == "pass"
            if result["status"] not in {"pass", "skip"}:
                alarms.append(f"run {n}: {result['test']} is {result['status']} {result['reason']}".rstrip())
    return VariantRuns(variant.name, len(runs), passed, tuple(alarms))
