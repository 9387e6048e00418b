"""The lock checker: each violation by hand, and what is no violation though it looks like one."""

from __future__ import annotations

import pytest

from lockproof.checkers import check
from lockproof.suites.meta.judged import require_violated
from lockproof.suites.meta.tape import LOST, Tape, info


def test_two_grants_without_a_release_are_two_holders() -> None:
    """A lock granted twice without a release between is a violation, with both grants as witness."""
    tape = Tape()
    tape.lock("a")
    tape.lock("b")
    require_violated(tape.history(), "two holders", 0, 1, 2, 3)


def test_a_grant_inside_a_session_is_two_holders_even_when_released_at_once() -> None:
    """A second session within the first one's is a violation although it was short."""
    tape = Tape()
    tape.lock("a")
    end = tape.begin("lock", info=info("b"))
    end("ok", "id-b")
    tape.begin("unlock", lock_id="id-b")()
    tape.unlock("id-a")
    require_violated(tape.history(), "two holders")


def test_a_session_whose_ends_overlap_a_certain_one_throughout_is_two_holders() -> None:
    """Concurrent lock and unlock calls leave only an instant, and that instant is taken."""
    tape = Tape()
    tape.lock("a")
    end_lock = tape.begin("lock", info=info("b"))
    end_unlock = tape.begin("unlock", lock_id="id-b")
    end_lock("ok", "id-b")
    end_unlock()
    tape.unlock("id-a")
    require_violated(tape.history(), "two holders")


def test_an_overlapping_handover_is_valid() -> None:
    """A grant that overlaps the release before it is no violation."""
    tape = Tape()
    tape.lock("a")
    end_unlock = tape.begin("unlock", lock_id="id-a")
    tape.lock("b")
    end_unlock()
    tape.unlock("id-b")
    assert check(tape.history()).status == "valid"


def test_a_refusal_that_names_nobody_known_is_a_phantom_holder() -> None:
    """A refusal must name somebody who asked for the lock."""
    tape = Tape()
    tape.lock("a")
    tape.refused("b", "stranger")
    require_violated(tape.history(), "phantom holder", 2, 3)


def test_a_refusal_that_names_the_refused_is_a_phantom_holder() -> None:
    """A refusal that hands the requester's own lock info back is a violation (OpenTofu issue 2004)."""
    tape = Tape()
    tape.lock("a")
    tape.refused("b", "b")
    require_violated(tape.history(), "phantom holder", 2, 3)


def test_a_holder_seen_after_its_release_is_a_resurrected_lock() -> None:
    """A lock that shows up again after its release is a violation."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    tape.refused("b", "a")
    require_violated(tape.history(), "seen after unlock", 3, 4, 5)


def test_a_holder_seen_before_its_request_is_a_violation() -> None:
    """Nobody holds a lock before asking for it."""
    tape = Tape()
    tape.refused("b", "a")
    tape.lock("a")
    require_violated(tape.history(), "seen before lock")


def test_the_same_id_for_two_requests_is_a_violation() -> None:
    """A lock id names one acquisition for ever."""
    tape = Tape()
    tape.lock("a", out="7")
    tape.unlock("7")
    tape.lock("b", out="7")
    require_violated(tape.history(), "lock id granted twice", 1, 5)


def test_a_release_of_an_id_never_granted_is_a_violation() -> None:
    """An unlock of an invented id must not succeed."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-x")
    require_violated(tape.history(), "phantom release", 2, 3)


@pytest.mark.parametrize("kind", ["lock_mismatch", "not_locked"])
def test_a_refused_release_by_the_certain_holder_is_a_violation(kind: str) -> None:
    """Who surely holds the lock can release it."""
    tape = Tape()
    tape.lock("a")
    tape.denied("id-a", kind)
    tape.refused("b", "a")
    require_violated(tape.history(), "holder refused", 2, 3)


