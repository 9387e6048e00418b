"""Bugs that were reported of backends, where it takes a hand in the volume or in the lock table."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from lockproof.driver import DriverError, Locked
from lockproof.driver.databricks import KEY
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.plugin.fixtures import Backend
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.outcome import Violation
from lockproof.suites.databricks.special import bed_of, special_client
from lockproof.suites.documents import require_absent, require_stored, successive
from lockproof.suites.locks.asking import holder_seen_by, take

BROKEN = ("''", """'{"ID":"'""", "'[1, 2]'", """'{"Who":5}'""")
"""Infos as SQL."""


@reported("terraform#14513", "terraform#17535", "terraform#24289", "terraform#25818", "azurerm#8819")
@needs("test-bed", "databricks", "locking.grants")
@requirement("FAULT-REP-005")
def test_a_lock_row_with_a_broken_info_can_be_forced(
    scope: RecordedScope, alice: RecordedClient, bob: RecordedClient
) -> None:
    """A row whose info is empty or broken is a held lock, is named by its id, and is forced by that."""
    locks = bed_of(scope).locks
    for broken in BROKEN:
        lock_id = take(alice)
        locks.run(f"UPDATE {locks.table} SET info = {broken}")
        with pytest.raises(Locked):
            take(bob)
        assert holder_seen_by(bob).ID == lock_id
        bob.unlock("default", lock_id)
        bob.unlock("default", take(bob))


@reported("terraform#20708", "terraform#17583", "terraform#28496", "terraform#29118", "terraform#20479")
@needs("test-bed", "locking")
@requirement("FAULT-REP-010")
def test_a_state_removed_by_hand_can_be_written_again(
    scope: RecordedScope, alice: RecordedClient, bob: RecordedClient
) -> None:
    """A state whose file was removed is absent, as it was, or an error that names it; a write mends it."""
    bed = bed_of(scope)
    old, new, newer = successive(3)
    alice.put("default", old)
    hand = scope.history.new_process("hand")  # told to the history, which else shows a write that was lost
    scope.history.append(hand, "invoke", "delete", ws="default")
    bed.scope.driver.rest("DELETE", f"/api/2.0/fs/files{quote(f'{bed.root}/{KEY}')}")
    scope.history.append(hand, "ok", "delete", ws="default")
    require_explained(bob, old)
    held = take(bob)
    for data in (new, newer):
        bob.put("default", data, lock_id=held)
        require_stored(alice, data)
    bob.unlock("default", held)


def require_explained(client: RecordedClient, old: bytes) -> None:
    """Raises unless the state reads as absent, as `old`, or as a definite error that names its file."""
    try:
        snapshot = client.get("default")
    except DriverError as error:
        if error.definite and KEY in error.message:
            return
        raise Violation(f"the error does not say which file is missing: {error}") from error
    assert snapshot is None or snapshot.data == old


@reported("azurerm#22518")
@needs("test-bed", "databricks")
@requirement("STATE-READ-001")
def test_reading_takes_no_right_to_write(
    backend: Backend, scope: RecordedScope, alice: RecordedClient
) -> None:
    """Who may only read finds no state, then reads one, and lists: nothing is written for that."""
    bed = bed_of(scope)
    reader = special_client(scope, "reader", token=bed.principal("reader", "READ_VOLUME"))
    (data,), mark = successive(1), bed.control.mark()
    require_absent(reader)
    assert list(reader.workspaces()) == ["default"]
    assert [entry.method for entry in bed.requests(mark) if entry.method not in {"GET", "HEAD"}] == []
    alice.put("default", data)
    if "locking.fencing-strict" not in backend.capabilities:
        require_stored(reader, data)
        return
    with pytest.raises(DriverError) as denied:  # which state is the newest stands in the lock store
        reader.get("default")
    assert (denied.value.kind, denied.value.definite) == ("unauthorized", True)
