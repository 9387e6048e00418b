"""Calls to a backend whose service has just been hurt: an error that is no answer is asked again.

A backend need not hide that its connection broke; it must only not lie. So what is asked here is asked until
there is an answer, as a user would who runs the command again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from lockproof.driver import DriverError, Locked, LockInfo, LockMismatch, NotLocked
from lockproof.driver.recorder import RecordedClient
from lockproof.spec.outcome import Violation

T = TypeVar("T")

TRIES = 20
PAUSE = 0.1
ANSWERS = frozenset({"locked", "lock_mismatch", "not_locked", "stale"})


def answered(call: Callable[[], T], what: str) -> T:
    """What `call` returns or the refusal that it raises; asked again after any other failure. Raises
    `Violation` when there is no answer in the end."""
    pause = threading.Event()
    for _ in range(TRIES):
        try:
            return call()
        except DriverError as error:
            if error.kind in ANSWERS and error.definite:
                raise
            failure = error
        pause.wait(PAUSE)
    raise Violation(f"{what} fails again and again: {failure}") from failure


def holder_in_the_end(client: RecordedClient, workspace: str = "default") -> LockInfo:
    """Whom a refusal of the lock names. Raises `Violation` when it is granted, or nobody is named."""
    try:
        answered(lambda: client.lock(workspace, LockInfo.new(client.who)), "a request for the lock")
    except Locked as refused:
        if refused.holder is None:
            raise Violation(f"the lock was refused to {client.who}, and no holder named") from refused
        return refused.holder
    raise Violation(f"{client.who} was granted a lock that is held")


def put_in_the_end(client: RecordedClient, data: bytes, lock_id: str, workspace: str = "default") -> None:
    """Writes under a lock that is held. Raises `Violation` when that is refused."""
    try:
        answered(lambda: client.put(workspace, data, lock_id=lock_id), "a write")
    except DriverError as refused:
        raise Violation(f"the holder's write is refused: {refused}") from refused


def release_in_the_end(client: RecordedClient, lock_id: str, workspace: str = "default") -> None:
    """Releases a lock that is held; when an earlier try went unanswered, finding it free is as good. Raises
    `Violation` when the holder is told that it holds nothing."""
    doubt = False

    def release() -> None:
        nonlocal doubt
        try:
            client.unlock(workspace, lock_id)
        except DriverError as error:
            doubt = doubt or not error.definite
            raise

    try:
        answered(release, "a release")
    except (NotLocked, LockMismatch) as refused:
        if not doubt:
            raise Violation(f"the holder is told that it does not hold the lock: {refused}") from refused
