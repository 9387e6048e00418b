"""What is left of a workspace when it is deleted: nothing."""

import pytest

from lockproof.driver import DriverError, LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.outcome import Violation
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import refused, require_absent, require_stored, successive, with_resource


@requirement("WS-DEFAULT-002")
@pytest.mark.parametrize("force", [False, True], ids=["plain", "force"])
def test_default_cannot_be_deleted(force: bool, alice: RecordedClient, bob: RecordedClient) -> None:
    """Deleting the default workspace is refused, with force too, and its state stays."""
    data = tofu_bytes(document())
    alice.put("default", data)
    if not refused(lambda: alice.delete_workspace("default", force=force)):
        raise Violation("the default workspace was deleted")
    require_stored(bob, data)


@requirement("WS-DEL-001")
def test_deleted_workspace_is_gone(alice: RecordedClient, bob: RecordedClient) -> None:
    """A deleted workspace is listed for nobody and has no state."""
    alice.put("foo", tofu_bytes(document()))
    alice.delete_workspace("foo", force=True)
    for client in (alice, bob):
        assert "foo" not in client.workspaces(), f"{client.who} still lists the deleted workspace"
        require_absent(client, "foo")


@requirement("WS-DEL-002")
def test_workspace_made_again_keeps_what_is_written(alice: RecordedClient, bob: RecordedClient) -> None:
    """A workspace made again after a deletion starts empty and then keeps its own state."""
    for data in successive(4):
        require_absent(bob, "foo")
        alice.put("foo", data)
        require_stored(bob, data, "foo")
        assert "foo" in bob.workspaces(), "the workspace that was made again is not listed"
        alice.delete_workspace("foo", force=True)


@requirement("WS-DEL-003")
def test_force_deletes_a_workspace_with_resources(alice: RecordedClient, bob: RecordedClient) -> None:
    """A workspace whose state tracks a resource is deleted when force is asked for."""
    alice.put("foo", tofu_bytes(with_resource(document())))
    try:
        alice.delete_workspace("foo", force=True)
    except DriverError as error:
        raise Violation(f"deletion by force was refused: {error}") from error
    require_absent(bob, "foo")


@requirement("WS-DEL-004")
@pytest.mark.parametrize("unknown", ["nowhere", "fo"], ids=["other-name", "beginning-of-a-name"])
def test_deleting_an_unknown_workspace_changes_nothing(
    unknown: str, alice: RecordedClient, bob: RecordedClient
) -> None:
    """Deleting what is not there succeeds or is definitely refused, and all else stays as it was."""
    data = tofu_bytes(document())
    alice.put("foo", data)
    answer = "refused" if refused(lambda: alice.delete_workspace(unknown, force=True)) else "accepted"
    alice.note(f"deletion of an unknown workspace: {answer}")
    assert set(bob.workspaces()) == {"default", "foo"}
    require_stored(bob, data, "foo")
    require_absent(bob, unknown)


@reported("terraform#18329", "terraform#22941", "terraform#23730")
@requirement("WS-DEL-005")
@needs("locking")
def test_workspace_made_again_can_be_locked(alice: RecordedClient, bob: RecordedClient) -> None:
    """After lock, release and deletion, another client locks, writes and releases the same name."""
    for client, data in zip((alice, bob, alice), successive(3), strict=True):
        try:
            lock_id = client.lock("foo", LockInfo.new(client.who, path="foo"))
        except DriverError as error:
            raise Violation(f"the workspace cannot be locked any more: {error}") from error
        assert lock_id, "the lock of the workspace that was made again has no id"
        client.put("foo", data, lock_id=lock_id)
        client.unlock("foo", lock_id)
        client.delete_workspace("foo", force=True)
