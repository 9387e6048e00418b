"""No false alarms: correct backends with unusual manners fail nothing."""

from __future__ import annotations

import pytest

from lockproof.fakes.saboteurs.catalogue import CorrectVariant, correct_variants
from lockproof.suites.meta.saboteur_runs import SharedRuns, shared_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> SharedRuns:
    """The results of all correct variants. The state machines have a test of their own for them, in
    `test_state_machines.py`, and take most of a run."""
    return shared_runs(correct_variants(), tmp_path_factory, ["-k", "not test_no_sequence_of"])


@pytest.mark.parametrize("variant", correct_variants(), ids=lambda variant: variant.name)
def test_correct_variant_fails_nothing(variant: CorrectVariant, runs: SharedRuns) -> None:
    """Every test passes, or does not apply because a capability is not claimed."""
    results = runs.of(variant)
    left_out = ("not-run", "deselected")
    told = {r["test"]: (r["status"], r["reason"]) for r in results if r["status"] not in {"pass", "skip"}}
    amiss = {test: status for test, status in told.items() if status != left_out}
    assert amiss == {}
    assert all("test_no_sequence_of" in test for test in told)
    assert sum(r["status"] == "pass" for r in results) >= (1 if variant.only else 10)
