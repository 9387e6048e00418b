"""Refusals that name no holder: each needs a session that may have held at some time during it.

A session certainly holds within its forward zone, and may hold from its request on until its release
returned, or until another certainly held. A refusal beside a certain holder is explained. One that no
session can explain refutes the lock. For the rest an explanation is guessed, the session that must end
first: every guess makes a session's zone wider, and if all wider zones still fit, there is an order with
all refusals in it. If not, another guess might do: the answer is left open.

Cost: O((r + s) log s) for r refusals and s sessions.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence

from lockproof.checkers.mutex_sessions import Session
from lockproof.checkers.verdict import Violated
from lockproof.checkers.zones import Line
from lockproof.history import Operation


def explain(
    bare: Sequence[Operation],
    sessions: Sequence[Session],
    line: Line[Session],
    since: float,
    *,
    complete: bool,
) -> list[Operation]:
    """Widens sessions so that each refusal falls into one, and gives back those to be looked at again.

    `line` holds the certain sessions; none of the refusals meets one. All operations called before event
    `since` are known; with `complete`, `sessions` are all that can have held. Raises `Violated`.
    """
    latest = max((zone.last for zone in line.zones if zone.first <= since), default=-math.inf)
    holders = sorted((_latest_end(s, line), _rank(s), n) for n, s in enumerate(sessions))
    ends = [end for end, _, _ in holders]
    asked = [sessions[n].asked.i for _, _, n in holders]
    earliest = list(itertools.accumulate(reversed(asked), min))[::-1]
    left: list[Operation] = []
    for op in bare:
        if op.end > since:
            left.append(op)
            continue
        place = bisect.bisect_right(ends, op.i)
        while place < len(ends) and earliest[place] < op.end:
            session = sessions[holders[place][2]]
            if asked[place] < op.end and (session.first is not None or _can_appear(session, op, latest)):
                break
            place += 1
        else:
            if complete:
                raise Violated("refused while free", "a lock was refused that nobody can have held", op)
            continue
        if session.first is None and session.let_go is None and since < math.inf:
            left.append(op)  # as soon as another holds, this one cannot have held
            continue
        session.guessed_first = min(session.guessed_first, op.end)
        session.guessed_last = max(session.guessed_last, op.i)
    return left


def _latest_end(session: Session, line: Line[Session]) -> float:
    """The last moment at which it may hold: before its release returned, and before another surely held."""
    after = line.after(session.first_end, session)
    return min(session.gone, math.inf if after is None else after.first)


def _rank(session: Session) -> int:
    """Of sessions that may hold equally long: proven ones before those that nobody ever saw."""
    return 0 if session.first is not None else 1 if session.let_go is not None else 2


def _can_appear(session: Session, op: Operation, latest: float) -> bool:
    """Whether a request of unknown outcome that nobody ever saw may have been granted then: without a
    release only if nobody holds later."""
    return session.let_go is not None or latest <= op.end
