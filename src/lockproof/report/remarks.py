"""What each operation of a story shows: `alice holds from here`, `alice and bob both hold`.

A remark says only what follows from the operations told, and from who asked for what and released
what in the whole history. Judging is the checkers' work; a remark is for a reader.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from lockproof.history.event import History, Operation
from lockproof.history.requests import Key, Requests, holder_of, key_of

REFUSED_RELEASE = frozenset({"lock_mismatch", "not_locked"})


@dataclass(eq=False)
class Hold:
    """One acquisition: who was told to hold or seen to, and its releases, of the whole history too, so
    that nobody is said to hold who may have released. By event numbers, as the checkers order them."""

    who: str
    granted: list[Operation] = field(default_factory=list)
    seen: list[Operation] = field(default_factory=list)
    releases: list[Operation] = field(default_factory=list)

    @property
    def first(self) -> float:
        """From here on it had been acquired."""
        return min((op.end for op in (*self.granted, *self.seen)), default=math.inf)

    @property
    def last(self) -> float:
        """Up to here it had not been released."""
        ended = min((op.i for op in self.releases), default=math.inf)
        return max(ended, *(op.i for op in (*self.granted, *self.seen)), 0)

    @property
    def released(self) -> Operation | None:
        """The release that first was certain."""
        return min((op for op in self.releases if op.kind == "ok"), key=lambda op: op.end, default=None)


def remarks(operations: Sequence[Operation], history: History) -> dict[int, str]:
    """A remark for each of `operations` that has one, by the number of its call."""
    said: dict[int, str] = {}
    for workspace in dict.fromkeys(op.ws for op in operations):
        told = [op for op in operations if op.ws == workspace]
        everything = [op for op in history.operations() if op.ws == workspace]
        for op, remark in (*_locks(told, everything, history), *_states(told, everything, history)):
            said[op.i] = f"{said[op.i]}; {remark}" if op.i in said else remark
    return said


def _locks(
    told: Sequence[Operation], everything: Sequence[Operation], history: History
) -> Iterator[tuple[Operation, str]]:
    requests = Requests(everything)
    holds = {key: Hold(_who(ops[0], history)) for key, ops in requests.attempts.items()}
    for op in told:
        if op.f == "lock" and op.kind == "ok":
            holds[key_of(op)].granted.append(op)
    for op in everything:
        if op.f == "unlock" and op.kind != "fail":
            key = requests.by_id(op.given.get("lock_id"), op.i)
            if key is not None:
                holds[key].releases.append(op)
    for op in told:
        yield from _of_lock(op, holds, requests)
    certain = [hold for hold in holds.values() if hold.granted or hold.seen]
    for one, other in combinations(certain, 2):
        began, ended = max(one.first, other.first), min(one.last, other.last)
        bounds = (*one.granted, *one.seen, *other.granted, *other.seen)
        moment = next((op for op in bounds if op.end == began), None)
        if began < ended and moment is not None:
            names = sorted((one.who, other.who))
            yield (
                moment,
                f"{' and '.join(names)} both hold" if names[0] != names[1] else f"{one.who} holds twice",
            )


def _of_lock(op: Operation, holds: Mapping[Key, Hold], requests: Requests) -> Iterator[tuple[Operation, str]]:
    if holder_of(op) is not None:
        key = requests.named(op)
        if op.f == "lock" and key == key_of(op) and not requests.effective(key, op.end):
            yield op, "the refusal names the one who asks"
        elif key is None or not requests.effective(key, math.inf):
            yield op, "nobody was granted that lock"
        else:
            hold = holds[key]
            hold.seen.append(op)
            over = hold.released
            if over is not None and over.end < op.i:
                yield op, f"but {hold.who}'s lock was released by #{over.i}"
            else:
                yield op, f"so {hold.who} holds"
    elif op.f == "lock" and op.kind == "ok":
        yield op, f"{holds[key_of(op)].who} holds from here"
    elif op.f == "unlock":
        key = requests.by_id(op.given.get("lock_id"), op.i)
        if key is None:
            yield op, "nobody was ever granted that id"
        elif op.kind == "ok":
            yield op, f"{holds[key].who} holds no more"
        elif op.kind == "info":
            yield op, f"{holds[key].who} may hold no more"
        elif op.err.get("kind") in REFUSED_RELEASE and holds[key].first < op.i and op.end < holds[key].last:
            yield op, f"but {holds[key].who} holds"
    elif op.f == "put" and op.kind == "ok" and op.given.get("lock_id") is not None:
        key = requests.by_id(op.given["lock_id"], op.i)
        over = None if key is None else holds[key].released
        if key is None:
            yield op, "nobody was ever granted that id"
        elif over is not None and over.end < op.i:
            yield op, f"under a lock that #{over.i} had released"


def _states(
    told: Sequence[Operation], everything: Sequence[Operation], history: History
) -> Iterator[tuple[Operation, str]]:
    writes = [op for op in told if op.f in {"put", "delete", "delete_workspace"} and op.kind == "ok"]
    authors = {str(op.given.get("value")): op for op in everything if op.f == "put"}
    for op in told:
        if op.f != "get" or op.kind != "ok" or not isinstance(op.out, Mapping):
            continue
        value = op.out.get("value")
        author = None if value is None else authors.get(str(value))
        since = -1.0 if author is None else author.end
        newer = [w for w in writes if w is not author and since < w.i and w.end < op.i]
        if value is not None and author is None:
            yield op, "nobody wrote that"
        elif author is not None and author.kind == "fail":
            yield op, f"but that write, #{author.i}, was refused"
        elif author is not None and op.out.get("sha256") not in {None, author.given.get("sha256")}:
            yield op, f"but not the bytes that #{author.i} wrote"
        elif newer and (value is not None or all(w.f == "put" for w in newer)):
            yield op, f"but #{newer[-1].i} had {'replaced' if newer[-1].f == 'put' else 'deleted'} that"
        elif author is not None:
            yield op, f"written by {_who(author, history)} in #{author.i}"


def _who(op: Operation, history: History) -> str:
    return history.names.get(op.p, f"process {op.p}")
