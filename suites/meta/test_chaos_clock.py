"""Clocks that are wrong: each fault undoes what it did, and nothing else."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from lockproof.chaos.arena import Arena
from lockproof.chaos.clock import Ahead, Behind, ClockNemesis, Stopped
from lockproof.driver.databricks_bed import SteeredClock
from lockproof.suites.meta.chaos_bed import in_memory


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_clock_fault_that_ends_leaves_the_others(
    order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of faults on one clock each lasts until it is healed itself; after all of them it is right."""
    clock = SteeredClock()
    monkeypatch.setattr("lockproof.chaos.clock.clock_of", lambda *_: clock)
    with in_memory() as arena:
        there = [struck(arena, f) for f in (Ahead(on="ann", seconds=60), Behind(on="ann"), Stopped(on="ann"))]
        for n in order:
            there[n].heal(arena)
            assert clock.offset == sum(f.error for f in there[:2] if not f.healed)
            assert (clock.stands_at is not None) is not there[2].healed


def struck(arena: Arena, fault: ClockNemesis) -> ClockNemesis:
    fault.inject(arena, random.Random(1))
    return fault
