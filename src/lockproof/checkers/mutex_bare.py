"""Refusals that name no holder: each needs a session that may have held at some time during it.

A session certainly holds within its forward zone, and may hold from its request on until its release
returned, or until another certainly held. A refusal beside a certain holder is explained. One that no
session can explain refutes the lock. For the rest an explanation is guessed: a session that was guessed
for another refusal at the time; or, of those that nothing certain contradicts, the one that must end
first; or else the newest request of unknown outcome. Every guess makes a session's zone wider, and if all
wider zones still fit, there is an order with all refusals in it. If not, another guess might do: the
answer is left open.

Cost: O((r + s) log s) for r refusals and s sessions.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from lockproof.checkers.mutex_sessions import Session
from lockproof.checkers.verdict import Violated
from lockproof.checkers.zones import Line
from lockproof.history import Operation

TRIED = 16
RECENT = 8


class Explanations:
    """Who may have held when a refusal named nobody.

    `sessions` are all that can have held, `line` those that certainly did. All operations called before
    event `since` are known.
    """

    def __init__(self, sessions: Iterable[Session], line: Line[Session], since: float) -> None:
        self.line = line
        self.since = since
        proven: list[tuple[float, int, Session]] = []
        unseen: list[Session] = []
        self._endless: list[Session] = []
        for n, session in enumerate(sessions):
            if session.first is not None:
                proven.append((_latest_end(session, line), n, session))
            else:
                (self._endless if session.let_go is None else unseen).append(session)
        proven.sort()
        self._proven = [session for _, _, session in proven]
        self._ends = [end for end, _, _ in proven]
        asked = itertools.accumulate((s.asked.i for s in reversed(self._proven)), min)
        self._earliest = list(asked)[::-1]
        self._unseen = sorted(unseen, key=lambda session: session.asked.i)
        self._asked = [session.asked.i for session in self._unseen]
        self._recent: deque[Session] = deque(maxlen=RECENT)
        self._latest = max((zone.last for zone in line.zones if zone.first <= since), default=-math.inf)

    def explain(self, op: Operation) -> Session | None:
        """A session that may have held during `op`, which meets no certain one. `None` when all that may
        have held contradict something certain; raises `Violated` when there are none."""
        for session in self._recent:
            if session.guessed_first < op.end and op.i < session.guessed_last:
                return session
        possible = False
        for session in itertools.islice(self._candidates(op), TRIED):
            possible = True
            if self._fits(session, op):
                self._recent.append(session)
                return session
        if not possible:
            raise Violated("refused while free", "a lock was refused that nobody can have held", op)
        return None

    def _candidates(self, op: Operation) -> Iterator[Session]:
        place = bisect.bisect_right(self._ends, op.i)
        while place < len(self._ends) and self._earliest[place] < op.end:
            if self._proven[place].asked.i < op.end:
                yield self._proven[place]
            place += 1
        for place in range(bisect.bisect_left(self._asked, op.end) - 1, -1, -1):
            yield self._unseen[place]
        if self._latest <= op.end:  # one that was never released holds last of all
            yield from (session for session in self._endless if session.asked.i < op.end)

    def _fits(self, session: Session, op: Operation) -> bool:
        """Whether it may have held during `op` as far as all that is certain goes."""
        first = min(session.first_end, session.guessed_first, op.end)
        let_go = self.since if session.let_go is None else session.let_go.i
        last = max(session.asked.i, session.last_call, session.guessed_last, op.i, let_go)
        if first < last:
            denied = any(
                first < no.i and no.end < last and no.given.get("lock_id") == session.lock_id
                for no in session.denied
            )
            return not denied and not self.line.meets(first, last, but=session)
        outer = self.line.around(last, first)
        return outer is None or outer.key is session


def explain(
    bare: Sequence[Operation], sessions: Iterable[Session], line: Line[Session], since: float
) -> tuple[list[Operation], bool]:
    """Widens sessions so that each refusal falls into one. Gives back those to be looked at again, and
    whether all others were explained. Raises `Violated`."""
    explanations = Explanations(sessions, line, since)
    left: list[Operation] = []
    for op in sorted(bare, key=lambda op: op.end):
        if op.end > since:
            left.append(op)
            continue
        session = explanations.explain(op)
        if session is None:
            return left, False
        if session.first is None and session.let_go is None and since < math.inf:
            left.append(op)  # as soon as another holds, this one cannot have held
            continue
        session.guessed_first = min(session.guessed_first, op.end)
        session.guessed_last = max(session.guessed_last, op.i)
    return left, True


def _latest_end(session: Session, line: Line[Session]) -> float:
    """The last moment at which it may hold: before its release returned, and before another surely held."""
    after = line.after(session.first_end, session)
    return min(session.gone, math.inf if after is None else after.first)
