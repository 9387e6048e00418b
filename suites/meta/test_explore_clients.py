"""Controlled clients: killed, blocked, stuck, asleep, waiting for each other; and the explorer gets free."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from lockproof.checkers import Verdict
from lockproof.driver import DriverError, Locked, LockInfo, Snapshot
from lockproof.driver.memory import MemoryClient, MemoryScope, MemoryStore
from lockproof.driver.recorder import RecordedClient
from lockproof.driver.waiting import lock_with_backoff
from lockproof.explore import (
    CRASH,
    LOST_REPLY,
    Choice,
    Exhaustive,
    Exploration,
    ExploredClock,
    RandomWalk,
    Schedule,
    Shared,
    checkpoint,
    explore,
    outside,
    replay,
)
from lockproof.history import History
from lockproof.spec.outcome import Violation
from lockproof.suites.meta.explored_bed import (
    Bed,
    CheckThenSet,
    Collector,
    calls,
    info,
    order_of_calls,
    program,
    take,
    take_and_release,
)

SHORT = 0.6  # seconds of patience, for clients that never make progress


def test_code_outside_an_exploration_meets_no_scheduler() -> None:
    """Checkpoints return at once, `outside` asks nobody, and the clock's sleep costs no time."""
    clock = ExploredClock()
    assert checkpoint("a step", faults={"lost reply"}) is None
    with outside(lambda: pytest.fail("nobody asks")):
        clock.sleep(30)
    assert clock.monotonic() == 30


# --- killed ---


def test_crash_ends_a_client_at_every_step_and_leaves_its_call_pending() -> None:
    """A killed client makes no further call and cleans nothing up; its call in progress has no outcome."""

    class TwoSteps(MemoryClient):
        def put(self, workspace: str, data: bytes, *, lock_id: str | None = None) -> None:
            try:
                checkpoint("first half")
                self.store.states["half"] = b"x"
                checkpoint("second half")
                self.store.states["whole"] = b"x"
            finally:
                checkpoint("clean up")
                self.store.states["cleaned"] = b"x"

    def careful(client: RecordedClient, shared: Shared) -> None:
        try:
            client.put("default", b"x")
        finally:
            client.delete("default")

    bed = Bed(TwoSteps)
    judge = Collector(lambda history: [(op.f, op.outcome is None) for op in history.operations()])
    p = program({"alice": careful}, faults=frozenset({CRASH}), judge=judge)
    found = explore(p, bed, Exhaustive(0))
    assert found.complete
    left = [sorted(scope.store.states) for scope in bed.scopes]
    assert sorted(zip(left, judge.seen, strict=True)) == [
        ([], []),
        ([], [("put", True)]),
        (["cleaned", "half", "whole"], [("put", False)]),
        (["cleaned", "half", "whole"], [("put", False), ("delete", False)]),
        (["half"], [("put", True)]),
        (["half", "whole"], [("put", True)]),
    ]


def test_lost_reply_hides_a_call_that_has_happened() -> None:
    """The client is told that nobody knows, the history says unknown, and the backend has done it."""
    told = []

    def writes(client: RecordedClient, shared: Shared) -> None:
        try:
            client.put("default", b"x")
        except DriverError as failure:
            told.append((failure.kind, failure.definite, failure.message))

    bed = Bed()
    judge = Collector(lambda history: [(op.f, op.kind) for op in history.operations()])
    explore(program({"alice": writes}, faults=frozenset({LOST_REPLY}), judge=judge), bed, Exhaustive(0))
    assert judge.seen == [[("put", "ok")], [("put", "info")]]
    assert told == [("timeout", False, "the reply was lost")]
    assert [scope.store.states for scope in bed.scopes] == [{"default": b"x"}] * 2


def test_no_more_faults_than_the_program_allows() -> None:
    """The number of runs is that of the ways to place up to two crashes among two clients' single calls."""

    def crashes(most: int) -> Exploration:
        clients = {"a": calls(1), "b": calls(1)}
        p = program(clients, faults=frozenset({CRASH}), max_faults=most)
        return explore(p, Bed(), Exhaustive(None))

    one, two = crashes(1), crashes(2)
    assert (one.complete, one.schedules) == (True, 6)  # two orders: no crash, the first's, the second's
    assert (two.complete, two.schedules) == (True, 8)


