"""Sequential specifications: what a lock, a state and a workspace answer when calls never overlap.

They are what `lockproof.checkers.search` searches with, and are written from the contract alone, not
from the fast checkers, so that the two can be compared. Each says which operations tell something
about it, splits a history into independent objects (linearizability is local: Herlihy and Wing,
"Linearizability", TOPLAS 12(3), 1990, theorem 1), and steps one object from state to state.

A step gives all states that may follow: none when the answer is impossible, several when the answer
leaves open which. An operation of unknown outcome steps as if it took effect; that it had none is the
search's other choice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from lockproof.history import Operation

DEFAULT = "default"
DELETIONS = frozenset({"delete", "delete_workspace"})
NOT_HELD = frozenset({"lock_mismatch", "not_locked"})


@dataclass(frozen=True)
class Part:
    """One object of a history: its name, its first state, its operations in the order of their calls, and
    its step from a state (hashable) over an operation to the states that may follow.

    `reads` tells the operations that change no state, and that are as good early as late: in every order
    that the object allows they can stand anywhere else where they are allowed.
    """

    name: str
    start: Any
    operations: Sequence[Operation]
    step: Callable[[Any, Operation], Sequence[Any]]
    reads: Callable[[Operation], bool]


class Model(Protocol):
    """A sequential specification."""

    def parts(self, operations: Iterable[Operation]) -> Iterator[Part]:
        """The independent objects of a history, without the operations that tell nothing of them."""


# --- locks ---------------------------------------------------------------------------------------


class Grant(NamedTuple):
    """Who holds: token and id of its request, and the lock's id. `None`: one that nobody ever used or saw,
    chosen by the backend. `replied`: the id is what the backend answered, not one of those possible."""

    token: str
    request: str
    id: str | None
    replied: bool


class LockState(NamedTuple):
    """`past`: the ids of earlier acquisitions. `ended` and `now` are kept only where a request was made
    more than once: when each such request was released at the earliest, on the line of event numbers."""

    holder: Grant | None = None
    past: frozenset[str] = frozenset()
    ended: frozenset[tuple[str, str, int]] = frozenset()
    now: int = -1


class LockModel:
    """An owner-tagged lock for each workspace.

    - A free lock can be taken, by a request told by token and id (`LockInfo.Info`, `.ID`). The lock's id
      is what the call returned; if the reply was lost, the request's own or one that the backend chose.
      A chosen id was never another's (LOCK-ID-002).
    - The same request again is the same acquisition: while held it is granted under the same id or
      refused; when sent before the release it cannot take the lock again (LOCK-IDEM-002, -003).
    - Release by whoever knows the id (LOCK-FORCE-001). An id released before is refused while another
      holds (LOCK-REL-003); while nobody holds it may be released again or refused (LOCK-IDEM-001). Any
      other id is refused (LOCK-REL-002).
    - A refusal that names a holder shows that it holds: matched by token, or by id where the token is
      nobody's. Where the reply was lost, the id that it tells is the lock's (LOCK-HOLD-001). A refused
      request that names none shows that somebody holds; a refused release that its id does not.
    - With `fencing`, a write under an id shows that the id holds at some time during the call, and one
      refused for its id that it does not; else only what a refusal names counts.
    """

    def __init__(self, *, fencing: bool = False) -> None:
        self.fencing = fencing

    def parts(self, operations: Iterable[Operation]) -> Iterator[Part]:
        for name, own in _by_workspace(operations, self.tells):
            lock = Lock(own)
            yield Part(name, LockState(), own, lock.step, lock.reads)

    def tells(self, op: Operation) -> bool:
        """Whether the answer says anything of the lock."""
        if op.kind == "fail":
            return (
                named_holder(op) is not None
                or (op.f == "lock" and op.err.get("kind") == "locked")
                or (self._names_its_lock(op) and op.err.get("kind") in NOT_HELD)
            )
        return op.f == "lock" or (self._names_its_lock(op) and (op.f == "unlock" or op.kind == "ok"))

    def _names_its_lock(self, op: Operation) -> bool:
        return op.f == "unlock" or (op.f == "put" and self.fencing and op.given.get("lock_id") is not None)


class Lock:
    """One workspace's lock. `operations`, all of them, say which tokens and ids are in use there."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        requests = [op for op in operations if op.f == "lock"]
        taken = Counter(_request(op) for op in requests if op.kind != "fail")
        self.repeated = {request for request, count in taken.items() if count > 1}
        self.tokens = {token for token, _ in map(_request, requests) if token}
        self.ids = _possible_ids(operations, self.tokens)

    def reads(self, op: Operation) -> bool:
        """As `Part.reads`. Where a request was made more than once, the moment of its release counts, and
        so does what is put before it: then only what names the holder of another request stands still."""
        if op.f in {"lock", "unlock"} and op.kind != "fail":
            return False
        if not self.repeated:
            return True
        named = named_holder(op)
        return named is not None and named[0] in self.tokens - {token for token, _ in self.repeated}

    def step(self, state: LockState, op: Operation) -> Sequence[LockState]:
        if self.repeated and op.i > state.now:
            state = state._replace(now=op.i)
        if op.kind == "fail":
            return [state] if self._may_refuse(state, op) else []
        if op.f == "lock":
            return self._take(state, op)
        if op.f == "unlock":
            return self._release(state, op)
        return [state] if holds(state, op.given["lock_id"]) else []

    def _take(self, state: LockState, op: Operation) -> Sequence[LockState]:
        request = _request(op)
        lock_id = str(op.out)
        if state.holder is not None:
            same = request == state.holder[:2] and (op.kind == "info" or lock_id == state.holder.id)
            return [state] if same else []
        if any(end[:2] == request and op.i <= end[2] for end in state.ended):
            return []
        ids = self.ids[request] if op.kind == "info" else [lock_id]
        return [
            state._replace(holder=Grant(*request, own, op.kind == "ok"))
            for own in ids
            if own not in state.past or own == request[1]
        ]

    def _release(self, state: LockState, op: Operation) -> Sequence[LockState]:
        lock_id = op.given["lock_id"]
        if not holds(state, lock_id):
            return [state] if state.holder is None and lock_id in state.past else []
        assert state.holder is not None
        request, ended = state.holder[:2], state.ended
        if request in self.repeated:
            ended = frozenset(end for end in ended if end[:2] != request) | {(*request, state.now)}
        return [LockState(None, state.past | {lock_id}, ended, state.now)]

    def _may_refuse(self, state: LockState, op: Operation) -> bool:
        if op.err.get("kind") in NOT_HELD and holds(state, op.given.get("lock_id")):
            return False
        named = named_holder(op)
        if named is None:
            return op.f != "lock" or state.holder is not None
        token, lock_id = named
        if token not in self.tokens:
            return holds(state, lock_id)
        holder = state.holder
        if holder is None or holder.token != token:
            return False
        return holder.replied or lock_id in {"", holder.id}


