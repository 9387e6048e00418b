"""A holder that is gone without releasing."""

import pytest

from lockproof.chaos.process import start_process
from lockproof.driver import LockInfo
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.plugin.fixtures import Backend
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.locks.asking import grants, holder_seen_by, take

WORKSPACES = ["default", pytest.param("staging", marks=needs("workspaces"))]


@pytest.mark.parametrize("workspace", WORKSPACES)
@needs("state", "locking.holder-info")
@requirement("LOCK-CRASH-001")
def test_the_lock_of_a_holder_that_ended_stays_until_it_is_forced(
    alice: RecordedClient, bob: RecordedClient, carol: RecordedClient, workspace: str
) -> None:
    """A client that ends without releasing leaves its lock and its name; another forces it by the id."""
    asked = LockInfo.new("alice")
    lock_id = alice.lock(workspace, asked)
    alice.put(workspace, tofu_bytes(document()), lock_id=lock_id)
    alice.close()
    for other in (bob, carol):
        holder = holder_seen_by(other, workspace)
        assert (holder.ID, holder.Info) == (lock_id, asked.Info)
    bob.unlock(workspace, lock_id)
    take(carol, workspace)
    assert not grants(bob, workspace)


@reported("tofu-controller#250", "tofu-controller#1190")
@needs("locking.force-unlock", "locking.holder-info")
@requirement("LOCK-CRASH-002")
def test_the_lock_of_a_killed_process_stays_until_it_is_forced(
    backend: Backend, scope: RecordedScope, bob: RecordedClient
) -> None:
    """A process that is killed while it holds leaves its lock and its name; another forces it by the id."""
    victim, asked = start_process(backend.connect, scope, "victim"), LockInfo.new("victim")
    lock_id = victim.lock("default", asked)
    assert holder_seen_by(bob).ID == lock_id
    victim.kill()
    holder = holder_seen_by(bob)
    assert (holder.ID, holder.Who, holder.Info) == (lock_id, "victim", asked.Info)
    bob.unlock("default", lock_id)
    take(bob)
