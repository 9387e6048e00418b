"""A holder that is gone without releasing."""

import uuid
from contextlib import ExitStack

import pytest

from lockproof.driver import LockInfo
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import HistoryWriter
from lockproof.plugin.fixtures import Backend
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.locks.asking import grants, holder_seen_by, take
from lockproof.suites.locks.holding import process_that_holds
from lockproof.suites.processes import recorded

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
    backend: Backend, history: HistoryWriter
) -> None:
    """A process that is killed while it holds leaves its lock and its name; another forces it by the id."""
    name = f"lp-{uuid.uuid4().hex[:12]}"
    asked = LockInfo.new("victim")
    with RecordedScope(backend.driver.open_scope(name), history, backend.timeout) as scope:
        bob = scope.client("bob")
        with ExitStack() as running:
            with recorded(history, "victim", "lock", "default", info=asked.to_json()) as granted:
                holding = process_that_holds(backend.connect, name, "default", asked)
                lock_id, kill = running.enter_context(holding)
                granted.append(lock_id)
            assert holder_seen_by(bob).ID == lock_id
            kill()
            holder = holder_seen_by(bob)
            assert (holder.ID, holder.Who, holder.Info) == (lock_id, "victim", asked.Info)
            bob.unlock("default", lock_id)
            take(bob)