def _possible_ids(
    operations: Sequence[Operation], tokens: Collection[str]
) -> Mapping[tuple[str, str], Sequence[str | None]]:
    """The lock ids that each request may have got if its reply was lost: its own, or one that the backend
    chose: as a refusal named it, as a second reply gave it, or, where the own one was refused, none that
    was ever used."""
    refused = {op.given.get("lock_id") for op in operations if op.kind == "fail"}
    granted: dict[tuple[str, str], set[str]] = {}
    for op in operations:
        if op.f == "lock":
            granted.setdefault(_request(op), set()).update([str(op.out)] if op.kind == "ok" else [])
    taken = {request for _, request in granted}.union(*granted.values())
    named = [name for op in operations if (name := named_holder(op)) is not None]
    by_id_alone = {lock_id for token, lock_id in named if not token} - taken
    possible: dict[tuple[str, str], Sequence[str | None]] = {}
    for (token, request), replies in granted.items():
        told = {lock_id for name, lock_id in named if name == token and name}
        chosen = sorted((told | replies | by_id_alone) - {request, ""})
        own: list[str | None] = [request, None] if request in refused else [request or None]
        possible[token, request] = [*own, *chosen]
    return possible


def holds(state: LockState, lock_id: str | None) -> bool:
    """Whether the lock is held under `lock_id`."""
    return lock_id is not None and state.holder is not None and state.holder.id == lock_id


def named_holder(op: Operation) -> tuple[str, str] | None:
    """Token and id of the holder that a refusal names, either of them perhaps empty."""
    holder: Mapping[str, Any] = op.err.get("holder") or {} if op.kind == "fail" else {}
    token, lock_id = holder.get("Info") or "", holder.get("ID") or ""
    return (token, lock_id) if token or lock_id else None


def _request(op: Operation) -> tuple[str, str]:
    info = op.given.get("info") or {}
    return info.get("Info") or "", info.get("ID") or ""


# --- states --------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """A state as a write gave it. An empty one may read as absent (STATE-EMPTY-001)."""

    value: Any
    digest: str | None
    empty: bool


