"""All checkers together: the worst verdict, what the backend claims, and how a test ends."""

from __future__ import annotations

import pytest

from lockproof.checkers import check, require_valid
from lockproof.history import History
from lockproof.spec.outcome import Unknown, Violation
from lockproof.suites.meta.judged import require_violated
from lockproof.suites.meta.tape import Tape


def test_a_history_without_footer_is_unknown_unless_violated() -> None:
    """A cut history is never valid; a violation in it stays one."""
    tape = Tape()
    tape.lock("a")
    assert check(tape.history(closed=False)).status == "unknown"
    tape.lock("b")
    assert check(tape.history(closed=False)).status == "violated"


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


def test_the_worst_verdict_is_the_verdict() -> None:
    """A violation of the state counts although the locks are valid, and is named."""
    tape = Tape()
    tape.lock("a")
    tape.put("one", "id-a")
    tape.get("two")
    tape.unlock("id-a")
    require_violated(tape.history(), "torn value", 4, 5)


def test_writes_are_judged_as_the_header_claims() -> None:
    """A write under a released lock is a violation where the history says that fencing is claimed."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    tape.put("v", lock_id="id-a")
    events = tuple(tape.events)
    for capabilities, status in (
        ([], "valid"),
        (["locking"], "valid"),
        (["locking.fencing"], "violated"),
        (["locking.fencing-strict"], "violated"),
    ):
        assert check(History({"v": 1, "capabilities": capabilities}, events, True)).status == status


def test_an_empty_history_is_valid() -> None:
    """Nothing that happened violates nothing."""
    assert check(Tape().history()).status == "valid"
