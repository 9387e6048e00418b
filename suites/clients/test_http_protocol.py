"""The HTTP backend protocol as stock clients need it, and as their retries need it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import pytest

from lockproof.driver import LockInfo
from lockproof.driver.command_line import HasCommandLine
from lockproof.driver.recorder import RecordedScope
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.clients.protocol_requests import (
    ABSENT,
    Wire,
    holder_in,
    id_only,
    is_final,
    is_time,
    wire_to,
)


@pytest.fixture
def wire(scope: RecordedScope) -> Iterator[Wire]:
    assert isinstance(scope.scope, HasCommandLine), "the capability http needs Scope.command_line"
    with wire_to(scope.scope.command_line("default")) as opened:
        yield opened


@requirement("HTTP-READ-001")
def test_a_read_gives_the_state_or_says_that_there_is_none(wire: Wire) -> None:
    """A read answers 404, 204 or nothing before the first write, and 200 with its bytes after."""
    assert wire.read() == ABSENT
    state = tofu_bytes(document())
    assert wire.write(state) in {200, 201, 204}
    assert wire.read() == state


@reported("terraform#32731", "terraform#24297")
@requirement("HTTP-LOCK-001", "HTTP-UNLOCK-001")
def test_a_free_lock_is_granted_and_released_with_200(wire: Wire) -> None:
    """LOCK of a free state and UNLOCK by its holder answer 200: no other status will do."""
    for _ in range(2):
        info = LockInfo.new("alice")
        assert wire.lock(info).status_code == 200
        assert wire.unlock(info) == 200


@reported("terraform-backend#29", "opentofu#2004")
@requirement("HTTP-LOCK-002")
def test_a_held_lock_is_refused_with_its_holder(wire: Wire) -> None:
    """LOCK of a held state answers 423 or 409 with the holder's lock info, readable for a client."""
    alice = LockInfo.new("alice")
    wire.lock(alice)
    refused = wire.lock(LockInfo.new("bob"))
    assert refused.status_code in {409, 423}
    holder = holder_in(refused)
    assert (holder.ID, holder.Who, holder.Operation) == (alice.ID, alice.Who, alice.Operation)
    assert is_time(holder.Created), f"a client cannot read Created {holder.Created!r} and drops the holder"


@reported("http-reply-lost")
@requirement("HTTP-LOCK-003")
def test_a_repeated_lock_succeeds(wire: Wire) -> None:
    """LOCK sent again by its holder answers 200: a client repeats it after a lost reply."""
    alice = LockInfo.new("alice")
    assert wire.lock(alice).status_code == 200
    assert wire.lock(alice).status_code == 200
    assert wire.unlock(alice) == 200
    assert wire.held_by() is None


@reported("terraform#28421", "opentofu#2027")
@requirement("HTTP-UNLOCK-002")
def test_an_unlock_with_the_id_alone_releases(wire: Wire) -> None:
    """UNLOCK with nothing but the holder's ID, OpenTofu's force-unlock, answers 200 and releases."""
    alice = LockInfo.new("alice")
    wire.lock(alice)
    assert wire.unlock(id_only(alice.ID)) == 200
    assert wire.held_by() is None


@reported("terraform#28421", "opentofu#2027")
@requirement("HTTP-UNLOCK-003")
def test_an_unlock_without_a_body_releases(wire: Wire) -> None:
    """UNLOCK with an empty body, terraform's force-unlock up to 1.11, answers 200 and releases."""
    wire.lock(LockInfo.new("alice"))
    assert wire.unlock(None) == 200
    assert wire.held_by() is None


@reported("terraform-backend#25", "terraform-backend#41")
@needs("http")
@requirement("HTTP-UNLOCK-004")
def test_an_unlock_with_another_id_is_refused(wire: Wire) -> None:
    """UNLOCK with an ID that does not hold the lock is refused for good, and the holder keeps it."""
    alice = LockInfo.new("alice")
    wire.lock(alice)
    for stranger in (LockInfo.new("bob"), id_only("3f0c5a52-0000-4000-8000-000000000000")):
        status = wire.unlock(stranger)
        assert is_final(status), status
        holder = wire.held_by()
        assert holder is not None
        assert holder.ID == alice.ID


