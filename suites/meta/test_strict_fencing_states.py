"""States under strict fencing: whoever stands still wherever, nobody sees a stale holder's write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lockproof.suites.meta.lakebase_bed import LakebaseBed, eventually
from lockproof.suites.meta.lock_calls import info, together
from lockproof.suites.meta.strict_bed import (
    KEY,
    OBJECTS,
    RECORD,
    ROOT,
    STORES,
    Steps,
    StrictBed,
    fenced,
    strict_bed,
)
from tofu_databricks.client import StateClient
from tofu_databricks.errors import (
    BackendError,
    LockMismatch,
    LockNotHeld,
    MalformedReply,
    StateLocked,
    Unavailable,
)
from tofu_databricks.heads import KEPT

pytest_plugins = ("lockproof.suites.meta.strict_fixtures",)

FIRST, STALE, NEWER = b'{"serial":1}', b'{"serial":2,"by":"ann"}', b'{"serial":2,"by":"bob"}'
SETTINGS = [(kind, "2.0") for kind in STORES] + [("lakebase", "3.0")]


@pytest.fixture(params=SETTINGS, ids="-".join)
def any_bed(
    request: pytest.FixtureRequest, strict_service: LakebaseBed, tmp_path: Path
) -> Iterator[StrictBed]:
    """A bed for each lock store, and for each Files API."""
    kind, files_api = request.param
    with strict_bed(strict_service, kind, tmp_path / "locks", files_api) as made:
        yield made


def started(strict: StrictBed) -> str:
    """A first state, and the id of a lock on it."""
    client = strict.client()
    lock_id = client.lock(info("ann"))
    client.put(FIRST, lock_id=lock_id)
    return lock_id


def test_a_write_that_stands_still_at_any_step_overwrites_nobody(any_bed: StrictBed) -> None:
    """At whichever step of its write a holder stands still, while its lock is forced and another writes: its
    write is refused, or was made before. Everybody reads the other's, in the copy, too."""
    lock_id = started(any_bed)
    counted = Steps()
    any_bed.client(counted).put(FIRST, lock_id=lock_id)
    bob = any_bed.client()
    outcomes = []
    for at in range(1, len(counted.names) + 1):

        def overtake(held: str = lock_id) -> None:
            bob.unlock(held)
            bob.put(NEWER, lock_id=bob.lock(info("bob")))

        outcomes.append(outcome_of(any_bed.client(Steps(at, overtake)), lock_id))
        assert any_bed.client().get() == NEWER, f"at step {at}, {counted.names[at - 1]}"
        assert any_bed.copy() == NEWER, f"the copy, at step {at}, {counted.names[at - 1]}"
        bob.unlock(holder_id(any_bed))
        lock_id = bob.lock(info("ann"))
    committed = outcomes.index("made")
    assert outcomes == ["refused, definite"] * committed + ["made"] * (len(outcomes) - committed)
    assert "lock.move" in counted.names[:committed]
    assert len(any_bed.objects()) == len(fenced(any_bed.client())._look().versions.objects())


def outcome_of(client: StateClient, lock_id: str) -> str:
    """What becomes of a stale holder's write."""
    try:
        client.put(STALE, lock_id=lock_id)
    except (LockMismatch, LockNotHeld) as refused:
        return f"refused, {'definite' if refused.definite else 'unknown'}"
    return "made"


def holder_id(strict: StrictBed) -> str:
    holder = strict.client().lock_holder()
    assert holder is not None
    return holder.ID


def test_an_overtaken_deletion_under_a_lock_is_refused(any_bed: StrictBed) -> None:
    """As a write is; the holder's own is made."""
    lock_id = started(any_bed)
    bob = any_bed.client()

    def overtake() -> None:
        bob.unlock(lock_id)
        bob.put(NEWER, lock_id=bob.lock(info("bob")))

    steps = Steps()
    steps.then = overtake
    ann = any_bed.client(lambda step: steps(step) if step == "lock.move" else None)
    steps.at = 1
    with pytest.raises(LockMismatch):
        ann.delete(lock_id=lock_id)
    assert any_bed.client().get() == NEWER
    any_bed.client().delete(lock_id=holder_id(any_bed))
    assert (any_bed.client().get(), any_bed.copy(), any_bed.objects()) == (None, None, [])


