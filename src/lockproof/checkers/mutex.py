"""Does a history of locks keep mutual exclusion?

**Specification.** A lock is free or held by one session, that is one request, told by the token in
`LockInfo.Info` and the id in `LockInfo.ID`. A request takes a free lock, under its own id or one that the
backend chose; the same request again while it holds is the same session. Whoever knows the lock id
releases it, once and for ever. A refusal that names a holder shows that it holds; a refused request that
names none shows that somebody holds; a refused release shows that its own id does not hold; a second
release of an id may succeed while nobody holds. A call of unknown outcome may take effect at any time
after it was called, or never. All this happens at some instant between the call and its return.
`lockproof.checkers.models.LockModel` says the same step by step.

**Algorithm.** A lock is a register whose values are sessions: the cluster of a session is what shows that
it held, and its zone runs from the first return to the last call of the cluster, or to the call of its
release, or for ever when nobody released it. An order exists exactly when no operation of a session
returned before its request was called, none was called after its release had returned, forward zones are
disjoint, and no backward zone lies inside a forward one (see `zones`, for Gibbons and Korach's theorem).
An unanswered request that nobody ever saw may be left out of every order, and is. An instant at which a
session does not hold can always be had outside its zone, for sessions can be made as short as their zones:
a refused release must not lie inside the zone of its own session, nor a repeated one inside another's.
Refusals that name nobody: see `mutex_bare`. Where the answers cannot be told apart (a request sent again
after its release, one lock id of two requests, a chosen id that was lost with a reply and then named without
its token, an explanation that did not fit) nothing is concluded from the sessions concerned; violations
among the others are certain, and else the general search decides small histories and the verdict on larger
ones is `unknown`. All this is exact where no two requests share a token or an id, as no client's do. Of
requests that share a token the lock id alone tells the holder, which is more than the model asks for. Of
one id of two requests, or a request sent again, the search has the last word in small histories; in larger
ones a violation rests on one reading of the answers.

**Cost.** O(n log n) time for n operations; about 1 µs each.

**Memory of a stream** (operations with `since`, see `lockproof.history.pair`): the sessions that are not
over. A session is over when its release has returned, or another has certainly held after it, before any
call that is still open. It cannot conflict with what is still to come, because all of that was called
later; whoever names it again is in the wrong. Of a session that is over its lock id and the numbers of its
last events stay, some 300 bytes, which is enough to name the violation and its witness. An unanswered
request stays, since it may take effect at any time. Nothing becomes `unknown` by being forgotten, but for
what a search of the whole history would have had to tell.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from lockproof.checkers.models import LockModel, Model
from lockproof.checkers.mutex_answers import after_release, names
from lockproof.checkers.mutex_bare import explain
from lockproof.checkers.mutex_plain import plain_sessions, told_of
from lockproof.checkers.mutex_sessions import Session, Sessions
from lockproof.checkers.search import search
from lockproof.checkers.verdict import Verdict, Violated
from lockproof.checkers.zones import Line, Zone
from lockproof.history import History, Operation

SETTLE_EVERY = 2048
SEARCHED = 300
"""The largest number of operations on one lock that is given to the general search."""

NOT_DETERMINED = "who held when a refusal named nobody is not determined"


def check_mutex(history: History) -> Verdict:
    """Whether at most one session held each lock at any time, as far as the answers tell.

    `violated` is certain; `unknown` when requests cannot be told apart, or the history was cut short.
    """
    monitor = MutexMonitor()
    monitor.extend(history.operations())
    return monitor.verdict(history.closed)


class MutexMonitor:
    """Judges the locks of a history, fed with its operations in any order.

    `fencing`: a write accepted under a lock id shows that the id held. Sessions that are over are
    forgotten after every `settle_every` operations of a workspace, where the operations allow it.
    """

    def __init__(self, *, fencing: bool = False, settle_every: int = SETTLE_EVERY) -> None:
        self.fencing = fencing
        self.settle_every = settle_every
        self.locks: dict[str, WorkspaceLock] = {}
        self._plain = 0  # sessions of workspaces that need no closer look

    def add(self, op: Operation) -> None:
        """Takes one more operation."""
        workspace = op.ws
        if workspace is None:
            return
        lock = self.locks.get(workspace)
        if lock is None:
            lock = self.locks[workspace] = self._new_lock()
        lock.add(op)

    def extend(self, operations: Sequence[Operation]) -> None:
        """Takes all operations of a history that is kept, instead of one by one."""
        for workspace, own in _by_workspace(operations):
            found = plain_sessions(own, fencing=self.fencing)
            if isinstance(found, int):
                self._plain += found
            else:
                self.locks[workspace] = self._closer_look(own, found)

    def verdict(self, closed: bool) -> Verdict:
        """The verdict on all that was added, after which nothing may be added any more.

        `closed`: the history was not cut short.
        """
        undecided: list[str] = []
        sessions = self._plain
        for workspace, lock in self.locks.items():
            lock.close()
            if lock.violation is not None:
                if not lock.ambiguous() or self._search(lock).status != "valid":
                    return lock.violation.verdict(workspace)
            elif lock.sessions.unsure:
                found = self._search(lock)
                if found.status == "violated":
                    return found
                if found.status == "unknown":
                    undecided.append(f"workspace {workspace!r}: {lock.sessions.unsure}: {found.headline}")
            sessions += lock.count
        if undecided:
            return Verdict("unknown", "; ".join(undecided))
        if not closed:
            return Verdict("unknown", "the history has no footer: it was cut short")
        return Verdict("valid", f"{sessions} sessions, never two at once", details={"sessions": sessions})

    def _closer_look(self, operations: Sequence[Operation], suspects: Collection[str]) -> WorkspaceLock:
        """The lock of one workspace; of the suspected sessions alone when these refute it."""
        if suspects:
            lock = self._new_lock()
            lock.extend(told_of(operations, suspects))
            lock.close()
            if lock.violation is not None and not lock.sessions.unsure:
                return lock
        lock = self._new_lock()
        lock.extend(operations)
        return lock

    def _new_lock(self) -> WorkspaceLock:
        return WorkspaceLock(self.fencing, self.settle_every)

    def _model(self) -> Model:
        return LockModel(fencing=self.fencing)

    def _search(self, lock: WorkspaceLock) -> Verdict:
        if lock.kept is None:
            return Verdict("unknown", f"more than {SEARCHED} operations, too many to search")
        return search(sorted(lock.kept, key=lambda op: op.i), self._model())


def _by_workspace(operations: Sequence[Operation]) -> Iterable[tuple[str, Sequence[Operation]]]:
    names = {op.ws for op in operations}
    if len(names) == 1 and None not in names:
        return ((name, operations) for name in names if name is not None)
    parts: dict[str, list[Operation]] = {}
    for op in operations:
        if op.ws is not None:
            parts.setdefault(op.ws, []).append(op)
    return parts.items()


class WorkspaceLock:
    """The lock of one workspace.

    `violation` is the first one found, `count` the number of sessions, `kept` the operations while they
    are few enough to search.
    """

    def __init__(self, fencing: bool, settle_every: int = SETTLE_EVERY) -> None:
        self.sessions = Sessions(fencing)
        self.violation: Violated | None = None
        self.count = 0
        self.kept: list[Operation] | None = []
        self._settle_every = settle_every
        self._added = 0
        self._settled = 0
        self._guessed: list[Session] = []

    def add(self, op: Operation) -> None:
        """Takes one operation of the workspace."""
        if self.kept is not None:
            self.kept.append(op)
            if len(self.kept) > SEARCHED:
                self.kept = None
        if self.violation is not None:
            return
        try:
            self.sessions.add(op)
            self._added += 1
            if self._added >= self._settle_every and op.since > self._settled:
                self._added, self._settled = 0, op.since
                self._settle(op.since)
        except Violated as violation:
            self.violation = violation

    def extend(self, operations: Sequence[Operation]) -> None:
        """Takes many operations: refused requests last, for most name a holder that is known by then."""
        few = self.kept is not None and len(self.kept) + len(operations) <= SEARCHED
        kept = [*(self.kept or ()), *operations] if few else None
        self.kept = None
        refused: list[Operation] = []
        for op in operations:
            if op.kind == "fail" and op.f == "lock":
                refused.append(op)
            else:
                self.add(op)
        requested = self.sessions.by_token
        for op in refused:
            holder = op.err.get("holder") or {}
            named = requested.get(holder.get("Info") or "")
            if named is not None and len(named) == 1:
                session = named[0]
                if session.lock_id == holder.get("ID") and session.first_end <= op.end:
                    if op.i > session.last_call:
                        session.last, session.last_call = op, op.i
                    continue
            self.add(op)
        self.kept = kept

    def close(self) -> None:
        """Judges what is left: nothing comes any more."""
        if self.violation is None:
            try:
                self._settle(math.inf)
            except Violated as violation:
                self.violation = violation
        sessions = self.sessions
        if self.kept is not None and not sessions.unsure and sessions.foreign:
            requested = (op.given["info"].get("Info") for op in self.kept if op.f == "lock")
            if not sessions.foreign.isdisjoint(requested):
                sessions.unsure = "a refusal gives one request's token and another's id"
        self.count += len(sessions.proven)

    def ambiguous(self) -> bool:
        """Whether the search may read the answers otherwise; of a shared token the id is enough."""
        return not self.sessions.shared and bool(self.sessions.unsure or self.sessions.resent)

    def _settle(self, since: float) -> None:
        """Judges all sessions and forgets those that are over; no call before event `since` is open."""
        sessions = self.sessions
        sessions.retry(since, closing=since == math.inf)
        sessions.set_aside_repeated()
        certain = [s for s in sessions.proven if not s.mixed and not _is_open(s, since)]
        zones = [_zone(session, since) for session in certain]
        line = _order(zones)
        _require_outside(certain, sessions.repeats, line)
        if sessions.bare:
            sessions.bare = self._explain(certain, line, since)
        if self._guessed and not sessions.unsure:
            self._require_guesses(certain, since)
        self._judge_further(zones, since)
        if since < math.inf:
            self._forget(zones, since)

    def _judge_further(self, zones: Sequence[Zone[Session]], since: float) -> None:
        """What else is judged with the locks; see `fencing`."""

    def _explain(self, certain: Sequence[Session], line: Line[Session], since: float) -> list[Operation]:
        """What is left of the refusals that name nobody; what holds according to the others is guessed."""
        sessions = self.sessions
        bare = [op for op in sessions.bare if not line.meets(op.i, op.end)]
        if not bare or sessions.unsure:
            return []
        possible = [session for session in sessions.requests.values() if not session.mixed]
        left, explained = explain(bare, possible, line, since)
        if not explained:
            sessions.unsure = NOT_DETERMINED
        self._guessed = [session for session in possible if session.guessed_last >= 0]
        return left

    def _require_guesses(self, certain: Sequence[Session], since: float) -> None:
        """Marks the lock as undecided unless the sessions with all that is guessed fit an order."""
        together = list(dict.fromkeys([*certain, *self._guessed]))
        try:
            wider = [_zone(session, since, guessed=True) for session in together]
            _require_outside(together, self.sessions.repeats, _order(wider))
            fits = all(zone.last <= zone.key.guessed_limit for zone in wider)
        except Violated:
            fits = False
        if not fits:
            self.sessions.unsure = NOT_DETERMINED

    def _forget(self, zones: Sequence[Zone[Session]], since: float) -> None:
        """Retires the sessions that can neither be named rightly nor conflict any more."""
        sessions = self.sessions
        later = [s.first_end for s in sessions.proven if not s.mixed and _is_open(s, since)]
        horizon = min([since, *later, *(op.i for op in sessions.bare)])
        held = [-math.inf, -math.inf, *sorted(zone.last for zone in zones if zone.first <= horizon)]
        over: list[Session] = []
        for zone in zones:
            session = zone.key
            latest_other = held[-2] if zone.last == held[-1] else held[-1]
            if session.last_call > session.gone:
                continue  # it was asked for again, or is named wrongly: soon known
            if session.gone <= horizon or zone.first < latest_other:
                over.append(session)
                sessions.retire(session)
        self.count += len(over)
        self._guessed = [
            s for s in self._guessed if not s.mixed and (s.first is None or s in sessions.proven)
        ]
        for session in self._guessed:
            first = _zone(session, since, guessed=True).first
            after = [z.first for z in (_zone(s, since, guessed=True) for s in over) if first < z.last]
            session.guessed_limit = min([session.guessed_limit, *after])
        held_from = min(
            [s.first_end for s in (*sessions.proven, *self._guessed)] + [op.end for op in sessions.bare],
            default=math.inf,
        )
        sessions.repeats = [pair for pair in sessions.repeats if pair[0].end > since or pair[0].i > held_from]


def _is_open(session: Session, since: float) -> bool:
    """Whether a request that is not known yet may be the same again: what is seen of it after a release may
    be of that one."""
    seen = session.let_go is not None and session.last is not None and session.last.end > since
    return seen or session.newest_request >= since


def _zone(session: Session, since: float, *, guessed: bool = False) -> Zone[Session]:
    """The zone of a session, with what is guessed of it or without; raises where it contradicts itself.

    Requests and releases that are not known yet were called after event `since`.
    """
    first, asked = session.first, session.asked
    if first is not None and session.first_end < asked.i and session.first_end <= since:
        raise Violated("seen before lock", f"{session.name} held before it was asked for", first, asked)
    late = session.last
    if late is not None and session.freed is not None and late.i > session.gone and late.end <= since:
        raise Violated("seen after unlock", after_release(late, session.name), late, session.freed)
    let_go = math.inf if session.let_go is None else session.let_go.i
    last = max(session.last_call, min(asked.i, since), min(let_go, since))
    if guessed:
        start = min(session.first_end, session.guessed_first)
        return Zone(session, start, max(last, session.guessed_last))
    return Zone(session, session.first_end, last)


def _order(zones: Sequence[Zone[Session]]) -> Line[Session]:
    """The certain sessions in their order; raises when there is none."""
    line = Line(zones)
    if line.overlap:
        one, other = (zone.key for zone in line.overlap)
        raise _two_holders(one, other, f"{one.name} still held while {other.name} did")
    for zone in zones:
        if not zone.forward and (outer := line.around(zone.last, zone.first)):
            one, other = zone.key, outer.key
            raise _two_holders(one, other, f"{one.name} held at some time while {other.name} held throughout")
    return line


def _two_holders(one: Session, other: Session, headline: str) -> Violated:
    edges = (*one.edges(), *other.edges())
    for op in edges:
        if op.f == "put":
            writer, holder = (one, other) if op in one.edges() else (other, one)
            headline = f"a write under {writer.name} was accepted while {holder.name} held"
            return Violated("stale write", headline, *edges)
    return Violated("two holders", headline, *edges)


def _require_outside(
    sessions: Sequence[Session],
    repeats: Sequence[tuple[Operation, Session | None]],
    line: Line[Session],
) -> None:
    """Refused releases need a time outside their own session, repeated ones outside all others."""
    for session in sessions:
        for op in session.denied:
            if op.given.get("lock_id") != session.lock_id:
                continue
            outer = line.around(op.i, op.end)
            if names(op, session) or (outer is not None and outer.key is session):
                headline = f"{op.f} by {session.name} was refused while it held"
                raise Violated("holder refused", headline, op, *session.edges())
    for op, own in repeats:
        outer = line.around(op.i, op.end)
        if outer is not None and outer.key is not own:
            lock_id = op.given.get("lock_id")
            headline = f"{lock_id} was released again while {outer.key.name} held"
            raise Violated("stale release", headline, op, *outer.key.edges())
