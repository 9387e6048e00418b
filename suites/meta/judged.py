"""What tests expect of a verdict."""

from __future__ import annotations

from lockproof.checkers import Verdict, check
from lockproof.history import History
from lockproof.suites.meta.tape import WS


def require_violated(history: History, anomaly: str, *witness: int, fencing: bool = False) -> Verdict:
    """The verdict: this anomaly, shown by these events among at most six operations, in a sentence."""
    verdict = check(history, fencing=fencing)
    assert verdict.status == "violated", verdict
    assert verdict.details["anomaly"] == anomaly, verdict
    assert verdict.details["workspace"] == WS
    assert verdict.headline.startswith(f"{anomaly}: ")
    assert set(witness) <= set(verdict.witness), verdict
    shown = {op.i for op in history.operations() if {op.i, op.end} & set(verdict.witness)}
    assert 1 <= len(shown) <= 6, verdict
    return verdict
