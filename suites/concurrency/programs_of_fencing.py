"""The programs of strict fencing: holders that are overtaken, with everything that may come in between.

As in `programs`. A client tells its lock's id to another, who forces it at any moment after that, also
between the first one's look at the lock and its write. With `locking.fencing-strict` the checkers find every
write of a stale holder that is seen after a newer holder's.
"""

from __future__ import annotations

from lockproof.driver.recorder import RecordedClient
from lockproof.explore import LOST_REPLY, Program, Shared
from lockproof.suites.concurrency.judges import (
    NAMED,
    WORKSPACE,
    fails_as_expected,
    struck,
    write_was_refused,
)
from lockproof.suites.concurrency.programs import (
    DUPLICATE,
    EXPIRED_TOKEN,
    Scenario,
    first_state,
    force_and_write,
    force_write_and_read,
    hold_and_tell,
    named_state,
    take,
    take_stubbornly,
)
from lockproof.suites.concurrency.programs_of_windows import read_twice, remove
from lockproof.suites.documents import require_stored
from lockproof.suites.locks.racing import counted

REFUSED = "a write refused for its lost lock"

# --- clients ---


def hold_stubbornly_and_tell(client: RecordedClient, shared: Shared) -> None:
    """Writes under a lock whose id another was told, also when the reply to its request was lost."""
    lock_id = take_stubbornly(client)
    shared["lock id"] = lock_id
    client.put(WORKSPACE, counted(2), lock_id=lock_id)
    client.unlock(WORKSPACE, lock_id)


def hold_and_write_twice(client: RecordedClient, shared: Shared) -> None:
    """Writes twice under a lock whose id another was told."""
    lock_id = take(client)
    shared["lock id"] = lock_id
    client.put(WORKSPACE, counted(2), lock_id=lock_id)
    client.put(WORKSPACE, counted(3), lock_id=lock_id)
    client.unlock(WORKSPACE, lock_id)


def force_and_write_twice(client: RecordedClient, shared: Shared) -> None:
    """Forces the lock that it was told of; what it writes under its own is there as long as it holds it."""
    client.unlock(WORKSPACE, shared["lock id"])
    lock_id = take(client)
    for serial in (4, 5):
        data = counted(serial)
        client.put(WORKSPACE, data, lock_id=lock_id)
        require_stored(client, data, WORKSPACE)
    client.unlock(WORKSPACE, lock_id)


def force_and_read_twice(client: RecordedClient, shared: Shared) -> None:
    """Forces the lock that it was told of; under its own it reads twice, and nobody else writes."""
    client.unlock(WORKSPACE, shared["lock id"])
    lock_id = take(client)
    read_twice(client, shared)
    client.unlock(WORKSPACE, lock_id)


def write_workspace_and_tell(client: RecordedClient, shared: Shared) -> None:
    """Writes a workspace under a lock whose id another was told."""
    lock_id = take(client, NAMED)
    shared["lock id"] = lock_id
    client.put(NAMED, counted(2), lock_id=lock_id)
    client.unlock(NAMED, lock_id)


def force_and_delete(client: RecordedClient, shared: Shared) -> None:
    """Forces the lock that it was told of and deletes the workspace, which is gone then."""
    client.unlock(NAMED, shared["lock id"])
    client.delete_workspace(NAMED, force=True)
    assert client.get(NAMED) is None, "a workspace was deleted, and is read"
    assert NAMED not in client.workspaces(), "a workspace was deleted, and is still listed"


def read_workspace_twice(client: RecordedClient, shared: Shared) -> None:
    client.get(NAMED)
    client.get(NAMED)


# --- programs ---

LOST_REPLY_OF_A_STALE_WRITE = Scenario(
    Program(
        "lost_reply_of_a_stale_write",
        "A write is under way when its lock is forced; a reply is lost, or a request delivered twice.",
        {"alice": hold_stubbornly_and_tell, "bob": force_write_and_read},
        prepare=first_state,
        faults=frozenset({LOST_REPLY, DUPLICATE}),
    ),
    "a lost reply",
    struck(LOST_REPLY),
)
STALE_WRITE_UNDER_A_NEW_LOCK = Scenario(
    Program(
        "stale_write_under_a_new_lock",
        "A write is under way when its lock is forced and the new holder reads twice.",
        {"alice": hold_and_tell, "bob": force_and_read_twice},
        prepare=first_state,
    ),
    REFUSED,
    write_was_refused,
)
OVERTAKEN_TWICE = Scenario(
    Program(
        "overtaken_twice",
        "A holder that writes twice is overtaken by one that writes twice and reads in between.",
        {"alice": hold_and_write_twice, "bob": force_and_write_twice},
        prepare=first_state,
    ),
    REFUSED,
    write_was_refused,
)
READERS_OF_A_STALE_WRITE = Scenario(
    Program(
        "readers_of_a_stale_write",
        "A holder that writes is overtaken by another while a third client reads.",
        {"alice": hold_and_tell, "bob": force_and_write, "carol": read_twice},
        prepare=first_state,
    ),
    REFUSED,
    write_was_refused,
)
DELETION_AGAINST_STALE_WRITE = Scenario(
    Program(
        "deletion_against_stale_write",
        "A write is under way when its lock is forced and its workspace deleted.",
        {"alice": write_workspace_and_tell, "bob": force_and_delete},
        prepare=named_state,
    ),
    REFUSED,
    write_was_refused,
)
DELETION_THAT_EXPIRES = Scenario(
    Program(
        "deletion_that_expires",
        "The token of a client expires before any request of its deletion, beside a reader.",
        {"alice": read_workspace_twice, "bob": remove},
        prepare=named_state,
        faults=frozenset({EXPIRED_TOKEN}),
        judge=fails_as_expected,
    ),
    "an expired token",
    struck(EXPIRED_TOKEN),
)

SCENARIOS = (
    LOST_REPLY_OF_A_STALE_WRITE,
    STALE_WRITE_UNDER_A_NEW_LOCK,
    OVERTAKEN_TWICE,
    READERS_OF_A_STALE_WRITE,
    DELETION_AGAINST_STALE_WRITE,
    DELETION_THAT_EXPIRES,
)
PROGRAMS = tuple(scenario.program for scenario in SCENARIOS)
