"""Bugs that were reported of backends, where they need no broken network: each test names the reports."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import pairwise

import pytest

from lockproof.driver import LockInfo
from lockproof.driver.recorder import RecordedClient, RecordedScope
from lockproof.history import History, HistoryWriter, Operation
from lockproof.spec import needs, requirement, tier
from lockproof.spec.bugs import reported
from lockproof.spec.outcome import Unknown
from lockproof.spec.statefile import document, tofu_bytes
from lockproof.suites.documents import (
    filler,
    refused,
    require_absent,
    require_stored,
    successive,
    with_resource,
)
from lockproof.suites.locks.asking import grants, holder_seen_by, take
from lockproof.suites.locks.racing import together

MANY = 1_100
"""More than any store lists on one page: S3 and Azure stop at 1,000 and 5,000, the Files API at 1,000."""
TRIES = 3
ODD_INFOS = {
    "id-alone": LockInfo(),
    "no-json": LockInfo(Operation="{", Who='"', Version="null", Path="\\"),
    "no-time": LockInfo(Operation="OperationTypeApply", Who="al@host", Created="yesterday"),
}


@reported("terraform#18329", "terraform#22941", "terraform#23730")
@needs("locking")
@requirement("FAULT-REP-001")
def test_a_deletion_keeps_no_lock(alice: RecordedClient, bob: RecordedClient) -> None:
    """A deletion without force, done or refused, leaves the lock free, and a deletion by force works."""
    alice.put("foo", tofu_bytes(with_resource(document())))
    answer = "refused" if refused(lambda: alice.delete_workspace("foo")) else "done"
    alice.note(f"the deletion of a workspace that tracks a resource: {answer}")
    bob.unlock("foo", take(bob, "foo"))
    if answer == "refused":
        alice.delete_workspace("foo", force=True)
    require_absent(bob, "foo")
    bob.unlock("foo", take(bob, "foo"))


@reported("terraform#36155")
@needs("state", "locking.force-unlock")
@requirement("FAULT-REP-002")
def test_a_release_beside_a_write_is_not_refused(scope: RecordedScope, history: HistoryWriter) -> None:
    """A holder's release that meets its own write succeeds, and leaves an old or a new state and no lock."""
    uploading, releasing, reader = (scope.client(name) for name in ("uploading", "releasing", "reader"))
    states = successive(1 + 4 * (2**TRIES - 1), paddings=[200_000])
    stored = next(states)
    uploading.put("default", stored)
    for load in range(TRIES):
        for _ in range(4 * 2**load):
            stored = require_release_beside_a_write(uploading, releasing, reader, stored, next(states))
        if met(history.history()) >= 2:
            return
    raise Unknown("the releases hardly met a write: nothing was proved")


def require_release_beside_a_write(
    uploading: RecordedClient, releasing: RecordedClient, reader: RecordedClient, old: bytes, new: bytes
) -> bytes:
    """One write and one release under the same lock at the same moment; the state that is left."""
    lock_id = take(uploading)
    done: Counter[str] = Counter()

    def act(client: RecordedClient) -> None:
        if client is uploading:
            done["written"] += not refused(lambda: client.put("default", new, lock_id=lock_id))
        else:
            client.unlock("default", lock_id)

    together([uploading, releasing], act, random.Random(lock_id))
    reader.unlock("default", take(reader))
    left = new if done["written"] else old
    require_stored(reader, left)
    return left


def met(history: History) -> int:
    """How many releases ran beside a write."""
    writes = [op for op in history.operations() if op.f == "put"]
    releases = [op for op in history.operations() if op.f == "unlock"]
    return sum(any(beside(write, release) for write in writes) for release in releases)


def beside(one: Operation, other: Operation) -> bool:
    return one.called < other.returned and other.called < one.returned


@reported("terraform#15795")
@needs("state", "locking.holder-info")
@requirement("FAULT-REP-003")
def test_a_forced_lock_leaves_no_old_state_in_a_cache(
    alice: RecordedClient, bob: RecordedClient, carol: RecordedClient
) -> None:
    """Whoever has read before, held the lock or lost it: when it was forced all read the last write."""
    first, second, third = successive(3)
    alice.put("default", first)
    require_stored(bob, first)
    held = take(alice)
    require_stored(alice, first)
    alice.put("default", second, lock_id=held)
    require_stored(alice, second)
    bob.unlock("default", holder_seen_by(bob).ID)
    own = take(bob)
    require_stored(bob, second)
    bob.put("default", third, lock_id=own)
    for client in (alice, carol, bob):
        require_stored(client, third)
    bob.unlock("default", own)


