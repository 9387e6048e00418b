"""How long reads, writes and locks take, against the targets of the RFC. Nothing fails by its time: whether a
target is met, missed or undecided stands in the latency table of the report."""

import pytest

from lockproof.driver import LockInfo
from lockproof.spec import needs, requirement, tier
from lockproof.spec.outcome import Violation
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import filler, unlike
from lockproof.suites.performance.measuring import Measuring

pytest_plugins = ["lockproof.suites.performance.measuring"]

SIZES = (10_000, 100_000, 1_000_000)
LARGE_SIZES = (10_000_000, 100_000_000)
STATE_SECONDS = 2.0
LOCK_SECONDS = 6.0
NEWCOMERS = 5


def state(size: int) -> bytes:
    """A state of exactly `size` bytes."""
    around = len(tofu_bytes(document(padding="")))
    return tofu_bytes(document(padding=filler(size - around)))


@pytest.mark.parametrize("size", SIZES)
@requirement("PERF-PUT-001", "PERF-GET-001")
def test_reads_and_writes_are_timed(measuring: Measuring, size: int) -> None:
    """How long it takes to write a state, and to read it back whole."""
    assert time_states(measuring, size) > 0


@tier("full")
@pytest.mark.parametrize("size", LARGE_SIZES)
@needs("state.large")
@requirement("PERF-PUT-001", "PERF-GET-001")
def test_reads_and_writes_of_large_states_are_timed(measuring: Measuring, size: int) -> None:
    """How long it takes to write a state of 10 and of 100 MB, and to read it back whole."""
    assert time_states(measuring, size) > 0


@requirement("PERF-LOCK-001")
def test_acquisitions_in_lakebase_are_timed(measuring: Measuring) -> None:
    """How long it takes to get a free lock that Lakebase keeps, to release it, and to get it first."""
    assert time_locks(measuring, "PERF-LOCK-001") > 0


@requirement("PERF-LOCK-002")
def test_acquisitions_in_delta_are_timed(measuring: Measuring) -> None:
    """How long it takes to get a free lock in a Delta table, to release it, and to get it first."""
    assert time_locks(measuring, "PERF-LOCK-002") > 0


def time_states(measuring: Measuring, size: int) -> int:
    """Measures writes and reads in turn: how many of each.

    Raises `Violation` when a state does not read back.
    """
    client, taken = measuring.client("alice")
    data = state(size)
    client.put("default", data)  # the first call connects
    writes, reads = [], []
    for _ in measuring.rounds(2 * STATE_SECONDS):
        client.put("default", data)
        writes.append(taken[-1])
        snapshot = client.get("default")
        reads.append(taken[-1])
        if snapshot is None or snapshot.data != data:
            raise Violation(f"a state of {size} bytes reads back otherwise: {_otherwise(data, snapshot)}")
    measuring.tell("put", writes, "PERF-PUT-001", size)
    measuring.tell("get", reads, "PERF-GET-001", size)
    return len(reads)


def time_locks(measuring: Measuring, target: str) -> int:
    """Measures locks and unlocks in turn by one client, then the first locks of others: how many of the
    former."""
    client, taken = measuring.client("alice")
    client.unlock("default", client.lock("default", LockInfo.new("alice")))  # makes the table, and connects
    locks, unlocks, first = [], [], []
    for _ in measuring.rounds(LOCK_SECONDS):
        measuring.cool()
        lock_id = client.lock("default", LockInfo.new("alice"))
        locks.append(taken[-1])
        client.unlock("default", lock_id)
        unlocks.append(taken[-1])
    for number in measuring.rounds(LOCK_SECONDS / 3, NEWCOMERS):
        newcomer, times = measuring.client(f"newcomer-{number}")
        lock_id = newcomer.lock("default", LockInfo.new(f"newcomer-{number}"))
        first.append(times[-1])
        newcomer.unlock("default", lock_id)
    measuring.tell("lock", locks, target)
    measuring.tell("unlock", unlocks)
    measuring.tell("connect", first)
    return len(locks)


def _otherwise(data: bytes, snapshot: object) -> str:
    found = getattr(snapshot, "data", None)
    return "there is none" if found is None else unlike(data, found)
