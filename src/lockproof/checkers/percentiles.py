"""Percentiles of measured times with confidence intervals that assume nothing about their distribution.

Of n independent samples of one distribution, the number that lie at or below its p-quantile is binomial with
n and p, whatever the distribution is. So the l-th and the u-th smallest sample enclose the quantile with the
probability that this number is at least l and less than u (David and Nagaraja, Order Statistics, 3rd ed.,
section 7.1). For a distribution with steps the probability is only higher.

What is not covered: samples that are not independent (a disk that is slow for a minute), and a distribution
that changes while it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

CONFIDENCE = 0.95
Judgement = Literal["met", "missed", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A percentile of samples: its estimate, and where it lies with the confidence asked for.

    `high` is None where there are too few samples to bound it; `low` is then 0 at least: no time is less.
    """

    estimate: float
    low: float
    high: float | None


def percentile(samples: Sequence[float], rank: float) -> float:
    """The smallest sample that at least `rank` percent of the samples do not exceed.

    Raises `ValueError` for no samples, or a rank that is not between 0 and 100.
    """
    _require(samples, rank)
    return sorted(samples)[max(0, math.ceil(rank / 100 * len(samples)) - 1)]


def interval(samples: Sequence[float], rank: float, confidence: float = CONFIDENCE) -> Interval:
    """The percentile `rank` of what the `samples` were drawn from, in their unit.

    Two-sided, each tail with at most half of the risk that `confidence` leaves. Raises as `percentile`.
    """
    _require(samples, rank)
    ordered = sorted(samples)
    lower, upper = bounds(len(ordered), rank / 100, confidence)
    return Interval(
        percentile(ordered, rank),
        ordered[lower - 1] if lower else 0.0,
        ordered[upper - 1] if upper <= len(ordered) else None,
    )


@cache
def bounds(n: int, p: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Which order statistics, counted from 1, enclose the p-quantile of n samples: the narrowest two with at
    most half of the risk on either side. 0 and n + 1 stand for none."""
    risk = (1 - confidence) / 2
    lower, below = 0, 0.0
    while lower < n and (below := below + _chance(n, lower, p)) <= risk:  # P(count < lower + 1)
        lower += 1
    upper, above = n + 1, 0.0
    while upper > lower + 1 and (above := above + _chance(n, upper - 1, p)) <= risk:  # P(count >= upper - 1)
        upper -= 1
    return lower, upper


def needed(rank: float, confidence: float = CONFIDENCE) -> int:
    """The least number of samples whose largest bounds the percentile from above: 72 for the 95th."""
    return math.ceil(math.log((1 - confidence) / 2) / math.log(rank / 100))


def judge(found: Interval, target: float) -> Judgement:
    """Whether the percentile is less than `target`: `undecided` where the interval holds both answers."""
    if found.low >= target:
        return "missed"
    return "met" if found.high is not None and found.high < target else "undecided"


def _chance(n: int, k: int, p: float) -> float:
    """P(exactly k of n), by logarithms: the coefficients have no place in a float."""
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))


def _require(samples: Sequence[float], rank: float) -> None:
    if not samples:
        raise ValueError("a percentile of no samples")
    if not 0 < rank < 100:
        raise ValueError(f"a percentile lies between 0 and 100, not at {rank:g}")
