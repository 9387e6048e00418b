"""Lock and state together: what is a stale write at which level, and what is none."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockproof.checkers import Verdict, check, check_fencing, check_mutex, check_register
from lockproof.checkers.fencing import FencingMonitor
from lockproof.checkers.models import LockedStateModel
from lockproof.checkers.search import search
from lockproof.history import History
from lockproof.suites.meta.judged import require_violated
from lockproof.suites.meta.locked_traffic import fenced_traffic
from lockproof.suites.meta.tape import LOST, Tape, info


def strict(tape: Tape) -> Verdict:
    """The verdict on operations one by one. What takes them all at once may not differ."""
    history = tape.history()
    monitor = FencingMonitor(strict=True)
    monitor.extend(history.operations())
    verdict = check_fencing(history, strict=True)
    assert monitor.verdict(history.closed).status == verdict.status, verdict
    return verdict


def expect_stale(verdict: Verdict, *witness: int) -> None:
    assert verdict.status == "violated", verdict
    assert verdict.details["anomaly"] == "stale write", verdict
    assert set(witness) <= set(verdict.witness), verdict


def lost_put(tape: Tape, value: str, lock_id: str) -> None:
    tape.begin("put", value=value, sha256=None, lock_id=lock_id)(**LOST)


def refused_put(tape: Tape, lock_id: str) -> None:
    put = tape.begin("put", value="refused", sha256=None, lock_id=lock_id)
    put("fail", kind="lock_mismatch", definite=True)


def test_a_write_under_a_released_lock_counts_only_where_fencing_is_claimed() -> None:
    """A write accepted under a released lock refutes fencing, and nothing else."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    tape.put("v", lock_id="id-a")
    assert check(tape.history()).status == "valid"
    require_violated(tape.history(), "seen after unlock", 3, 4, 5, fencing=True)


def test_a_write_beside_the_release_of_its_lock_is_valid() -> None:
    """While the release is under way the lock may still hold."""
    tape = Tape()
    tape.lock("a")
    end_release = tape.begin("unlock", lock_id="id-a")
    tape.put("v", lock_id="id-a")
    end_release()
    assert check_fencing(tape.history()).status == "valid"
    assert strict(tape).status == "valid"


def test_a_write_accepted_while_another_surely_holds_is_a_stale_write() -> None:
    """A release without an answer and another's grant show that the first lock was lost."""
    tape = Tape()
    tape.lock("a")
    tape.begin("unlock", lock_id="id-a")(**LOST)
    tape.lock("b")
    tape.put("v", lock_id="id-a")
    assert check_mutex(tape.history()).status == "valid"
    require_violated(tape.history(), "stale write", 4, 5, 6, 7, fencing=True)


def test_a_write_under_an_id_that_nobody_was_granted_is_a_phantom_writer() -> None:
    """Fencing lets no invented id write."""
    tape = Tape()
    tape.put("v", lock_id="id-x")
    require_violated(tape.history(), "phantom writer", 0, 1, fencing=True)


def test_a_holder_whose_write_is_refused_for_its_lock_is_a_violation() -> None:
    """Who surely holds may write, where the lock is what writes are refused for."""
    tape = Tape()
    tape.lock("a")
    refused_put(tape, "id-a")
    tape.refused("b", "a")
    assert check(tape.history()).status == "valid"
    require_violated(tape.history(), "holder refused", 2, 3, fencing=True)


def test_a_lost_write_that_shows_after_the_newer_holders_is_a_stale_write() -> None:
    """Sent while it held, a write arrives after its lock was forced and another holder has written."""
    tape = Tape()
    tape.lock("old")
    lost_put(tape, "late", "id-old")
    tape.unlock("id-old")
    tape.lock("new")
    tape.put("fresh", lock_id="id-new")
    tape.get("fresh")
    assert strict(tape).status == "valid"
    tape.get("late")
    expect_stale(strict(tape), 2, 12, 13)
    assert check_register(tape.history()).status == "valid"
    assert check_fencing(tape.history()).status == "valid"


