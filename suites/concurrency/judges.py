"""What is asked of every schedule of a program, and what some schedule has to show."""

from __future__ import annotations

from collections.abc import Callable

from lockproof.checkers import Verdict, check
from lockproof.history import History, Operation

WORKSPACE = "default"
NAMED = "staging"
EXPECTED_OF_AN_EXPIRED_TOKEN = frozenset({"locked", "unauthorized"})

# --- what is seen ---


def lock_was_refused(history: History) -> bool:
    return any(op.f == "lock" and op.kind == "fail" and is_lock_error(op) for op in history.operations())


def write_was_refused(history: History) -> bool:
    return any(op.f == "put" and op.kind == "fail" and is_lock_error(op) for op in history.operations())


def is_lock_error(op: Operation) -> bool:
    return bool(op.err) and op.err["kind"] in {"locked", "lock_mismatch", "not_locked", "stale"}


def struck(fault: str) -> Callable[[History], bool]:
    """Whether the fault was injected."""
    return lambda history: any(event.e == "fault" and event.f == fault for event in history.events)


# --- judges ---


def keeps_updates(history: History) -> Verdict:
    """The checkers' verdict; and no two writes under the lock made the same number out of the one before."""
    verdict = check(history)
    seen: dict[int, Operation] = {}
    for op in writes_of(history, WORKSPACE) if verdict.status == "valid" else ():
        earlier = seen.setdefault(op.given["serial"], op)
        if earlier is not op:
            return lost(f"two clients each wrote serial {op.given['serial']} under their lock", earlier, op)
    return verdict


def migrates_updates(history: History) -> Verdict:
    """The checkers' verdict; and what was applied before the migration is in what was migrated."""
    verdict = check(history)
    applied = [op for op in writes_of(history, WORKSPACE) if op.given["lock_id"]]
    migrated = list(writes_of(history, NAMED))
    if verdict.status == "valid" and applied and migrated:
        new, old = applied[-1].given["serial"], migrated[0].given["serial"]
        if old != new:
            return lost(
                f"serial {old} was migrated and its source deleted, though serial {new} was written to it",
                applied[-1],
                migrated[0],
            )
    return verdict


def fails_as_expected(history: History) -> Verdict:
    """The checkers' verdict; and who has an expired token is told so."""
    verdict = check(history)
    for op in history.operations() if verdict.status == "valid" else ():
        if op.err and op.err["kind"] not in EXPECTED_OF_AN_EXPIRED_TOKEN:
            headline = f"{op.f} with an expired token failed as {op.err['kind']}: {op.err.get('message', '')}"
            return Verdict("violated", headline, (op.i,), {"anomaly": "error of an expired token"})
    return verdict


def fails_as_locked(history: History) -> Verdict:
    """The checkers' verdict; and nothing failed but what a held lock refuses."""
    verdict = check(history)
    for op in history.operations() if verdict.status == "valid" else ():
        if op.err and op.err["kind"] != "locked":
            headline = f"a first {op.f} failed as {op.err['kind']}: {op.err.get('message', '')}"
            return Verdict("violated", headline, (op.i,), {"anomaly": "failed first initialisation"})
    return verdict


def writes_of(history: History, workspace: str) -> list[Operation]:
    """The writes of a workspace that were acknowledged."""
    return [op for op in history.operations() if op.f == "put" and op.ws == workspace and op.kind == "ok"]


def lost(headline: str, *operations: Operation) -> Verdict:
    witness = tuple(sorted(op.i for op in operations))
    return Verdict("violated", f"lost update: {headline}", witness, {"anomaly": "lost update"})
