"""Who asked for which lock: the requests of one workspace, found by what other operations call them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from lockproof.history.event import Operation

Key = tuple[str, str]
"""The token and the id that a client asked with: the same in every attempt of one request."""


class Requests:
    """The lock requests among `operations`, which are those of one workspace in the order of their calls.

    `attempts` has the calls of each request. A holder is found by its token first and its id second. An
    id is the one granted or, as long as no reply says otherwise, the one asked with; a refusal that names
    token and id teaches the id of a request whose reply was lost (`teachers`).
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.attempts: dict[Key, list[Operation]] = defaultdict(list)
        self.teachers: dict[Key, Operation] = {}
        self._by_token: dict[str, Key] = {}
        self._by_id: dict[str, list[tuple[int, Key]]] = defaultdict(list)
        chosen = list(operations)
        for op in chosen:
            if op.f == "lock":
                self._ask(op)
        for op in chosen:
            self._learn(op)

    def effective(self, key: Key | None, before: float) -> list[Operation]:
        """The attempts of a request that were called before event `before` and were not refused."""
        attempts = self.attempts.get(key, ()) if key is not None else ()
        return [op for op in attempts if op.kind != "fail" and op.i < before]

    def by_id(self, lock_id: object, before: float) -> Key | None:
        """The request that an id means: of several with this id the last one called before `before`."""
        known = self._by_id.get(str(lock_id), ())
        return next(
            (key for called, key in reversed(known) if called < before), known[0][1] if known else None
        )

    def named(self, op: Operation) -> Key | None:
        """The request of the holder that a refusal names, `None` when it names none that was made."""
        holder = holder_of(op)
        if holder is None:
            return None
        token = str(holder.get("Info") or "")
        return self._by_token.get(token) or self.by_id(holder.get("ID"), op.end)

    def _ask(self, op: Operation) -> None:
        token, _ = key = key_of(op)
        self.attempts[key].append(op)
        if token:
            self._by_token.setdefault(token, key)
        if op.kind != "fail":
            names = {key[1], str(op.out)} if op.kind == "ok" else {key[1]}
            for name in names:
                self._by_id[name].append((op.i, key))

    def _learn(self, op: Operation) -> None:
        holder = holder_of(op)
        if holder is None or not holder.get("ID") or not holder.get("Info"):
            return
        key = self._by_token.get(str(holder["Info"]))
        if key is None or key in self.teachers or self.by_id(holder["ID"], op.end) == key:
            return
        attempts = self.effective(key, op.end)
        if attempts and all(attempt.kind == "info" for attempt in attempts):
            self.teachers[key] = op
            self._by_id[str(holder["ID"])].append((attempts[0].i, key))


def key_of(op: Operation) -> Key:
    """The request that a `lock` call is an attempt of."""
    info: Mapping[str, Any] = op.given.get("info") or {}
    return str(info.get("Info") or ""), str(info.get("ID") or "")


def holder_of(op: Operation) -> Mapping[str, Any] | None:
    """The holder that a refusal names, `None` when it names none."""
    holder = op.err.get("holder") if op.kind == "fail" else None
    return holder if isinstance(holder, Mapping) and (holder.get("ID") or holder.get("Info")) else None
