"""Which workspaces there are."""

from lockproof.driver import LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import successive

MANY = 12


@requirement("WS-DEFAULT-001")
def test_fresh_backend_lists_default_alone(alice: RecordedClient) -> None:
    """A fresh backend has the default workspace and no other."""
    assert list(alice.workspaces()) == ["default"]


@requirement("WS-DEFAULT-003")
def test_default_is_listed_beside_named_workspaces(alice: RecordedClient, bob: RecordedClient) -> None:
    """The default workspace is listed also while only named workspaces have a state."""
    alice.put("foo", tofu_bytes(document()))
    assert "default" in bob.workspaces()


@requirement("WS-DEFAULT-003")
@needs("state.delete")
def test_default_is_listed_after_its_state_is_deleted(alice: RecordedClient, bob: RecordedClient) -> None:
    """The default workspace stays listed when its state is gone."""
    alice.put("default", tofu_bytes(document()))
    alice.delete("default")
    assert "default" in bob.workspaces()


@requirement("WS-CREATE-001")
def test_first_write_makes_a_workspace(alice: RecordedClient, bob: RecordedClient) -> None:
    """A workspace is listed once its first state is written."""
    alice.put("foo", tofu_bytes(document()))
    assert "foo" in bob.workspaces()


@reported(
    "terraform#15968",
    "terraform#23468",
    "opentofu#2700",
    "terraform#31719",
    "terraform#35703",
    "terraform#30853",
    "cos-first-page",
)
@requirement("WS-LIST-001")
def test_all_workspaces_are_listed(alice: RecordedClient, bob: RecordedClient) -> None:
    """Every one of a dozen workspaces is listed, and nothing else."""
    names = [f"team-{n:02}" for n in range(MANY)]
    for name, data in zip(names, successive(MANY), strict=True):
        alice.put(name, data)
    listed = set(bob.workspaces())
    assert listed == {"default", *names}, f"missing: {sorted({*names} - listed)}"


@requirement("WS-LIST-002")
def test_no_workspace_is_listed_twice(alice: RecordedClient, bob: RecordedClient) -> None:
    """A workspace that was written several times, by several clients, is listed once."""
    for turn, data in enumerate(successive(4)):
        for name in ("default", "foo", "bar"):
            (alice if turn % 2 else bob).put(name, data)
    listed = list(alice.workspaces())
    assert len(listed) == len(set(listed)), f"listed more than once: {listed}"


@requirement("WS-LIST-003")
def test_changes_are_listed_at_once(alice: RecordedClient, bob: RecordedClient) -> None:
    """A client that has listed before sees what another one has made and deleted since."""
    assert "foo" not in bob.workspaces()
    alice.put("foo", tofu_bytes(document()))
    assert "foo" in bob.workspaces(), "bob does not list what alice has made"
    alice.delete_workspace("foo", force=True)
    assert "foo" not in bob.workspaces(), "bob still lists what alice has deleted"


@reported("terraform#13445")
@requirement("WS-LIST-004")
@needs("locking")
def test_locks_are_not_listed(alice: RecordedClient, bob: RecordedClient) -> None:
    """A lock shows as no workspace, neither while it is held nor after its release."""
    alice.put("foo", tofu_bytes(document()))
    held = {name: alice.lock(name, LockInfo.new("alice", path=name)) for name in ("default", "foo")}
    during = set(bob.workspaces())
    for name, lock_id in held.items():
        alice.unlock(name, lock_id)
    after = set(bob.workspaces())
    assert during == {"default", "foo"}, "something else is listed while locks are held"
    assert after == {"default", "foo"}, "something else is listed after the locks were released"
