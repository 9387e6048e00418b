"""Does the lock keep late writes away from the state?

**Specification.** Without `locking.fencing` nothing is promised of writes. With it, a write that was
accepted under a lock id shows that the id held at some time during the call: a holder whose lock was
certainly lost before is refused. With `locking.fencing-strict` the id holds at the very instant at which
the write takes effect, so that no write of a stale holder becomes visible after a newer holder's, at any
interleaving: also one of unknown outcome that arrived late. Lock and state are then one object:
`lockproof.checkers.models.LockedStateModel` says so step by step. Writes under no id are free.

**Algorithm.** An accepted write is one more observation of its session (`locking.fencing`), as is the
first read of a written value (`strict`): the write took effect before it. A session lies between those
that must come before it and those that must come after it; the write of a value is clipped to it. Then
sessions must have one order that fits both what is certain of the lock and what is certain of the values
(`precedence`). Each clip and each edge holds in every order of the history, so a cycle is a proof; the
absence of cycles was compared with the general search on random histories, not proven to suffice. Where
only writes under no id stand between, small histories are searched and larger ones are `unknown`.

**Cost.** O(n log n) time. A stream keeps, beside what `mutex` does, the values that nothing has replaced
yet with their sessions, and writes of unknown outcome that nobody has read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lockproof.checkers.fencing_values import Extremes, Value, Writer, refine
from lockproof.checkers.models import LockedStateModel, Model
from lockproof.checkers.mutex import SETTLE_EVERY, MutexMonitor, WorkspaceLock
from lockproof.checkers.mutex_sessions import Session
from lockproof.checkers.precedence import NOWHERE, Before, Span, arrange
from lockproof.checkers.verdict import Verdict, Violated
from lockproof.checkers.zones import Zone
from lockproof.history import History, Operation

DELETIONS = frozenset({"delete", "delete_workspace"})


def check_fencing(history: History, *, strict: bool = False) -> Verdict:
    """Whether locks exclude each other and stale holders' writes, as `locking.fencing` promises or, with
    `strict`, `locking.fencing-strict`. Includes all that `check_mutex` finds."""
    monitor = FencingMonitor(strict=strict)
    for op in history.operations():
        monitor.add(op)
    return monitor.verdict(history.closed)


class FencingMonitor(MutexMonitor):
    """`check_fencing`, fed with operations in any order; see `MutexMonitor`."""

    def __init__(self, *, strict: bool = False, settle_every: int = SETTLE_EVERY) -> None:
        super().__init__(fencing=True, settle_every=settle_every)
        self.strict = strict

    def _new_lock(self) -> WorkspaceLock:
        return FencedState(self.settle_every) if self.strict else super()._new_lock()

    def _model(self) -> Model:
        return LockedStateModel(strict=True) if self.strict else super()._model()


class FencedState(WorkspaceLock):
    """The lock of one workspace together with its state. `values` by name; `writers` by lock id, of those
    that wrote, and by the name of the value, of writes under no lock."""

    def __init__(self, settle_every: int = SETTLE_EVERY) -> None:
        super().__init__(True, settle_every)
        self.values: dict[Any, Value] = {}
        self.writers: dict[Any, Writer] = {}
        self._nothing = Value()  # what there was at the start, as long as nothing can have emptied the state
        self._nothing.first_end = -math.inf
        self._emptied = False

    def add(self, op: Operation) -> None:
        if op.f == "put" and op.kind != "fail":
            self._value(op.given["value"]).add(op)
        elif op.f == "get" and op.kind == "ok":
            name = (op.out or {}).get("value")
            (self._nothing if name is None else self._value(name)).add(op)
        if op.kind != "fail" and (op.f in DELETIONS or (op.f == "put" and op.given.get("size") == 0)):
            self._emptied = True
        super().add(op)

    def _value(self, name: Any) -> Value:
        value = self.values.get(name)
        if value is None:
            value = self.values[name] = Value()
        return value

    def _settle(self, since: float) -> None:
        for value in self.values.values():
            self._observe(value)
        super()._settle(since)

    def _observe(self, value: Value) -> None:
        """A write took effect, while its session held, before the value was first read."""
        write, first = value.write, value.first
        lock_id = None if write is None else write.given.get("lock_id")
        if write is None or lock_id is None or value.twice or first is None or first is write:
            return
        seen = Operation(write.invoke, first.outcome)
        if self.sessions.holder_of(lock_id) is not None:
            self.sessions.add(seen)
        elif write.kind == "info" and lock_id not in self.writers and not value.told:
            value.told = True
            self.sessions.add(seen)

    def _judge_further(self, zones: Sequence[Zone[Session]], since: float) -> None:
        if any(value.twice for value in self.values.values()):
            self.sessions.unsure = self.sessions.unsure or "a value was written twice"
        if not self.writers and since == math.inf and all(map(self._within, self.values.values())):
            return
        writers = self._writers(zones, since)
        if all(writer.stored == NOWHERE for writer in writers):
            return
        refine(writers)
        for writer in writers:
            _require_instants(writer)
        self._require_order(writers)
        if since < math.inf:
            self._drop(writers, since)

    def _within(self, value: Value) -> bool:
        """Whether its write took effect while its lock was held as everybody could tell: after the grant was
        answered and before any release was asked for. Where all are, lock and state bind each other no
        more than real time does, and are two objects (Herlihy and Wing, theorem 1)."""
        lock_id = None if value.write is None else value.write.given.get("lock_id")
        if value.write is None or lock_id is None:
            return True
        session = self.sessions.holder_of(lock_id)
        if session is None or session.mixed or session.granted is None or value.twice:
            return False
        released = math.inf if session.let_go is None else session.let_go.i
        return session.granted.end < value.write.i and value.first_end < released

    def _writers(self, zones: Sequence[Zone[Session]], since: float) -> list[Writer]:
        """Everybody of whom something is certain: sessions, and writes under no lock."""
        found: dict[Any, Writer] = {}
        for zone in zones:
            session = zone.key
            key: Any = session.lock_id or session.request_id
            found[key] = self.writers.get(key) or Writer(session.name)
            found[key].hold(session, Span(zone.first, zone.last))
        for name, value in self.values.items():
            if value.write is None or value.twice:
                continue
            lock_id = value.write.given.get("lock_id")
            key = (None, name) if lock_id is None else lock_id
            known = self.writers.get(key) or found.get(key)
            if known is None and lock_id is None:
                known = Writer("no lock")
            if known is not None:  # else its session is not certain (yet)
                self.writers[key] = known
                known.values[name] = value
                known.store(value)
        nothing = self._nothing.last
        if nothing is not None and nothing.end <= since and not self._emptied:
            found[None] = Writer("no lock")
            found[None].values[None] = self._nothing
            found[None].stored = Span(-math.inf, nothing.i)
            found[None].stored_last = (nothing,)
        found.update((key, writer) for key, writer in self.writers.items() if writer.stored != NOWHERE)
        return list(found.values())

    def _require_order(self, writers: Sequence[Writer]) -> None:
        cycle = _cycle(writers)
        if cycle and len({writers[step.later].session for step in cycle} - {None}) < 2:
            writers = [writer for writer in writers if writer.session is not None]
            cycle = _cycle(writers)
            if not cycle:
                self.sessions.unsure = self.sessions.unsure or "writes under no lock stand between others"
        if cycle:
            raise _stale(writers, cycle)

    def _drop(self, writers: Sequence[Writer], since: float) -> None:
        """Forgets values that were replaced, and then those writers that no other must precede."""
        known = [(writer, name, value) for writer in writers for name, value in writer.values.items()]
        later = Extremes(
            (max(value.last_call, writer.earliest), value.first_end, value)
            for writer, _, value in known
            if value.first is not None
        )
        for writer, name, value in known:
            if value.first_end == math.inf or later.least(value.first_end, value) > since:
                continue
            del writer.values[name]
            if value is self._nothing:
                self._emptied = True
            else:
                del self.values[name]
        for name, value in list(self.values.items()):
            if value.write is None and value.first_end <= since:
                del self.values[name]
        done = {id(writer) for writer in writers if not writer.real() and self._is_over(writer)}
        bounds = [
            min((span.first for span in spans), default=math.inf)
            for spans in _timelines([writer for writer in writers if id(writer) not in done])
        ]
        for key, writer in list(self.writers.items()):
            if id(writer) not in done:
                continue
            if all(span.last <= bound for span, bound in zip(_spans(writer), bounds, strict=True)):
                writer.stored = NOWHERE  # out of the order, until one of its lost writes is read
                if not writer.values:
                    del self.writers[key]

    def _is_over(self, writer: Writer) -> bool:
        return writer.session is None or writer.session not in self.sessions.proven


def _require_instants(writer: Writer) -> None:
    """Each value of `writer` needs an instant at which it was written while its session held."""
    for value in writer.real():
        write, first = value.write, value.first
        if write is None or first is None:
            continue
        headline = f"a write under {writer.name} took effect though {writer.name} did not hold then"
        if writer.latest < write.i:
            raise Violated("stale write", headline, write, first, *writer.latest_by)
        if value.first_end < writer.earliest or writer.latest < writer.earliest:
            raise Violated("stale write", headline, write, first, *writer.earliest_by)


def _spans(writer: Writer) -> tuple[Span, Span]:
    return writer.held, writer.stored_within()


def _timelines(writers: Sequence[Writer]) -> tuple[list[Span], list[Span]]:
    return [writer.held for writer in writers], [writer.stored_within() for writer in writers]


def _cycle(writers: Sequence[Writer]) -> list[Before]:
    return arrange([_spans(writer) for writer in writers])[1]


def _stale(writers: Sequence[Writer], cycle: Sequence[Before]) -> Violated:
    """The violation that a cycle proves, with what proves each of its steps."""
    shown: list[Operation] = []
    for step in cycle:
        earlier, later = writers[step.earlier], writers[step.later]
        if step.timeline == 0:
            shown += [*earlier.held_first, *later.held_last]
        else:
            bounded = earlier.latest < earlier.stored.first
            shown += earlier.latest_by if bounded else earlier.stored_first
            shown += later.earliest_by if later.earliest > later.stored.last else later.stored_last
    by_lock = next((step for step in cycle if step.timeline == 0), cycle[0])
    old, new = writers[by_lock.earlier].name, writers[by_lock.later].name
    headline = f"a write under {old} became visible after one under {new}, which held the lock later"
    return Violated("stale write", headline, *dict.fromkeys(shown))
