"""The true objects that generated histories tell of: one workspace's lock, state and listing.

Each knows, beside what is true, what every checker must be able to conclude: which calls have returned,
and which may still change something.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

Answer = tuple[Literal["ok", "fail", "info"], Any, Mapping[str, Any] | None]
OK: Answer = ("ok", None, None)
KEPT = 64
"""How many completed writes and sessions are remembered for the faults."""
LINEAGE = "5f0c1f0e-1f3d-4b7e-9a55-2f6c7b8f9d10"


@dataclass(slots=True, eq=False)
class Call:
    """A call under way. `i` and `end` are its event numbers, once it has them."""

    place: Place | Directory
    f: str
    ws: str | None
    given: Mapping[str, Any]
    i: int = -1
    end: float = math.inf
    lost: bool = False

    @property
    def request(self) -> tuple[str, str]:
        """Token and id of a lock request."""
        info = self.given["info"]
        return info["Info"], info["ID"]


@dataclass(slots=True, eq=False)
class Session:
    """An acquisition. `taken`: the event number of the reply, if there was one; `over`: that of the reply
    to a release."""

    info: Mapping[str, Any]
    request: tuple[str, str]
    id: str
    taken: float = math.inf
    over: float = math.inf


@dataclass(slots=True, eq=False)
class Place:
    """One workspace. `bare` is the share of refusals that name no holder."""

    name: str
    random: Random
    bare: float = 0.0
    backend_ids: bool = False
    holder: Session | None = None
    past: deque[Session] = field(default_factory=lambda: deque(maxlen=KEPT))
    released: set[str] = field(default_factory=set)
    ended: dict[tuple[str, str], int] = field(default_factory=dict)
    generation: int = 1_790_000_000_000_000
    releases: Counter[str] = field(default_factory=Counter)  # calls to release each id
    known_ids: set[str] = field(default_factory=set)  # asked for or granted
    repeated: set[tuple[str, str]] = field(default_factory=set)  # requests that were sent again
    asking: set[Call] = field(default_factory=set)  # lock calls that have not returned, lost ones too
    abandoned: set[str] = field(default_factory=set)  # tokens of locks that their holders gave up
    state: Mapping[str, Any] | None = None
    serial: int = 0
    written: deque[Call] = field(default_factory=lambda: deque(maxlen=KEPT))  # returned, in that order
    writing: set[Call] = field(default_factory=set)  # changes that have not returned, lost ones too
    reused: set[str] = field(default_factory=set)  # values that were written more than once
    last_put: float = -1  # event number of the last reply to a write
    last_deletion: float = -1
    changed: int = 0

    # --- what is true ------------------------------------------------------------------------------

    def apply(self, call: Call, now: int) -> Answer:
        """What `call` is answered when it takes effect at event number `now`."""
        if call.f == "lock":
            return self._lock(call)
        if call.f == "unlock":
            return self._unlock(call.given["lock_id"], now)
        if call.f == "get":
            return "ok", self.state or {"value": None}, None
        lock_id = call.given.get("lock_id")
        if lock_id is not None and (self.holder is None or self.holder.id != lock_id):
            return self._not_held()
        self.write(call)
        return OK

    def settle(self, call: Call, answer: Answer) -> Answer:
        """The later moment of a call that has two: what was allowed is written now."""
        self.write(call)
        return answer

    def write(self, call: Call) -> None:
        """The state becomes what `call` gives, or absent."""
        self.changed += 1
        self.state = shown(call) if call.f == "put" else None

    def take(self, call: Call, lock_id: str) -> Answer:
        """The lock becomes the request's."""
        info = call.given["info"]
        self.known_ids.add(lock_id)
        self.holder = Session({**info, "ID": lock_id}, call.request, lock_id)
        return "ok", lock_id, None

    def refuse(self, holder: Mapping[str, Any] | None) -> Answer:
        """The refusal of a lock."""
        return "fail", None, _error("locked", holder)

    def _lock(self, call: Call) -> Answer:
        holder = self.holder
        if holder is not None:
            if holder.request == call.request and self.random.random() < 0.5:
                return "ok", holder.id, None
            return self.refuse(None if self.random.random() < self.bare else holder.info)
        if call.i < self.ended.get(call.request, -1):
            return "fail", None, _error("stale", None)
        self.generation += self.random.randrange(1, 1000)
        return self.take(call, str(self.generation) if self.backend_ids else call.request[1])

    def _unlock(self, lock_id: str, now: int) -> Answer:
        if self.holder is None or self.holder.id != lock_id:
            again = self.holder is None and lock_id in self.released
            return OK if again and self.random.random() < 0.5 else self._not_held()
        self.ended[self.holder.request] = now
        self.released.add(lock_id)
        self.past.append(self.holder)
        self.holder = None
        return OK

    def _not_held(self) -> Answer:
        if self.holder is None:
            return "fail", None, _error("not_locked", None)
        bare = self.random.random() < self.bare
        return "fail", None, _error("lock_mismatch", None if bare else self.holder.info)

    # --- what can be known -------------------------------------------------------------------------

    def called(self, call: Call) -> None:
        """A call was made."""
        if call.f == "lock":
            self.asking.add(call)
            self.known_ids.add(call.request[1])
        elif call.f == "unlock":
            self.releases[call.given["lock_id"]] += 1
        elif call.f != "get":
            self.writing.add(call)

    def returned(self, call: Call, answer: Answer) -> None:
        """The call was answered."""
        self.asking.discard(call)
        self.writing.discard(call)
        if answer[0] != "ok":
            return
        if call.f == "lock" and self.holder is not None and self.holder.request == call.request:
            self.holder.taken = min(self.holder.taken, call.end)
        elif call.f == "unlock":
            for session in self.past:
                if session.id == call.given["lock_id"]:
                    session.over = min(session.over, call.end)
        elif call.f in {"put", "delete", "delete_workspace"}:
            self.written.append(call)
            if call.f == "put":
                self.last_put = call.end
            else:
                self.last_deletion = call.end

    def surely_held(self, call: Call) -> Session | None:
        """The session that has held ever since before `call`, as everybody can tell."""
        session = self.holder
        return session if session and session.taken < call.i and not self.releases[session.id] else None

    def surely_over(self, call: Call) -> list[Session]:
        """Sessions that had ended before `call`, as everybody can tell."""
        return [session for session in self.past if session.over < call.i]

    def written_before(self, call: Call) -> list[Call]:
        """Changes that had returned before `call`, in the order of their returns."""
        return [write for write in self.written if write.end < call.i]

    def written_once(self, write: Call) -> bool:
        """Whether nobody else wrote the same value."""
        return write.given["value"] not in self.reused

    def surely_there(self, call: Call) -> bool:
        """Whether a state had been written before `call`, and no deletion was asked for since."""
        if any(change.f != "put" for change in self.writing):
            return False
        return any(w.f == "put" and w.i > self.last_deletion for w in self.written_before(call))

    def surely_gone(self, call: Call) -> bool:
        """Whether the state had been deleted before `call`, and nobody asked to write since."""
        if any(change.f == "put" for change in self.writing):
            return False
        return any(w.f != "put" and w.i > self.last_put for w in self.written_before(call))


