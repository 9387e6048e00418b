"""Strict fencing: where the state is kept, what lies at its key, and who takes part."""

from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import pytest

from lockproof.driver import DriverError, LockInfo, LockMismatch, NotLocked
from lockproof.driver.databricks_bed import TestBed
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.spec import needs, requirement
from lockproof.spec.outcome import Unknown
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.databricks.special import bed_of, special_client

KEPT = 10
OBJECTS = "terraform.tfstate.tofu-workspaces/objects/default.tfstate/"


@cache
def state(serial: int) -> bytes:
    """A state of that serial, the same each time."""
    return tofu_bytes(document(serial=serial))


def objects(bed: TestBed) -> list[str]:
    """The objects of the default workspace."""
    return [path for path in bed.control.files(bed.volume) if path.startswith(OBJECTS)]


def take_over(client: RecordedClient, lock_id: str) -> str:
    """Forces the lock, and takes it."""
    client.unlock("default", lock_id)
    return client.lock("default", LockInfo.new(client.who))


@needs("test-bed", "databricks")
@requirement("LOCK-FENCE-003")
@pytest.mark.parametrize("step", [1, 2, 3])
def test_write_that_stands_still_in_the_lock_store_is_made_before_or_refused(
    scope: RecordedScope, step: int
) -> None:
    """A write that stands still and is overtaken is made if it was seen before the other's, else refused."""
    bed = bed_of(scope)
    alice, bob, reader = (special_client(scope, name) for name in ("alice", "bob", "reader"))
    lock_id = alice.lock("default", LockInfo.new("alice"))
    alice.put("default", state(1), lock_id=lock_id)
    bob.get("default")
    stall = bed.locks.stall(step)
    with ThreadPoolExecutor(1) as pool:
        stale = pool.submit(outcome, alice, state(2), lock_id)
        while not wait([stale], 0.005).done and not stall.reached():
            pass
        if not stall.reached():
            raise Unknown(f"the write has no statement {step} at which it could stand still")
        before = reader.get("default")
        newer = take_over(bob, lock_id)
        bob.put("default", state(3), lock_id=newer)
        stall.release()
        told = stale.result(30)
    after = reader.get("default")
    assert before is not None
    assert after is not None
    assert after.data == state(3)
    assert (before.data, told) in {(state(1), "refused"), (state(2), "made")}


def outcome(client: RecordedClient, data: bytes, lock_id: str) -> str:
    """What a client is told of its write."""
    try:
        client.put("default", data, lock_id=lock_id)
    except (LockMismatch, NotLocked):
        return "refused"
    return "made"


@needs("test-bed", "databricks")
@requirement("DBX-FENCE-003")
def test_file_at_the_key_is_the_last_state_after_a_quiet_write(scope: RecordedScope) -> None:
    """Whoever reads the volume without this backend finds the last state, and none once it is deleted."""
    bed = bed_of(scope)
    alice = special_client(scope, "alice")
    for workspace, path in (
        ("default", "terraform.tfstate"),
        ("dev", "terraform.tfstate.tofu-workspaces/dev.tfstate"),
    ):
        for serial in (1, 2):
            alice.put(workspace, state(serial))
            assert bed.file(path) == state(serial)
        alice.delete(workspace)
        assert bed.file(path) is None


@needs("test-bed", "databricks")
@requirement("DBX-FENCE-003")
def test_file_at_the_key_is_the_last_state_after_writers_that_overlap(scope: RecordedScope) -> None:
    """A writer that is overtaken before it puts its state at the key leaves the other's state there."""
    bed = bed_of(scope)
    alice, bob = special_client(scope, "alice"), special_client(scope, "bob")
    lock_id = alice.lock("default", LockInfo.new("alice"))
    alice.put("default", state(1), lock_id=lock_id)
    path = f"/api/*/fs/files{bed.root}/terraform.tfstate"
    fault = bed.control.add_fault(method="PUT", path=path, hold=True)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(alice.put, "default", state(2), lock_id=lock_id)
        bed.control.await_held(fault)
        bob.put("default", state(3), lock_id=take_over(bob, lock_id))
        bed.control.release(fault)
        first.result(30)
    assert bed.file("terraform.tfstate") == state(3)


@needs("test-bed", "databricks")
@requirement("DBX-FENCE-004")
def test_objects_that_became_too_old_are_collected(scope: RecordedScope) -> None:
    """Of many writes the newest ten leave their objects, and a deletion leaves none."""
    bed = bed_of(scope)
    alice = special_client(scope, "alice")
    lock_id = alice.lock("default", LockInfo.new("alice"))
    for serial in range(KEPT + 3):
        alice.put("default", state(serial), lock_id=lock_id)
    assert len(objects(bed)) == KEPT
    alice.unlock("default", lock_id)
    alice.delete("default")
    assert objects(bed) == []


@needs("test-bed", "databricks")
@requirement("DBX-FENCE-005")
def test_lost_reply_of_taking_effect_is_made_good(scope: RecordedScope) -> None:
    """The write took effect, and nobody was told: it succeeds, and is the state."""
    bed = bed_of(scope)
    alice = special_client(scope, "alice")
    lock_id = alice.lock("default", LockInfo.new("alice"))
    for serial in (1, 2):
        lost = bed.locks.lose_change()
        alice.put("default", state(serial), lock_id=lock_id)
        assert lost() == 1
        snapshot = alice.get("default")
        assert snapshot is not None
        assert snapshot.data == bed.file("terraform.tfstate") == state(serial)


@needs("test-bed", "databricks")
@requirement("DBX-FENCE-006")
def test_state_whose_object_is_gone_is_an_error(scope: RecordedScope) -> None:
    """Somebody deletes the object: the reader is told, and makes no new state of it."""
    bed = bed_of(scope)
    alice = special_client(scope, "alice")
    alice.put("default", state(1))
    (path,) = objects(bed)
    bed.delete_file(path)
    with pytest.raises(DriverError) as failure:
        alice.get("default")
    assert failure.value.definite
    assert path in failure.value.message or "is lost" in failure.value.message


@needs("test-bed", "databricks")
@requirement("DBX-FENCE-007")
@pytest.mark.parametrize("first", ["strict", "checked"])
def test_client_that_fences_otherwise_is_refused(scope: RecordedScope, first: str) -> None:
    """Who would not see what others write is told both settings, and holds nothing."""
    second = "checked" if first == "strict" else "strict"
    alice = special_client(scope, "alice", fencing=first)
    alice.unlock("default", alice.lock("default", LockInfo.new("alice")))
    with pytest.raises(DriverError) as refused:
        special_client(scope, "bob", fencing=second).lock("default", LockInfo.new("bob"))
    assert refused.value.definite
    assert refused.value.kind != "locked"
    for fencing in (first, second):
        assert f'"fencing": "{fencing}"' in refused.value.message
    assert alice.lock("default", LockInfo.new("alice"))
