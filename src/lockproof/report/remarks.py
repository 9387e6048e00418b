"""What each operation of a story shows: `alice holds from here`, `alice and bob both hold`.

A remark says only what follows from the operations told, and from who asked for what and released
what in the whole history. Judging is the checkers' work; a remark is for a reader.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from lockproof.history.event import History, Operation

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
    holds: dict[str, Hold] = defaultdict(lambda: Hold("somebody"))
    asked = _Requests(everything, history.names)
    for op in told:
        if op.f == "lock" and op.kind == "ok":
            key = asked.key(op)
            holds[key].who = asked.who[key]
            holds[key].granted.append(op)
    for op in everything:
        if op.f == "unlock" and op.kind != "fail":
            holds[asked.by_id.get(str(op.given.get("lock_id")), "")].releases.append(op)
    for op in told:
        yield from _of_lock(op, holds, asked)
    for one, other in combinations([hold for key, hold in holds.items() if key], 2):
        began, ended = max(one.first, other.first), min(one.last, other.last)
        moment = next(
            (op for op in (*one.granted, *one.seen, *other.granted, *other.seen) if op.end == began), None
        )
        if began < ended and moment is not None:
            yield moment, f"{' and '.join(sorted((one.who, other.who)))} both hold"


def _of_lock(op: Operation, holds: dict[str, Hold], asked: _Requests) -> Iterator[tuple[Operation, str]]:
    holder = op.err.get("holder")
    if op.kind == "fail" and isinstance(holder, Mapping):
        key = asked.named(holder)
        if key is None:
            yield op, "nobody asked for that lock"
        elif op.f == "lock" and key == asked.key(op):
            yield op, "the refusal names the one who asks"
        elif key not in asked.may_hold:
            yield op, f"{asked.who[key]} was refused that lock"
        else:
            hold = holds[key]
            hold.who = asked.who[key]
            hold.seen.append(op)
            over = hold.released
            late = over is not None and over.end < op.i
            yield (
                op,
                f"but {hold.who}'s lock was released by #{over.i}"
                if late and over
                else f"so {hold.who} holds",
            )
    elif op.f == "lock" and op.kind == "ok":
        yield op, f"{asked.who[asked.key(op)]} holds from here"
    elif op.f == "unlock":
        key = asked.by_id.get(str(op.given.get("lock_id")), "")
        if not key:
            yield op, "nobody was ever granted that id"
        elif op.kind == "ok":
            yield op, f"{asked.who[key]} holds no more"
        elif op.kind == "info":
            yield op, f"{asked.who[key]} may hold no more"
        elif op.err.get("kind") in REFUSED_RELEASE and holds[key].first < op.i and op.end < holds[key].last:
            yield op, f"but {holds[key].who} holds"
    elif op.f == "put" and op.kind == "ok" and op.given.get("lock_id") is not None:
        key = asked.by_id.get(str(op.given["lock_id"]), "")
        over = holds[key].released if key in holds else None
        if not key:
            yield op, "nobody was ever granted that id"
        elif over is not None and over.end < op.i:
            yield op, f"under a lock that #{over.i} had released"


class _Requests:
    """Who asked for which lock in the whole history: by token and id together, and by id alone."""

    def __init__(self, operations: Sequence[Operation], names: Mapping[int, str]) -> None:
        self.who: dict[str, str] = {}
        self.by_id: dict[str, str] = {}
        self.by_token: dict[str, str] = {}
        self.may_hold: set[str] = set()
        for op in operations:
            if op.f != "lock":
                continue
            key = self.key(op)
            info = op.given.get("info") or {}
            self.who.setdefault(key, names.get(op.p, f"process {op.p}"))
            if info.get("Info"):
                self.by_token.setdefault(str(info["Info"]), key)
            if op.kind == "fail":
                continue
            self.may_hold.add(key)
            granted = op.out if op.kind == "ok" else info.get("ID")
            self.by_id.setdefault(str(granted), key)

    def key(self, op: Operation) -> str:
        info: Mapping[str, Any] = op.given.get("info") or {}
        return f"{info.get('Info', '')} {info.get('ID', '')}"

    def named(self, holder: Mapping[str, Any]) -> str | None:
        """The request that a refusal's holder is, by token first and id second."""
        return self.by_token.get(str(holder.get("Info"))) or self.by_id.get(str(holder.get("ID")))


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
            yield op, f"written by {history.names.get(author.p, f'process {author.p}')} in #{author.i}"