def test_a_reader_between_head_and_object_reads_the_newest(strict: StrictBed) -> None:
    """The object that a reader is about to fetch is collected: it looks again, and never finds "no state"."""
    lock_id = started(strict)
    writer = strict.client()

    def write_on() -> None:
        for number in range(KEPT + 1):
            writer.put(b"%d" % number, lock_id=lock_id)

    steps = Steps(then=write_on)
    reader = strict.client(lambda step: steps(step) if step == "http.get" else None)
    reader.get()
    steps.names.clear()
    steps.at = 1
    assert reader.get() == b"%d" % KEPT
    assert len(steps.names) == 2


def test_a_lost_object_is_an_error_and_no_empty_state(lakebase: StrictBed) -> None:
    """A head whose object somebody deleted, or cut, is said so."""
    started(lakebase)
    client = lakebase.client()
    (name,) = lakebase.objects()
    lakebase.volume().write(f"{ROOT}/{OBJECTS}/default.tfstate/{name}", b"{")
    with pytest.raises(MalformedReply, match=f"has 1 bytes, {len(FIRST)} were written"):
        client.get()
    lakebase.volume().delete(f"{ROOT}/{OBJECTS}/default.tfstate/{name}")
    with pytest.raises(MalformedReply, match=r"the state of .* is lost"):
        client.get()


def lose_moves(strict: StrictBed, times: int | None = 1) -> None:
    """The replies to statements that move a head are lost, once they have taken effect."""
    if strict.kind == "lakebase":
        strict.lakebase.proxy.faults.add(what="drop_reply", match="^(UPDATE|INSERT) .*_heads", times=times)
        return
    statements = "/api/2.0/sql/statements"
    content = "*SET head = :new*"
    strict.control.add_fault(
        method="POST", path=statements, content=content, when="after", drop=True, times=times
    )


@pytest.mark.parametrize("strict", ["lakebase", "delta"], indirect=True)
@pytest.mark.parametrize("locked", [True, False], ids=["locked", "without"])
def test_lost_reply_of_the_move_is_made_good(strict: StrictBed, locked: bool) -> None:
    """The write took effect and its reply was lost: it succeeds, once, also where the head was another's."""
    lock_id = started(strict) if locked else None
    client = strict.client()
    for data in (STALE, NEWER):
        lose_moves(strict)
        client.put(data, lock_id=lock_id)
        assert (client.get(), strict.copy()) == (data, data)
    numbers = [version.number for version in fenced(client)._look().versions.all]
    assert numbers == [3, 2, 1] if locked else [2, 1]


@pytest.mark.parametrize("strict", ["lakebase", "delta"], indirect=True)
def test_a_move_that_stays_unanswered_is_made_good_by_a_look(strict: StrictBed) -> None:
    """All replies to the statement are lost, and a look at the head shows that it was done."""
    lock_id = started(strict)
    lose_moves(strict, times=None)
    strict.client().put(NEWER, lock_id=lock_id)
    assert strict.client().get() == NEWER


def test_a_move_that_nobody_can_look_after_is_unknown(lakebase: StrictBed) -> None:
    """Neither the statement nor the look is answered: the error leaves open what happened, and what the head
    names then stays."""
    lock_id = started(lakebase)
    client = lakebase.client()
    client.get()
    lakebase.lakebase.proxy.faults.add(what="drop_reply", match="^UPDATE .*_heads", times=None)
    lakebase.lakebase.proxy.faults.add(what="drop_request", match="LEFT JOIN", first=2, times=None)
    with pytest.raises(Unavailable, match="whether the write took effect is unknown") as failure:
        client.put(NEWER, lock_id=lock_id)
    assert not failure.value.definite
    lakebase.lakebase.proxy.faults.clear()
    assert lakebase.client().get() == NEWER


def test_a_late_move_under_a_lost_lock_changes_nothing(lakebase: StrictBed) -> None:
    """The statement arrives when its client has been refused and another holds. As the lock's id might have
    been taken again until then, the refusal leaves open what becomes of the write; what it would have named
    is left to those who write next."""
    lock_id = started(lakebase)
    bob = lakebase.client()
    faults = lakebase.lakebase.proxy.faults
    late = faults.add(what="late_request", match="^UPDATE .*_heads")
    overtaken: list[str] = []

    def overtake(step: str) -> None:
        if step == "lock.move" and late.hits and not overtaken:
            overtaken.append(step)
            bob.unlock(lock_id)
            bob.lock(info("bob"))

    client = lakebase.client(overtake)
    with pytest.raises(LockMismatch) as refused:
        client.put(STALE, lock_id=lock_id)
    assert not refused.value.definite
    assert overtaken
    late.released.set()
    eventually(lambda: late.done == 1, "the statement arrives")
    assert (lakebase.client().get(), len(lakebase.objects())) == (FIRST, 2)