def test_refusal_and_other_failures_end_a_client() -> None:
    """A `DriverError` is a client's end, an assertion a violation, anything else the program's defect."""

    def fails(failure: Exception) -> Exploration:
        def body(client: RecordedClient, shared: Shared) -> None:
            client.get("x")
            raise failure

        return explore(program({"alice": body, "bob": calls(1)}), Bed(), Exhaustive(0))

    assert fails(Locked()).status == "valid"
    violated = fails(Violation("the counter is gone"))
    assert (violated.status, violated.reason) == ("violated", "client alice: the counter is gone")
    assert violated.schedule is not None
    defect = fails(KeyError("id"))
    assert defect.status == "unknown"
    assert defect.reason.startswith("client alice failed: KeyError: 'id' (")
    assert f"{__file__}:" in defect.reason


def test_run_that_cannot_be_set_up_is_unknown() -> None:
    """A subject that does not open or close, and a preparation that is refused, are told with their line."""

    def refused(client: RecordedClient, shared: Shared) -> None:
        client.lock("default", info("one"))
        client.lock("default", info("two"))

    prepared = explore(program({"alice": calls(1)}, prepare=refused), Bed(), Exhaustive(0))
    assert prepared.status == "unknown"
    assert prepared.reason.startswith("the run could not be prepared: Locked: locked: held by one (")

    class Leaky(MemoryScope):
        def __exit__(self, *raised: Any) -> None:
            raise OSError("not empty")

    class LeakyBed(Bed):
        def open(self, run: int) -> MemoryScope:
            return Leaky()

    closed = explore(program({"alice": calls(1)}), LeakyBed(), Exhaustive(0))
    assert closed.status == "unknown"
    assert closed.reason.startswith("the run could not be closed: OSError: not empty (")


# --- waiting for each other ---


def test_what_one_client_is_told_it_waits_for() -> None:
    """A client that asks for what was not told yet goes on once it is, in every schedule."""
    heard = []

    def teller(client: RecordedClient, shared: Shared) -> None:
        client.get("x")
        shared["id"] = 7
        client.get("y")

    def listener(client: RecordedClient, shared: Shared) -> None:
        heard.append((shared.get("id"), shared["id"]))

    found = explore(program({"teller": teller, "listener": listener}), Bed(), Exhaustive(None))
    assert (found.status, found.complete) == ("valid", True)
    assert set(heard) == {(None, 7), (7, 7)}


@pytest.mark.parametrize("status", ["unknown", "violated"])
def test_clients_that_wait_for_ever_are_a_deadlock(status: Any) -> None:
    """When nobody can go on the verdict is unknown, unless the program says otherwise; who waits is named."""

    def waits(for_whom: str) -> Any:
        return lambda client, shared: shared[for_whom]

    p = program({"alice": waits("bob"), "bob": waits("alice")}, deadlock=status)
    found = explore(p, Bed(), Exhaustive(1))
    assert found.status == status
    assert "nobody can go on: alice in 'hear of bob', bob in 'hear of alice'" in found.reason


# --- stuck ---


def test_client_in_a_private_mutex_makes_the_program_unknown() -> None:
    """A client that waits for a mutex whose holder was descheduled is named, with its step and its line."""

    class Guarded(MemoryClient):
        def get(self, workspace: str) -> Snapshot | None:
            with self.store.mutex:
                checkpoint("inside the mutex")
            return None

    before = set(threading.enumerate())
    p = program({"alice": calls(1), "bob": calls(1)})
    found = explore(p, Bed(Guarded), Exhaustive(1), patience=SHORT)
    assert found.status == "unknown"
    assert "client alice showed no progress for 0.6 s: its last step was 'get alice-0'" in found.reason
    line = inspect.getsourcelines(Guarded.get)[1] + 1
    assert f"it stands in {__file__}:{line}" in found.reason
    assert [new for new in threading.enumerate() if new not in before and new.name == "explored client"] == []
    later = explore(program({"alice": take, "bob": take}), Bed(CheckThenSet), Exhaustive(1))
    assert later.status == "violated"


def test_client_that_waits_in_real_time_makes_the_program_unknown() -> None:
    """The explorer gets free of a client that does not come back, and later explorations do not meet it."""
    release = threading.Event()

    class Slow(MemoryClient):
        def get(self, workspace: str) -> Snapshot | None:
            release.wait(60)
            checkpoint("after the wait")
            self.store.states["late"] = b"x"
            return None

    bed = Bed(Slow)
    found = explore(program({"alice": calls(1), "bob": calls(2)}), bed, RandomWalk(1), patience=SHORT)
    assert found.status == "unknown"
    assert "showed no progress for 0.6 s: its last step was 'get " in found.reason
    stuck = [thread for thread in threading.enumerate() if thread.name == "explored client"]
    assert stuck
    later = explore(program({"alice": take_and_release, "bob": take}), Bed(), Exhaustive(2))
    assert (later.status, later.complete) == ("valid", True)
    release.set()
    for thread in stuck:
        thread.join(30)
        assert not thread.is_alive()
    assert bed.scopes[-1].store.states == {}


