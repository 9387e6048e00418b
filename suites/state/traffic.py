"""Writers and readers at work at the same time, and what their history says of the backend.

The verdicts are pure functions of the history: every state is unique, so the digest of what a reader
saw tells which write it saw, or that nobody wrote it.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import History, Operation
from lockproof.spec.outcome import Unknown, Violation
from lockproof.suites.documents import refused, successive

TRIES = 3


def alternating(size: int) -> Iterator[bytes]:
    """Successive states without end, of about `size` and a third of it in turn: a write in pieces
    then leaves a tail or lacks an end."""
    return successive(sys.maxsize, paddings=(size, size // 3))


def run(scope: RecordedScope, source: Iterator[bytes], *, writers: int, readers: int, states: int) -> None:
    """`writers` clients write `states` states each of `source`; `readers` clients read until they are
    done.

    The first state is stored before anybody reads. A write beside another one may be definitely
    refused, as a backend that compares and swaps does. Raises what a client raised.
    """
    first, *rest = islice(source, 1 + writers * states)
    scope.client("first").put("default", first)
    done = threading.Event()

    def write(plan: Sequence[bytes], client: RecordedClient) -> None:
        for data in plan:
            refused(partial(client.put, "default", data))

    def read(client: RecordedClient) -> None:
        while not done.is_set():
            client.get("default")

    plans = [rest[n::writers] for n in range(writers)]
    with ThreadPoolExecutor(writers + readers) as pool:
        reading = [pool.submit(read, scope.client(f"reader-{n}")) for n in range(readers)]
        writing = [pool.submit(write, plan, scope.client(f"writer-{n}")) for n, plan in enumerate(plans)]
        try:
            for future in writing:
                future.result()
        finally:
            done.set()
    for future in reading:
        future.result()


def until_it_counts(
    attempt: Callable[[int], None], history: Callable[[], History], *, at_least: int
) -> History:
    """Runs `attempt(load)` until at least `at_least` reads ran beside a write, with more load each time.

    Raises `Unknown` after three tries: reads that never meet a write prove nothing.
    """
    met = 0
    for doubling in range(TRIES):
        attempt(2**doubling)
        recorded = history()
        met = overlapping(recorded)
        if met >= at_least:
            return recorded
    raise Unknown(f"only {met} reads ran beside a write after {TRIES} tries; the test needs {at_least}")


def overlapping(history: History) -> int:
    """How many reads ran at the same time as some write."""
    writes = [(op.called, op.returned) for op in history.operations() if op.f == "put"]
    reads = [(op.called, op.returned) for op in history.operations() if op.f == "get"]
    return sum(any(a < end and start < b for start, end in writes) for a, b in reads)


def require_whole(history: History) -> None:
    """Raises `Violation` unless every read saw a state that somebody wrote, once there was one.

    The witness is the read and the writes that ran beside it.
    """
    writes = list(_writes(history))
    written = {op.invoke.given["sha256"] for op in writes if op.invoke.given}
    stored = min((op.returned for op in writes), default=math.inf)
    for op in _calls(history, "get"):
        seen = _seen(op)
        beside = [put for put in writes if put.called < op.returned and op.called < put.returned]
        if seen is None and op.called > stored and op.kind == "ok":
            raise Violation("a reader saw no state while it was replaced", witness=_events(op, *beside))
        if seen is not None and seen not in written:
            raise Violation("a reader saw a state that nobody wrote", witness=_events(op, *beside))


def require_fresh(history: History) -> None:
    """Raises `Violation` when a read shows less than what the only writer had written before it.

    What nobody wrote is no older state; `require_whole` finds it.
    """
    writes = list(_writes(history))
    order = {op.invoke.given["sha256"]: n for n, op in enumerate(writes, 1) if op.invoke.given}
    for op in _calls(history, "get"):
        done = max((n for n, put in enumerate(writes, 1) if put.returned < op.called), default=0)
        seen = _seen(op)
        if op.kind == "ok" and (seen is None or seen in order) and order.get(seen or "", 0) < done:
            shown = f"write {order[seen]}" if seen else "no state"
            raise Violation(
                f"a read showed {shown}, although write {done} had returned before it began",
                witness=_events(writes[done - 1], op),
            )


def last_states(history: History) -> set[str]:
    """The digests that may be left after all writes: no acknowledged write began after them."""
    writes = [op for op in _calls(history, "put") if op.kind == "ok"]
    newest = max((op.called for op in writes), default=0)
    return {op.invoke.given["sha256"] for op in writes if op.invoke.given and op.returned >= newest}


def _calls(history: History, f: str) -> Iterator[Operation]:
    return (op for op in history.operations() if op.f == f and op.ws == "default")


def _writes(history: History) -> Iterator[Operation]:
    """Every write that has, or may have, taken effect."""
    return (op for op in _calls(history, "put") if op.kind != "fail")


def _seen(op: Operation) -> str | None:
    out: Any = op.outcome.out if op.outcome is not None else None
    return out.get("sha256") if isinstance(out, dict) else None


def _events(*operations: Operation) -> list[int]:
    """The numbers of the operations' events, in order."""
    return sorted(event.i for op in operations for event in (op.invoke, op.outcome) if event is not None)