def test_a_lost_write_that_shows_before_the_newer_holders_is_valid() -> None:
    """The same write seen before the newer one, or never, took effect in time."""
    tape = Tape()
    tape.lock("old")
    lost_put(tape, "late", "id-old")
    tape.unlock("id-old")
    tape.lock("new")
    tape.get("late")
    tape.put("fresh", lock_id="id-new")
    tape.get("fresh")
    assert strict(tape).status == "valid"


def test_a_write_that_was_not_there_yet_when_its_lock_was_lost_is_a_stale_write() -> None:
    """What a reader did not see after the release, nobody may see later, another's write or not."""
    tape = Tape()
    tape.put("before")
    tape.lock("old")
    lost_put(tape, "late", "id-old")
    tape.unlock("id-old")
    tape.get("before")
    assert strict(tape).status == "valid"
    tape.get("late")
    expect_stale(strict(tape), 4, 10, 11)


def test_nothing_read_after_the_release_shows_that_the_write_came_late() -> None:
    """Absence tells as much as an older value, unless a deletion explains it."""
    for deleted in (False, True):
        tape = Tape()
        tape.lock("old")
        lost_put(tape, "late", "id-old")
        tape.unlock("id-old")
        if deleted:
            tape.begin("delete")(**LOST)
        tape.get(None)
        tape.get("late")
        assert (strict(tape).status == "violated") != deleted


def test_an_acknowledged_write_that_arrives_after_the_newer_holders_is_a_stale_write() -> None:
    """A call that overlaps the loss of its lock may be acknowledged, but not replace what came after."""
    tape = Tape()
    tape.lock("old")
    end_put = tape.begin("put", value="late", sha256=None, lock_id="id-old")
    tape.unlock("id-old")
    tape.lock("new")
    tape.put("fresh", lock_id="id-new")
    end_put()
    assert strict(tape).status == "valid"
    tape.get("late")
    expect_stale(strict(tape), 2, 9)


def test_two_values_of_one_holder_cannot_swap_after_its_release() -> None:
    """What a holder wrote keeps its order when the lock is lost."""
    tape = Tape()
    tape.lock("a")
    lost_put(tape, "one", "id-a")
    tape.put("two", lock_id="id-a")
    tape.unlock("id-a")
    tape.get("two")
    assert strict(tape).status == "valid"
    tape.get("one")
    expect_stale(strict(tape), 2, 10, 11)


def test_a_write_under_no_lock_is_free() -> None:
    """Between a holder's writes, before and after them, a write without an id is nobody's."""
    tape = Tape()
    tape.put("first")
    tape.lock("a")
    tape.put("one", lock_id="id-a")
    tape.put("between")
    tape.get("between")
    tape.put("two", lock_id="id-a")
    tape.unlock("id-a")
    tape.put("last")
    tape.get("last")
    assert strict(tape).status == "valid"


def test_workspaces_have_locks_and_states_of_their_own() -> None:
    """A write to one workspace is not judged by the lock of another."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    tape.begin("lock", "other", info=info("b"))("ok", "id-b")
    tape.begin("put", "other", value="v", sha256=None, lock_id="id-b")()
    assert strict(tape).status == "valid"


@pytest.mark.parametrize("broken", [0.0, 0.5])
@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(3, 16))
def test_strict_fencing_agrees_with_the_search(broken: float, random: Random, size: int) -> None:
    """On small histories of a true backend, and of one that lets stale writes in, both say the same."""
    events = fenced_traffic(random, size, broken)
    history = History({}, events, True)
    found = check_fencing(history, strict=True)
    states = check_register(history)
    expected = search(history.operations(), LockedStateModel(strict=True))
    seen = {found.status, states.status}
    assert "unknown" not in {expected.status, *seen}
    assert ("violated" in seen) == (expected.status == "violated"), (found, expected)