def test_run_without_end_is_unknown() -> None:
    """A client that polls for ever is cut off after so many steps."""

    def polls(client: RecordedClient, shared: Shared) -> None:
        while True:
            client.get("x")

    found = explore(program({"alice": polls, "bob": calls(1)}), Bed(), Exhaustive(0))
    assert found.status == "unknown"
    assert found.reason == "the run went on for more than 2000 steps"
    assert found.schedule is not None
    assert len(found.schedule.choices) == 2000


def test_threads_are_used_again_and_end_with_the_exploration() -> None:
    """Hundreds of schedules use as many threads as there are clients, and leave none behind."""
    threads = set()

    class Watching(MemoryClient):
        def get(self, workspace: str) -> Snapshot | None:
            threads.add(threading.current_thread())
            return None

    clients = {"a": calls(3), "b": calls(3), "c": calls(1)}
    found = explore(program(clients, judge=Collector(order_of_calls)), Bed(Watching), Exhaustive(None))
    assert found.schedules == 140
    assert len(threads) == 3
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


# --- blocked in a service ---


class Service:
    """A lock in another process, so to speak: who asks for it while it is held is made to wait."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.waiting: set[str] = set()

    @contextmanager
    def held_by(self, who: str) -> Iterator[None]:
        with outside(lambda: who in self.waiting):
            if not self.mutex.acquire(blocking=False):
                self.waiting.add(who)
                self.mutex.acquire()
        try:
            yield
        finally:
            self.waiting.clear()  # the service knows at once who may go on
            self.mutex.release()


class ServicedStore(MemoryStore):
    """A store with such a service behind it, fresh in each run."""

    def __init__(self) -> None:
        super().__init__()
        self.service = Service()


class Serviced(MemoryClient):
    """A client whose `get` takes two steps under the service's lock."""

    store: ServicedStore

    def get(self, workspace: str) -> Snapshot | None:
        checkpoint("ask")
        with self.store.service.held_by(self.who):
            checkpoint("first inside")
            checkpoint("second inside")
        return None


def outer_waits(history: History) -> Verdict:
    """A judge that calls it a violation when the second call begins inside the first and ends after it."""
    operations = list(history.operations())
    if len(operations) < 2 or operations[0].kind != "ok":
        return Verdict("valid", "not yet")
    waited = operations[1].i < operations[0].end < operations[1].end
    return Verdict("violated" if waited else "valid", "waited", details={"anomaly": "waited"})


LET_GO = (
    Choice("alice", "get alice-0"),
    Choice("alice", "ask"),
    Choice("bob", "get bob-0"),
    Choice("bob", "ask"),
    Choice("alice", "first inside"),
    Choice("alice", "second inside"),
    Choice("bob", "ask, let go"),
)
"""Bob asks while alice is inside, and goes on right after she has come out."""


def test_client_blocked_in_a_service_lets_others_go_on() -> None:
    """A call that the service makes wait is no deadlock: the others run, and every schedule ends."""
    ends = Collector(lambda history: tuple(op.kind for op in history.operations()))
    p = program({"alice": calls(1), "bob": calls(1)}, judge=ends)
    found = explore(p, Bed(Serviced, store=ServicedStore), Exhaustive(2))
    assert (found.status, found.complete) == ("valid", True), found.reason
    assert found.schedules > 6
    assert set(ends.seen) == {("ok", "ok")}


def test_blocked_call_is_the_same_step_in_every_run() -> None:
    """A schedule in which a service makes a client wait replays as it was, with the return as a step."""
    bed = Bed(Serviced, store=ServicedStore)
    p = program({"alice": calls(1), "bob": calls(1)}, judge=outer_waits)
    found = explore(p, bed, Exhaustive(1), shrinking=0)
    assert found.schedule is not None
    replays = [replay(p, bed, found.schedule) for _ in range(3)]
    assert [(again.status, again.schedule) for again in replays] == [("violated", found.schedule)] * 3
    blocked = program({"alice": calls(1), "bob": calls(1)}, judge=Collector(order_of_calls))
    inside = (*LET_GO, Choice("bob", "first inside"), Choice("bob", "second inside"))
    assert replay(blocked, bed, Schedule("p", "", "", inside)).status == "valid"
    too_soon = (*LET_GO[:4], LET_GO[-1])
    assert "is now not possible" in replay(blocked, bed, Schedule("p", "", "", too_soon)).reason


def test_client_that_a_service_let_go_can_go_on_at_once() -> None:
    """Right after the step that lets it go a blocked client is among those that may be next, every time."""
    bed = Bed(Serviced, store=ServicedStore)
    p = program({"alice": calls(2), "bob": calls(1)}, judge=Collector(order_of_calls))
    schedule = Schedule("p", "", "", LET_GO)
    assert [replay(p, bed, schedule).reason for _ in range(20)] == ["seen"] * 20


