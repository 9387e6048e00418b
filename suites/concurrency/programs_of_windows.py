"""More programs whose schedules are explored: what needs a second attempt, a read or a workspace beside.

As in `programs`; each was written for a window in some backend that no program met before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lockproof.checkers import Verdict, check
from lockproof.driver import Locked
from lockproof.driver.recorder import RecordedClient
from lockproof.explore import LOST_REPLY, Program, Shared
from lockproof.history import History
from lockproof.suites.concurrency.judges import NAMED, WORKSPACE, lock_was_refused, struck
from lockproof.suites.concurrency.programs import (
    Scenario,
    break_the_lock,
    first_state,
    hold_once,
    named_state,
    take,
    write_once,
)
from lockproof.suites.locks.racing import counted

# --- what is seen ---


def both_states_were_read(history: History) -> bool:
    read = {op.out["value"] for op in history.operations() if op.f == "get" and op.kind == "ok"}
    return len(read) > 1


def one_list_came_first(history: History) -> bool:
    """Whether some list does not show what another client made."""
    lists = [op.out for op in history.operations() if op.f == "workspaces" and op.kind == "ok"]
    return len({len(names) for names in lists}) > 1


# --- judges ---


def forgives_a_retry(history: History) -> Verdict:
    """The checkers' verdict, as if no lock had been forced whose own request was still being sent again.

    A backend that makes a lost reply good sends the request again, and cannot know that it was granted and
    forced meanwhile. It then takes the lock anew, under the same id, within the same call, which excludes all
    others as any lock does.
    """
    verdict = check(history)
    if verdict.details.get("anomaly") != "seen after unlock":
        return verdict
    operations = list(history.operations())
    granted = {op.out: op for op in operations if op.f == "lock" and op.kind == "ok"}
    forced = {
        number
        for op in operations
        if op.f == "unlock" and op.kind == "ok" and (lock := granted.get(op.given["lock_id"])) is not None
        if lock.i < op.i and op.end < lock.end
        for number in (op.i, op.end)
    }
    return check(replace(history, events=tuple(e for e in history.events if e.i not in forced)))


# --- clients ---


def ask_again_when_refused(client: RecordedClient, shared: Shared) -> None:
    try:
        hold_once(client, shared)
    except Locked:
        hold_once(client, shared)


def hold_and_keep(client: RecordedClient, shared: Shared) -> None:
    """Takes and releases the lock, and takes it again for good."""
    hold_once(client, shared)
    take(client)


def force_and_take(client: RecordedClient, shared: Shared) -> None:
    """Forces the lock by the id that its refusal names, and takes it."""
    try:
        take(client)
    except Locked as refusal:
        if refusal.holder is not None:
            client.unlock(WORKSPACE, refusal.holder.ID)
            take(client)


def read_twice(client: RecordedClient, shared: Shared) -> None:
    client.get(WORKSPACE)
    client.get(WORKSPACE)


def makes(workspace: str) -> Callable[[RecordedClient, Shared], None]:
    """A client that makes a workspace, which is then listed."""

    def make(client: RecordedClient, shared: Shared) -> None:
        client.put(workspace, counted(1))
        assert workspace in client.workspaces(), f"{workspace} was made, and is not listed"

    return make


def remove(client: RecordedClient, shared: Shared) -> None:
    """Deletes a workspace, which is then no longer listed."""
    client.delete_workspace(NAMED, force=True)
    assert NAMED not in client.workspaces(), f"{NAMED} was deleted, and is still listed"


# --- programs ---

REFUSED_THEN_AGAIN = Scenario(
    Program(
        "refused_then_again",
        "A client that is refused the lock asks again, while its holder releases it.",
        {"alice": hold_once, "bob": ask_again_when_refused},
    ),
    "a refused lock",
    lock_was_refused,
)
FORCE_UNLOCK_AGAINST_UNLOCK = Scenario(
    Program(
        "force_unlock_against_unlock",
        "A lock is forced while its holder releases it and takes it again.",
        {"alice": hold_and_keep, "bob": force_and_take},
    ),
    "a refused lock",
    lock_was_refused,
)
LOST_REPLY_AGAINST_FORCE_UNLOCK = Scenario(
    Program(
        "lost_reply_against_force_unlock",
        "A reply is lost, and the lock that may be held is forced by another.",
        {"alice": hold_once, "bob": break_the_lock},
        faults=frozenset({LOST_REPLY}),
        judge=forgives_a_retry,
    ),
    "a lost reply",
    struck(LOST_REPLY),
)
PUT_AGAINST_GET = Scenario(
    Program(
        "put_against_get",
        "A client reads twice while another writes under the lock.",
        {"alice": write_once, "bob": read_twice},
        prepare=first_state,
    ),
    "a read of the state before and of the state after",
    both_states_were_read,
)
CREATION_AGAINST_CREATION = Scenario(
    Program(
        "creation_against_creation",
        "Two clients make a workspace each, and list them.",
        {"alice": makes(NAMED), "bob": makes("production")},
    ),
    "a list without the other's workspace",
    one_list_came_first,
)
CREATION_AGAINST_DELETION = Scenario(
    Program(
        "creation_against_deletion",
        "A client makes a workspace while another deletes another one, and both list them.",
        {"alice": makes("production"), "bob": remove},
        prepare=named_state,
    ),
    "a list without the other's change",
    one_list_came_first,
)

SCENARIOS = (
    REFUSED_THEN_AGAIN,
    FORCE_UNLOCK_AGAINST_UNLOCK,
    LOST_REPLY_AGAINST_FORCE_UNLOCK,
    PUT_AGAINST_GET,
    CREATION_AGAINST_CREATION,
    CREATION_AGAINST_DELETION,
)
PROGRAMS = tuple(scenario.program for scenario in SCENARIOS)
