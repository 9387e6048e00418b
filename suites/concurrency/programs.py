"""The programs whose schedules are explored: two or three clients, a few calls each.

A refusal that a client does not handle ends it, as it ends `tofu`. What must hold in every schedule is said
by the checkers and, where a program knows more, by its own judge or by an assertion of a client.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import NAMESPACE_URL, uuid5
from weakref import WeakKeyDictionary

from lockproof.driver import DriverError, Locked, LockInfo
from lockproof.driver.recorder import RecordedClient
from lockproof.explore import CRASH, LOST_REPLY, Program, Shared
from lockproof.history import History
from lockproof.suites.concurrency.judges import (
    NAMED,
    WORKSPACE,
    fails_as_expected,
    fails_as_locked,
    keeps_updates,
    lock_was_refused,
    migrates_updates,
    struck,
    write_was_refused,
)
from lockproof.suites.documents import require_stored
from lockproof.suites.locks.asking import writes
from lockproof.suites.locks.racing import count, counted

EXPIRED_TOKEN = "expired token"
CONFLICT = "conflict"
DUPLICATE = "duplicate delivery"


@dataclass(frozen=True)
class Scenario:
    """A program, and what has to be seen in some schedule for its exploration to mean anything: `reached`,
    in words the `point`. `pristine`: not even a lock table is there at first, where a driver can do that."""

    program: Program
    point: str
    reached: Callable[[History], bool]
    pristine: bool = False


# --- clients ---

_ASKED: WeakKeyDictionary[RecordedClient, int] = WeakKeyDictionary()


def request(client: RecordedClient) -> LockInfo:
    """The client's next request for a lock. Its ids are the same in each run: what a backend makes of them,
    such as the order of two rows, is then the same in a replay."""
    number = _ASKED[client] = _ASKED.get(client, 0) + 1
    name = f"{client.who}-{number}"
    return replace(LockInfo.new(client.who), ID=str(uuid5(NAMESPACE_URL, name)), Info=f"lockproof:{name}")


def take(client: RecordedClient, workspace: str = WORKSPACE) -> str:
    """Asks once for the lock, as a new request; the lock's id. Raises `Locked`."""
    return client.lock(workspace, request(client))


def first_state(client: RecordedClient, shared: Shared) -> None:
    client.put(WORKSPACE, counted(1))


def update(client: RecordedClient, shared: Shared) -> None:
    """Counts the state up under the lock."""
    lock_id = take(client)
    client.put(WORKSPACE, counted(count(client, WORKSPACE) + 1), lock_id=lock_id)
    client.unlock(WORKSPACE, lock_id)


def update_twice(client: RecordedClient, shared: Shared) -> None:
    update(client, shared)
    update(client, shared)


def hold_once(client: RecordedClient, shared: Shared) -> None:
    client.unlock(WORKSPACE, take(client))


def hold_twice(client: RecordedClient, shared: Shared) -> None:
    hold_once(client, shared)
    hold_once(client, shared)


def take_stubbornly(client: RecordedClient) -> str:
    """Sends the same request again when its outcome is unknown; what it got, it got once."""
    asked = request(client)
    try:
        return client.lock(WORKSPACE, asked)
    except DriverError as unknown:
        if unknown.definite:
            raise
    try:
        return client.lock(WORKSPACE, asked)
    except Locked as refusal:
        if refusal.holder is None or refusal.holder.Info != asked.Info:
            raise
        return refusal.holder.ID


def hold_stubbornly(client: RecordedClient, shared: Shared) -> None:
    client.unlock(WORKSPACE, take_stubbornly(client))


def write_once(client: RecordedClient, shared: Shared) -> None:
    """A first state under the first lock."""
    lock_id = take(client)
    client.put(WORKSPACE, counted(1), lock_id=lock_id)
    client.unlock(WORKSPACE, lock_id)


def hold_and_tell(client: RecordedClient, shared: Shared) -> None:
    """Writes under a lock whose id another was told."""
    lock_id = take(client)
    shared["lock id"] = lock_id
    client.put(WORKSPACE, counted(2), lock_id=lock_id)
    client.unlock(WORKSPACE, lock_id)