class Crosswise(MemoryClient):
    """A client whose `get` takes its own service's lock and then the other client's."""

    store: CrosswiseStore

    def get(self, workspace: str) -> Snapshot | None:
        own, other = (self.store.services[who] for who in sorted(self.store.services, key=self.who.__ne__))
        with own.held_by(self.who):
            checkpoint("holds one")
            with other.held_by(self.who):
                checkpoint("holds both")
        return None


class CrosswiseStore(MemoryStore):
    """A store with two services."""

    def __init__(self) -> None:
        super().__init__()
        self.services = {"alice": Service(), "bob": Service()}


@pytest.mark.parametrize("status", ["unknown", "violated"])
def test_clients_that_wait_for_each_other_in_a_service_are_a_deadlock(status: Any) -> None:
    """Two clients that take two of a service's locks crosswise: nobody can go on, and the explorer can."""
    bed = Bed(Crosswise, store=CrosswiseStore)
    p = program({"alice": calls(1), "bob": calls(1)}, deadlock=status)
    found = explore(p, bed, Exhaustive(1), patience=2 * SHORT, shrinking=0)
    assert found.status == status
    assert found.reason == "nobody can go on: alice in 'holds one', bob in 'holds one'"
    assert found.schedule is not None
    assert found.schedule.finding == "deadlock"
    for scope in bed.scopes:  # the way out for those that were left behind
        for service in cast(CrosswiseStore, scope.store).services.values():
            if service.mutex.locked():
                service.mutex.release()


# --- asleep ---


def test_virtual_time_costs_nothing_and_passes_when_all_sleep() -> None:
    """Hours of back-off take no time; sleepers wake in the order of their times, whatever the schedule."""
    clock = ExploredClock()
    woken: list[tuple[str, float]] = []

    def sleeper(*pauses: float) -> Any:
        def body(client: RecordedClient, shared: Shared) -> None:
            for pause in pauses:
                clock.sleep(pause)
                woken.append((client.who, clock.monotonic()))

        return body

    p = program({"a": sleeper(3600, 3600), "b": sleeper(5000)})
    found = explore(p, Bed(), Exhaustive(0))
    assert found.schedules == 1
    assert woken == [("a", 3600), ("b", 5000), ("a", 7200)]


def test_waking_early_while_another_has_work_is_a_preemption() -> None:
    """With one preemption time may pass while another client is slow; without one it may not."""

    def orders(bound: int) -> set[tuple[str, ...]]:
        clocks: dict[str, ExploredClock] = {}

        def sleeps(client: RecordedClient, shared: Shared) -> None:
            ExploredClock().sleep(10)
            client.get("x")

        judge = Collector(order_of_calls)
        explore(program({"sleeper": sleeps, "worker": calls(2)}, judge=judge), Bed(), Exhaustive(bound))
        assert not clocks
        return set(judge.seen)

    lazy = ("worker", "worker", "sleeper")
    assert orders(0) == {lazy}
    assert orders(1) == {lazy, ("worker", "sleeper", "worker"), ("sleeper", "worker", "worker")}


def test_waiter_with_back_off_gets_the_lock_when_it_is_released() -> None:
    """`lock -lock-timeout` over a driver as it is, on virtual time: the lock is granted in every schedule."""
    waited = []

    def waits(client: RecordedClient, shared: Shared) -> None:
        clock = ExploredClock()
        lock_id = lock_with_backoff(client, "default", info(client.who), timeout=60, clock=clock)
        waited.append(clock.monotonic())
        client.unlock("default", lock_id)

    p = program({"alice": take_and_release, "bob": waits})
    found = explore(p, Bed(), Exhaustive(2), limit=5000)
    assert (found.status, found.complete) == ("valid", True), found.reason
    assert min(waited) == 0
    assert 0 < max(waited) <= 60


def test_driver_defect_in_a_run_is_recorded_as_such() -> None:
    """What a driver raises that is no `DriverError` counts as internal, with unknown outcome, here too."""

    class Broken(MemoryClient):
        def lock(self, workspace: str, info: LockInfo) -> str:
            raise SystemExit("gone")

    seen = []

    def tries(client: RecordedClient, shared: Shared) -> None:
        with pytest.raises(DriverError, match="it raised SystemExit") as failure:
            client.lock("default", info("alice"))
        seen.append((failure.value.kind, failure.value.definite))

    assert explore(program({"alice": tries}), Bed(Broken), Exhaustive(0)).status == "valid"
    assert seen == [("internal", False)]
