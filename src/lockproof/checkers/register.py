"""Do the reads and writes of each workspace's state fit on one line?

The specification is a register per workspace: absent at the start, `put` replaces the whole value,
`delete` and `delete_workspace` make it absent, `get` returns what is current at some instant of the
call. A call that failed had no effect, one of unknown outcome may have had one at any time after its
call. Values are told apart by the token in each document (else its digest), so that each value has one
writer. Writes are unconditional: a client may write a lower serial or another lineage (`state push
-force`, OpenTofu internal/states/statemgr/migrate.go), so serial and lineage never make a violation;
they only name one that the register has shown.

Each anomaly, and what is certain of it; "surely current" is between two operations that show it:

- `torn value`: a read returned a value that nobody wrote, or a known value with other bytes.
- `read of a refused write`: a read returned a value whose write was refused.
- `read before write`: a read returned before the write of its value was called.
- `stale read`: a value was surely current, then another one, and the first one was read again.
- `serial regression`: a stale read, of a lower serial of the lineage that had surely been current.
- `fork`: two values with one serial of one lineage, each written before the other one was surely
  current, are both read, in turn.
- `lost write`: a write was acknowledged, or nothing was read, while another value was surely current
  before and after; or nothing was read though no deletion fits between the write and the read.
- `lost update`: a lost write with a higher serial of the lineage that was surely current.
- `resurrected delete`: a deletion was acknowledged while a value was surely current before and after.

Two acknowledged writers with the same parent are no violation by themselves: a register without a
condition permits both. Whether a lock should have kept them apart is judged with the lock.

The algorithm is that of zones with a sweep for absence, exact, O(n log n); proof in `register_absence`.
A value that was written twice has two writers: its operations are left out, which keeps every violation
of the others certain (a linearization without all operations of one value is one still). A state of no
bytes may read as absent (STATE-EMPTY-001): its write counts as a deletion, and so does a read of it as a
read of nothing. Where that leaves the answer open, small histories are given to the search; otherwise it
is `unknown`.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

from lockproof.checkers.register_absence import Sweep
from lockproof.checkers.register_values import Written, early, retired, unwritten
from lockproof.checkers.verdict import Undecided, Verdict, Violated
from lockproof.history import History, Operation

EMPTY = hashlib.sha256(b"").hexdigest()  # the value of a state of no bytes
SEARCHED = 500  # operations of a workspace up to which the search is asked
SETTLED = 2048  # values and reads of one workspace that are kept before settling is tried
REMEMBERED = 1024  # settled values of a workspace that are remembered, to name what a late read saw


def check_register(history: History) -> Verdict:
    """Whether every read saw a value that was current at some time during the read.

    `violated` is certain, with one of the anomalies above; `unknown` when a value had two writers
    and too many operations for the search, or the history was cut short. The scope must have been empty
    when the history began.
    """
    monitor = RegisterMonitor()
    for op in history.operations():
        monitor.add(op)
    return monitor.verdict(history.closed)


class RegisterMonitor:
    """`check_register`, fed with operations one by one in any order.

    Memory: when operations tell `since` (a stream's do), what is kept is proportional to the calls open
    at one time, to the values that nothing has replaced yet, and to the writes of unknown outcome that
    nobody read; otherwise to the operations.
    """

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}
        self._violated: tuple[str, Violated] | None = None

    @property
    def kept(self) -> int:
        """How many values, deletions and reads of nothing are not settled yet."""
        return sum(state.kept for state in self._states.values())

    def add(self, op: Operation) -> None:
        """One more operation."""
        f, ws = op.f, op.ws
        if ws is None or (op.kind == "fail" and f != "put"):
            return
        if f not in ("get", "put", "delete", "delete_workspace"):
            return
        state = self._states.get(ws)
        if state is None:
            state = self._states[ws] = _State()
        try:
            state.add(op)
            if op.since and state.kept > state.crowded:
                state.settle(op.since)
        except Violated as violation:
            self._violated = self._violated or (ws, violation)

    def verdict(self, closed: bool) -> Verdict:
        """What is to be said when no more operations come. `closed`: the history has its footer."""
        undecided: list[str] = []
        values = 0
        for ws, state in self._states.items():
            if self._violated is not None:
                break
            try:
                state.finish()
            except Violated as violation:
                self._violated = (ws, violation)
            except Undecided as reason:
                undecided.append(f"workspace {ws!r}: {reason}")
            values += state.values
        if self._violated is not None:
            ws, violated = self._violated
            return violated.verdict(ws)
        if undecided:
            return Verdict("unknown", "; ".join(undecided))
        if not closed:
            return Verdict("unknown", "the history has no footer: it was cut short")
        headline = f"{values} values, each read while it was current"
        return Verdict("valid", headline, details={"values": values})


class _State:
    """The register of one workspace."""

    def __init__(self) -> None:
        self.values = 0
        self.crowded: int = SETTLED
        self._sweep = Sweep()
        self._written: dict[Any, Written] = {}
        self._refused: dict[Any, Operation] = {}
        self._deletions: list[Operation] = []
        self._absent: list[Operation] = []
        self._replaced = -math.inf  # the latest call of a write or deletion that surely took effect
        self._replacement: Operation | None = None
        self._retired: dict[Any, tuple[Written, Operation]] = {}
        self._twice: set[Any] = set()
        self._emptied: Operation | None = None  # a write of no bytes
        self._empty_seen: Operation | None = None  # a read of no bytes, though not of nothing
        self._all: list[Operation] | None = []

    @property
    def kept(self) -> int:
        return len(self._written) + len(self._absent) + len(self._deletions)

    def add(self, op: Operation) -> None:
        if self._all is not None:
            self._all.append(op)
            if len(self._all) > SEARCHED:
                self._all = None
        if op.f == "get":
            if op.kind == "ok":
                self._read(op)
        elif op.f == "put":
            self._put(op)
        else:
            self._delete(op)

    def _read(self, op: Operation) -> None:
        out = op.out or {}
        value = out.get("value")
        if value is None or value == EMPTY:
            self._absent.append(op)
            if value is not None:
                self._empty_seen = op
            return
        written = self._written.get(value)
        if written is None:
            if value in self._twice:
                return
            written = self._written[value] = Written(value)
        written.add(op, out.get("sha256"))

    def _put(self, op: Operation) -> None:
        value = op.given["value"]
        if op.kind == "fail":
            self._refused[value] = op
            return
        if value == EMPTY or op.given.get("size") == 0:
            self._emptied = op
            self._delete(op)
            return
        self.values += 1
        written = self._written.get(value)
        if written is None:
            if value in self._twice:
                return
            written = self._written[value] = Written(value)
        if written.write is None:
            written.written_by(op)
        else:
            self._twice.add(value)
            del self._written[value]

    def _delete(self, op: Operation) -> None:
        self.values += 1
        self._sweep.offer(op)
        if op.kind == "ok":
            self._deletions.append(op)

    def settle(self, horizon: float) -> None:
        """Moves the sweep on to an event before which nothing can change any more.

        A value is over when a write or deletion that was called after its first return has surely taken
        effect before `horizon`: a read of it called later would be a violation. All values with a first
        return before `over` are. Up to there, except that a forward zone is never cut, everything is
        known.
        """
        for written in self._written.values():
            self._require_write(written, horizon)
            write = written.write
            if written.first < horizon and write is not None and write.i > self._replaced:
                self._replaced, self._replacement = write.i, write
        for op in self._deletions:
            if op.end < horizon and op.i > self._replaced:
                self._replaced, self._replacement = op.i, op
        over = min(self._replaced, horizon)
        until = over
        for written in self._written.values():
            if written.first < over <= written.last:
                until = min(until, written.first)
        self._advance(until)
        self.crowded = max(SETTLED, 2 * self.kept)

    def finish(self) -> None:
        """Judges what is left. Raises `Violated`, or `Undecided` when a value had two writers."""
        for written in self._written.values():
            self._require_write(written, math.inf)
        self._advance(math.inf)
        if self._empty_seen is not None and self._emptied is None:
            raise unwritten(EMPTY, self._empty_seen, self._refused.get(EMPTY))
        if self._twice:
            self._search(f"value {next(iter(self._twice))!r} was written twice")
        elif self._empty_seen is not None:
            self._search("a state of no bytes was read, which need not be told from none")

    def _advance(self, until: float) -> None:
        """Gives the sweep everything that ends before `until`, and forgets it."""
        gone = [w for w in self._written.values() if w.first < until and w.last < until]
        deletions = [op for op in self._deletions if op.end < until]
        absent = [op for op in self._absent if op.end < until]
        self._sweep.advance(gone, deletions, absent)
        if until == math.inf:
            return
        for written in gone:
            del self._written[written.value]
            if self._replacement is not None:
                self._retired[written.value] = (written, self._replacement)
        self._deletions = [op for op in self._deletions if op.end >= until]
        self._absent = [op for op in self._absent if op.end >= until]
        for memory in (self._retired, self._refused):
            while len(memory) > REMEMBERED:
                del memory[next(iter(memory))]

    def _require_write(self, written: Written, horizon: float) -> None:
        """Raises when a value was read that no write can explain, known or to come after `horizon`."""
        if written.first >= horizon:
            return
        write = written.write
        if write is not None:
            if written.first < write.i:
                raise early(written)
            return
        assert written.seen is not None, "a value without a write was read"
        if written.value in self._retired:
            raise retired(written.seen, *self._retired[written.value])
        raise unwritten(written.value, written.seen, self._refused.get(written.value))

    def _search(self, reason: str) -> None:
        """Asks the search, where the zones leave the answer open."""
        if self._all is None:
            raise Undecided(f"{reason}, and there are too many operations for a search")
        from lockproof.checkers.models import StateModel
        from lockproof.checkers.search import search

        found = search(sorted(self._all, key=lambda op: op.i), StateModel())
        if found.status == "unknown":
            raise Undecided(f"{reason}; {found.headline}")
        if found.status == "violated":
            witness = [op for op in self._all if op.i in found.witness]
            raise Violated(found.details["anomaly"], found.headline.partition(": ")[2], *witness)
