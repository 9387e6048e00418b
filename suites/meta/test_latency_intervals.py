"""Percentiles and their intervals: right on known distributions, exact in their indices."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from statistics import NormalDist

import pytest

from lockproof.checkers.percentiles import Interval, bounds, interval, judge, needed, percentile

TRIALS = 1000
TAIL = NormalDist().inv_cdf(0.95)

Draw = Callable[[random.Random], float]
KNOWN: dict[str, tuple[Draw, float]] = {
    "uniform": (lambda rng: rng.random(), 0.95),
    "exponential": (lambda rng: rng.expovariate(1.0), -math.log(0.05)),
    "lognormal": (lambda rng: rng.lognormvariate(0.0, 1.0), math.exp(TAIL)),
    "heavy-tailed": (lambda rng: rng.paretovariate(0.5), 0.05**-2.0),
    "two peaks": (lambda rng: rng.random() + (100 if rng.random() < 0.1 else 0), 100.5),
    "steps": (lambda rng: float(rng.randrange(1, 21)), 19.0),
}
"""What is drawn, and where its 95th percentile lies."""


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("n", [80, 200])
def test_the_interval_holds_the_percentile_as_often_as_it_says(name: str, n: int) -> None:
    """Of 100 intervals 95 or more hold the true percentile; on either side at most half of the rest miss."""
    draw, truth = KNOWN[name]
    rng = random.Random(f"{name} {n}")
    found = [interval([draw(rng) for _ in range(n)], 95) for _ in range(TRIALS)]
    above = sum(each.low > truth for each in found)
    below = sum(each.high is not None and each.high < truth for each in found)
    chance = 3.5 * math.sqrt(0.025 * 0.975 / TRIALS)  # of so many trials
    assert above / TRIALS <= 0.025 + chance
    assert below / TRIALS <= 0.025 + chance


def exact(n: int, p: Fraction, counts: Sequence[int]) -> Fraction:
    """The chance that one of `counts` of n samples lie below the p-quantile, without rounding."""
    return sum((math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in counts), Fraction(0))


@pytest.mark.parametrize("n", [1, 2, 5, 20, 59, 71, 72, 80, 93, 200])
@pytest.mark.parametrize("p", [Fraction(1, 2), Fraction(19, 20), Fraction(99, 100)])
def test_the_interval_is_the_narrowest_that_is_allowed(n: int, p: Fraction) -> None:
    """Each end leaves at most 2.5 % beyond it, and the next sample inwards would leave more."""
    risk = Fraction(25, 1000)
    lower, upper = bounds(n, float(p))
    assert exact(n, p, range(lower)) <= risk
    assert exact(n, p, range(upper, n + 1)) <= risk
    assert lower < upper
    assert exact(n, p, range(lower + 1)) > risk or lower == n
    assert exact(n, p, range(upper - 1, n + 1)) > risk or upper == lower + 1


def test_many_samples_are_no_burden() -> None:
    """A hundred thousand samples are judged by the same rule: the ends close in on the percentile."""
    lower, upper = bounds(100_000, 0.95)
    deviation = math.sqrt(100_000 * 0.95 * 0.05)
    assert lower == pytest.approx(95_000 - 1.96 * deviation, abs=3)
    assert upper == pytest.approx(95_000 + 1.96 * deviation, abs=3)


def test_too_few_samples_have_no_upper_end() -> None:
    """The 95th percentile has an upper bound from 72 samples on, the 99th from 368 on."""
    assert (needed(95), needed(99)) == (72, 368)
    assert interval(range(71), 95).high is None
    assert interval(range(72), 95).high == 71
    assert interval(range(5), 50).low == 0.0


def test_the_order_of_the_samples_does_not_matter() -> None:
    """Slow calls count alike wherever they stand."""
    rng = random.Random(4)
    samples = [rng.random() for _ in range(100)]
    assert interval(samples, 95) == interval(sorted(samples, reverse=True), 95)


def test_the_percentile_is_one_of_the_samples() -> None:
    """The estimate is the smallest sample that so many do not exceed."""
    assert percentile([3, 1, 2], 50) == 2
    assert percentile(range(1, 101), 95) == 95
    assert percentile([7], 99) == 7


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Interval(40, 30, 49.9), "met"),
        (Interval(40, 30, 50), "undecided"),
        (Interval(55, 49.9, 60), "undecided"),
        (Interval(55, 50, 60), "missed"),
        (Interval(40, 30, None), "undecided"),
        (Interval(70, 60, None), "missed"),
    ],
)
def test_a_target_is_decided_only_by_the_whole_interval(found: Interval, expected: str) -> None:
    """Less than the target is met, at the target or above missed; in between nothing is claimed."""
    assert judge(found, 50) == expected


@pytest.mark.parametrize("rank", [0, 100, -1])
def test_a_rank_lies_between(rank: float) -> None:
    """A percentile that is none is refused, and so is one of nothing."""
    with pytest.raises(ValueError, match="between 0 and 100"):
        interval([1.0], rank)
    with pytest.raises(ValueError, match="no samples"):
        interval([], 95)
