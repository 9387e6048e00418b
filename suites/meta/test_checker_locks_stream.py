"""The checkers of locks on streams: the same verdicts, in memory that does not grow with the history."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockproof.checkers import Verdict
from lockproof.checkers.fencing import FencingMonitor
from lockproof.checkers.fencing_values import Value, Writer
from lockproof.checkers.mutex import MutexMonitor
from lockproof.checkers.mutex_sessions import Session
from lockproof.history import Event, History, Operation, pair
from lockproof.history.event import EventKind
from lockproof.suites.meta.locked_traffic import fenced_traffic
from lockproof.suites.meta.tape import Tape, info

Monitors = Callable[[int], MutexMonitor]
LEVELS: dict[str, Monitors] = {
    "locks": lambda every: MutexMonitor(settle_every=every),
    "fencing": lambda every: FencingMonitor(settle_every=every),
    "fencing-strict": lambda every: FencingMonitor(strict=True, settle_every=every),
}


def judged(monitor: MutexMonitor, operations: Iterable[Operation]) -> Verdict:
    for op in operations:
        monitor.add(op)
    return monitor.verdict(True)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(3, 40), st.integers(1, 4))
def test_a_stream_is_judged_as_the_whole_history(level: str, random: Random, size: int, every: int) -> None:
    """Whatever is forgotten on the way, the verdict is that of the history that is kept."""
    events = fenced_traffic(random, size, random.choice([0.0, 0.5]))
    whole = judged(LEVELS[level](1 << 30), History({}, events, True).operations())
    streamed = judged(LEVELS[level](every), pair(events))
    assert streamed.status == whole.status, (streamed, whole)


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(3, 30))
def test_the_order_in_which_operations_are_fed_does_not_matter(random: Random, size: int) -> None:
    """Operations that tell nothing of those to come may be fed in any order."""
    operations = list(History({}, fenced_traffic(random, size, 0.3), True).operations())
    whole = judged(FencingMonitor(strict=True), operations)
    random.shuffle(operations)
    assert judged(FencingMonitor(strict=True, settle_every=1), operations).status == whole.status


def long_history(rounds: int) -> Iterator[Event]:
    """Clients that lock, write, read and unlock in turn, each refused once by the one before it; every
    tenth release gets no answer, though it takes effect."""
    for number in range(rounds):
        tape = Tape()
        name, lock_id = f"{number}", f"id-{number}"
        tape.lock(name)
        tape.refused(f"{name}-other", name)
        tape.put(f"v{number}", lock_id=lock_id)
        tape.get(f"v{number}")
        if number % 10:
            tape.unlock(lock_id)
        else:
            tape.begin("unlock", lock_id=lock_id)("info", kind="timeout", definite=False)
        base = number * 10
        for event in tape.events:
            yield replace(event, i=base + event.i, p=base + event.p)


def late_refusal(holder: str, first: int) -> Iterator[Event]:
    """A refusal that names `holder`, numbered from `first` on."""
    tape = Tape()
    tape.refused("late", holder)
    for event in tape.events:
        yield replace(event, i=first + event.i, p=-2)


def retained() -> int:
    """How many operations, sessions, values and writers are alive."""
    gc.collect()
    return sum(isinstance(thing, Operation | Session | Value | Writer) for thing in gc.get_objects())


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_monitor_keeps_does_not_grow_with_the_stream(level: str) -> None:
    """After ten times as many sessions, it keeps no more of them, and still knows who is over."""
    monitor, before = LEVELS[level](64), retained()
    monitor.locks["default"] = lock = monitor._new_lock()
    lock.kept = None  # what is kept for the search is bounded by itself
    operations = pair(long_history(1000))
    kept: list[int] = []
    for count in (500, 4500):
        for op in islice(operations, count):
            monitor.add(op)
        kept.append(retained() - before)
    assert kept[0] < 300
    assert kept[1] <= kept[0] + 100
    assert len(lock.sessions.past) > 900
    (request,) = pair([*late_refusal("7", 20_000)])
    monitor.add(request)
    found = monitor.verdict(True)
    assert found.details["anomaly"] == "seen after unlock"
    assert found.witness == (78, 79, 20_000, 20_001), "the release of the eighth session, and the refusal"


def test_a_call_that_is_open_keeps_what_it_may_still_speak_of() -> None:
    """A refusal that began before a release names its holder rightly, however late it returns."""
    tape = Tape()
    tape.lock("a")
    end_refusal = tape.begin("lock", info=info("z"))
    tape.unlock("id-a")
    for name in "bcdefgh":
        tape.lock(name)
        tape.unlock(f"id-{name}")
    end_refusal("fail", kind="locked", definite=True, holder=info("a"))
    assert judged(MutexMonitor(settle_every=1), pair(tape.events)).status == "valid"


def test_what_was_denied_before_its_request_is_known_counts() -> None:
    """In a stream a refused release comes before the slow grant that it contradicts."""
    tape = Tape()
    end_lock = tape.begin("lock", info=info("a"))
    tape.refused("b", "a")
    tape.denied("id-a")
    tape.refused("c", "a")
    end_lock("ok", "id-a")
    for operations in (tape.history().operations(), pair(tape.events)):
        found = judged(MutexMonitor(settle_every=1), operations)
        assert found.details["anomaly"] == "holder refused"


def test_a_holder_is_not_mistaken_for_an_older_one_with_its_token() -> None:
    """Where tokens repeat, a refusal waits until the request with the id that it names is known."""
    tape = Tape()
    first, second = ({**info(name), "Info": "apply"} for name in "ab")
    tape.begin("lock", info=first)("ok", "id-a")
    tape.unlock("id-a")
    end_lock = tape.begin("lock", info=second)
    tape.begin("lock", info=info("c"))("fail", kind="locked", definite=True, holder=second)
    end_lock("ok", "id-b")
    assert judged(MutexMonitor(), pair(tape.events)).status == "valid"


def test_a_lost_write_of_a_session_long_over_is_stale_when_it_is_read() -> None:
    """What was sent after the release must not be seen, also when the session is forgotten."""
    tape = Tape()
    tape.lock("a")
    tape.put("one", "id-a")
    tape.unlock("id-a")
    for name in "bcd":
        tape.lock(name)
        tape.unlock(f"id-{name}")
    tape.begin("put", value="two", sha256=None, lock_id="id-a")("info", kind="timeout", definite=False)
    assert judged(FencingMonitor(strict=True, settle_every=1), pair(tape.events)).status == "valid"
    tape.get("two")
    for operations in (tape.history().operations(), pair(tape.events)):
        assert judged(FencingMonitor(strict=True, settle_every=1), operations).status == "violated"


def test_a_request_sent_again_beside_an_open_release_is_not_judged_too_soon() -> None:
    """Until the release returns, the second grant looks as if the first session had never ended."""
    tape = Tape()
    tape.lock("a")
    end_release = tape.begin("unlock", lock_id="id-a")
    tape.lock("b")
    end_again = tape.begin("lock", info=info("a"))
    tape.unlock("id-b")
    end_again("ok", "id-a")
    end_release()
    assert judged(MutexMonitor(settle_every=4), pair(tape.events)).status == "valid"


def test_pairing_a_stream_tells_when_no_earlier_call_is_open() -> None:
    """`since` is the first call still open, or else the next event; calls without an answer come last."""
    tape = Tape()
    end_first = tape.begin("get")
    tape.begin("get")("ok", {"value": None})
    end_first("ok", {"value": None})
    tape.begin("get")
    told = [(op.i, op.end, op.since) for op in pair(tape.events)]
    assert told == [(1, 2, 0), (0, 3, 4), (4, float("inf"), 0)]


def test_a_process_that_calls_again_left_its_last_call_open() -> None:
    """A call that was never answered is an operation of unknown outcome, in a stream as in a history."""
    kinds: tuple[EventKind, ...] = ("invoke", "invoke", "ok")
    events = [Event(n, n, 1, kind, "get", "default") for n, kind in enumerate(kinds)]
    assert [(op.i, op.kind) for op in pair(events)] == [(0, "info"), (1, "ok")]
    assert [(op.i, op.kind) for op in History({}, events, True).operations()] == [(0, "info"), (1, "ok")]
