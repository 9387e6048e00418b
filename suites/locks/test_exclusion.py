"""One lock per workspace, one holder per lock."""

import pytest

from lockproof.driver import Locked, LockInfo
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.locks.asking import grants, take

ZERO_TIME = "0001-01-01T00:00:00Z"  # what OpenTofu sends where no time is set
WORKSPACES = ["default", pytest.param("staging", marks=needs("workspaces"))]


@pytest.fixture
def elsewhere(other_place: RecordedScope) -> RecordedClient:
    """A client of another scope: the same backend, another place for its states."""
    return other_place.client("elsewhere")


@pytest.mark.parametrize("workspace", WORKSPACES)
@requirement("LOCK-EXCL-001")
def test_a_held_lock_is_refused_to_others(
    alice: RecordedClient, bob: RecordedClient, carol: RecordedClient, workspace: str
) -> None:
    """While one client holds the lock of a workspace, all others are refused, again and again."""
    take(alice, workspace)
    for _ in range(2):
        for other in (bob, carol):
            with pytest.raises(Locked):
                take(other, workspace)


@requirement("LOCK-ERR-001")
def test_a_refusal_is_a_lock_error_and_changes_nothing(alice: RecordedClient, bob: RecordedClient) -> None:
    """A refusal is told apart from other failures, and the refused client holds nothing after it."""
    lock_id = take(alice)
    with pytest.raises(Locked):
        take(bob)
    alice.unlock("default", lock_id)
    take(alice)


@reported("terraform#22242")
@needs("locking")
@requirement("LOCK-SCOPE-001")
def test_each_workspace_has_its_own_lock(alice: RecordedClient, bob: RecordedClient) -> None:
    """Locks of different workspaces are held by different clients at the same time."""
    held = {name: take(alice, name) for name in ("default", "staging")}
    other = take(bob, "production")
    bob.unlock("production", other)
    alice.unlock("staging", held["staging"])
    assert not grants(bob, "default"), "releasing one workspace's lock released another's"
    take(bob, "staging")


@reported("terraform#22833", "terraform#29034")
@needs("locking")
@requirement("LOCK-SCOPE-002")
def test_another_state_has_another_lock(alice: RecordedClient, elsewhere: RecordedClient) -> None:
    """The same workspace name at another place is another lock."""
    take(alice)
    take(elsewhere)


@pytest.mark.parametrize("workspace", WORKSPACES)
@needs("state")
@requirement("LOCK-STATE-001")
def test_the_lock_stays_while_the_state_is_written(
    alice: RecordedClient, bob: RecordedClient, workspace: str
) -> None:
    """A lock taken before the first state was written survives the first write and a replacement."""
    lock_id = take(alice, workspace)
    for serial in (1, 2):
        alice.put(workspace, tofu_bytes(document(serial=serial)), lock_id=lock_id)
        assert not grants(bob, workspace)
    alice.unlock(workspace, lock_id)
    take(bob, workspace)


@needs("state.delete")
@requirement("LOCK-STATE-001")
def test_the_lock_stays_while_the_state_is_deleted(alice: RecordedClient, bob: RecordedClient) -> None:
    """Deleting the state, or being refused to, leaves its lock alone."""
    alice.put("default", tofu_bytes(document()))
    lock_id = take(alice)
    try:
        alice.delete("default")
    except Locked:
        alice.note("deleting a locked state is refused")
    assert not grants(bob)
    alice.unlock("default", lock_id)


@reported("terraform#24153", "terraform#18761")
@needs("state")
@requirement("LOCK-READ-001")
def test_a_locked_state_can_be_read(alice: RecordedClient, bob: RecordedClient) -> None:
    """Others read the state while it is locked."""
    data = tofu_bytes(document())
    alice.put("default", data)
    take(alice)
    snapshot = bob.get("default")
    assert snapshot is not None
    assert snapshot.data == data


@needs("state")
@requirement("LOCK-OWN-001")
def test_the_holder_reads_and_writes_under_its_lock(alice: RecordedClient) -> None:
    """The holder replaces the state under its lock, and reads back what it wrote."""
    lock_id = take(alice)
    for serial in (1, 2):
        data = tofu_bytes(document(serial=serial))
        alice.put("default", data, lock_id=lock_id)
        snapshot = alice.get("default")
        assert snapshot is not None
        assert snapshot.data == data
    alice.unlock("default", lock_id)


@requirement("LOCK-INFO-001")
def test_a_request_needs_only_operation_and_info(alice: RecordedClient, bob: RecordedClient) -> None:
    """A request without who, version and path, and with Go's zero time, is granted like any other."""
    full = LockInfo.new("alice")
    bare = LockInfo(ID=full.ID, Operation="OperationTypePlan", Info=full.Info, Created=ZERO_TIME)
    lock_id = alice.lock("default", bare)
    assert not grants(bob)
    alice.unlock("default", lock_id)
