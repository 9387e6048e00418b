"""The statistics: a median with an interval that assumes nothing of how the samples are distributed.

The interval of a median from order statistics: of n independent samples, the k-th smallest and the k-th
largest enclose the true median unless fewer than k samples fell on one side of it, each falling there with
probability 1/2 (H. A. David, H. N. Nagaraja, Order Statistics, 3rd edition, 7.1).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CONFIDENCE = 0.95

Judged = Literal["met", "MISSED", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A median of `n` samples; the true one lies between `low` and `high` with probability `confidence`."""

    median: float
    low: float
    high: float
    confidence: float
    n: int

    def apart(self, other: Interval) -> bool:
        """Whether the two have no value in common."""
        return self.high < other.low or other.high < self.low


def interval(samples: Sequence[float]) -> Interval:
    """The narrowest interval of order statistics with a confidence of at least 95 %.

    With fewer than six samples there is none: then it is the smallest to the largest, with the confidence
    that it has. Raises ValueError without samples.
    """
    if not samples:
        raise ValueError("no median of no samples")
    ordered, n = sorted(samples), len(samples)
    ranks = [k for k in range(1, n // 2 + 1) if coverage(n, k) >= CONFIDENCE]
    k = max(ranks, default=1)
    return Interval(statistics.median(ordered), ordered[k - 1], ordered[n - k], coverage(n, k), n)


def coverage(n: int, k: int) -> float:
    """The probability that the k-th smallest and the k-th largest of `n` samples enclose the median."""
    beyond = sum(math.comb(n, i) for i in range(k))
    return 1.0 - 2 * beyond / float(2**n)


@dataclass(frozen=True)
class Aim:
    """What is to be reached: of the ratio, of what the subject adds to the peer, or of the subject alone.

    One of `under` and `at_least` is given; the unit is the case's, of a ratio none.
    """

    of: Literal["ratio", "added", "subject"]
    under: float | None = None
    at_least: float | None = None

    def judge(self, found: Interval) -> Judged:
        """Met or missed where the whole interval says so, else undecided."""
        if self.under is not None:
            return "met" if found.high < self.under else "MISSED" if found.low >= self.under else "undecided"
        least = self.at_least or 0.0
        return "met" if found.low >= least else "MISSED" if found.high < least else "undecided"

    def text(self, unit: str) -> str:
        """As a table shows it."""
        words = f"under {self.under:g}" if self.under is not None else f"at least {self.at_least:g}"
        return f"{words}x" if self.of == "ratio" else f"{words} {unit}{' added' * (self.of == 'added')}"
