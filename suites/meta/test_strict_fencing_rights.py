"""Under strict fencing a lock is granted to nobody who could not write under it."""

from __future__ import annotations

import pytest

from lockproof.fakes.databricks.lakebase import BRANCH
from lockproof.fakes.databricks.lakebase_service import PROJECT
from lockproof.suites.meta.lock_calls import info
from lockproof.suites.meta.strict_bed import KEY, ROOT, StrictBed
from tofu_databricks.errors import LockTableMissing, PermissionDenied

pytest_plugins = ("lockproof.suites.meta.strict_fixtures",)

PATH = f"{ROOT}/{KEY}"


def test_no_lock_where_heads_have_no_place(strict: StrictBed) -> None:
    """The lock table is of locks alone and may not be changed: that is told before the lock is taken, and
    what makes the place."""
    strict.backend(fencing="checked", key="other").locks.prepare()
    client = strict.client(create_lock_table=False)
    with pytest.raises(LockTableMissing, match="create_lock_table is off; create it with: ") as refused:
        client.lock(info("ann"))
    assert refused.value.definite
    assert strict.backend(fencing="checked", key="other").locks.holder(PATH) is None
    strict.client().unlock(strict.client().lock(info("bob")))  # who may add the place does
    client.put(b"{}", lock_id=client.lock(info("ann")))


@pytest.mark.parametrize("lacking", ["state_locks", "state_locks_heads"])
def test_no_lock_for_a_role_that_may_not_move_the_head(lakebase: StrictBed, lacking: str) -> None:
    """A role with the rights that `checked` needs is told what it lacks, and gets no lock without."""
    name, model = f"{lacking}@example.com", lakebase.lakebase.model
    lakebase.heads().prepare()
    token = lakebase.control.create_principal(name)
    model.create_role(model.projects[PROJECT].branches[BRANCH], name)
    eve, admin = lakebase.heads(token=token), lakebase.connect()
    all_rights = "SELECT, INSERT, UPDATE, DELETE"
    for table in ("state_locks", "state_locks_heads"):
        rights = "SELECT, INSERT, DELETE" if table == lacking else all_rights
        eve.head(PATH)  # the role is made with its first login
        admin.execute(f'GRANT {rights} ON tofu_databricks.{table} TO "{name}"'.encode())
    with pytest.raises(
        PermissionDenied, match=f"permission denied for table {lacking}; let its owner run: GRANT"
    ):
        eve.acquire(PATH, info("eve"))
    assert eve.holder(PATH) is None
    admin.execute(f'GRANT {all_rights} ON tofu_databricks.{lacking} TO "{name}"'.encode())
    lock_id = eve.acquire(PATH, info("eve"))
    assert eve.move_head(PATH, lock_id, None, "{}")
