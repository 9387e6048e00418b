"""Lock ids, release, and force-unlock."""

import pytest

from lockproof.driver import Locked, LockInfo
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.suites.locks.asking import grants, holder_seen_by, releases, take

WORKSPACES = ["default", pytest.param("staging", marks=needs("workspaces"))]
TIMES = 100


@reported("terraform#19296")
@requirement("LOCK-ID-001")
def test_a_lock_has_an_id(alice: RecordedClient) -> None:
    """The id that `lock` returns is not empty."""
    assert take(alice) != ""


@requirement("LOCK-ID-002")
def test_no_two_acquisitions_share_an_id(scope: RecordedScope) -> None:
    """Ids differ between clients, between acquisitions of one client, and between held locks."""
    clients = [scope.client(f"client-{n}") for n in range(3)]
    seen: list[str] = []
    for _ in range(4):
        for client in clients:
            seen.append(take(client))
            client.unlock("default", seen[-1])
    assert len(set(seen)) == len(seen), f"an id was given twice: {sorted(seen)}"


@reported("terraform#13445")
@pytest.mark.parametrize("workspace", WORKSPACES)
@requirement("LOCK-REL-001")
def test_a_released_lock_can_be_taken_at_once(
    alice: RecordedClient, bob: RecordedClient, workspace: str
) -> None:
    """After a release the lock is free for others and for the same client, and leaves no residue."""
    for client in (alice, bob, bob, alice):
        client.unlock(workspace, take(client, workspace))


@reported("terraform#27218")
@requirement("LOCK-REL-004")
def test_a_lock_can_be_taken_and_released_a_hundred_times(alice: RecordedClient) -> None:
    """Every one of a hundred locks of one client is granted and released."""
    for _ in range(TIMES):
        alice.unlock("default", take(alice))


@reported("opentofu#1852", "opentofu#1026", "terraform-backend#25")
@requirement("LOCK-REL-002")
def test_a_release_with_an_invented_id_is_refused(alice: RecordedClient, bob: RecordedClient) -> None:
    """An id that was never granted releases nothing, whether the lock is held or free."""
    invented = LockInfo.new("nobody").ID
    assert not releases(bob, invented), "a lock that nobody holds was released"
    lock_id = take(alice)
    for client in (bob, alice):
        assert not releases(client, invented), "an invented id was accepted"
        assert not grants(bob), "an invented id released the lock"
    alice.unlock("default", lock_id)


@reported("terraform-backend#41")
@requirement("LOCK-REL-003")
def test_a_release_with_an_old_id_is_refused_while_another_holds(
    alice: RecordedClient, bob: RecordedClient, carol: RecordedClient
) -> None:
    """The id of an earlier acquisition does not release the present one."""
    old = take(alice)
    alice.unlock("default", old)
    lock_id = take(bob)
    for client in (alice, bob):
        assert not releases(client, old), "the id of an earlier acquisition was accepted"
        assert not grants(carol), "the id of an earlier acquisition released the lock"
    bob.unlock("default", lock_id)


@requirement("LOCK-IDEM-001")
def test_a_repeated_release_admits_nobody_more(
    alice: RecordedClient, bob: RecordedClient, carol: RecordedClient
) -> None:
    """Releasing twice may succeed or be refused; afterwards still only one client gets the lock."""
    lock_id = take(alice)
    alice.unlock("default", lock_id)
    answer = "succeeds" if releases(alice, lock_id) else "is refused"
    alice.note(f"a repeated release {answer}")
    take(bob)
    assert not grants(carol), "a repeated release let a second client in"


@requirement("LOCK-IDEM-002")
def test_a_repeated_request_is_no_second_acquisition(alice: RecordedClient, bob: RecordedClient) -> None:
    """The same request again may succeed or be refused; it stays one lock, under one id."""
    asked = LockInfo.new("alice")
    lock_id = alice.lock("default", asked)
    assert _again(alice, asked) in {lock_id, None}, "a repeated request was granted under another id"
    assert not grants(bob), "a repeated request let a second client in"
    alice.unlock("default", lock_id)


@requirement("LOCK-IDEM-003")
def test_one_release_ends_a_repeated_request(alice: RecordedClient, bob: RecordedClient) -> None:
    """A request that was sent again, as after a lost reply, is ended by one release."""
    asked = LockInfo.new("alice")
    lock_id = alice.lock("default", asked)
    _again(alice, asked)
    alice.unlock("default", lock_id)
    assert grants(bob), "one release does not end a request that was repeated"


def _again(client: RecordedClient, asked: LockInfo) -> str | None:
    """Sends a request again: the id when it succeeds, `None` when it is refused. Both are sound."""
    try:
        lock_id = client.lock("default", asked)
    except Locked:
        client.note("a repeated request is refused")
        return None
    client.note("a repeated request succeeds")
    return lock_id


@reported(
    "terraform#17046",
    "azurerm#640",
    "terraform#28374",
    "terraform#26561",
    "opentofu#1617",
    "opentofu#1625",
    "terraform#15545",
)
@pytest.mark.parametrize("workspace", WORKSPACES)
@needs("locking.holder-info")
@requirement("LOCK-FORCE-001")
def test_another_client_forces_the_lock_by_the_id_in_its_refusal(
    alice: RecordedClient, bob: RecordedClient, carol: RecordedClient, workspace: str
) -> None:
    """A refused client releases the lock with the id that its refusal named; then the lock is free."""
    take(alice, workspace)
    bob.unlock(workspace, holder_seen_by(bob, workspace).ID)
    take(carol, workspace)
    assert not grants(bob, workspace)


@needs("locking.release-nonce")
@requirement("LOCK-FORCE-002")
def test_a_holder_that_was_forced_out_learns_it_and_harms_nobody(
    alice: RecordedClient, bob: RecordedClient, carol: RecordedClient
) -> None:
    """When its lock was forced and taken by another, a holder's release is refused and changes nothing."""
    lock_id = take(alice)
    bob.unlock("default", lock_id)
    new_id = take(bob)
    assert not releases(alice, lock_id), "the release of a lock that was forced was accepted"
    assert not grants(carol), "the old holder released the new holder's lock"
    bob.unlock("default", new_id)