@pytest.mark.parametrize("locked", [True, False], ids=["locked", "without"])
def test_a_refusal_after_a_move_that_went_unanswered(lakebase: StrictBed, locked: bool) -> None:
    """A statement that may yet arrive is stopped by a lost lock only as long as nobody takes it again under
    its id, and without a lock by nothing: what became of the write is open."""
    lock_id = started(lakebase)
    bob = lakebase.client()
    if not locked:
        bob.unlock(lock_id)
    sent = lakebase.lakebase.proxy.faults.add(what="drop_request", match="^UPDATE .*_heads", times=None)
    overtaken: list[str] = []

    def overtake(step: str) -> None:
        if step == "lock.head" and sent.hits and not overtaken:
            overtaken.append(step)
            if locked:
                bob.unlock(lock_id)
            bob.lock(info("bob"))

    with pytest.raises((LockMismatch, StateLocked)) as refused:
        lakebase.client(overtake).put(STALE, lock_id=lock_id if locked else None)
    assert overtaken
    assert not refused.value.definite
    assert lakebase.client().get() == FIRST


def test_without_a_lock_one_writes_while_nobody_holds_it(strict: StrictBed) -> None:
    """Then writes of several at once all succeed; while somebody holds the lock they are refused."""
    clients = [strict.client() for _ in range(3)]
    made = together(*(lambda c=c, n=n: c.put(b"%d" % n) for n, c in enumerate(clients)))
    assert made == [None, None, None]
    assert strict.client().get() == strict.copy() in {b"0", b"1", b"2"}
    lock_id = clients[0].lock(info("ann"))
    with pytest.raises(StateLocked, match="ann holds the lock") as refused:
        clients[1].put(STALE)
    assert refused.value.definite
    clients[0].put(NEWER, lock_id=lock_id)
    assert strict.client().get() == NEWER
    assert len(strict.objects()) == 4


def test_a_write_without_a_lock_meets_one_that_is_taken_meanwhile(lakebase: StrictBed) -> None:
    """The head that it saw is not the head any more: it looks again, and is refused."""
    lakebase.client().put(FIRST)
    bob = lakebase.client()
    steps = Steps(1, lambda: bob.put(NEWER, lock_id=bob.lock(info("bob"))))
    ann = lakebase.client(lambda step: steps(step) if step == "state.put" else None)
    with pytest.raises(StateLocked):
        ann.put(STALE)
    assert lakebase.client().get() == NEWER


def test_an_object_that_was_taken_for_a_stray_is_written_again(lakebase: StrictBed) -> None:
    """Between object and move a deletion cleans everything up: the write finds the head moved, and does not
    rest on what it has stored before."""
    lakebase.client().put(FIRST)
    other = lakebase.client()
    steps = Steps(1, other.delete)
    lakebase.client(lambda step: steps(step) if step == "lock.move" else None).put(NEWER)
    assert lakebase.client().get() == lakebase.copy() == NEWER


def test_objects_that_became_too_old_are_deleted(any_bed: StrictBed) -> None:
    """The newest ten remain; what a killed writer left goes with a later write."""
    lock_id = started(any_bed)
    client = any_bed.client()
    any_bed.volume().write(f"{ROOT}/{OBJECTS}/default.tfstate/000002-stray", b"x")
    for number in range(KEPT + 2):
        client.put(b"%d" % number, lock_id=lock_id)
    versions = fenced(client)._look().versions
    assert [version.number for version in versions.all] == list(range(KEPT + 3, 3, -1))
    assert set(any_bed.objects()) == versions.objects()


def test_a_refused_write_leaves_no_object(lakebase: StrictBed) -> None:
    """Neither one that was refused before its object was written, nor one whose head was moved after. Where
    the lock alone is gone the object stays: the id may take it again, and a late move name the object."""
    lock_id = started(lakebase)
    bob = lakebase.client()

    def overtake(step: str) -> None:
        if step == "state.put":
            bob.unlock(lock_id)
            bob.put(NEWER, lock_id=bob.lock(info("bob")))

    for ann in (lakebase.client(overtake), lakebase.client()):
        with pytest.raises(LockMismatch):
            ann.put(STALE, lock_id=lock_id)
        assert len(lakebase.objects()) == 2


