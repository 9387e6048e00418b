"""Checkers: pure functions from a history to a verdict.

`check_mutex` judges locks, `check_register` states; `check` is both. A violation is certain and
carries its witness; what cannot be decided is `unknown`, never `valid`.
"""

from __future__ import annotations

from lockproof.checkers.mutex import MutexMonitor, check_mutex
from lockproof.checkers.register import check_register
from lockproof.checkers.verdict import Verdict
from lockproof.history import History
from lockproof.spec.outcome import Unknown, Violation

__all__ = ["Verdict", "check", "check_mutex", "check_register", "require_valid"]


def check(history: History, *, fencing: bool = False) -> Verdict:
    """The worst of all checkers' verdicts: `violated`, else `unknown`, else `valid`.

    `fencing`: the backend claims `locking.fencing`; also taken from `capabilities` of the header.
    """
    locks = MutexMonitor(fencing=fencing or "locking.fencing" in history.header.get("capabilities", ()))
    for op in history.operations():
        locks.add(op)
    verdicts = (locks.verdict(history.closed), check_register(history))
    for status in ("violated", "unknown"):
        for verdict in verdicts:
            if verdict.status == status:
                return verdict
    details = {key: value for verdict in verdicts for key, value in verdict.details.items()}
    return Verdict("valid", "; ".join(verdict.headline for verdict in verdicts), details=details)


def require_valid(history: History, *, fencing: bool = False) -> Verdict:
    """How a concurrent test ends: the verdict when valid.

    Raises `Violation` with the witness, or `Unknown` with what could not be decided.
    """
    verdict = check(history, fencing=fencing)
    if verdict.status == "violated":
        raise Violation(verdict.headline, witness=verdict.witness)
    if verdict.status == "unknown":
        raise Unknown(verdict.headline)
    return verdict