@dataclass(slots=True, eq=False)
class Directory:
    """All workspaces, by name; `default` is always listed."""

    places: Mapping[str, Place]

    def apply(self, call: Call, now: int) -> Answer:
        """The names of the workspaces that have a state."""
        return "ok", self.names(), None

    def settle(self, call: Call, answer: Answer) -> Answer:
        """The second page, read at a later moment than the first."""
        page = [name for name in answer[1] if name < PAGE]
        return "ok", [*page, *(name for name in self.names() if name >= PAGE)], None

    def called(self, call: Call) -> None:
        """Nothing depends on it."""

    def returned(self, call: Call, answer: Answer) -> None:
        """Nothing depends on it."""

    def names(self) -> list[str]:
        """What a true listing shows."""
        return sorted({"default", *(name for name, place in self.places.items() if place.state is not None)})


PAGE = "ws-5"
DESCRIBED = ("value", "sha256", "serial", "lineage")


def shown(write: Call) -> Mapping[str, Any]:
    """What a read of this write is answered."""
    return {name: write.given[name] for name in DESCRIBED}


def described(value: str, serial: int) -> dict[str, Any]:
    """What a recorder says of a state with this value."""
    digest = hashlib.sha256(value.encode()).hexdigest()
    return {"value": value, "sha256": digest, "serial": serial, "lineage": LINEAGE}


def _error(kind: str, holder: Mapping[str, Any] | None) -> Mapping[str, Any]:
    error: dict[str, Any] = {"kind": kind, "definite": True}
    return error if holder is None else {**error, "holder": holder}
