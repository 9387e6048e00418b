"""The shortest proof that a backend is worth a longer look."""

import pytest

from lockproof.driver import Locked, LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.spec import requirement, tier
from lockproof.spec.statefile import document, tofu_bytes


@tier("smoke")
@requirement("STATE-RT-001")
def test_state_reads_back_as_written(alice: RecordedClient) -> None:
    """A state reads back byte for byte."""
    data = tofu_bytes(document())
    alice.put("default", data)
    snapshot = alice.get("default")
    assert snapshot is not None
    assert snapshot.data == data


@tier("smoke")
@requirement("LOCK-EXCL-001")
def test_second_client_is_refused(alice: RecordedClient, bob: RecordedClient) -> None:
    """While one client holds the lock, another is refused."""
    alice.lock("default", LockInfo.new("alice"))
    with pytest.raises(Locked):
        bob.lock("default", LockInfo.new("bob"))
