"""A refusal says who holds the lock."""

import datetime
from dataclasses import replace

import pytest

from lockproof.driver import LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.suites.locks.asking import holder_seen_by, take

WORKSPACES = ["default", pytest.param("staging", marks=needs("workspaces"))]
TEXTS = {
    "non-ascii": "Überprüfung der Zustände 🔒 東京 \u202e",
    "quotes": """it's "quoted" \\ 'twice'; -- $$ %s {} <b>&amp;""",
    "lines": "first\nsecond\r\n\tthird",
    "long": "0123456789abcdef" * 512,
}


@reported("opentofu#2004")
@pytest.mark.parametrize("workspace", WORKSPACES)
@requirement("LOCK-HOLD-001")
def test_a_refusal_names_the_holder_by_the_id_that_it_was_given(
    alice: RecordedClient, bob: RecordedClient, workspace: str
) -> None:
    """The id in a refusal is the one that `lock` returned to the holder, not the refused client's."""
    asked = LockInfo.new("alice")
    lock_id = alice.lock(workspace, asked)
    for _ in range(2):
        holder = holder_seen_by(bob, workspace)
        assert holder.ID == lock_id
        assert (holder.Who, holder.Info) == ("alice", asked.Info)


@requirement("LOCK-HOLD-001")
def test_a_refusal_names_the_present_holder_after_others(
    alice: RecordedClient, bob: RecordedClient, carol: RecordedClient
) -> None:
    """Nothing of an earlier holder is left in a later refusal."""
    alice.unlock("default", take(alice))
    asked = LockInfo.new("bob")
    lock_id = bob.lock("default", asked)
    for other in (carol, alice):
        holder = holder_seen_by(other)
        assert (holder.ID, holder.Who, holder.Info) == (lock_id, "bob", asked.Info)


@pytest.mark.parametrize("operation", ["OperationTypePlan", "state-mv", "migration source state"])
@requirement("LOCK-HOLD-002")
def test_the_holders_fields_come_back_as_they_were_sent(
    alice: RecordedClient, bob: RecordedClient, operation: str
) -> None:
    """Operation, info, who and version are the holder's own words; a path that it gave is not lost."""
    asked = replace(LockInfo.new("alice", operation=operation, path="env/prod.tfstate"), Who="al@host-7")
    alice.lock("default", asked)
    holder = holder_seen_by(bob)
    assert holder.Operation == asked.Operation
    assert holder.Info == asked.Info
    assert holder.Who == asked.Who
    assert holder.Version == asked.Version
    assert holder.Path, "the path is gone; a backend may set its own, but not none"


@requirement("LOCK-HOLD-003")
def test_the_holders_time_is_an_rfc_3339_time(alice: RecordedClient, bob: RecordedClient) -> None:
    """The time in a refusal is one that OpenTofu can read; the backend may set its own."""
    take(alice)
    created = holder_seen_by(bob).Created
    assert "T" in created.upper(), f"{created!r} is no RFC 3339 time"
    assert datetime.datetime.fromisoformat(created).tzinfo is not None, f"{created!r} names no time zone"


@pytest.mark.parametrize("kind", TEXTS)
@requirement("LOCK-HOLD-004")
def test_odd_text_in_a_lock_info_comes_back_unchanged(
    alice: RecordedClient, bob: RecordedClient, kind: str
) -> None:
    """Info and who may hold any text, and come back as they were sent."""
    fresh = LockInfo.new("alice")
    asked = replace(fresh, Info=f"{fresh.Info} {TEXTS[kind]}", Who=TEXTS[kind][:200])
    alice.lock("default", asked)
    holder = holder_seen_by(bob)
    assert holder.Info == asked.Info
    assert holder.Who == asked.Who
