"""Long runs: which faults they inject, and what they make of a window that ends badly."""

from __future__ import annotations

from lockproof.suites.faults.soak import possible
from lockproof.suites.faults.workload import UNFAIR
from lockproof.suites.meta.chaos_bed import served


def test_a_long_run_injects_nothing_that_a_history_has_no_words_for() -> None:
    """A request that is delivered twice may be refused the second time, by a correct server too."""
    with served() as arena:
        assert set(arena.possible(["net"])) - set(possible(arena, ["net"])) == set(UNFAIR)
        assert "net.duplicate" in UNFAIR
