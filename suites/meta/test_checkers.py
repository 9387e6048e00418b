"""The checkers: each violation by hand, and agreement with an exhaustive search on small histories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockproof.checkers import check, check_mutex, check_register, require_valid
from lockproof.history import History, Operation
from lockproof.spec.outcome import Unknown, Violation
from lockproof.suites.meta.tape import LOST, WS, Tape, info, interleave


def expect_violation(history: History, anomaly: str, *witness: int, fencing: bool = False) -> None:
    verdict = check(history, fencing=fencing)
    assert verdict.status == "violated", verdict
    assert verdict.details["anomaly"] == anomaly
    assert verdict.details["workspace"] == WS
    assert set(witness) <= set(verdict.witness)


def test_two_grants_without_a_release_are_two_holders() -> None:
    """A lock granted twice without a release between is a violation, with both grants as witness."""
    tape = Tape()
    tape.lock("a")
    tape.lock("b")
    expect_violation(tape.history(), "two holders", 0, 1, 2, 3)


def test_a_grant_inside_a_session_is_two_holders_even_when_released_at_once() -> None:
    """A second session within the first one's is a violation although it was short."""
    tape = Tape()
    tape.lock("a")
    end = tape.begin("lock", info=info("b"))
    end("ok", "id-b")
    tape.begin("unlock", lock_id="id-b")()
    tape.unlock("id-a")
    expect_violation(tape.history(), "two holders")


def test_a_session_whose_ends_overlap_a_certain_one_throughout_is_two_holders() -> None:
    """Concurrent lock and unlock calls leave only an instant, and that instant is taken."""
    tape = Tape()
    tape.lock("a")
    end_lock = tape.begin("lock", info=info("b"))
    end_unlock = tape.begin("unlock", lock_id="id-b")
    end_lock("ok", "id-b")
    end_unlock()
    tape.unlock("id-a")
    expect_violation(tape.history(), "two holders")


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
    expect_violation(tape.history(), "phantom holder", 2, 3)


def test_a_refusal_that_names_the_refused_is_a_phantom_holder() -> None:
    """A refusal that hands the requester's own lock info back is a violation (OpenTofu issue 2004)."""
    tape = Tape()
    tape.lock("a")
    tape.refused("b", "b")
    expect_violation(tape.history(), "phantom holder", 2, 3)


def test_a_holder_seen_after_its_release_is_a_resurrected_lock() -> None:
    """A lock that shows up again after its release is a violation."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    tape.refused("b", "a")
    expect_violation(tape.history(), "seen after unlock", 3, 4, 5)


def test_a_holder_seen_before_its_request_is_a_violation() -> None:
    """Nobody holds a lock before asking for it."""
    tape = Tape()
    tape.refused("b", "a")
    tape.lock("a")
    expect_violation(tape.history(), "seen before lock")


def test_the_same_id_for_two_requests_is_a_violation() -> None:
    """A lock id names one acquisition for ever."""
    tape = Tape()
    tape.lock("a", out="7")
    tape.unlock("7")
    tape.lock("b", out="7")
    expect_violation(tape.history(), "lock id granted twice", 1, 5)


def test_a_release_of_an_id_never_granted_is_a_violation() -> None:
    """An unlock of an invented id must not succeed."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-x")
    expect_violation(tape.history(), "phantom release", 2, 3)


@pytest.mark.parametrize("kind", ["lock_mismatch", "not_locked"])
def test_a_refused_release_by_the_certain_holder_is_a_violation(kind: str) -> None:
    """Who surely holds the lock can release it."""
    tape = Tape()
    tape.lock("a")
    tape.denied("id-a", kind)
    tape.refused("b", "a")
    expect_violation(tape.history(), "holder refused", 2, 3)


