"""What is known of each value of a state: who wrote it, and between which events it was current."""

from __future__ import annotations

import math
from typing import Any

from lockproof.checkers.verdict import Violated
from lockproof.history import Operation


class Written:
    """One value with everything that shows it: its write and the reads that saw it.

    `first` is the first return among them and `last` the last call, as event numbers; `seen` and
    `late` are the operations with these. `write` is `None` until the write is known.
    """

    __slots__ = ("bytes_of", "digest", "first", "last", "late", "seen", "value", "write")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.write: Operation | None = None
        self.first = math.inf
        self.last = -math.inf
        self.seen: Operation | None = None
        self.late: Operation | None = None
        self.digest: str | None = None
        self.bytes_of: Operation | None = None

    def add(self, op: Operation, digest: str | None) -> None:
        """One more operation that wrote or read this value.

        Raises `Violated` when two of them disagree about the bytes.
        """
        if op.end < self.first:
            self.first, self.seen = op.end, op
        if op.i > self.last:
            self.last, self.late = op.i, op
        if digest != self.digest and digest is not None:
            if self.digest is not None and self.bytes_of is not None:
                headline = f"value {self.value!r} was read with other bytes"
                raise Violated("torn value", headline, self.bytes_of, op)
            self.digest, self.bytes_of = digest, op

    def written_by(self, write: Operation) -> None:
        """Its write is `write`. Raises `Violated` as `add`."""
        self.write = write
        self.add(write, write.given.get("sha256"))

    @property
    def real(self) -> bool:
        """Whether it surely was current: an unknown write that nobody read changes nothing."""
        return self.first < math.inf

    @property
    def name(self) -> str:
        return f"value {self.value!r}"

    @property
    def witness(self) -> tuple[Operation, ...]:
        """Its write, and what bounds the time in which it surely was current."""
        return tuple(op for op in (self.write, self.seen, self.late) if op is not None)

    @property
    def version(self) -> tuple[str, int] | None:
        """Lineage and serial of the document, `None` unless both are known."""
        if self.write is None:
            return None
        lineage, serial = self.write.given.get("lineage"), self.write.given.get("serial")
        return (lineage, serial) if isinstance(lineage, str) and isinstance(serial, int) else None


def unwritten(value: Any, read: Operation, refused: Operation | None) -> Violated:
    """The violation that a read of a value without an effective write is."""
    if refused is not None:
        headline = f"value {value!r} was read though its write was refused"
        return Violated("read of a refused write", headline, refused, read)
    return Violated("torn value", f"value {value!r} was read, but nobody wrote it", read)


def early(cluster: Written) -> Violated:
    """The violation that a read which returned before its write was called is."""
    headline = f"{cluster.name} was read before it was written"
    return Violated("read before write", headline, *cluster.witness)


def alternating(older: Written, newer: Written) -> Violated:
    """The violation that two values are whose forward zones overlap: `older`, `newer`, `older` again."""
    one, other = older.version, newer.version
    headline = f"{older.name} was read after {newer.name} had replaced it"
    anomaly = "stale read"
    if one is not None and other is not None and one[0] == other[0]:
        if one[1] < other[1]:
            anomaly = "serial regression"
            headline = f"serial {one[1]} of lineage {one[0]} was read after serial {other[1]} was current"
        elif one[1] == other[1] and _unaware(older, newer) and _unaware(newer, older):
            anomaly = "fork"
            headline = (
                f"{older.name} and {newer.name}, both serial {one[1]} of lineage {one[0]}, were read in turn"
            )
    return Violated(anomaly, headline, *older.witness, *newer.witness)


def swallowed(lost: Written, outer: Written) -> Violated:
    """The violation that a write is which was made while `outer` was current throughout."""
    one, other = outer.version, lost.version
    update = one is not None and other is not None and one[0] == other[0] and one[1] < other[1]
    headline = f"{lost.name} was written while {outer.name} was current before and after it"
    return Violated("lost update" if update else "lost write", headline, *lost.witness, *outer.witness)


def resurrected(deletion: Operation, outer: Written) -> Violated:
    """The violation that a deletion is which was made while `outer` was current throughout."""
    headline = f"{outer.name} was read again after its deletion was acknowledged"
    return Violated("resurrected delete", headline, deletion, *outer.witness)


def vanished(read: Operation, current: Written, *others: Operation) -> Violated:
    """The violation that a read of nothing is while `current` was the state."""
    headline = f"nothing was read while {current.name} was current"
    return Violated("lost write", headline, read, *current.witness, *others)


def retired(read: Operation, old: Written, newer: Operation) -> Violated:
    """The violation that a read of a value is which was replaced, and forgotten, before its call."""
    headline = f"{old.name} was read after {newer.f} #{newer.i} had replaced it"
    return Violated("stale read", headline, *old.witness, newer, read)


def _unaware(one: Written, other: Written) -> bool:
    """Whether `one` was written before anybody surely knew of `other`."""
    return one.write is not None and one.write.i < other.first
