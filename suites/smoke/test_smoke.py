"""The shortest proof that a backend is worth a longer look: every call once."""

import pytest

from lockproof.driver import Locked, LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.spec import requirement, tier
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import require_absent, require_stored


@tier("smoke")
@requirement("STATE-ABS-001", "STATE-RT-001")
def test_state_is_absent_then_reads_back(alice: RecordedClient, bob: RecordedClient) -> None:
    """There is no state at first; what is then written reads back byte for byte."""
    require_absent(alice)
    data = tofu_bytes(document())
    alice.put("default", data)
    require_stored(alice, data)
    require_stored(bob, data)


@tier("smoke")
@requirement("STATE-DEL-001")
def test_deleted_state_reads_as_absent(alice: RecordedClient, bob: RecordedClient) -> None:
    """A deleted state is gone."""
    alice.put("default", tofu_bytes(document()))
    alice.delete("default")
    require_absent(bob)


@tier("smoke")
@requirement("LOCK-EXCL-001", "LOCK-REL-001", "LOCK-ID-002")
def test_second_client_is_refused_until_the_release(alice: RecordedClient, bob: RecordedClient) -> None:
    """While one client holds the lock another is refused; after the release it gets the lock."""
    first = alice.lock("default", LockInfo.new("alice"))
    with pytest.raises(Locked):
        bob.lock("default", LockInfo.new("bob"))
    alice.unlock("default", first)
    second = bob.lock("default", LockInfo.new("bob"))
    bob.unlock("default", second)
    assert first != second


@tier("smoke")
@requirement("WS-CREATE-001", "WS-DEL-001")
def test_workspace_comes_and_goes(alice: RecordedClient, bob: RecordedClient) -> None:
    """A named workspace is listed from its first state until its deletion."""
    data = tofu_bytes(document())
    alice.put("foo", data)
    assert sorted(bob.workspaces()) == ["default", "foo"]
    require_stored(bob, data, "foo")
    alice.delete_workspace("foo", force=True)
    assert list(bob.workspaces()) == ["default"]
