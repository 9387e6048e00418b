"""A client that repeats a request after a lost reply succeeds, and nobody else profits from that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lockproof.fakes.drivers.memory_backend import once
from lockproof.suites.meta.gateway_bed import Bed, id_only, lock_body, running
from tofu_databricks.errors import Unavailable
from tofu_databricks.gateway.memory import REMEMBERED_IDS, REMEMBERED_WORKSPACES, Memory
from tofu_databricks.lockinfo import LockInfo

STATE = b'{"version":4,"serial":1}\n'
LOST = Unavailable("the reply was lost", definite=False)


@pytest.fixture(scope="module")
def server() -> Iterator[Bed]:
    with running() as opened:
        yield opened


@pytest.fixture
def bed(server: Bed) -> Bed:
    server.renew()
    return server


def test_a_lock_whose_reply_was_lost_is_granted_again(bed: Bed) -> None:
    """LOCK applied, 503, LOCK again: 200, not a refusal by the client's own lock."""
    bed.backend.after["lock"] = once(LOST)
    assert bed.wire.lock("a").status_code == 503
    assert bed.backend.locks["default"].ID == "a"
    assert bed.wire.lock("a").status_code == 200
    assert bed.wire.lock("b").status_code == 423


def test_an_unlock_whose_reply_was_lost_succeeds_again(bed: Bed) -> None:
    """UNLOCK applied, 503, UNLOCK again: 200, though nothing is locked any more."""
    bed.wire.lock("a")
    bed.backend.after["unlock"] = once(LOST)
    assert bed.wire.unlock("a").status_code == 503
    assert not bed.backend.locks
    assert bed.wire.unlock("a").status_code == 200


def test_an_unlock_that_was_answered_can_be_repeated(bed: Bed) -> None:
    """UNLOCK, 200 that got lost on the way, UNLOCK again: 200."""
    bed.wire.lock("a")
    assert bed.wire.unlock("a").status_code == 200
    assert bed.wire.unlock("a").status_code == 200


def test_a_forced_unlock_can_be_repeated(bed: Bed) -> None:
    """An UNLOCK without a body succeeds again until the lock is taken anew."""
    bed.wire.lock("a")
    assert bed.wire.send("UNLOCK").status_code == 200
    assert bed.wire.send("UNLOCK").status_code == 200
    bed.wire.lock("b")
    bed.wire.unlock("b")
    assert bed.wire.send("UNLOCK").status_code == 409


def test_a_repeated_unlock_does_not_release_the_next_holder(bed: Bed) -> None:
    """Once another holds the lock, the old ID is refused and the new holder keeps it."""
    bed.wire.lock("a")
    bed.wire.unlock("a")
    bed.wire.lock("b")
    assert bed.wire.unlock("a").status_code == 409
    assert bed.backend.locks["default"].ID == "b"


def test_an_unknown_release_of_a_stranger_stays_refused(bed: Bed) -> None:
    """An ID never granted here is refused even after an attempt with unknown outcome."""
    bed.backend.before["unlock"] = once(LOST)
    assert bed.wire.unlock("stranger").status_code == 503
    assert bed.wire.unlock("stranger").status_code == 409


