"""Does a history of locks keep mutual exclusion?

A lock is a register whose values are acquisitions, each with an owner's tag (the token in
`LockInfo.Info`, else the id). An acquisition's session starts within a `lock` call, holds at every
observation that names it, and ends within an `unlock` call of its id, or never. Zones decide whether
all sessions fit on one line; see `zones`.

Exact for histories in which each effective request carries its own token or id. Two kinds of answers
are weaker evidence and only tested for what they exclude: a refusal that names no holder (somebody
may have held), and a refused release or write that names none (its own id did not hold).
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lockproof.checkers.verdict import Undecided, Verdict, Violated
from lockproof.checkers.zones import Line, Zone
from lockproof.history import History, Operation

REFUSED_RELEASE = ("lock_mismatch", "not_locked")


@dataclass(eq=False)
class Session:
    """What is known of one acquisition. Lists hold operations in the order of their calls."""

    token: str
    request_id: str
    attempts: list[Operation] = field(default_factory=list)  # lock: ok or unknown
    refused: list[Operation] = field(default_factory=list)  # lock: no effect
    seen: list[Operation] = field(default_factory=list)  # anything that found it holding
    releases: list[Operation] = field(default_factory=list)  # unlock: ok or unknown

    @property
    def name(self) -> str:
        return self.request_id or self.token

    @property
    def real(self) -> bool:
        """Whether anything shows that it held; an unknown attempt that nobody saw changes nothing."""
        return bool(self.seen) or any(op.kind == "ok" for op in (*self.attempts, *self.releases))


def check_mutex(history: History, *, fencing: bool = False) -> Verdict:
    """Whether at most one client held each lock at any time, as far as the answers tell.

    `fencing`: the backend claims `locking.fencing`, so that a write accepted under a lock id shows
    that the id held. `violated` is certain; `unknown` when requests cannot be told apart.
    """
    by_workspace: dict[str, list[Operation]] = defaultdict(list)
    for op in history.operations():
        if op.ws is not None and op.f in {"lock", "unlock", "put"}:
            by_workspace[op.ws].append(op)
    undecided: list[str] = []
    sessions = 0
    for workspace, operations in by_workspace.items():
        try:
            sessions += _check_workspace(operations, fencing)
        except Violated as violation:
            return violation.verdict(workspace)
        except Undecided as reason:
            undecided.append(f"workspace {workspace!r}: {reason}")
    if undecided:
        return Verdict("unknown", "; ".join(undecided))
    if not history.closed:
        return Verdict("unknown", "the history has no footer: it was cut short")
    return Verdict("valid", f"{sessions} sessions, never two at once", details={"sessions": sessions})


def _check_workspace(operations: Sequence[Operation], fencing: bool) -> int:
    sessions, bare, denied = _Collector(operations, fencing).collect()
    windows = {id(s): _window(s) for s in sessions if s.real}
    zones = [Zone(s, *windows[id(s)]) for s in sessions if s.real]
    line = Line(zones)
    if line.overlap:
        one, other = (zone.key for zone in line.overlap)
        raise Violated(
            "two holders",
            f"{one.name} still held while {other.name} did",
            *_witness(one),
            *_witness(other),
        )
    for zone in zones:
        if not zone.forward and (outer := line.around(zone.last, zone.first)):
            raise Violated(
                "two holders",
                f"{zone.key.name} held at some time while {outer.key.name} held throughout",
                *_witness(zone.key),
                *_witness(outer.key),
            )
    for op, own in denied:
        outer = line.around(op.invoke.i, _end(op))
        if outer is not None and outer.key is own:
            raise Violated(
                "holder refused",
                f"{op.f} by {own.name} was refused while it held",
                op,
                *_witness(own),
            )
    _check_bare(bare, [s for s in sessions if s.attempts])
    return len(zones)


class _Collector:
    """Sorts the operations of one workspace into sessions."""

    def __init__(self, operations: Sequence[Operation], fencing: bool) -> None:
        self.operations = operations
        self.fencing = fencing
        self.sessions: dict[tuple[str, str], Session] = {}
        self.by_token: dict[str, list[Session]] = defaultdict(list)
        self.by_id: dict[str, list[Session]] = defaultdict(list)

    def collect(
        self,
    ) -> tuple[list[Session], list[Operation], list[tuple[Operation, Session]]]:
        """The sessions; refusals that name no holder; refusals that deny a session's own id."""
        for op in self.operations:
            if op.f == "lock":
                self._request(op)
        self._require_distinct_grants()
        for op in self.operations:
            if holder := _holder(op):
                self._learn(holder)
        bare: list[Operation] = []
        denied: list[tuple[Operation, Session]] = []
        for op in self.operations:
            if holder := _holder(op):
                self._of_holder(holder, op).seen.append(op)
            elif op.f == "lock" and op.kind == "fail" and _kind(op) == "locked":
                bare.append(op)
            if op.f == "unlock" or (op.f == "put" and self.fencing and _given_id(op) is not None):
                self._use(op, denied)
        return list(self.sessions.values()), bare, denied

    def _request(self, op: Operation) -> None:
        info = (op.invoke.given or {})["info"]
        key = (info.get("Info", ""), info.get("ID", ""))
        session = self.sessions.get(key)
        if session is None:
            session = self.sessions[key] = Session(*key)
            if session.token:
                self.by_token[session.token].append(session)
        (session.refused if op.kind == "fail" else session.attempts).append(op)

    def _require_distinct_grants(self) -> None:
        granted: dict[str, Operation] = {}
        owner: dict[str, Session] = {}
        for session in self.sessions.values():
            for op in session.attempts:
                if op.kind != "ok" or op.outcome is None:
                    continue
                lock_id = str(op.outcome.out)
                if owner.setdefault(lock_id, session) is not session:
                    raise Violated(
                        "lock id granted twice",
                        f"{lock_id!r} was given to two requests",
                        granted[lock_id],
                        op,
                    )
                granted[lock_id] = op
                self._know(lock_id, session)
        for session in self.sessions.values():
            if session.attempts and not any(op.kind == "ok" for op in session.attempts):
                self._know(session.request_id, session)

    def _know(self, lock_id: str, session: Session) -> None:
        if session not in self.by_id[lock_id]:
            self.by_id[lock_id].append(session)

    def _learn(self, holder: Mapping[str, Any]) -> None:
        """A refusal that names token and id tells the id of a session whose reply was lost."""
        named = self.by_token.get(holder.get("Info", ""), [])
        if len(named) == 1 and holder.get("ID"):
            self._know(holder["ID"], named[0])

    def _of_holder(self, holder: Mapping[str, Any], op: Operation) -> Session:
        token, lock_id = holder.get("Info", ""), holder.get("ID", "")
        named = self.by_token.get(token, []) if token else []
        if len(named) != 1:
            known = self.by_id.get(lock_id, [])
            named = [s for s in known if not named or s in named]
        if len(named) > 1:
            raise Undecided(f"holder {lock_id!r} fits several requests")
        if not named or not named[0].attempts:
            raise Violated(
                "phantom holder",
                f"a refusal names {lock_id or token!r}, which was never granted to anybody",
                op,
                *(refusal for session in named for refusal in session.refused[:1]),
            )
        return named[0]

    def _use(self, op: Operation, denied: list[tuple[Operation, Session]]) -> None:
        lock_id = _given_id(op)
        known = self.by_id.get(lock_id or "", [])
        if len(known) > 1:
            raise Undecided(f"lock id {lock_id!r} fits several requests")
        if not known:
            if op.kind == "ok":
                raise Violated(
                    "phantom release" if op.f == "unlock" else "phantom writer",
                    f"{op.f} with id {lock_id!r} succeeded, but nobody was ever granted it",
                    op,
                )
            return
        if op.kind == "fail":
            if _kind(op) in REFUSED_RELEASE:
                denied.append((op, known[0]))
        elif op.f == "unlock":
            known[0].releases.append(op)
        elif op.kind == "ok":
            known[0].seen.append(op)


