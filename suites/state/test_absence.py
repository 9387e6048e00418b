"""No state, an empty state, a deleted state: three things that a backend must not mix up."""

import pytest

from lockproof.driver.recorder import RecordedClient
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.outcome import Violation
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import refused, require_absent, require_stored, successive


@requirement("STATE-ABS-001")
def test_unwritten_state_is_absent(alice: RecordedClient) -> None:
    """The default workspace of a fresh backend has no state."""
    require_absent(alice)


@requirement("STATE-ABS-001")
@needs("workspaces")
def test_unknown_workspace_has_no_state(alice: RecordedClient) -> None:
    """A workspace that nobody made has no state, also beside one that has."""
    alice.put("default", tofu_bytes(document()))
    require_absent(alice, "nowhere")


@requirement("STATE-EMPTY-001")
@pytest.mark.parametrize("before", ["fresh", "written"])
def test_empty_state_is_empty_or_absent(before: str, alice: RecordedClient, bob: RecordedClient) -> None:
    """0 bytes read back as 0 bytes or as no state, not as an error and not as what was there before."""
    older = tofu_bytes(document()) if before == "written" else None
    if older is not None:
        alice.put("default", older)
    if refused(lambda: alice.put("default", b"")):
        if older is None:
            require_absent(bob)
        else:
            require_stored(bob, older)
        return
    snapshot = bob.get("default")
    if snapshot is not None and snapshot.data:
        old = "the older state" if snapshot.data == older else "another state"
        raise Violation(f"after 0 bytes were stored, bob reads {old} of {len(snapshot.data)} bytes")


@requirement("STATE-READ-001")
def test_reading_changes_nothing(alice: RecordedClient, bob: RecordedClient) -> None:
    """A state that was read many times is still the same."""
    data = tofu_bytes(document())
    alice.put("default", data)
    for client in (bob, alice, bob, bob, alice):
        require_stored(client, data)


@reported("azurerm#22518")
@requirement("STATE-READ-001")
@needs("workspaces")
def test_reading_creates_nothing(alice: RecordedClient, bob: RecordedClient) -> None:
    """Reading a workspace that is not there does not make it."""
    alice.get("nowhere")
    alice.get("default")
    names = bob.workspaces()
    assert "nowhere" not in names, f"reading 'nowhere' made it a workspace: {names}"
    assert bob.get("default") is None, "reading the default workspace gave it a state"


@requirement("STATE-DEL-001")
def test_deleted_state_is_absent(alice: RecordedClient, bob: RecordedClient, carol: RecordedClient) -> None:
    """A deleted state is absent for who deleted it, for who wrote it and for everybody else."""
    alice.put("default", tofu_bytes(document()))
    bob.delete("default")
    for client in (bob, alice, carol):
        require_absent(client)


@requirement("STATE-DEL-002")
def test_state_written_after_deletion_is_stored(alice: RecordedClient, bob: RecordedClient) -> None:
    """After a deletion a state is stored as on the first day, also a smaller or the same one."""
    long, short = (tofu_bytes(document(padding="x" * size)) for size in (5000, 5))
    for data in (long, short, long, long):
        alice.put("default", data)
        require_stored(bob, data)
        alice.delete("default")


@requirement("STATE-DEL-003")
def test_deleting_nothing_is_no_error(alice: RecordedClient) -> None:
    """Deleting a state that was never written, or is deleted already, succeeds."""
    alice.delete("default")
    (data,) = successive(1)
    alice.put("default", data)
    alice.delete("default")
    alice.delete("default")
    require_absent(alice)