def test_states_of_before_are_taken_over(strict: StrictBed) -> None:
    """A state that lies at the key, as `checked` clients or people wrote it, is the state until the first
    write; it is listed and deleted as any other."""
    for path in (KEY, f"{KEY}.tofu-workspaces/dev.tfstate"):
        strict.volume().write(f"{ROOT}/{path}", FIRST)
    backend = strict.backend()
    assert (backend.client().get(), backend.client("dev").get()) == (FIRST, FIRST)
    assert RECORD not in strict.files()
    lock_id = backend.client().lock(info("ann"))
    assert (backend.client().get(), backend.workspaces()) == (FIRST, ["default", "dev"])
    backend.client().put(NEWER, lock_id=lock_id)
    assert (backend.client().get(), backend.client("dev").get()) == (NEWER, FIRST)
    backend.delete_workspace("dev", force=True)
    assert (backend.client("dev").get(), backend.workspaces()) == (None, ["default"])
    assert f"{KEY}.tofu-workspaces/dev.tfstate" not in strict.files()


def test_workspaces_are_listed_by_their_heads(strict: StrictBed) -> None:
    """Also those whose copy is not there, and not those whose copy was left by a deletion."""
    backend = strict.backend()
    for name in ("a/b", "dev", "gone"):
        backend.client(name).put(FIRST)
    backend.delete_workspace("gone", force=True)
    strict.volume().write(f"{ROOT}/{KEY}.tofu-workspaces/gone.tfstate", FIRST)
    strict.volume().delete(f"{ROOT}/{KEY}.tofu-workspaces/dev.tfstate")
    assert strict.backend().workspaces() == ["default", "a/b", "dev"]
    assert strict.client().get() is None
    other = strict.backend(key="other.tfstate")
    assert other.workspaces() == ["default"]


def test_a_workspace_made_again_has_nothing_of_the_old_one(strict: StrictBed) -> None:
    """Deleted and made again it is empty until written, and its older versions are gone."""
    backend = strict.backend()
    client = backend.client("dev")
    client.put(FIRST)
    backend.delete_workspace("dev", force=True)
    assert (client.get(), [path for path in strict.files() if "dev" in path]) == (None, [])
    client.put(NEWER)
    versions = fenced(client)._look().versions
    assert [(version.number, version.object is not None) for version in versions.all] == [
        (3, True),
        (2, False),
    ]
    assert backend.workspaces() == ["default", "dev"]


def test_a_volume_made_anew_has_no_state(strict: StrictBed) -> None:
    """Heads of a volume that was dropped count for nothing in one of its name, for running clients too."""
    started(strict)
    running = strict.client()
    assert running.get() == FIRST
    workspace = strict.lakebase.workspace
    workspace.metastore.delete("volume", "main.default.v")
    workspace.create_volume("main.default.v")
    assert strict.client().get() is None
    fresh = strict.client()
    fresh.unlock(holder_id(strict))
    lock_id = fresh.lock(info("bob"))
    assert (fresh.get(), strict.backend().workspaces()) == (None, ["default"])
    fresh.put(NEWER, lock_id=lock_id)
    strict.volume().write(f"{ROOT}/{KEY}", STALE)  # a copy is not the state
    assert (running.get(), strict.client().get(), strict.backend().workspaces()) == (
        NEWER,
        NEWER,
        ["default"],
    )


def test_state_manager_works_on_fenced_states(strict: StrictBed) -> None:
    """Lock, refresh, persist, unlock; a manager whose lock was forced is refused."""
    mgr, other = strict.backend().state_mgr("dev"), strict.backend().state_mgr("dev")
    lock_id = mgr.lock(info("ann"))
    mgr.refresh_state()
    mgr.write_state(
        {"outputs": {"a": {"value": 1, "type": "number"}}, "resources": [], "check_results": None}
    )
    mgr.persist_state()
    other.unlock(lock_id)
    other.lock(info("bob"))
    other.refresh_state()
    assert (other.output_values(), other.serial) == ({"a": 1}, 1)
    mgr.write_state({"outputs": {}, "resources": [], "check_results": None})
    with pytest.raises(BackendError):
        mgr.persist_state()
    assert strict.backend().state_mgr("dev").output_values() == {"a": 1}