def _window(session: Session) -> tuple[float, float]:
    """First return and last call of a session; raises where it contradicts itself."""
    request = min(session.attempts, key=lambda op: op.invoke.i)
    acquired = [op for op in session.attempts if op.kind == "ok"]
    released = [op for op in session.releases if op.kind == "ok"]
    gone = min((_end(op) for op in released), default=math.inf)
    for op in acquired:
        if op.invoke.i > gone:
            raise Undecided(f"{session.name} was requested again after its release")
    members = [*acquired, *session.seen]
    for op in [*members, *released]:
        if _end(op) < request.invoke.i:
            raise Violated("seen before lock", f"{session.name} held before it was asked for", op, request)
    last = max(op.invoke.i for op in [request, *members])
    if last > gone:
        late = max(members, key=lambda op: op.invoke.i)
        raise Violated(
            "seen after unlock",
            f"{session.name} held again after it was released",
            late,
            *released[:1],
        )
    first = min((_end(op) for op in [*members, *released]), default=math.inf)
    if not session.releases:
        return first, math.inf
    return first, max(last, min(op.invoke.i for op in session.releases))


def _check_bare(bare: Sequence[Operation], sessions: Sequence[Session]) -> None:
    """A refusal without a holder needs a time at which somebody may have held."""
    if not bare:
        return
    spans = sorted(
        (
            min(op.invoke.i for op in session.attempts),
            min((_end(op) for op in session.releases if op.kind == "ok"), default=math.inf),
        )
        for session in sessions
    )
    starts = [start for start, _ in spans]
    reach = list(itertools.accumulate((end for _, end in spans), max))
    for op in bare:
        before = bisect.bisect_left(starts, _end(op))
        if before == 0 or reach[before - 1] < op.invoke.i:
            raise Violated("refused while free", "a lock was refused that nobody can have held", op)


def _witness(session: Session) -> list[Operation]:
    """What bounds a session: its request, its last observation, its release."""
    return [*session.attempts[:1], *session.seen[-1:], *session.releases[:1]]


def _holder(op: Operation) -> Mapping[str, Any] | None:
    if op.kind != "fail" or op.outcome is None or op.outcome.err is None:
        return None
    holder: Mapping[str, Any] = op.outcome.err.get("holder") or {}
    return holder if holder.get("ID") or holder.get("Info") else None


def _kind(op: Operation) -> str | None:
    return None if op.outcome is None or op.outcome.err is None else op.outcome.err.get("kind")


def _given_id(op: Operation) -> str | None:
    given: str | None = (op.invoke.given or {}).get("lock_id")
    return given


def _end(op: Operation) -> float:
    return math.inf if op.outcome is None or op.kind == "info" else op.outcome.i