@pytest.mark.parametrize("body", [id_only("a"), b""], ids=["id alone", "empty"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_forced_unlock_whose_reply_was_lost_succeeds_again(bed: Bed, body: bytes, when: str) -> None:
    """A lock of another process, UNLOCK by force, 503, UNLOCK again: 200, whether or not it took effect."""
    bed.backend.locks["default"] = LockInfo(ID="a")
    getattr(bed.backend, when)["unlock"] = once(LOST)
    assert bed.wire.send("UNLOCK", body).status_code == 503
    assert bed.wire.send("UNLOCK", body).status_code == 200
    assert not bed.backend.locks


def test_a_forced_unlock_in_doubt_is_no_release_of_the_next_holder(bed: Bed) -> None:
    """When another holds the lock by the time of the repeat, it keeps it."""
    bed.backend.locks["default"] = LockInfo(ID="a")
    bed.backend.after["unlock"] = once(LOST)
    assert bed.wire.send("UNLOCK", id_only("a")).status_code == 503
    bed.backend.locks["default"] = LockInfo(ID="b")
    assert bed.wire.send("UNLOCK", id_only("a")).status_code == 409
    assert bed.backend.locks["default"].ID == "b"


@pytest.mark.parametrize("body", [id_only("a"), b""], ids=["id alone", "empty"])
def test_a_holder_whose_lock_was_forced_learns_it(bed: Bed, body: bytes) -> None:
    """After somebody's force-unlock the holder's own UNLOCK is 409: it lost the lock."""
    bed.wire.lock("a")
    assert bed.wire.send("UNLOCK", body).status_code == 200
    assert bed.wire.unlock("a").status_code == 409


def test_a_write_whose_reply_was_lost_is_accepted_again(bed: Bed) -> None:
    """POST applied, 503, POST again: 200, stored once more."""
    bed.wire.lock("a")
    bed.backend.after["put"] = once(LOST)
    assert bed.wire.send("POST", STATE, lock_id="a").status_code == 503
    assert bed.wire.send("POST", STATE, lock_id="a").status_code == 200
    assert bed.backend.states["default"] == STATE


def test_a_repeated_write_is_accepted_after_the_lock_was_lost(bed: Bed) -> None:
    """The last write accepted, sent again when its lock is gone, is true and so is 200."""
    bed.wire.lock("a")
    assert bed.wire.send("POST", STATE, lock_id="a").status_code == 200
    bed.wire.send("UNLOCK")
    assert bed.wire.send("POST", STATE, lock_id="a").status_code == 200


def test_a_write_that_took_effect_unseen_is_accepted_after_the_lock_was_lost(bed: Bed) -> None:
    """POST applied, 503, the lock lost meanwhile, POST again: 200, as the state is what was sent."""
    bed.wire.lock("a")
    bed.backend.after["put"] = once(LOST)
    assert bed.wire.send("POST", STATE, lock_id="a").status_code == 503
    bed.wire.send("UNLOCK")
    assert bed.wire.send("POST", STATE, lock_id="a").status_code == 200
    bed.backend.states.clear()
    assert bed.wire.send("POST", STATE, lock_id="a").status_code == 409


def test_a_repeated_write_is_refused_once_the_state_moved_on(bed: Bed) -> None:
    """The same write is 409 when another was accepted since, through this gateway or past it."""
    bed.wire.lock("a")
    bed.wire.send("POST", STATE, lock_id="a")
    bed.wire.send("UNLOCK")
    bed.backend.states["default"] = b"newer, past this gateway"
    assert bed.wire.send("POST", STATE, lock_id="a").status_code == 409
    bed.wire.lock("b")
    bed.wire.send("POST", STATE, lock_id="b")
    assert bed.wire.send("POST", STATE, lock_id="a").status_code == 409


def test_other_content_is_no_repeat(bed: Bed) -> None:
    """Another content under the lost lock is 409."""
    bed.wire.lock("a")
    bed.wire.send("POST", STATE, lock_id="a")
    bed.wire.send("UNLOCK")
    assert bed.wire.send("POST", STATE + b" ", lock_id="a").status_code == 409
    assert bed.backend.states["default"] == STATE


def test_after_a_restart_repeats_are_refused_and_states_unharmed() -> None:
    """A new gateway knows nothing of the old one's releases: it refuses, which is safe."""
    with running() as first:
        first.wire.lock("a")
        first.wire.send("POST", STATE, lock_id="a")
        first.wire.unlock("a")
    with running(first.backend) as second:
        assert second.wire.unlock("a").status_code == 409
        assert second.wire.send("POST", STATE, lock_id="a").status_code == 409
        assert second.wire.lock("b").status_code == 200
        assert second.wire.send("GET").content == STATE


def test_after_a_restart_a_lock_is_still_its_holders() -> None:
    """The holder repeats its LOCK, writes and unlocks through a new gateway."""
    with running() as first:
        first.wire.lock("a")
    with running(first.backend) as second:
        assert second.wire.lock("a").status_code == 200
        assert second.wire.send("POST", STATE, lock_id="a").status_code == 200
        assert second.wire.unlock("a").status_code == 200


def test_a_holder_that_vanishes_makes_room(bed: Bed) -> None:
    """A refusal whose holder is gone when looked at leads to another attempt."""

    def vanish() -> None:
        bed.backend.locks.clear()

    bed.backend.locks["default"] = LockInfo(ID="gone")
    bed.backend.hide_holder = True
    bed.backend.before["holder"] = vanish
    assert bed.wire.lock("a").status_code == 200
    assert bed.backend.locks["default"].ID == "a"


def test_a_refusal_in_doubt_is_sent_again(bed: Bed) -> None:
    """A refused LOCK of which an earlier attempt may yet be granted is 503, so that the client asks again."""
    bed.backend.locks["default"] = LockInfo(ID="other")
    bed.backend.doubtful = True
    assert bed.wire.lock("a").status_code == 503


def test_the_memory_is_bounded() -> None:
    """Old IDs and old workspaces are forgotten."""
    memory = Memory()
    for n in range(REMEMBERED_IDS + 1):
        memory.lock_released("default", f"id-{n}", b"")
    assert not memory.is_repeated_unlock("default", "id-0", b"")
    assert memory.is_repeated_unlock("default", f"id-{REMEMBERED_IDS}", b"")
    for n in range(REMEMBERED_WORKSPACES):
        memory.lock_granted(f"ws-{n}", "id")
    assert len(memory.workspaces) == REMEMBERED_WORKSPACES


def test_a_lock_taken_again_under_the_same_id_is_held(bed: Bed) -> None:
    """The same ID locked anew after its release is a lock like any other: its unlock releases it."""
    for _ in range(2):
        assert bed.wire.send("LOCK", lock_body("a")).status_code == 200
        assert bed.wire.unlock("a").status_code == 200
        assert not bed.backend.locks