def force_and_write(client: RecordedClient, shared: Shared) -> None:
    """Forces the lock that it was told of, and writes under its own."""
    client.unlock(WORKSPACE, shared["lock id"])
    lock_id = take(client)
    client.put(WORKSPACE, counted(3), lock_id=lock_id)
    client.unlock(WORKSPACE, lock_id)


def force_write_and_read(client: RecordedClient, shared: Shared) -> None:
    """As `force_and_write`, and what it wrote is there as long as it holds the lock."""
    client.unlock(WORKSPACE, shared["lock id"])
    lock_id = take(client)
    data = counted(3)
    client.put(WORKSPACE, data, lock_id=lock_id)
    require_stored(client, data, WORKSPACE)
    client.unlock(WORKSPACE, lock_id)


def break_the_lock(client: RecordedClient, shared: Shared) -> None:
    """Forces whatever is in its way. Nobody else locks twice, so that at most one refusal has no holder."""
    for _ in range(3):
        try:
            lock_id = take(client)
        except Locked as refusal:
            if refusal.holder is None:
                continue
            client.unlock(WORKSPACE, refusal.holder.ID)
            lock_id = take(client)
        client.unlock(WORKSPACE, lock_id)
        return
    raise AssertionError("the lock is held, and no refusal says by whom: nobody can force it")


def lose_a_lock(client: RecordedClient, shared: Shared) -> None:
    client.put(WORKSPACE, counted(1))
    lock_id = take(client)
    client.unlock(WORKSPACE, lock_id)
    shared["lock id"] = lock_id


def write_under_the_lost_lock(client: RecordedClient, shared: Shared) -> None:
    accepted = writes(client, counted(9), shared["lock id"])
    assert not accepted, "a write under a lock that was released before it was accepted"


def write_as_holder(client: RecordedClient, shared: Shared) -> None:
    lock_id = take(client)
    data = counted(2)
    client.put(WORKSPACE, data, lock_id=lock_id)
    require_stored(client, data, WORKSPACE)
    client.unlock(WORKSPACE, lock_id)


def named_state(client: RecordedClient, shared: Shared) -> None:
    client.put(NAMED, counted(1))


def delete_workspace(client: RecordedClient, shared: Shared) -> None:
    """As `tofu workspace delete`, which releases the lock just before it deletes; then locks it again.

    Source: opentofu internal/command/workspace_delete.go.
    """
    lock_id = take(client, NAMED)
    client.get(NAMED)
    client.unlock(NAMED, lock_id)
    client.delete_workspace(NAMED, force=True)
    client.unlock(NAMED, take(client, NAMED))


def write_workspace(client: RecordedClient, shared: Shared) -> None:
    lock_id = take(client, NAMED)
    client.put(NAMED, counted(2), lock_id=lock_id)
    client.unlock(NAMED, lock_id)


def migrate(client: RecordedClient, shared: Shared) -> None:
    """As `tofu init -migrate-state`: reads both, locks both, reads again, writes; then deletes the source.

    Source: opentofu internal/command/meta_backend_migrate.go:270-463.
    """
    client.get(WORKSPACE)
    client.get(NAMED)
    source, destination = take(client, WORKSPACE), take(client, NAMED)
    found = client.get(WORKSPACE)
    client.get(NAMED)
    if found is not None:
        client.put(NAMED, found.data, lock_id=destination)
        client.delete(WORKSPACE)
    client.unlock(NAMED, destination)
    client.unlock(WORKSPACE, source)


def apply(client: RecordedClient, shared: Shared) -> None:
    """Counts the state up under the lock, unless it has moved away."""
    lock_id = take(client)
    found = client.get(WORKSPACE)
    if found is not None:
        client.put(WORKSPACE, counted(json.loads(found.data)["serial"] + 1), lock_id=lock_id)
    client.unlock(WORKSPACE, lock_id)


# --- programs ---