def test_a_repeated_release_is_valid_whether_it_succeeds_or_not() -> None:
    """Unlocking the id just released may succeed or be refused."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    tape.unlock("id-a")
    tape.denied("id-a", "not_locked")
    assert check(tape.history()).status == "valid"


def test_a_lost_request_that_nobody_saw_excludes_nothing() -> None:
    """A lock with an unknown outcome may never have happened."""
    tape = Tape()
    tape.lost_lock("a")
    tape.lock("b")
    tape.unlock("id-b")
    assert check(tape.history()).status == "valid"


def test_a_release_called_before_its_lost_request_holds_no_earlier_than_that_request() -> None:
    """A session starts after its request, however early a release of its id was called."""
    tape = Tape()
    end_lock = tape.begin("lock", info=info("c"))
    end_release = tape.begin("unlock", lock_id="id-a")
    tape.refused("b", "c")
    tape.lost_lock("a")
    end_release()
    end_lock("ok", "id-c")
    require_violated(tape.history(), "two holders")


def test_a_holder_named_after_its_release_returned_is_a_violation_and_beside_it_is_none() -> None:
    """A refusal may name the holder whose release overlaps it, not one whose release returned before."""
    tape = Tape()
    tape.lock("a")
    end_release = tape.begin("unlock", lock_id="id-a")
    tape.refused("b", "a")
    end_release()
    assert check(tape.history()).status == "valid"
    tape.refused("b", "a")
    require_violated(tape.history(), "seen after unlock", 2, 5, 6, 7)


def test_an_old_id_released_again_while_another_holds_is_a_violation() -> None:
    """Releasing again is sound while nobody holds, and not while another surely does."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    end_lock = tape.begin("lock", info=info("b"))
    tape.unlock("id-a")
    end_lock("ok", "id-b")
    assert check(tape.history()).status == "valid"
    tape.unlock("id-a")
    tape.refused("c", "b")
    require_violated(tape.history(), "stale release", 8, 9)


def test_a_release_of_unknown_outcome_may_come_at_any_time_after_its_call() -> None:
    """After a release without an answer the lock may be another's, or still be seen with its holder."""
    for holder in ("a", "b"):
        tape = Tape()
        tape.lock("a")
        tape.begin("unlock", lock_id="id-a")(**LOST)
        if holder == "b":
            tape.lock("b")
        tape.refused("c", holder)
        assert check(tape.history()).status == "valid"
    tape.refused("c", "a")
    require_violated(tape.history(), "two holders", 9)


def test_the_same_request_while_it_holds_is_granted_again() -> None:
    """A repeated request is the same session; only after its release another one."""
    tape = Tape()
    tape.lost_lock("a")
    tape.lock("a")
    tape.lock("a")
    tape.unlock("id-a")
    tape.lock("b")
    assert check(tape.history()).status == "valid"


def test_a_holder_told_by_its_token_has_the_id_that_its_request_was_given() -> None:
    """Where tokens repeat, the lock id tells the holder, in whatever order the calls came."""
    tape = Tape()
    end_refusal = tape.begin("lock", info={**info("c"), "Info": "apply"})
    tape.begin("lock", info={**info("a"), "Info": "apply"})("ok", "id-a")
    tape.unlock("id-a")
    tape.begin("lock", info={**info("b"), "Info": "apply"})("ok", "id-b")
    end_refusal("fail", kind="locked", definite=True, holder={**info("b"), "Info": "apply"})
    assert check(tape.history()).status == "valid"
    tape.begin("lock", info=info("d"))(
        "fail", kind="locked", definite=True, holder={**info("a"), "Info": "apply"}
    )
    require_violated(tape.history(), "seen after unlock")


def test_locks_of_different_workspaces_do_not_exclude_each_other() -> None:
    """Each workspace has a lock of its own."""
    tape = Tape()
    tape.lock("a")
    tape.begin("lock", "other", info=info("b"))("ok", "id-b")
    assert check(tape.history()).status == "valid"
