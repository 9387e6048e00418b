"""A writer that lost its lock cannot write."""

import pytest

from lockproof.driver import LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.spec import needs, requirement
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.locks.asking import take, writes

WORKSPACES = ["default", pytest.param("staging", marks=needs("workspaces"))]


@pytest.fixture
def mine() -> bytes:
    """The state that must survive."""
    return tofu_bytes(document(serial=2))


@pytest.fixture
def theirs() -> bytes:
    """The state that must not be stored."""
    return tofu_bytes(document(serial=3))


@pytest.mark.parametrize("workspace", WORKSPACES)
@needs("state", "locking.force-unlock")
@requirement("LOCK-FENCE-001")
def test_a_write_under_a_forced_lock_is_refused(
    alice: RecordedClient, bob: RecordedClient, mine: bytes, theirs: bytes, workspace: str
) -> None:
    """A holder that was forced out cannot overwrite what the new holder wrote."""
    old = take(alice, workspace)
    bob.unlock(workspace, old)
    new = take(bob, workspace)
    bob.put(workspace, mine, lock_id=new)
    assert not writes(alice, theirs, old, workspace), "a write under a lost lock was accepted"
    _require_state(bob, mine, workspace)
    bob.put(workspace, theirs, lock_id=new)
    bob.unlock(workspace, new)


@needs("state")
@requirement("LOCK-FENCE-001")
def test_a_write_under_a_released_lock_is_refused(
    alice: RecordedClient, bob: RecordedClient, mine: bytes, theirs: bytes
) -> None:
    """A lock id is good for writes until its release, not after it, whether the lock is free or not."""
    old = take(alice)
    alice.put("default", mine, lock_id=old)
    alice.unlock("default", old)
    assert not writes(alice, theirs, old), "a write under a released lock was accepted while it was free"
    take(bob)
    assert not writes(alice, theirs, old), "a write under a released lock was accepted while another held"
    _require_state(bob, mine)


@needs("state")
@requirement("LOCK-FENCE-002")
def test_a_write_under_an_invented_id_is_refused(
    alice: RecordedClient, bob: RecordedClient, mine: bytes, theirs: bytes
) -> None:
    """A lock id that was never granted is good for no write, whether the lock is held or free."""
    bob.put("default", mine)
    invented = LockInfo.new("nobody").ID
    assert not writes(bob, theirs, invented), "a write under an invented id was accepted while free"
    take(alice)
    for client in (bob, alice):
        assert not writes(client, theirs, invented), "a write under an invented id was accepted while held"
    _require_state(alice, mine)


def _require_state(client: RecordedClient, data: bytes, workspace: str = "default") -> None:
    snapshot = client.get(workspace)
    assert snapshot is not None
    assert snapshot.data == data