LOCK_AGAINST_LOCK = Scenario(
    Program(
        "lock_against_lock",
        "Two clients count one state up, each under the lock.",
        {"alice": update, "bob": update},
        prepare=first_state,
        faults=frozenset({CONFLICT, DUPLICATE}),
        judge=keeps_updates,
    ),
    "a refused lock",
    lock_was_refused,
)
LOCK_UNLOCK_LOCK = Scenario(
    Program(
        "lock_unlock_lock",
        "One client takes and releases the lock twice while another takes it once.",
        {"alice": hold_twice, "bob": hold_once},
    ),
    "a refused lock",
    lock_was_refused,
)
LOST_REPLY_AND_RETRY = Scenario(
    Program(
        "lost_reply_and_retry",
        "A client whose reply is lost sends the same request again while another wants the lock.",
        {"alice": hold_stubbornly, "bob": hold_once},
        faults=frozenset({LOST_REPLY}),
    ),
    "a lost reply",
    struck(LOST_REPLY),
)
FORCE_UNLOCK_AGAINST_PUT = Scenario(
    Program(
        "force_unlock_against_put",
        "The lock of a client that writes is forced by another, who then writes.",
        {"alice": hold_and_tell, "bob": force_and_write},
    ),
    "a write refused for its lost lock",
    write_was_refused,
)
CRASH_OF_A_HOLDER = Scenario(
    Program(
        "crash_of_a_holder",
        "A client is killed at any step of taking, using and releasing the lock; another forces it.",
        {"alice": write_once, "bob": break_the_lock},
        faults=frozenset({CRASH}),
    ),
    "a crash",
    struck(CRASH),
)
EXPIRED_TOKEN_IN_THE_MIDDLE = Scenario(
    Program(
        "expired_token_in_the_middle",
        "The token of a client expires for good before any of its requests.",
        {"alice": update, "bob": update},
        prepare=first_state,
        faults=frozenset({EXPIRED_TOKEN}),
        judge=fails_as_expected,
    ),
    "an expired token",
    struck(EXPIRED_TOKEN),
)
FIRST_LOCK_AGAINST_FIRST_LOCK = Scenario(
    Program(
        "first_lock_against_first_lock",
        "Two clients take the first lock that there ever was, write the first state and read it back.",
        {"alice": write_as_holder, "bob": write_as_holder},
        judge=fails_as_locked,
    ),
    "a refused lock",
    lock_was_refused,
    pristine=True,
)
DELETE_WORKSPACE_AGAINST_LOCK = Scenario(
    Program(
        "delete_workspace_against_lock",
        "A workspace is deleted while another client takes its lock and writes it.",
        {"alice": delete_workspace, "bob": write_workspace},
        prepare=named_state,
    ),
    "a refused lock",
    lock_was_refused,
)
PUT_AGAINST_STALE_PUT = Scenario(
    Program(
        "put_against_stale_put",
        "A holder writes while another writes under a lock that was released before.",
        {"alice": write_as_holder, "bob": write_under_the_lost_lock},
        prepare=lose_a_lock,
    ),
    "a write refused for its lost lock",
    write_was_refused,
)
STALE_WRITE_IN_FLIGHT = Scenario(
    Program(
        "stale_write_in_flight",
        "A write is under way when its lock is forced and the new holder writes and reads.",
        {"alice": hold_and_tell, "bob": force_write_and_read},
    ),
    "a write refused for its lost lock",
    write_was_refused,
)
MIGRATE_AGAINST_APPLY = Scenario(
    Program(
        "migrate_against_apply",
        "A state is migrated to another workspace while another client applies to it.",
        {"alice": migrate, "bob": apply},
        prepare=first_state,
        judge=migrates_updates,
    ),
    "a refused lock",
    lock_was_refused,
)
THREE_CLIENTS = Scenario(
    Program(
        "three_clients",
        "Three clients count one state up, each under the lock, one of them twice.",
        {"alice": update_twice, "bob": update, "carol": update},
        prepare=first_state,
        judge=keeps_updates,
    ),
    "a refused lock",
    lock_was_refused,
)

SCENARIOS = (
    LOCK_AGAINST_LOCK,
    LOCK_UNLOCK_LOCK,
    LOST_REPLY_AND_RETRY,
    FORCE_UNLOCK_AGAINST_PUT,
    CRASH_OF_A_HOLDER,
    FIRST_LOCK_AGAINST_FIRST_LOCK,
    DELETE_WORKSPACE_AGAINST_LOCK,
    PUT_AGAINST_STALE_PUT,
    STALE_WRITE_IN_FLIGHT,
    MIGRATE_AGAINST_APPLY,
    THREE_CLIENTS,
    EXPIRED_TOKEN_IN_THE_MIDDLE,
)
PROGRAMS = tuple(scenario.program for scenario in SCENARIOS)
