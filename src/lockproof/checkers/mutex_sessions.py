"""The sessions of one workspace's lock: which answer speaks of which acquisition.

A session is one request, told by the token in `LockInfo.Info` and the id in `LockInfo.ID`, however often
it was sent. A holder that a refusal names is matched by token first and by lock id second; releases and
writes name the lock id.

Of a session only the operations at its edges stay: that is all its zone and its witness need.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from lockproof.checkers.mutex_answers import (
    after_release,
    denies,
    named_alone,
    of_lost_requests,
    phantom,
    spoken_of,
    twice,
)
from lockproof.checkers.verdict import Violated
from lockproof.history import Event, Operation

STRANGERS = 1000


class Session:
    """What is known of one acquisition.

    `asked` is its earliest request of a known or unknown grant, `granted` one that was answered.
    `first` returned first of all that shows that it held, `last` was called last; `freed` is the
    acknowledged release that returned first, at `gone`, and `let_go` the release called first, its
    outcome known or not. `guessed_first` and `guessed_last` widen the session to what is assumed,
    and it must have ended before `guessed_limit` then.
    `denied` are operations that show that it did not hold. A `mixed` session cannot be told from
    another one: nothing is concluded from it.
    """

    __slots__ = (
        "asked",
        "denied",
        "first",
        "first_end",
        "freed",
        "gone",
        "granted",
        "guessed_first",
        "guessed_last",
        "guessed_limit",
        "last",
        "last_call",
        "let_go",
        "lock_id",
        "mixed",
        "newest_request",
        "repeated",
        "request_id",
        "token",
    )

    def __init__(self, token: str, request_id: str, asked: Operation) -> None:
        self.token = token
        self.request_id = request_id
        self.asked = asked
        self.newest_request = asked.i
        self.granted: Operation | None = None
        self.lock_id: str | None = None
        self.first: Operation | None = None
        self.first_end = math.inf
        self.last: Operation | None = None
        self.last_call = -1
        self.freed: Operation | None = None
        self.gone = math.inf
        self.let_go: Operation | None = None
        self.repeated = False
        self.denied: list[Operation] = []
        self.guessed_first = math.inf
        self.guessed_last = -1
        self.guessed_limit = math.inf
        self.mixed = False

    @property
    def name(self) -> str:
        return self.lock_id or self.request_id or self.token

    def edges(self) -> tuple[Operation, ...]:
        """What bounds its zone: what showed first that it held, and what was called last of it."""
        first = self.first or self.asked
        if self.let_go is None:
            return (first,)
        called = [op for op in (self.asked, self.last, self.let_go) if op is not None]
        return (first, max(called, key=lambda op: op.i))


class Past(NamedTuple):
    """What stays of a session that is over: its lock id was `chosen` by the backend; the numbers of the
    events that show its end; and the release's, unless another holder showed that it was over."""

    chosen: bool
    released: bool
    events: tuple[int, ...]


