"""What single answers say of who holds a lock, and the violations that they are by themselves.

A backend that chooses lock ids and whose refusals name the id alone shows, after a lost reply, an id that
nobody was told: it is that of some unanswered request, and which one is for a search to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lockproof.checkers.verdict import Violated
from lockproof.history import Operation

if TYPE_CHECKING:
    from lockproof.checkers.mutex_sessions import Session

NOT_HELD = frozenset({"lock_mismatch", "not_locked"})


def holder_named_by(op: Operation) -> Mapping[str, Any] | None:
    """The holder that a refusal names, or `None`."""
    holder = op.err.get("holder") if op.kind == "fail" else None
    return holder if holder and (holder.get("ID") or holder.get("Info")) else None


def names(op: Operation, session: Session) -> bool:
    """Whether `op` was refused with `session` as the holder."""
    holder = holder_named_by(op) or {}
    token = holder.get("Info")
    return bool(token == session.token if token else holder.get("ID", "") == session.lock_id)


def denies(op: Operation, *, fencing: bool) -> bool:
    """Whether it was refused because the id that it gave does not hold."""
    return (op.f == "unlock" or (op.f == "put" and fencing)) and op.err.get("kind") in NOT_HELD


def spoken_of(op: Operation) -> str:
    """The lock id that the operation shows to hold; empty when it tells a token alone."""
    holder = holder_named_by(op)
    return str((op.given.get("lock_id") if holder is None else holder.get("ID")) or "")


def named_alone(operations: Iterable[Operation]) -> set[str]:
    """The ids of holders that refusals name without a token."""
    holders = (holder_named_by(op) for op in operations)
    return {holder["ID"] for holder in holders if holder and not holder.get("Info")}


def of_lost_requests(
    strangers: Sequence[Operation], requests: Iterable[Session], chosen: Collection[str]
) -> tuple[Sequence[Operation], Sequence[Session]]:
    """Those of `strangers` that may be of one of `requests`, and the requests that any of them may be of.

    A reply was lost of a request that was never answered and whose id nothing tells, or that was sent
    again. It may have got its own id, or one of those `chosen` by the backend, before the stranger returned.
    """
    lost = [s for s in requests if s.newest_request > s.asked.i or (s.granted is None and s.lock_id is None)]
    if not lost:
        return (), ()
    earliest = min(session.asked.i for session in lost)
    own: dict[str, float] = {}
    for session in lost:
        own[session.request_id] = min(session.asked.i, own.get(session.request_id, session.asked.i))
    found = [
        op
        for op in strangers
        if (lock_id := spoken_of(op))
        and (own.get(lock_id, op.end) < op.end or (lock_id in chosen and earliest < op.end))
    ]
    latest = max((op.end for op in found), default=-1)
    return found, [session for session in lost if session.asked.i < latest]


def phantom(op: Operation) -> Violated:
    """The violation of an operation that shows somebody to hold who never asked."""
    if holder := holder_named_by(op):
        name = holder.get("ID") or holder.get("Info")
        return Violated("phantom holder", f"a refusal names {name!r}, which was never granted to anybody", op)
    anomaly = "phantom release" if op.f == "unlock" else "phantom writer"
    lock_id = op.given.get("lock_id")
    return Violated(anomaly, f"{op.f} with id {lock_id!r} succeeded, but nobody was ever granted it", op)


def after_release(op: Operation, name: str) -> str:
    """The sentence of a holder that shows up after its release."""
    if op.f == "put":
        return f"a write under {name} was accepted after {name} had been released"
    return f"{name} held again after it was released"


def twice(lock_id: str) -> str:
    """The sentence of a lock id that was given out again."""
    return f"{lock_id!r} was given to two requests"
