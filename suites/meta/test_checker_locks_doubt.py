"""The lock checker where answers leave something open: no holder named, ids that are lost or come again."""

from __future__ import annotations

import pytest

from lockproof.checkers import check, check_mutex
from lockproof.checkers.mutex import SEARCHED, MutexMonitor
from lockproof.history.event import pair
from lockproof.suites.meta.judged import require_violated
from lockproof.suites.meta.tape import LOST, Tape, info


def test_a_bare_refusal_of_a_lock_that_nobody_can_hold_is_a_violation() -> None:
    """A refusal without a holder still needs somebody who may hold."""
    tape = Tape()
    tape.lock("a")
    tape.unlock("id-a")
    tape.refused("b", None)
    require_violated(tape.history(), "refused while free", 4, 5)


def test_a_bare_refusal_is_explained_by_whoever_may_hold_beside_it() -> None:
    """A release or a grant that overlaps a refusal without a holder explains it."""
    tape = Tape()
    tape.lock("a")
    end_release = tape.begin("unlock", lock_id="id-a")
    tape.refused("b", None)
    end_release()
    end_lock = tape.begin("lock", info=info("c"))
    tape.refused("d", None)
    end_lock("ok", "id-c")
    assert check(tape.history()).status == "valid"


def test_a_lost_request_explains_a_bare_refusal_only_if_nobody_holds_after_it() -> None:
    """A lost lock that nobody ever releases cannot have held before another's grant."""
    tape = Tape()
    tape.lost_lock("a")
    tape.refused("b", None)
    assert check(tape.history()).status == "valid"
    tape.lock("c")
    tape.unlock("id-c")
    require_violated(tape.history(), "refused while free", 2, 3)


def test_a_bare_refusal_that_one_guess_cannot_explain_is_left_to_the_search() -> None:
    """When the first guess at who held contradicts the rest, small histories are searched."""
    tape = Tape()
    tape.lost_lock("a")
    tape.begin("unlock", lock_id="id-a")(**LOST)
    tape.lost_lock("b")
    tape.begin("unlock", lock_id="id-b")(**LOST)
    for _ in range(2):
        tape.refused("c", None)
        tape.lock("d")
        tape.unlock("id-d")
        tape.refused("c", None)
    assert check_mutex(tape.history()).status != "unknown"


def test_a_bare_refusal_that_all_who_may_have_held_contradict_is_a_violation() -> None:
    """The only one that can have held was told, a moment later, that it did not."""
    tape = Tape()
    end_lock = tape.begin("lock", info=info("a"))
    tape.refused("b", None)
    tape.denied("id-a")
    end_lock("ok", "id-a")
    assert check(tape.history()).status == "violated"