class Sessions:
    """Sorts the operations of one workspace into sessions, in whatever order they come.

    `proven` are the sessions that something shows to have held, `by_token` all that are not over, by the
    token of their request. `bare` are refusals that name nobody, `repeats` the releases of sessions that
    were released more than once, `strangers` operations that speak of a session that is not known (yet),
    `denials` those that deny one, `past` the sessions that are over, by lock id. `foreign` are tokens that
    refusals gave with the lock id of a request with another token, `unsure` says why some sessions could
    not be told apart; `shared`: one token was that of several requests; `resent`: some were sent again.
    Raises `Violated` as soon as an answer cannot be true.
    """

    def __init__(self, fencing: bool) -> None:
        self.fencing = fencing
        self.proven: dict[Session, None] = {}
        self.bare: list[Operation] = []
        self.repeats: list[tuple[Operation, Session | None]] = []
        self.strangers: list[Operation] = []
        self.denials: list[Operation] = []
        self.past: dict[str, Past] = {}
        self.foreign: set[str] = set()
        self.shared = False
        self.resent = False
        self.unsure = ""
        self.requests: dict[tuple[str, str], Session] = {}
        self.by_token: dict[str, list[Session]] = {}
        self._by_id: dict[str, list[Session]] = {}
        self._complete: float = -1
        self._chosen: set[str] = set()  # ids that refusals named alone, of requests that are not known

    def add(self, op: Operation) -> None:
        """Takes one operation of the workspace."""
        if op.kind == "fail":
            self._add_refusal(op)
        elif op.f == "lock":
            self._request(op)
        elif op.f == "unlock" or (self.fencing and op.f == "put" and op.kind == "ok"):
            lock_id = op.given.get("lock_id")
            if lock_id is not None:
                self._use(op, lock_id)

    def observe(self, session: Session, op: Operation, end: float) -> None:
        """`op` shows that `session` held at some time from its call to event `end`."""
        if end < session.first_end:
            if session.first is None:
                self.proven[session] = None
            session.first, session.first_end = op, end
        if op.i > session.last_call:
            session.last, session.last_call = op, op.i

    def holder_of(self, lock_id: str) -> Session | None:
        """The session that has this lock id, if it is known and only one has."""
        known = self._by_id.get(lock_id, ())
        return known[0] if len(known) == 1 else None

    def retry(self, since: float, *, closing: bool) -> None:
        """Looks again for the sessions of strangers. Those that returned before event `since` are of
        a request whose reply was lost, which is left open, or nobody's; raises `Violated` when certain."""
        self._complete = since
        for _ in range(2):  # what the first round learns of ids, the second uses
            waiting, self.strangers = self.strangers, []
            for op in waiting:
                self.add(op)
        waiting, self.denials = self.denials, []
        for op in waiting:
            if op.end > since or op.given["lock_id"] in self._by_id:
                self._deny(op)
        lost = [op for op in self.strangers if op.end <= since and op.kind != "info"]
        if lost:
            lost = self._leave_open(lost)
        if lost and (closing or len(lost) > STRANGERS):
            raise phantom(lost[0])

    def _leave_open(self, lost: list[Operation]) -> list[Operation]:
        """Gives up on strangers that may be of a request whose reply was lost; the others are given back."""
        self._chosen.update(named_alone(lost))
        found, requests = of_lost_requests(lost, self.requests.values(), self._chosen)
        if not found:
            return lost
        self._mix(f"whose lock {spoken_of(found[0])!r} is was lost with a reply", *requests)
        given_up = set(found)
        self.strangers = [op for op in self.strangers if op not in given_up]
        return [op for op in lost if op not in given_up]

    def set_aside_repeated(self) -> None:
        """A request sent again when it was perhaps released may have been granted again: it is mixed."""
        for session in self.proven:
            again = session.newest_request
            if again > session.asked.i and session.let_go is not None and again > session.let_go.i:
                self._mix(f"{session.name!r} was requested again after its release", session)

    def retire(self, session: Session) -> None:
        """Forgets a session that is over, but for its `Past`."""
        del self.proven[session]
        del self.requests[session.token, session.request_id]
        _drop(self.by_token, session.token, session)
        for lock_id in {session.lock_id or session.request_id, session.request_id}:
            _drop(self._by_id, lock_id, session)
        end = session.freed or session.last or session.asked
        chosen = session.lock_id is not None and session.lock_id != session.request_id
        events = tuple(event.i for event in (end.invoke, end.outcome) if event is not None)
        past = Past(chosen, session.freed is not None, events)
        self.past[session.lock_id or session.request_id] = past

    def _add_refusal(self, op: Operation) -> None:
        holder = op.err.get("holder")
        if holder:
            token = holder.get("Info")
            named = self.by_token.get(token) if token else None
            if named is not None and len(named) == 1:
                session = named[0]
                lock_id = holder.get("ID")
                if session.lock_id == lock_id:
                    self.observe(session, op, op.end)
                else:
                    self._recognise(session, op, lock_id)
            elif token or holder.get("ID"):
                self._find(op, token or "", holder.get("ID") or "", named or ())
            elif op.f == "lock" and op.err.get("kind") == "locked":
                self.bare.append(op)
        elif op.f == "lock" and op.err.get("kind") == "locked":
            self.bare.append(op)
        if denies(op, fencing=self.fencing):
            self._deny(op)

    def _recognise(self, session: Session, op: Operation, lock_id: str | None) -> None:
        """A holder told by its token alone: certain when every request called before the refusal is known."""
        if session.lock_id is None and lock_id == session.request_id:
            self._learn(session, lock_id)
        elif op.end > self._complete:
            self.strangers.append(op)
            return
        elif lock_id and (session.granted is None or session.newest_request > session.asked.i):
            self._learn(session, lock_id)  # of a repeated request the first reply may have been lost
        self.observe(session, op, op.end)

    def _find(self, op: Operation, token: str, lock_id: str, named: Any) -> None:
        """A holder that its token does not tell from others, by its lock id."""
        own = not named and token and token == (op.given.get("info") or {}).get("Info")
        known = [] if own else [s for s in self._by_id.get(lock_id, ()) if not named or s.token == token]
        if len(known) == 1 and token not in {"", known[0].token}:
            self._find_by_id(op, token, known[0], lock_id)
        elif len(known) == 1:
            self._learn(known[0], lock_id)
            self.observe(known[0], op, op.end)
        elif known or named:
            for session in named if lock_id else ():
                self._know(lock_id, session)
            self._mix(f"holder {lock_id or token!r} fits several requests", *known, *named)
        elif op.end <= self._complete and lock_id in self.past and not own:
            raise self._late(op, lock_id)
        else:
            self.strangers.append(op)

    def _find_by_id(self, op: Operation, token: str, session: Session, lock_id: str) -> None:
        """A holder with this session's id, and a token that is nobody's as soon as all requests are known."""
        if op.end > self._complete:
            self.strangers.append(op)
            return
        if op.given.get("lock_id") == lock_id and denies(op, fencing=self.fencing):
            headline = f"{op.f} by {lock_id} was refused with {lock_id} as the holder"
            raise Violated("holder refused", headline, op)
        if len(self.foreign) < STRANGERS:
            self.foreign.add(token)
        self._learn(session, lock_id)
        self.observe(session, op, op.end)

    def _request(self, op: Operation) -> None:
        info = op.given["info"]
        key = (info.get("Info") or "", info.get("ID") or "")
        session = self.requests.get(key)
        if session is None:
            session = self.requests[key] = Session(*key, _light(op) if op.kind == "info" else op)
            if session.token:
                named = self.by_token.setdefault(session.token, [])
                named.append(session)
                self.shared = self.shared or len(named) > 1
            if session.request_id in self.past:
                self._mix(f"{session.request_id!r} was requested again after its release", session)
        else:
            self.resent = True
            session.newest_request = max(session.newest_request, op.i)
            if op.i < session.asked.i:
                session.asked = op
        if op.kind == "ok":
            self._grant(session, op, str(op.out))
        elif session.granted is None and session.request_id:
            self._know(session.request_id, session)

    def _grant(self, session: Session, op: Operation, lock_id: str) -> None:
        if session.granted is None:
            session.granted = op
            if session.lock_id not in {None, lock_id}:
                self._mix(f"{session.name!r} was known under two lock ids", session)
            if session.request_id != lock_id:
                _drop(self._by_id, session.request_id, session)
            session.lock_id = lock_id
            self._know(lock_id, session)
            past = self.past.get(lock_id)
            if past is not None and lock_id != session.request_id:
                if past.chosen:
                    raise Violated("lock id granted twice", twice(lock_id), op, events=past.events)
                self._mix(f"lock id {lock_id!r} was granted again after its release", session)
        elif session.lock_id != lock_id:
            self._mix(f"{session.name!r} was granted again under another lock id", session)
            self._know(lock_id, session)
        self.observe(session, op, op.end)

    def _know(self, lock_id: str, session: Session) -> None:
        known = self._by_id.setdefault(lock_id, [])
        if session in known:
            return
        known.append(session)
        if len(known) == 1:
            return
        for other in known[:-1]:
            grants = [s.granted for s in (other, session) if s.granted and s.lock_id == lock_id]
            if len(grants) == 2 and lock_id not in {other.request_id, session.request_id}:
                raise Violated("lock id granted twice", twice(lock_id), *grants)
        self._mix(f"lock id {lock_id!r} fits several requests", *known)

    def _learn(self, session: Session, lock_id: str) -> None:
        """A refusal that names token and id tells the id of a session whose reply was lost."""
        if session.lock_id is None:
            session.lock_id = lock_id
            self._know(lock_id, session)
            if session.let_go is not None and session.let_go.given["lock_id"] != lock_id:
                self._mix(f"{session.name!r} was perhaps released under another lock id", session)
        elif session.lock_id != lock_id:
            self._mix(f"{session.name!r} was named under two lock ids", session)
            self._know(lock_id, session)

    def _use(self, op: Operation, lock_id: str) -> None:
        known = self._by_id.get(lock_id)
        if known is None:
            past = self.past.get(lock_id)
            if past is None or (op.f == "put" and op.end > self._complete):
                self.strangers.append(op)
            elif op.f == "put":
                raise self._late(op, lock_id)
            elif op.kind == "ok":
                self.repeats.append((op, None))
            return
        if len(known) > 1:
            return  # mixed, each of them
        session = known[0]
        if session.granted is None and op.kind == "ok":
            self._learn(session, lock_id)
        if op.f == "put":
            self.observe(session, op, op.end)
        else:
            self._release(session, op)

    def _release(self, session: Session, op: Operation) -> None:
        if session.let_go is not None:
            if session.freed is not None and not session.repeated:
                self.repeats.append((session.freed, session))
            if op.kind == "ok":
                self.repeats.append((op, session))
            session.repeated = session.freed is not None or op.kind == "ok"
        if session.let_go is None or op.i < session.let_go.i:
            session.let_go = op
        if op.end < session.gone:
            session.freed, session.gone = op, op.end
            if op.end < session.first_end:
                if session.first is None:
                    self.proven[session] = None
                session.first, session.first_end = op, op.end

    def _deny(self, op: Operation) -> None:
        lock_id = op.given.get("lock_id")
        known = self._by_id.get(lock_id) if lock_id is not None else ()
        if known is None:
            if lock_id not in self.past:
                self.denials.append(op)
        elif len(known) == 1 and op not in known[0].denied:
            known[0].denied.append(op)

    def _mix(self, reason: str, *sessions: Session) -> None:
        self.unsure = self.unsure or reason
        for session in sessions:
            session.mixed = True

    def _late(self, op: Operation, lock_id: str) -> Violated:
        past = self.past[lock_id]
        if past.released:
            return Violated("seen after unlock", after_release(op, lock_id), op, events=past.events)
        headline = f"{lock_id} still held although another had held since"
        return Violated("two holders", headline, op, events=past.events)


def _light(op: Operation) -> Operation:
    """`op` without what was given and came back: there may be many unanswered requests, for ever."""
    return Operation(_number(op.invoke), op.outcome and _number(op.outcome))


def _number(event: Event) -> Event:
    return Event(event.i, event.t, event.p, event.e, event.f)


def _drop(index: dict[str, list[Session]], name: str, session: Session) -> None:
    known = index.get(name)
    if known is not None and session in known:
        known.remove(session)
        if not known:
            del index[name]