@reported(
    "terraform#22833",
    "terraform#29034",
    "opentofu#2218",
    "terraform#33217",
    "pg-first-use",
)
@needs("locking")
@requirement("FAULT-REP-004", "LOCK-SCOPE-002")
def test_first_users_of_two_places_do_not_meet(
    scope: RecordedScope, other_place: RecordedScope, rng: random.Random
) -> None:
    """Of many clients that use two fresh places for the first time at once, one in each gets the lock."""
    here = [scope.client(f"here-{n}") for n in range(4)]
    there = [other_place.client(f"there-{n}") for n in range(4)]
    granted: list[RecordedClient] = []

    def begin(client: RecordedClient) -> None:
        if grants(client):
            granted.append(client)

    together([*here, *there], begin, rng)
    assert [sum(client in place for client in granted) for place in (here, there)] == [1, 1]


@reported("terraform#14513", "terraform#17535")
@needs("locking.holder-info")
@requirement("FAULT-REP-005")
@pytest.mark.parametrize("kind", ODD_INFOS)
def test_a_lock_with_an_odd_info_can_be_forced(
    kind: str, alice: RecordedClient, bob: RecordedClient, carol: RecordedClient
) -> None:
    """A request whose info is bare or makes no sense is refused at once, or makes a lock like any other."""
    fresh = LockInfo.new("alice")
    asked = replace(ODD_INFOS[kind], ID=fresh.ID, Info=fresh.Info)
    held: list[str] = []
    if refused(lambda: held.append(alice.lock("default", asked))):
        take(bob)
        return
    seen = holder_seen_by(bob)
    assert (seen.ID, seen.Info) == (held[0], asked.Info)
    bob.unlock("default", seen.ID)
    take(carol)


@reported("terraform#24153", "terraform#18761", "terraform#16852")
@needs("state")
@requirement("LOCK-READ-001")
def test_many_read_a_locked_state_at_once(
    scope: RecordedScope, alice: RecordedClient, rng: random.Random
) -> None:
    """Ten clients that read a locked state at the same moment, as its modules do, all get it."""
    data = tofu_bytes(document())
    alice.put("default", data)
    held = take(alice)
    readers = [scope.client(f"module-{n}") for n in range(10)]
    together(readers, lambda client: require_stored(client, data), rng)
    alice.unlock("default", held)


@reported("terraform#15795", "terraform#17407")
@needs("state", "locking")
@requirement("STATE-VIS-002")
def test_each_next_holder_reads_what_the_last_one_wrote(scope: RecordedScope) -> None:
    """A lock that goes from hand to hand: who is granted it reads the state of the holder before."""
    clients = [scope.client(f"client-{n}") for n in range(3)]
    states = list(successive(9))
    clients[0].put("default", states[0])
    for turn, (before, after) in enumerate(pairwise(states)):
        client = clients[turn % len(clients)]
        held = take(client)
        require_stored(client, before)
        client.put("default", after, lock_id=held)
        client.unlock("default", held)


@reported(
    "terraform#15968",
    "terraform#23468",
    "opentofu#2700",
    "terraform#31719",
    "terraform#35703",
    "terraform#30853",
    "cos-first-page",
)
@tier("full")
@requirement("WS-LIST-001")
def test_more_workspaces_than_a_page_are_listed(scope: RecordedScope) -> None:
    """Of more than a thousand workspaces every one is listed."""
    names = [f"team-{n:04}" for n in range(MANY)]
    data = tofu_bytes(document(padding=filler(10)))
    makers = [scope.client(f"maker-{n}") for n in range(8)]

    def make(n: int) -> None:
        for name in names[n :: len(makers)]:
            makers[n].put(name, data)

    with ThreadPoolExecutor(len(makers)) as pool:
        making = [pool.submit(make, n) for n in range(len(makers))]
        wait(making)
    for made in making:
        made.result()
    missing = {"default", *names} - set(scope.client("reader").workspaces())
    assert not missing, f"{len(missing)} of {MANY} workspaces are not listed, such as {min(missing)}"
