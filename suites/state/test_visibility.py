"""Who reads what, and when: at once, by everybody here, by nobody elsewhere, and for good."""

import uuid

from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import HistoryWriter
from lockproof.plugin.fixtures import Backend
from lockproof.spec import needs, requirement
from lockproof.spec.bugs import reported
from lockproof.spec.statefile import describe, document, tofu_bytes
from lockproof.suites.documents import require_absent, require_stored, successive
from lockproof.suites.processes import exchange, in_another_process, recorded

WRITES = 20


@requirement("STATE-VIS-001")
def test_writer_reads_its_own_write(alice: RecordedClient) -> None:
    """Whoever has written a state reads it in the next call, write after write."""
    for data in successive(WRITES):
        alice.put("default", data)
        require_stored(alice, data)


@reported("terraform#15795")
@requirement("STATE-VIS-002")
def test_others_read_a_write_at_once(
    alice: RecordedClient, bob: RecordedClient, carol: RecordedClient
) -> None:
    """Every other client reads a state in the call after its write, whoever wrote it."""
    require_absent(carol)
    for turn, data in enumerate(successive(WRITES)):
        writer, reader = (alice, bob) if turn % 2 else (bob, alice)
        writer.put("default", data)
        require_stored(reader, data)
        require_stored(carol, data)


@requirement("STATE-DUR-001")
def test_state_outlives_its_writer(scope: RecordedScope) -> None:
    """A state is there for a client that starts after its writer has ended."""
    writer = scope.client("writer")
    data = tofu_bytes(document())
    writer.put("default", data)
    writer.close()
    require_stored(scope.client("later"), data)


@requirement("STATE-DUR-002")
@needs("state")
def test_another_process_reads_the_state(backend: Backend, history: HistoryWriter) -> None:
    """A process started later, with the same settings, reads what this one wrote, and the reverse."""
    name, data, answer = f"lp-{uuid.uuid4().hex[:12]}", tofu_bytes(document()), tofu_bytes(document())
    with RecordedScope(backend.driver.open_scope(name), history, backend.timeout) as scope:
        alice = scope.client("alice")
        alice.put("default", data)
        with (
            recorded(history, "elsewhere", "get", "default") as read,
            recorded(history, "elsewhere", "put", "default", **describe(answer)) as written,
        ):
            seen = in_another_process(exchange, backend.connect, name, answer)
            read.append(describe(seen) if seen else {"value": None})
            written.append(None)
        assert seen == data, "the other process does not read what this one wrote"
        require_stored(alice, answer)


@requirement("STATE-SCOPE-001")
@needs("state")
def test_places_do_not_see_each_other(
    backend: Backend, scope: RecordedScope, other_place: RecordedScope
) -> None:
    """A state in one place is not there in another, and is not changed or deleted from there."""
    here, there = tofu_bytes(document(note="here")), tofu_bytes(document(note="there"))
    alice = scope.client("alice")
    alice.put("default", here)
    bob = other_place.client("bob")
    require_absent(bob)
    bob.put("default", there)
    require_stored(other_place.client("carol"), there)
    require_stored(alice, here)
    if "state.delete" in backend.capabilities:
        bob.delete("default")
        require_stored(alice, here)


@requirement("STATE-SCOPE-001")
@needs("state", "workspaces")
def test_places_do_not_share_workspaces(scope: RecordedScope, other_place: RecordedScope) -> None:
    """The workspaces of one place are not listed, changed or deleted from another."""
    here, there = tofu_bytes(document(note="here")), tofu_bytes(document(note="there"))
    alice = scope.client("alice")
    alice.put("foo", here)
    bob = other_place.client("bob")
    assert sorted(bob.workspaces()) == ["default"], "a fresh place lists another place's workspaces"
    bob.put("foo", there)
    require_stored(alice, here, "foo")
    bob.delete_workspace("foo", force=True)
    require_stored(alice, here, "foo")
