"""The order of things on two timelines, compared with trying all orders."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from lockproof.checkers.precedence import NOWHERE, Span, arrange

Spans = Sequence[tuple[Span, ...]]


def must_precede(spans: Spans, one: int, other: int) -> bool:
    return any(a.first < b.last for a, b in zip(spans[one], spans[other], strict=True))


def fits(spans: Spans, order: Sequence[int]) -> bool:
    return not any(must_precede(spans, b, a) for a, b in itertools.combinations(order, 2))


@settings(max_examples=400, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 5))
def test_an_order_is_found_where_there_is_one_else_a_cycle(random: Random, size: int) -> None:
    """What is found proves itself: an order fits, and each step of a cycle must be so."""
    spans = [
        tuple(
            NOWHERE if random.random() < 0.2 else Span(random.randint(0, 12), random.randint(0, 12) + 0.5)
            for _ in range(2)
        )
        for _ in range(size)
    ]
    order, cycle = arrange(spans)
    assert bool(cycle) != any(fits(spans, p) for p in itertools.permutations(range(size)))
    if not cycle:
        assert sorted(order) == list(range(size))
        assert fits(spans, order)
    for step, after in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True):
        assert step.later == after.earlier
        assert spans[step.earlier][step.timeline].first < spans[step.later][step.timeline].last


def test_three_things_in_a_ring_over_both_timelines_have_no_order() -> None:
    """A cycle that neither timeline has, nor any two of the three."""
    spans = [(Span(5, 11), NOWHERE), (Span(12, 8), Span(1, 0)), (Span(10, 4), Span(3, 2))]
    order, cycle = arrange(spans)
    assert order == []
    assert sorted(step.later for step in cycle) == [0, 1, 2]
    assert arrange([(held, NOWHERE) for held, _ in spans])[0] == [2, 0, 1]