class StateModel:
    """A register of bytes for each workspace, absent at first; values need not be unique.

    A write replaces, a deletion makes absent, a read gives what is there: the same value and, where
    both are known, the same digest.
    """

    def parts(self, operations: Iterable[Operation]) -> Iterator[Part]:
        for name, own in _by_workspace(operations, self.tells):
            yield Part(name, None, own, self.step, reads)

    def tells(self, op: Operation) -> bool:
        """Whether it may have changed the state, or read it."""
        return (
            op.kind == "ok" if op.f == "get" else op.kind != "fail" and (op.f == "put" or op.f in DELETIONS)
        )

    def step(self, state: Stored | None, op: Operation) -> Sequence[Stored | None]:
        if op.f == "put":
            return [Stored(op.given.get("value"), op.given.get("sha256"), op.given.get("size") == 0)]
        if op.f in DELETIONS:
            return [None]
        seen = op.out or {}
        if seen.get("value") is None:
            return [state] if state is None or state.empty else []
        if state is None or state.value != seen["value"]:
            return []
        digest = seen.get("sha256")
        return [state] if digest is None or state.digest in {None, digest} else []


class LockedStateModel:
    """A workspace's lock and state, where a write is accepted under the id that it names.

    `strict` (`locking.fencing-strict`): the id holds at the very moment when the write takes effect, so
    that no stale write is ever read: lock and state are one object. Otherwise (`locking.fencing`) the
    id holds at some moment of the call and the write takes effect at another: two objects. A write
    without an id is free.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._lock = LockModel(fencing=True)
        self._state = StateModel()

    def parts(self, operations: Iterable[Operation]) -> Iterator[Part]:
        operations = list(operations)
        if not self.strict:
            yield from self._lock.parts(operations)
            yield from self._state.parts(operations)
            return
        for name, own in _by_workspace(operations, lambda op: self._lock.tells(op) or self._state.tells(op)):
            lock = Lock([op for op in own if self._lock.tells(op)])
            both = _Both(self._lock, lock, self._state)
            yield Part(name, (LockState(), None), own, both.step, both.reads)


@dataclass(frozen=True)
class _Both:
    lock_model: LockModel
    lock: Lock
    state_model: StateModel

    def reads(self, op: Operation) -> bool:
        return reads(op) or (op.kind == "fail" and self.lock.reads(op))

    def step(self, both: tuple[LockState, Stored | None], op: Operation) -> Sequence[Any]:
        locked, stored = both
        lock_id = op.given.get("lock_id") if op.f == "put" else None
        if op.kind == "info" and lock_id is not None and not holds(locked, lock_id):
            return []
        locks = self.lock.step(locked, op) if self.lock_model.tells(op) else [locked]
        states = self.state_model.step(stored, op) if self.state_model.tells(op) else [stored]
        return [(lock, state) for lock in locks for state in states]


# --- workspaces ----------------------------------------------------------------------------------


class WorkspaceSetModel:
    """Which workspaces are listed.

    `default` always (WS-DEFAULT-003); another from the first write of its state on until its deletion,
    each once. After `delete`, and after a write of nothing, it may be listed or not. A listing shows
    each name at some moment of the call, not all at the same one: backends list page by page.
    Therefore each name is an object of its own, called by its name.
    """

    def parts(self, operations: Iterable[Operation]) -> Iterator[Part]:
        lists: list[Operation] = []
        changes: defaultdict[str, list[Operation]] = defaultdict(list)
        for op in operations:
            if op.f == "workspaces" and op.kind == "ok":
                lists.append(op)
            elif op.ws is not None and op.kind != "fail" and (op.f == "put" or op.f in DELETIONS):
                changes[op.ws].append(op)
        listed = {name for op in lists for name in op.out}
        for name in sorted({DEFAULT, *changes, *listed}):
            own = lists if name == DEFAULT else sorted([*lists, *changes[name]], key=lambda op: op.i)
            yield Part(name, name == DEFAULT, own, Listed(name).step, reads)


@dataclass(frozen=True)
class Listed:
    """Whether one workspace is listed."""

    name: str

    def step(self, present: bool, op: Operation) -> Sequence[bool]:
        if op.f == "workspaces":
            return [present] if op.out.count(self.name) == int(present) else []
        if op.f == "put":
            return [True, False] if op.given.get("size") == 0 and not present else [True]
        return [True, False] if op.f == "delete" and present else [False]


def reads(op: Operation) -> bool:
    """Whether it only looks."""
    return op.f in {"get", "workspaces"}


def _by_workspace(
    operations: Iterable[Operation], tells: Callable[[Operation], bool]
) -> Iterator[tuple[str, list[Operation]]]:
    parts: defaultdict[str, list[Operation]] = defaultdict(list)
    for op in operations:
        if op.ws is not None and tells(op):
            parts[op.ws].append(op)
    yield from parts.items()
