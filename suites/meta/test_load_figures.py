"""What load runs measure: open load, waiting, fairness, and clocks of several machines."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lockproof.checkers import check_merged
from lockproof.driver import LockInfo, Snapshot
from lockproof.driver.memory import MemoryClient, MemoryDriver, MemoryStore
from lockproof.driver.recorder import RecordedClient
from lockproof.history import HistoryWriter
from lockproof.history.align import align
from lockproof.history.writer import HARNESS, boot
from lockproof.load.arrivals import SECOND, Arrivals
from lockproof.load.clocks import Offset, estimate
from lockproof.load.measure import jain, measure
from lockproof.load.operator import Operator, following
from lockproof.load.plan import Plan
from lockproof.spec.statefile import describe

MS = 1_000_000


class Clock:
    """Time that a test sets, for the histories and for whoever asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ns = 0
        monkeypatch.setattr("time.monotonic_ns", lambda: self.ns)

    def pass_ms(self, ms: float) -> None:
        self.ns += round(ms * MS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def plan_of(folder: Path) -> Plan:
    return Plan(
        "memory", "lockproof.driver.memory:MemoryDriver", "place", "hot-lock", 1, 1, 7, 30, str(folder)
    )


def test_a_stalled_server_shows_in_open_load_and_not_in_service_time(clock: Clock, tmp_path: Path) -> None:
    """One call stalls for a second: one service time is long, but every job that was due meanwhile waited."""

    class Stalling(MemoryClient):
        stalls = 1

        def get(self, workspace: str) -> Snapshot | None:
            clock.pass_ms(1000 if Stalling.stalls else 1)
            Stalling.stalls = 0
            return super().get(workspace)

    path = tmp_path / "history.jsonl"
    with HistoryWriter({"backend": "memory"}, path) as history:
        arrivals = Arrivals(100, clock=lambda: clock.ns)
        store = MemoryStore()

        def opened(who: str) -> RecordedClient:
            return RecordedClient(Stalling(store, who), who, history, 30)

        user = Operator("user 1.1", plan_of(tmp_path), opened, history, threading.Event())
        for _ in range(100):
            due = arrivals.take()
            clock.ns = max(clock.ns, due)
            user.work(due)
    measured = measure([path])
    assert measured.service["get"].ms(95) == pytest.approx(1, abs=0.01)
    assert measured.service["get"].ms(100) == pytest.approx(1000, rel=0.001)
    response = measured.responses().ms(50)
    assert response is not None
    assert response > 500


def test_jobs_that_nobody_began_count_with_their_waiting(tmp_path: Path) -> None:
    """All users are stuck when the run ends: what was due is in the percentiles, as far as it had waited."""
    now = 0
    arrivals = Arrivals(10, clock=lambda: now)
    assert arrivals.take() == 0
    now = SECOND
    path = tmp_path / "history.jsonl"
    with HistoryWriter({}, path) as history:
        history.append(HARNESS, "note", "arrivals", given=arrivals.left())
    measured = measure([path])
    assert measured.unserved == 10
    assert measured.oldest == 900 * MS
    assert measured.responses().ms(100) == pytest.approx(900, rel=0.001)


def test_shares_of_the_rate_make_the_whole_schedule() -> None:
    """The arrivals of three processes together are those of one."""
    shares = [Arrivals(30, share, 3, clock=lambda: 0) for share in range(3)]
    dues = sorted(arrivals.take() for arrivals in shares for _ in range(10))
    assert dues == pytest.approx([number * SECOND / 30 for number in range(30)], abs=20)


def test_waiting_is_told_for_those_who_were_never_served(clock: Clock, tmp_path: Path) -> None:
    """Time to acquire counts from the first attempt; who never got the lock counts until the end."""
    path = tmp_path / "history.jsonl"
    with HistoryWriter({}, path) as history, MemoryDriver({}).open_scope("place") as scope:
        alice, bob = (RecordedClient(scope.client(who), who, history, 30) for who in ("alice", "bob"))
        lock_id = alice.lock("default", LockInfo.new("alice"))
        with pytest.raises(Exception, match="held by alice"):
            bob.lock("default", LockInfo.new("bob"))
        clock.pass_ms(400)
        alice.unlock("default", lock_id)
        alice.close()
        bob.close()
    measured = measure([path])
    assert measured.starved == [(400 * MS, "bob")]
    assert measured.fairness() == {"users": 2, "jain": 0.5, "fewest": 0, "median": 1, "most": 1}


def test_jains_index_is_one_for_even_shares_and_one_nth_for_one_winner() -> None:
    """Source: R. Jain et al., DEC-TR-301."""
    assert (jain([5, 5, 5, 5]), jain([20, 0, 0, 0]), jain([0, 0])) == (1, 0.25, None)


def test_a_clock_is_known_up_to_half_the_shortest_round_trip() -> None:
    """However unequal the two ways of a message are, the true offset lies within the error."""
    for there, back in ((1000, 1000), (1900, 100), (0, 2000)):
        found = estimate([(0, there + 777, there + back), (5000, 99_000, 99_000)])
        assert abs(found.ns - 777) <= found.error == 1000 + (there + back) % 2


def test_a_clock_that_drifts_is_known_within_both_measurements() -> None:
    """What holds at the start and at the end spans both."""
    assert Offset(100, 10).spanning(Offset(130, 5)) == Offset(112, 23)


def test_a_state_that_follows_keeps_its_lineage_at_any_size() -> None:
    """Serial and lineage are carried on, also where a state is too large to be parsed for a history."""
    first = following(b"", 10_000)
    large = following(first, 5_000_000)
    last = following(large, 10_000)
    one, two = describe(first), describe(last)
    assert (one["serial"], two["serial"], two["lineage"]) == (1, 3, one["lineage"])
    assert abs(len(large) - 5_000_000) < 100


def session(path: Path, clock: Clock, at_ms: float, for_ms: float) -> None:
    """The history of a process that held the lock: two calls of 10 ms each, the second `for_ms` later."""
    clock.ns = 0
    info = LockInfo.new(path.stem)
    with HistoryWriter({"backend": "memory"}, path) as history:
        process = history.new_process(path.stem)
        clock.pass_ms(at_ms)
        history.append(process, "invoke", "lock", ws="default", given={"info": info.to_json()})
        clock.pass_ms(10)
        history.append(process, "ok", "lock", ws="default", out=info.ID)
        clock.pass_ms(for_ms)
        history.append(process, "invoke", "unlock", ws="default", given={"lock_id": info.ID})
        clock.pass_ms(10)
        history.append(process, "ok", "unlock", ws="default")


@pytest.mark.parametrize(
    ("at_ms", "error_ms", "expected"),
    [
        (500, 4, "valid"),
        (150, 5, "violated"),
        (179, 4, "unknown"),
        (205, 30, "unknown"),
        (150, 60, "unknown"),
    ],
)
def test_what_the_error_of_a_clock_leaves_open_is_unknown(
    clock: Clock, tmp_path: Path, at_ms: float, error_ms: float, expected: str
) -> None:
    """A holder on another machine, whose clock is known up to an error: proved, refuted, or neither."""
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    session(here, clock, 0, 180)
    session(there, clock, at_ms, 180)
    align(there, boot(), 0, round(error_ms * MS))
    _, verdict = check_merged([here, there])
    assert verdict.status == expected, verdict.headline


def test_histories_are_put_on_the_masters_clock(clock: Clock, tmp_path: Path) -> None:
    """Two machines whose clocks are an hour apart: aligned, the order is what it was."""
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    session(here, clock, 0, 180)
    session(there, clock, 150, 180)
    align(there, boot(), 3600 * SECOND, MS)
    assert check_merged([here, there])[1].status == "valid"
    align(there, boot(), -3600 * SECOND, MS)
    assert check_merged([here, there])[1].status == "violated"
