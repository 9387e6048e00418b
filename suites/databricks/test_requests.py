"""What a call costs: requests to the workspace and statements to the lock store."""

from lockproof.driver import LockInfo
from lockproof.driver.databricks_locks import READS
from lockproof.driver.recorder import RecordedScope
from lockproof.spec import needs, requirement
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.databricks.special import bed_of, counted_client


@needs("test-bed")
@requirement("DBX-COST-001")
def test_read_is_one_request(scope: RecordedScope) -> None:
    """A state, and an absent one, are read by one request; strictly fenced, after a look at its head."""
    bed = bed_of(scope)
    client = scope.client("alice")
    client.put("default", tofu_bytes(document()))
    mark = bed.control.mark()
    client.get("default")
    client.get("absent")
    assert [(entry.method, entry.status) for entry in bed.requests(mark)] == [("GET", 200), ("GET", 404)]


@needs("test-bed", "locking.fencing")
@requirement("DBX-COST-002")
def test_write_is_one_request_and_one_statement(scope: RecordedScope) -> None:
    """A write under a lock is one statement to the lock store and one request; without a lock the request.

    Strictly fenced: an object and a copy of it, looked at first by Files API 3.0, and statements that
    look, move the head, and look again.
    """
    bed = bed_of(scope)
    requests, statements = [("PUT", 204)], 1
    if bed.strict:
        copied = [("HEAD", 404), ("PUT", 200)] if bed.scope.config().files_host else [("PUT", 204)]
        requests, statements = [*requests, *copied], 3
    client, counted = counted_client(scope, "alice")
    client.put("other", tofu_bytes(document()))
    lock_id = client.lock("default", LockInfo.new("alice"))
    mark, before = bed.control.mark(), len(counted.texts)
    client.put("default", tofu_bytes(document()), lock_id=lock_id)
    assert [(entry.method, entry.status) for entry in bed.requests(mark)] == requests
    assert len(counted.texts) - before == statements
    client.put("other", tofu_bytes(document()))
    assert len(bed.requests(mark)) == 2 * len(requests)
    assert len(counted.texts) - before == (2 * statements if bed.strict else statements)


@needs("test-bed", "locking.enforced-key")
@requirement("DBX-COST-003")
def test_lock_and_unlock_are_one_statement_each(scope: RecordedScope) -> None:
    """Once connected, taking a free lock is one statement and releasing it another.

    The one request reads the record of where locks are kept.
    """
    bed = bed_of(scope)
    client, counted = counted_client(scope, "alice")
    client.unlock("default", client.lock("default", LockInfo.new("alice")))
    mark, before = bed.control.mark(), len(counted.texts)
    lock_id = client.lock("default", LockInfo.new("alice"))
    assert len(counted.texts) - before == 1
    client.unlock("default", lock_id)
    assert len(counted.texts) - before == 2
    assert [(entry.method, entry.path.rpartition("/")[2]) for entry in bed.requests(mark)] == [
        ("GET", "lock-store.json")
    ]
    assert counted.opened == 1


@needs("test-bed", "locking")
@requirement("DBX-COST-004")
def test_lock_is_one_change_and_at_most_one_read(scope: RecordedScope) -> None:
    """A free lock that was held before is taken by one change and at most one read, and released by one."""
    client, counted = counted_client(scope, "alice")
    client.unlock("default", client.lock("default", LockInfo.new("alice")))
    before = len(counted.texts)
    lock_id = client.lock("default", LockInfo.new("alice"))
    taking = counted.texts[before:]
    changes = [text for text in taking if not text.startswith(READS)]
    assert len(changes) == 1
    assert len(taking) - len(changes) <= 1
    client.unlock("default", lock_id)
    releasing = counted.texts[before + len(taking) :]
    assert [text.startswith(READS) for text in releasing] == [False]