def test_of_two_lost_requests_the_one_that_fits_explains_a_bare_refusal() -> None:
    """In a history too long to search, a guess that contradicts a certain holder is not made."""
    tape = Tape()
    for n in range(SEARCHED // 2):
        tape.lock(str(n))
        tape.unlock(f"id-{n}")
    tape.lost_lock("a")
    tape.lost_lock("b")
    tape.refused("c", None)
    tape.begin("unlock", lock_id="id-a")(**LOST)
    tape.lock("d")
    tape.unlock("id-d")
    tape.begin("unlock", lock_id="id-b")(**LOST)
    assert check_mutex(tape.history()).status == "valid"


@pytest.mark.parametrize("kind", ["lock_mismatch", "not_locked"])
def test_a_release_refused_beside_its_own_session_is_valid(kind: str) -> None:
    """Refused before the lock was surely taken, or after it was perhaps released: both are sound."""
    tape = Tape()
    end_lock = tape.begin("lock", info=info("a"))
    tape.denied("id-a", kind)
    end_lock("ok", "id-a")
    end_release = tape.begin("unlock", lock_id="id-a")
    tape.denied("id-a", kind)
    end_release()
    assert check(tape.history()).status == "valid"


def test_a_release_refused_with_its_own_id_as_the_holder_contradicts_itself() -> None:
    """Nobody is refused for not holding, and named as the holder, at one instant."""
    tape = Tape()
    end_lock = tape.begin("lock", info=info("a"))
    tape.begin("unlock", lock_id="id-a")("fail", kind="lock_mismatch", definite=True, holder=info("a"))
    end_lock("ok", "id-a")
    require_violated(tape.history(), "holder refused", 1, 2)


def test_a_lost_reply_with_a_backend_chosen_id_is_matched_by_its_token() -> None:
    """After a lost reply, the refusal that names token and id shows who holds, and the id releases it."""
    tape = Tape()
    tape.lost_lock("a")
    tape.refused("b", "a", holder_id="41")
    tape.unlock("41")
    tape.lock("b", out="42")
    assert check(tape.history()).status == "valid"
    tape.refused("c", "a", holder_id="41")
    require_violated(tape.history(), "seen after unlock", 5, 8, 9)


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


def test_what_only_a_search_can_tell_is_unknown_in_a_long_history_with_the_reason() -> None:
    """A repeated request leaves a long history undecided; a violation of others in it stays certain."""
    tape = Tape()
    for _ in range(2):
        tape.lock("a")
        tape.unlock("id-a")
    for n in range(SEARCHED // 2):
        tape.lock(str(n))
        tape.unlock(f"id-{n}")
    verdict = check_mutex(tape.history())
    assert verdict.status == "unknown"
    assert "'id-a' was requested again after its release" in verdict.headline
    assert "too many to search" in verdict.headline
    tape.lock("b")
    tape.lock("c")
    require_violated(tape.history(), "two holders")


def test_one_id_of_two_requests_is_told_apart_by_the_search() -> None:
    """Two requests that chose the same id may have it one after the other, not at once."""
    tape = Tape()
    first, second = ({**info("a"), "Info": token} for token in ("one", "two"))
    tape.begin("lock", info=first)("ok", "id-a")
    tape.unlock("id-a")
    tape.begin("lock", info=second)("ok", "id-a")
    assert check(tape.history()).status == "valid"
    tape.begin("lock", info=info("c"))("fail", kind="locked", definite=True, holder=first)
    assert check(tape.history()).status == "violated"


def lost_and_forced() -> Tape:
    """A lock whose reply with the chosen id was lost, seen by its id alone, forced, and taken by another."""
    tape = Tape()
    tape.lost_lock("a")
    tape.begin("lock", info=info("b"))("fail", kind="locked", definite=True, holder={"ID": "41"})
    tape.unlock("41")
    tape.lock("b", out="42")
    return tape


def test_a_chosen_id_that_was_lost_with_a_reply_and_is_named_alone_is_no_phantom() -> None:
    """Who holds under an id that nobody was told is the request that was never answered."""
    tape = lost_and_forced()
    assert check(tape.history()).status == "valid"
    tape.lock("c", out="43")
    assert check(tape.history()).status == "violated"


def test_an_id_named_alone_is_a_phantom_when_no_request_can_have_got_it() -> None:
    """An unanswered request that came later, or whose id is known, does not excuse a stranger's id."""
    tape = Tape()
    tape.lost_lock("a")
    tape.refused("b", "a", holder_id="40")
    tape.begin("lock", info=info("b"))("fail", kind="locked", definite=True, holder={"ID": "41"})
    tape.lost_lock("c")
    require_violated(tape.history(), "phantom holder", 4)


def test_whose_a_lost_id_was_is_unknown_in_a_long_history_with_the_reason() -> None:
    """Too long to search, a history with an id lost and named alone is undecided, however it is fed."""
    tape = lost_and_forced()
    tape.unlock("42")
    for n in range(SEARCHED // 2):
        tape.lock(str(n))
        tape.refused(f"no-{n}", str(n))
        tape.unlock(f"id-{n}")
    verdict = check_mutex(tape.history())
    assert verdict.status == "unknown"
    assert "whose lock '41' is was lost with a reply" in verdict.headline
    monitor = MutexMonitor(settle_every=5)
    for op in pair(tape.events):
        monitor.add(op)
    assert monitor.verdict(closed=True) == verdict


def test_a_release_refused_with_its_own_id_contradicts_itself_whatever_the_token() -> None:
    """A token that nobody asked with does not make another holder of the id that was refused."""
    tape = Tape()
    tape.lost_lock("a")
    holder = {"ID": "id-a", "Info": "elsewhere"}
    tape.begin("unlock", lock_id="id-a")("fail", kind="lock_mismatch", definite=True, holder=holder)
    require_violated(tape.history(), "holder refused", 2, 3)


def test_a_holder_with_a_strange_token_is_found_by_its_id() -> None:
    """A backend may change `Info`, but not name the token of a request that it refused."""
    tape = Tape()
    tape.lock("a")
    changed = {"ID": "id-a", "Info": "changed"}
    tape.begin("lock", info=info("b"))("fail", kind="locked", definite=True, holder=changed)
    assert check(tape.history()).status == "valid"
    refused = {**info("b"), "ID": "id-a"}
    tape.begin("lock", info=info("c"))("fail", kind="locked", definite=True, holder=refused)
    assert check(tape.history()).status == "violated"


def test_a_request_sent_again_under_the_id_of_another_is_judged_by_the_search() -> None:
    """Released was perhaps the first sending, whose reply was lost, and not the other request's id."""
    tape = Tape()
    first, second = ({**info("a"), "Info": token} for token in ("one", "two"))
    end_release = tape.begin("unlock", lock_id="id-a")
    end_lost = tape.begin("lock", info=first)
    end_release()
    tape.begin("lock", info=first)("ok", "own")
    tape.begin("lock", info=second)(**LOST)
    end_lost(**LOST)
    assert check(tape.history()).status == "valid"
    tape.lock("c")
    assert check(tape.history()).status == "violated"


@pytest.mark.parametrize("settle_every", [1, 2, 3, 4, 5])
def test_a_request_sent_again_and_seen_before_its_reply_is_no_second_holder_in_a_stream(
    settle_every: int,
) -> None:
    """After a lost release another holds, and then the first request, sent again, that is still open."""
    tape = Tape()
    tape.lock("a")
    tape.begin("unlock", lock_id="id-a")(**LOST)
    tape.lock("b")
    tape.unlock("id-b")
    end_again = tape.begin("lock", info=info("a"))
    tape.refused("c", "a")
    tape.refused("d", "a")
    end_again("ok", "id-a")
    monitor = MutexMonitor(settle_every=settle_every)
    for op in pair(tape.events):
        monitor.add(op)
    assert monitor.verdict(closed=True).status == check_mutex(tape.history()).status == "valid"