def test_a_repeated_release_is_valid_whether_it_succeeds_or_not() -> None:
    """Unlocking the id just released may succeed or be refused."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    tape.unlock("id-a")
    tape.denied("id-a", "not_locked")
    assert check(tape.history()).status == "valid"


def test_a_bare_refusal_of_a_lock_that_nobody_can_hold_is_a_violation() -> None:
    """A refusal without a holder still needs somebody who may hold."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    tape.refused("b", None)
    expect_violation(tape.history(), "refused while free", 4, 5)


def test_a_lost_reply_with_a_backend_chosen_id_is_matched_by_its_token() -> None:
    """After a lost reply, the refusal that names token and id shows who holds, and the id releases it."""
    tape = Tape()
    tape.lost_lock("a")
    tape.refused("b", "a", holder_id="41")
    tape.unlock("41")
    tape.lock("b", out="42")
    assert check(tape.history()).status == "valid"
    tape.refused("c", "a", holder_id="41")
    expect_violation(tape.history(), "seen after unlock")


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
    expect_violation(tape.history(), "two holders")


def test_a_stale_write_is_two_holders_only_where_fencing_is_claimed() -> None:
    """A write accepted under a released lock refutes fencing, and nothing else."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    tape.put("v", lock_id="id-a")
    assert check(tape.history()).status == "valid"
    expect_violation(tape.history(), "seen after unlock", 4, 5, fencing=True)


def test_a_request_sent_again_after_its_release_is_another_acquisition() -> None:
    """The same request may be granted again after its release; small histories are searched for that."""
    tape = Tape()
    for _ in range(2):
        tape.lock("a")
        tape.unlock("id-a")
    assert check(tape.history()).status == "valid"
    tape.lock("b")
    tape.refused("c", "a")
    assert check(tape.history()).status == "violated"


def test_a_history_without_footer_is_unknown_unless_violated() -> None:
    """A cut history is never valid; a violation in it stays one."""
    tape = Tape()
    tape.lock("a")
    assert check(tape.history(closed=False)).status == "unknown"
    tape.lock("b")
    assert check(tape.history(closed=False)).status == "violated"


def test_an_older_value_after_a_newer_one_was_read_is_a_stale_read() -> None:
    """A read that goes back in time is a violation."""
    tape = Tape()
    tape.put("one")
    tape.put("two")
    tape.get("two")
    tape.get("one")
    expect_violation(tape.history(), "stale read")


def test_a_write_that_nobody_sees_between_reads_of_the_older_value_is_lost() -> None:
    """An acknowledged write cannot vanish."""
    tape = Tape()
    tape.put("one")
    tape.get("one")
    tape.put("two")
    tape.get("one")
    expect_violation(tape.history(), "lost write", 4, 5)


def test_absence_after_a_write_is_a_violation() -> None:
    """Nothing read after a write was acknowledged is a lost write."""
    tape = Tape()
    tape.put("one")
    tape.get(None)
    assert check(tape.history()).status == "violated"


def test_absence_before_a_deletion_is_a_lost_write() -> None:
    """Absence inside the time of a certain value is a violation although a deletion came later."""
    tape = Tape()
    tape.put("one")
    tape.get(None)
    tape.get("one")
    tape.begin("delete")()
    expect_violation(tape.history(), "lost write", 2, 3)


def test_a_value_that_nobody_wrote_is_torn() -> None:
    """A read of bytes that were never written is a violation."""
    tape = Tape()
    tape.put("one")
    tape.get("other")
    expect_violation(tape.history(), "torn value", 2, 3)


def test_a_known_token_with_other_bytes_is_torn() -> None:
    """A read whose token is right but whose bytes are not is a violation."""
    tape = Tape()
    tape.put("one")
    tape.get("one", sha256="sha-other")
    expect_violation(tape.history(), "torn value", 2, 3)


def test_a_refused_write_that_is_read_is_a_violation() -> None:
    """A refused write must have had no effect."""
    tape = Tape()
    end = tape.begin("put", value="one", sha256="sha-one", lock_id=None)
    end("fail", kind="stale", definite=True)
    tape.get("one")
    expect_violation(tape.history(), "read of a refused write", 0, 1, 2, 3)


def test_a_read_that_overlaps_two_writes_may_see_either() -> None:
    """Concurrent writes leave a reader the choice, once."""
    for value in ("one", "two"):
        tape = Tape()
        ends = [tape.begin("put", value=v, sha256=f"sha-{v}", lock_id=None) for v in ("one", "two")]
        for end in ends:
            end()
        tape.get(value)
        assert check(tape.history()).status == "valid"


def test_require_valid_raises_what_the_verdict_says() -> None:
    """A violated history fails a test with its witness, an undecided one makes it unknown."""
    tape = Tape()
    tape.lock("a")
    assert require_valid(tape.history()).status == "valid"
    with pytest.raises(Unknown, match="footer"):
        require_valid(tape.history(closed=False))
    tape.lock("b")
    with pytest.raises(Violation, match="two holders") as caught:
        require_valid(tape.history())
    assert list(caught.value.witness) == [0, 1, 2, 3]


# --- agreement with an exhaustive search ---------------------------------------------------------


def order_exists(
    operations: Sequence[Operation], step: Callable[[Any, Operation], Sequence[Any]], start: Any
) -> bool:
    """Whether some order that respects real time is legal; operations of unknown outcome may be left out.

    `step` gives the states after an operation, none when it is illegal.
    """

    def search(left: frozenset[int], state: Any) -> bool:
        if all(operations[n].kind == "info" for n in left):
            return True
        horizon = min(
            (o.outcome.i for n in left if (o := operations[n]).kind != "info" and o.outcome), default=1 << 30
        )
        return any(
            search(left - {n}, after)
            for n in left
            if operations[n].invoke.i < horizon
            for after in step(state, operations[n])
        )

    return search(frozenset(range(len(operations))), start)


def register_step(state: Any, op: Operation) -> Sequence[Any]:
    if op.kind == "fail":
        return [state]
    if op.f == "put":
        return [(op.invoke.given or {})["value"]]
    assert op.outcome is not None
    return [state] if op.outcome.out["value"] == state else []


@settings(max_examples=500, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 7))
def test_the_register_checker_agrees_with_an_exhaustive_search(random: Random, size: int) -> None:
    """On small state histories without deletions the checker is exact."""
    calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for n in range(size):
        if random.random() < 0.5:
            outcome = random.choice(
                [{"e": "ok"}, {"e": "ok"}, LOST, {"e": "fail", "kind": "stale", "definite": True}]
            )
            calls.append(("put", {"value": f"v{n}", "sha256": None, "lock_id": None}, outcome))
        else:
            value = random.choice([None, *(f"v{m}" for m in range(size))])
            calls.append(("get", {}, {"e": "ok", "out": {"value": value}}))
    history = interleave(random, calls)
    legal = order_exists(list(history.operations()), register_step, None)
    verdict = check_register(history)
    assert (verdict.status == "valid") == legal, (verdict, [e.to_json() for e in history.events])


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(2, 60))
def test_histories_of_a_true_lock_are_valid(random: Random, size: int) -> None:
    """What a correct lock answers under any overlap is never called a violation."""
    tape = Tape()
    holder: str | None = None
    pending: list[Callable[[], None]] = []
    for n in range(size):
        while pending and random.random() < 0.5:
            pending.pop(random.randrange(len(pending)))()
        lost = random.random() < 0.1
        if holder is None or random.random() < 0.4:
            end = tape.begin("lock", info=info(str(n)))
            if holder is None:
                holder = str(n)
                answer: dict[str, Any] = {"e": "ok", "out": f"id-{n}"}
            else:
                answer = {"e": "fail", "kind": "locked", "definite": True, "holder": info(holder)}
        else:
            end = tape.begin("unlock", lock_id=f"id-{holder}")
            holder, answer = None, {"e": "ok"}
        pending.append(partial(end, **(LOST if lost else answer)))
    for finish in pending:
        finish()
    assert check_mutex(tape.history()).status == "valid"
