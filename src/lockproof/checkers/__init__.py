"""Checkers: pure functions from a history to a verdict.

`check_mutex` judges locks, `check_fencing` locks with the writes made under them, `check_register` states,
`check_workspaces` the set of workspaces; `check` is all of them, `check_stream` the same for a history
that is not kept. Each is a monitor that is fed with operations. A violation is certain and carries its
witness; what cannot be decided is `unknown`, never `valid`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lockproof.checkers.fencing import FencingMonitor, check_fencing
from lockproof.checkers.mutex import MutexMonitor, check_mutex
from lockproof.checkers.register import RegisterMonitor, check_register
from lockproof.checkers.verdict import Verdict
from lockproof.checkers.workspaces import WorkspacesMonitor, check_workspaces
from lockproof.history import History, HistoryStream, merge_histories
from lockproof.history.merge import NARROW, ClockError
from lockproof.spec.outcome import Unknown, Violation

__all__ = [
    "Verdict",
    "check",
    "check_fencing",
    "check_merged",
    "check_mutex",
    "check_register",
    "check_stream",
    "check_workspaces",
    "require_valid",
]

LOCK_CALLS = frozenset({"lock", "unlock"})


def check(history: History, *, fencing: bool = False) -> Verdict:
    """The worst of all checkers' verdicts: `violated`, else `unknown`, else `valid`.

    `fencing`: the backend claims `locking.fencing`. That, and `locking.fencing-strict`, is also taken from
    `capabilities` of the header; without either nothing is concluded from writes about locks.
    """
    locks, states, workspaces = monitors = _monitors(history.header, fencing)
    locks.extend(history.operations())
    for op in history.operations():
        f = op.f
        if f not in LOCK_CALLS:
            states.add(op)
        if f != "get" and op.kind != "fail":
            workspaces.add(op)  # also locks: some backends make a workspace when it is first locked
    return _worst([monitor.verdict(history.closed) for monitor in monitors])


def check_stream(stream: HistoryStream, *, fencing: bool = False) -> Verdict:
    """As `check`, of a history that is read meanwhile; in the memory of the monitors, not of the history.

    Raises as `HistoryStream.events`.
    """
    monitors = _monitors(stream.header, fencing)
    for op in stream.operations():
        for monitor in monitors:
            monitor.add(op)
    return _worst([monitor.verdict(stream.closed) for monitor in monitors])


def check_merged(paths: Sequence[Path], *, fencing: bool = False) -> tuple[HistoryStream, Verdict]:
    """As `check_stream`, of the histories of several processes, which were read as one.

    Where the clocks of machines are known up to an error only: `violated` when no error explains it, `valid`
    when no error is needed for it, else `unknown`. Raises as `merge_histories`.
    """
    stream = merge_histories(paths)
    verdict = check_stream(stream, fencing=fencing)
    error = stream.header.get("error", 0)
    if verdict.status == "valid" and error:
        try:
            narrow = check_stream(merge_histories(paths, NARROW), fencing=fencing)
        except ClockError as short:
            narrow = Verdict("unknown", str(short))
        if narrow.status != "valid":
            doubt = f"the clocks agree up to {error / 1e6:.3g} ms only, and the order within that decides"
            headline = f"{doubt}: {narrow.headline}"
            return stream, replace(narrow, status="unknown", headline=headline, witness=())
    return stream, verdict


def _monitors(
    header: Mapping[str, Any], fencing: bool
) -> tuple[MutexMonitor, RegisterMonitor, WorkspacesMonitor]:
    claimed = header.get("capabilities", ())
    strict = "locking.fencing-strict" in claimed
    fenced = fencing or strict or "locking.fencing" in claimed
    locks = FencingMonitor(strict=strict) if fenced else MutexMonitor()
    return locks, RegisterMonitor(), WorkspacesMonitor()


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
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