@reported("http-reply-lost")
@requirement("HTTP-UNLOCK-005")
def test_a_repeated_unlock_succeeds(wire: Wire) -> None:
    """UNLOCK sent again by the holder that was is answered 200: a client repeats it after a lost reply."""
    alice = LockInfo.new("alice")
    wire.lock(alice)
    assert wire.unlock(alice) == 200
    assert wire.unlock(alice) == 200
    assert wire.held_by() is None


@requirement("HTTP-WRITE-001")
def test_the_holder_can_write(wire: Wire) -> None:
    """A write with the ID of the lock held answers 200, 201 or 204 and is read back."""
    alice = LockInfo.new("alice")
    wire.lock(alice)
    for _ in range(2):
        state = tofu_bytes(document())
        assert wire.write(state, alice.ID) in {200, 201, 204}
        assert wire.read() == state


@needs("http")
@requirement("HTTP-WRITE-002")
def test_a_write_with_a_stale_id_is_refused(wire: Wire) -> None:
    """A write with the ID of a lock that another holds by now is refused for good and changes nothing."""
    alice, bob = LockInfo.new("alice"), LockInfo.new("bob")
    wire.lock(alice)
    state = tofu_bytes(document())
    wire.write(state, alice.ID)
    wire.unlock(id_only(alice.ID))
    wire.lock(bob)
    status = wire.write(tofu_bytes(document()), alice.ID)
    assert is_final(status), status
    assert wire.read() == state


@requirement("HTTP-WRITE-003")
def test_a_repeated_write_succeeds(wire: Wire) -> None:
    """The same write sent again under the same lock succeeds: a client repeats it after a lost reply."""
    alice = LockInfo.new("alice")
    wire.lock(alice)
    state = tofu_bytes(document())
    assert wire.write(state, alice.ID) in {200, 201, 204}
    assert wire.write(state, alice.ID) in {200, 201, 204}
    assert wire.read() == state


@requirement("HTTP-WRITE-004")
def test_a_write_without_an_id_is_refused_while_locked(wire: Wire) -> None:
    """A write that shows no lock ID is refused for good while somebody holds the lock."""
    alice = LockInfo.new("alice")
    wire.lock(alice)
    state = tofu_bytes(document())
    wire.write(state, alice.ID)
    status = wire.write(tofu_bytes(document()))
    assert is_final(status), status
    assert wire.read() == state


@requirement("HTTP-WRITE-005")
def test_a_damaged_write_is_refused(wire: Wire) -> None:
    """A body that does not have the digest in Content-MD5 is refused and changes nothing."""
    state = tofu_bytes(document())
    wire.write(state)
    other = base64.b64encode(hashlib.md5(b"another body", usedforsecurity=False).digest()).decode()
    status = wire.write(tofu_bytes(document()), md5=other)
    assert is_final(status), status
    assert wire.read() == state


@requirement("HTTP-WRITE-006")
def test_a_write_that_breaks_off_changes_nothing(wire: Wire) -> None:
    """A write whose client leaves in the middle of the body is no success, and the old state stays whole."""
    state = tofu_bytes(document())
    wire.write(state)
    for chunked in (False, True):
        status = wire.break_off(tofu_bytes(document()), chunked=chunked)
        assert status is None or status >= 400, status
        assert wire.read() == state


@needs("http")
@requirement("HTTP-DELETE-001")
def test_a_delete_purges_the_state(wire: Wire) -> None:
    """DELETE answers 200, after which there is no state."""
    wire.write(tofu_bytes(document()))
    assert wire.purge() == 200
    assert wire.read() == ABSENT
